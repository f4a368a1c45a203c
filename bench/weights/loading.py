"""A backbone with its weights: found, fitted into the network, and told apart by their hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.blocks.architecture import find_architecture
from bench.blocks.backbone import Backbone, build_backbone
from bench.errors import MethodError
from bench.weights.sources import find_state
from bench.weights.states import read_tensors, state_digest
from bench.weights.statistics import statistics_of
from bench.weights.torchvision_names import norm_epsilon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bench.weights.choice import Weights

__all__ = ["fresh_network", "load_backbone", "read_tensors", "state_digest"]


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
        the extractor on `device`, which says where its weights came from and what images they
        expect, and "resnet18.tv_in1k@<12 hex>": the hash of the whole network without its
        classifier, the same whichever layers are used and wherever the file lay;
        "resnet18[random:SEED]@..." for random weights.

    Raises:
        MethodError: unknown name or layer, weights that cannot be had or do not fit.
    """
    architecture = find_architecture(name)
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(name, layers)
    found = find_state(name, architecture, weights, seed)
    _fill(backbone, found.state, found.label)
    backbone.source = found.source
    if found.torchvision_names:
        _set_norm_epsilon(backbone, architecture.name)
    statistics = statistics_of(architecture, torchvision_weights=found.torchvision_names)
    if statistics is not None:
        backbone.expect(statistics.mean, statistics.std)
        backbone.statistics = statistics.text
    elif weights.kind != "random":
        raise MethodError(
            f"weights of {architecture.tagged} from {found.source}: nobody states the mean and "
            "deviation of the images that they were trained with; choose another network"
        )
    backbone.eval().requires_grad_(False).to(device)
    return backbone, f"{found.label}@{state_digest(found.state)}"


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


def _set_norm_epsilon(backbone: Backbone, architecture: str) -> None:
    epsilon = norm_epsilon(architecture)
    for module in backbone.modules():
        if epsilon is not None and isinstance(module, nn.BatchNorm2d):
            module.eps = epsilon


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
