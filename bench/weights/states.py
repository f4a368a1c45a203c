"""State dicts: read from files without running anything, in timm's names, and their identity."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from bench.errors import MethodError
from bench.weights.lite_names import lite_to_timm
from bench.weights.torchvision_names import to_timm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from bench.blocks.architecture import Architecture

SUFFIXES = (".safetensors", ".pth", ".pt")
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_HEADS = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.")


def _is_head(key: str, classifier: str | Sequence[str] | None = None) -> bool:
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    return key.startswith((*_HEADS, *(f"{name}." for name in names)))


def body_state(network: nn.Module) -> dict[str, Tensor]:
    """State of a full network without its classifier."""
    cfg: Any = getattr(network, "pretrained_cfg", {})
    state = network.state_dict()
    return {k: v for k, v in state.items() if not _is_head(k, cfg.get("classifier"))}


def read_state(file: Path, name: str, architecture: Architecture) -> tuple[dict[str, Tensor], bool]:
    """A state dict in the network's names without its classifier; whether torchvision named it.

    Raises:
        MethodError: unreadable, or not of this network.
    """
    with torch.device("meta"):
        expected = body_state(architecture.create())
    tensors = read_tensors(file)
    tensors = {k: v for k, v in tensors.items() if k in expected or not _is_head(k)}
    if architecture.library == "timm":
        tensors = lite_to_timm(tensors, expected)
        state = to_timm(tensors, expected)
    else:
        state = tensors
    foreign = list(state) != list(tensors)
    surplus = sorted(set(state) - set(expected))
    misshapen = [k for k in state if k in expected and state[k].shape != expected[k].shape]
    if surplus:
        raise MethodError(
            f"{file}: not weights of {name}: {len(surplus)} of {len(state)} tensors are unknown to "
            f"it, first {', '.join(surplus[:3])}; check the architecture"
        )
    if misshapen:
        key = misshapen[0]
        raise MethodError(
            f"{file}: not weights of {name}: {len(misshapen)} tensors have another shape, first "
            f"{key} {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}; "
            "check the architecture"
        )
    return state, foreign


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or of a state dict saved by torch; never other pickle.

    Floating-point tensors come as float32, without the prefix of a parallel wrapper.

    Raises:
        MethodError: no such file, damaged, or holding something else than tensors.
    """
    if not file.is_file():
        raise MethodError(f"weights file {file} does not exist")
    try:
        loaded: Any
        if file.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        reason = str(error).splitlines()[0]
        raise MethodError(f"{file}: not a safetensors file ({reason}); get it again") from error
    except pickle.UnpicklingError as error:
        # torch's own text advises to load the file unsafely.
        raise MethodError(
            f"{file}: not a plain state dict: it holds other Python objects than tensors, or is "
            "damaged; such files can run code and are refused; save its state_dict() alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise MethodError(f"{file}: cannot be read ({error})") from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not loaded:
        raise MethodError(f"{file}: holds no state dict")
    tensors: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            raise MethodError(f"{file}: entry {key!r} is not a tensor; a state dict is expected")
        plain = str(key).removeprefix("module.")
        tensors[plain] = value.float() if value.is_floating_point() else value
    return tensors


def state_digest(state: Mapping[str, Tensor]) -> str:
    """First 12 hex digits of SHA-256 over sorted names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for key in sorted(state):
        if key.endswith("num_batches_tracked"):  # absent from old files, and without effect here
            continue
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
