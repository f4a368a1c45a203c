"""The weights of a backbone: where they come from, whether they fit, and their identity."""

from __future__ import annotations

import hashlib
import pickle
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import nn

from bench.blocks.architecture import find_architecture
from bench.blocks.backbone import Backbone, build_backbone
from bench.errors import MethodError
from bench.weights.torchvision_names import norm_epsilon, to_timm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from bench.blocks.architecture import Architecture

SUFFIXES = (".safetensors", ".pth", ".pt")
_WAYS_OUT = "pass --weights FILE, put the file into [paths].weights, or use --random-weights"
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_HEADS = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.")


@dataclass(frozen=True)
class Weights:
    """Which weights the command line asked for.

    Attributes:
        kind: "pretrained" downloads timm's, unless `folder` holds them.
        file: the state dict, for the kind "file".
        folder: searched first for <timm name>.safetensors, .pth or .pt, for "pretrained".
    """

    kind: Literal["pretrained", "random", "file"]
    file: Path | None = None
    folder: Path | None = None


def load_backbone(
    name: str,
    layers: Sequence[int] | Sequence[str],
    weights: Weights,
    *,
    seed: int,
    device: torch.device,
) -> tuple[Backbone, str]:
    """A frozen feature extractor in evaluation mode, and the identity of its weights.

    Random weights depend on `name` and `seed` alone; the caller's random state is untouched.

    Returns:
        the extractor on `device`, and "resnet18.tv_in1k@<12 hex>": the hash of the whole network
        without its classifier, whichever layers are used; "[random:SEED]" or "[file]" stands
        before the "@" where the weights are not the library's.

    Raises:
        MethodError: unknown name or layer, weights that cannot be had or do not fit.
    """
    architecture = find_architecture(name)
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(name, layers)
    if weights.kind == "random":
        label, foreign = f"{name}[random:{seed}]", False
        state = _random_state(architecture, seed)
    else:
        names = (name, architecture.tagged)
        file = weights.file if weights.kind == "file" else _stored(weights, *names)
        if weights.kind == "file" and file is None:
            raise MethodError("weights from a file were asked for, but no file was named")
        label = f"{name}[file]" if weights.kind == "file" else architecture.tagged
        if file:
            state, foreign = _read_state(file, name, architecture)
        else:
            state, foreign = _download_state(name, architecture), False
    _fill(backbone, state, label)
    if foreign:
        _set_norm_epsilon(backbone, architecture.name)
    else:
        _set_statistics(backbone, architecture)
    backbone.eval().requires_grad_(False).to(device)
    return backbone, f"{label}@{state_digest(state)}"


def fresh_network(
    name: str, layers: Sequence[int] | Sequence[str], *, seed: int, device: torch.device
) -> Backbone:
    """The same architecture as its library draws it, to be trained; depends on `seed` alone.

    Raises:
        MethodError: unknown name or layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = build_backbone(name, layers)
    return network.train().requires_grad_(True).to(device)


def _set_statistics(backbone: Backbone, architecture: Architecture) -> None:
    """torchvision trains all its networks under ImageNet's statistics, timm does not."""
    if architecture.library == "timm":
        import timm

        cfg = timm.get_pretrained_cfg(architecture.tagged)
        if cfg is not None:
            backbone.expect(cfg.mean, cfg.std)


def _set_norm_epsilon(backbone: Backbone, architecture: str) -> None:
    epsilon = norm_epsilon(architecture)
    for module in backbone.modules():
        if epsilon is not None and isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon


def _stored(weights: Weights, *names: str) -> Path | None:
    if weights.folder is None:
        return None
    candidates = (weights.folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((file for file in candidates if file.is_file()), None)


def _is_head(key: str, classifier: str | Sequence[str] | None = None) -> bool:
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    return key.startswith((*_HEADS, *(f"{name}." for name in names)))


def _body(network: nn.Module) -> dict[str, Tensor]:
    """State of a full network without its classifier."""
    cfg: Any = getattr(network, "pretrained_cfg", {})
    state = network.state_dict()
    return {k: v for k, v in state.items() if not _is_head(k, cfg.get("classifier"))}


def _random_state(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        state = _body(architecture.create())
    for key, value in state.items():
        # timm switches residual branches off at first (norm weight 0); a network that is never
        # trained would stay a chain of 1x1 convolutions. One half bounds the growth over blocks.
        if key.endswith(".weight") and value.ndim == 1 and not value.any():
            value.fill_(0.5)
    return state


def _network_errors() -> tuple[type[BaseException], ...]:
    """What a failed download raises: the client of the hub depends on its version."""
    clients = (("httpx", "HTTPError"), ("httpx2", "HTTPError"), ("requests", "RequestException"))
    found = [getattr(sys.modules.get(module), error, None) for module, error in clients]
    return (OSError, RuntimeError, ValueError, *(error for error in found if error is not None))


def _download_state(name: str, architecture: Architecture) -> dict[str, Tensor]:
    if not _has_weights(architecture):
        raise MethodError(
            f"{architecture.library} has no pretrained weights for {name}; {_WAYS_OUT}"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            return _body(architecture.create(pretrained=True))
    except _network_errors() as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise MethodError(
            f"pretrained weights of {name} cannot be downloaded ({reason}); {_WAYS_OUT}"
        ) from error


def _has_weights(architecture: Architecture) -> bool:
    if architecture.library == "torchvision":
        return bool(architecture.tag)
    import timm

    cfg = timm.get_pretrained_cfg(architecture.tagged)
    return cfg is not None and bool(cfg.has_weights)


def _read_state(
    file: Path, name: str, architecture: Architecture
) -> tuple[dict[str, Tensor], bool]:
    """A state dict in the network's names without its classifier; whether it had other names."""
    with torch.device("meta"):
        expected = _body(architecture.create())
    tensors = read_tensors(file)
    tensors = {k: v for k, v in tensors.items() if k in expected or not _is_head(k)}
    state = to_timm(tensors, expected) if architecture.library == "timm" else tensors
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


def _canonical(key: str) -> str:
    """Name of a tensor, the same in a full network and in timm's extractors of it."""
    return key.removeprefix("model.").removeprefix("body.").replace("_", ".")


def _fill(backbone: Backbone, state: Mapping[str, Tensor], label: str) -> None:
    """Load a full network's state into an extractor of some of its layers."""
    source = {_canonical(key): key for key in state}
    target = backbone.net.state_dict()
    missing = []
    for key, value in target.items():
        found = source.get(_canonical(key))
        if found is not None:
            value.copy_(state[found])
        elif not key.endswith("num_batches_tracked"):
            missing.append(key)
    if missing:
        raise MethodError(
            f"weights {label}: {len(missing)} of {len(target)} tensors are missing, first "
            f"{', '.join(missing[:3])}; check the architecture and that the file is complete"
        )


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
