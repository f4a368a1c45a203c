"""Outputs of named modules of a network, which runs no further than the last of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench.errors import MethodError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bench.blocks.architecture import Architecture

GROWTH = 256
"""Pixels by which the second image is larger that strides are measured with: whole strides fit."""


class _ReachedError(Exception):
    """The last tap has its output; nothing behind it is needed."""


@dataclass(frozen=True)
class Taps:
    """Which modules are read, found out by running the network once without numbers.

    Attributes:
        names: of the modules, in the order in which their outputs are wanted.
        calls: how often each runs; the last output counts.
        last: the one that is done last; the network is left there.
        changed: those whose output is written over by a later step ("x += shortcut", an activation
            in place), so that a copy is kept.
    """

    names: tuple[str, ...]
    calls: dict[str, int]
    last: str
    changed: frozenset[str]

    def read(self, network: nn.Module, images: Tensor) -> list[Tensor]:
        """The outputs for (B, 3, H, W) images, in the order of `names`."""
        found: dict[str, Tensor] = {}
        left = dict(self.calls)

        def keep(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                left[name] -= 1
                found[name] = output.clone() if name in self.changed else output
                if name == self.last and not left[name]:
                    raise _ReachedError

            return hook

        # Hooked anew each time: a module may be replaced, or the network copied.
        hooks = [network.get_submodule(n).register_forward_hook(keep(n)) for n in self.calls]
        try:
            network(images)
        except _ReachedError:
            pass
        finally:
            for handle in hooks:
                handle.remove()
        return [found[name] for name in self.names]


@dataclass(frozen=True)
class Tapped:
    """A network whose taps are known.

    Attributes:
        shapes: (C, h, w) of each output for an image of the network's usual size.
        strides: input pixels per cell; None where the network takes one image size alone.
        behind: modules that run only after the last tap.
    """

    taps: Taps
    shapes: list[tuple[int, int, int]]
    strides: list[int | None]
    behind: tuple[str, ...]

    def cut(self, network: nn.Module) -> None:
        """Drop the modules behind the last tap: they would be stored and counted for nothing."""
        for name in self.behind:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())


@torch.inference_mode(False)
@torch.no_grad()
def find_taps(name: str, architecture: Architecture, layers: Sequence[str]) -> Tapped:
    """Run the network on the meta device, where nothing is computed, and see what its modules give.

    Args:
        name: how messages call the network.
        layers: names of its modules.

    Raises:
        MethodError: no such module, one that does not run, or whose output is no (B, C, h, w) map.
    """
    with torch.device("meta"):
        network = architecture.create().eval()
    _check_names(name, network, layers)
    trace = _Trace(network, tuple(dict.fromkeys(layers)))
    size = architecture.size
    try:
        trace.run(torch.zeros(1, 3, size, size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise MethodError(
            f"backbone {name} does not run on {size}x{size} images: {error}"
        ) from error
    for layer in layers:
        _check_map(name, layer, trace.outputs.get(layer))
    last = list(trace.outputs)[-1]
    taps = Taps(tuple(layers), trace.calls, last, trace.changed)
    tapped = Tapped(taps, [], [], tuple(_behind(network, last, trace.seen)))
    tapped.cut(network)
    channels_last = gives_channels_last(network)
    shapes = _shapes(taps, network, size, channels_last)
    try:
        larger = _shapes(taps, network, size + GROWTH, channels_last)
    except (RuntimeError, AssertionError, ValueError):  # a transformer of one image size
        larger = shapes
    strides = [_stride(a, b) for a, b in zip(shapes, larger, strict=True)]
    return Tapped(taps, shapes, strides, tapped.behind)


def gives_channels_last(network: nn.Module) -> bool:
    """Whether the network's maps are (B, h, w, C)."""
    return str(getattr(network, "output_fmt", "")).endswith("NHWC")


class _Trace:
    """One pass through a network, with every module watched.

    Attributes:
        outputs: of the named modules that ran, in the order in which they were done last.
        calls: how often each ran.
        changed: named modules whose output was written over before the last of them was done.
        seen: names of all modules that had begun when the last of them was done.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        self.network = network
        self.names = names
        self.outputs: dict[str, Any] = {}
        self.calls: dict[str, int] = {}
        self.changed: frozenset[str] = frozenset()
        self.seen: frozenset[str] = frozenset()
        self._begun: set[str] = set()
        self._versions: dict[str, int] = {}

    def run(self, image: Tensor) -> None:
        hooks = []
        for name, module in self.network.named_modules():
            hooks.append(module.register_forward_pre_hook(self._begin(name)))
            if name in self.names:
                hooks.append(module.register_forward_hook(self._end(name)))
        try:
            self.network(image)
        finally:
            for handle in hooks:
                handle.remove()

    def _begin(self, name: str) -> Callable[..., None]:
        return lambda _module, _inputs: self._begun.add(name)

    def _end(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            self.outputs.pop(name, None)
            self.outputs[name] = output
            self._versions[name] = getattr(output, "_version", 0)
            self.changed = frozenset(
                n for n, o in self.outputs.items() if getattr(o, "_version", 0) != self._versions[n]
            )
            self.seen = frozenset(self._begun)

        return hook


def _check_names(name: str, network: nn.Module, layers: Sequence[str]) -> None:
    known = [module for module, _ in network.named_modules() if module]
    if not layers:
        raise MethodError(f"backbone {name}: no layers requested; name modules, as {known[0]!r}")
    for layer in layers:
        if layer not in known:
            raise MethodError(f"backbone {name} has no module {layer!r}; {nearest(layer, known)}")


def _check_map(name: str, layer: str, output: Any) -> None:
    where = f"backbone {name}: module {layer!r}"
    if output is None:
        raise MethodError(f"{where} does not run; choose one that does")
    if not isinstance(output, torch.Tensor):
        raise MethodError(f"{where} gives a {type(output).__name__}, not a (B, C, h, w) map")
    if output.ndim != 4:
        shape = tuple(output.shape)
        raise MethodError(f"{where} gives {shape} for one image, not a (B, C, h, w) map")


def _behind(network: nn.Module, last: str, seen: frozenset[str]) -> list[str]:
    """Children of the modules that the pass left halfway, which had not begun by then."""
    parts = last.split(".")
    left = [".".join(parts[:depth]) for depth in range(len(parts))]
    unseen = []
    for parent in left:
        for child, _ in network.get_submodule(parent).named_children():
            name = f"{parent}.{child}" if parent else child
            if not any(s == name or s.startswith(f"{name}.") for s in seen):
                unseen.append(name)
    return unseen


def _shapes(
    taps: Taps, network: nn.Module, size: int, channels_last: bool
) -> list[tuple[int, int, int]]:
    maps = taps.read(network, torch.zeros(1, 3, size, size, device="meta"))
    if channels_last:
        maps = [one.permute(0, 3, 1, 2) for one in maps]
    return [(one.shape[1], one.shape[2], one.shape[3]) for one in maps]


def _stride(small: tuple[int, int, int], large: tuple[int, int, int]) -> int | None:
    cells = large[1] - small[1]
    return GROWTH // cells if cells > 0 and GROWTH % cells == 0 else None
