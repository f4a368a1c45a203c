"""Golden sets of maps, masks and labels, and what other evaluators made of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.golden_files import golden, golden_like, present

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tests.golden_files import GoldenFile

EDGE = golden("metrics_edge")
IMAGE_LEVEL = golden("metrics_image_level")
SPRO = golden("metrics_spro")
SETS = [file for file in golden_like("metrics_*.npz") if file not in (EDGE, IMAGE_LEVEL, SPRO)]
ARRAYS = ("maps", "masks", "labels", "image_scores")

each_set = pytest.mark.parametrize("file", present(SETS))

EMPTY_LEFT_OUT = "images_with_empty_mask_left_out_of_pixel_metrics"


@dataclass
class Expected:
    """Values in `expected_json` below a path of keys."""

    file: GoldenFile
    above: tuple[str, ...] = ("expected",)

    def find(self, *path: str) -> Any:
        """The value at a path, or None if the file lacks it."""
        value: Any = self.file.json("expected_json")
        for key in (*self.above, *path):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def tree(self, *path: str) -> dict[str, Any]:
        """The values below a path; the test is skipped if there are none."""
        found = self.find(*path)
        if not isinstance(found, dict):
            self.file.skip(self._name(path))
        return found

    def check(self, found: Any, *path: str, absolute: float = 0.0) -> None:
        """Compare as `GoldenFile.check` does. None is undefined, as are NaN and an error text."""
        *above, last = path
        parent = self.find(*above)
        if not isinstance(parent, dict) or last not in parent:
            self.file.lacks(self._name(path))
            return
        wanted = parent[last]
        undefined = wanted is None or isinstance(wanted, str)
        ours = math.nan if found is None else found
        theirs = math.nan if undefined else wanted
        self.file.check(self._name(path), ours, wanted=theirs, absolute=absolute)

    def below(self, *path: str) -> Expected:
        return Expected(self.file, (*self.above, *path))

    def pixels(self) -> Expected:
        """Values by our rule: an anomalous image with an empty mask leaves the pixel metrics."""
        return self if self.find(EMPTY_LEFT_OUT) is None else self.below(EMPTY_LEFT_OUT)

    def limits(self) -> dict[float, str]:
        """Limits of AUPRO -> their keys."""
        return {float(key): key for key in self.pixels().tree("exact64", "aupro")}

    def _name(self, path: tuple[str, ...] | list[str]) -> str:
        return "expected_json: " + "/".join((*self.above[1:], *path))


def arrays_of(file: GoldenFile) -> dict[str, Any]:
    return {name: file[name] for name in ARRAYS}


def unmasked(arrays: dict[str, Any]) -> NDArray[np.bool_]:
    """Anomalous images with an empty mask."""
    return (arrays["labels"] == 1) & ~arrays["masks"].any((1, 2))  # type: ignore[no-any-return]


def edge_cases() -> list[Any]:
    """Names of the edge cases for `parametrize`."""
    if "expected_json" not in EDGE:
        return [pytest.param("lacking", marks=pytest.mark.golden_lacks(EDGE.file, ""))]
    return list(EDGE.json("expected_json")["cases"])


def edge_input(case: str) -> tuple[Any, Any]:
    """Maps and masks of an edge case, by the recipe that the file gives in words."""
    recipe = str(EDGE.json("expected_json")["cases"][case]["recipe"])
    for pattern, make in RECIPES.items():
        # N stands for a number.
        match = re.fullmatch(pattern.replace("N", r"([-+.\de]+)"), recipe)
        if match:
            return make(EDGE["maps"], EDGE["masks"], *map(_number, match.groups()))
    raise AssertionError(f"{EDGE.file}: {case}: no such recipe here: {recipe}")


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return float(text) if re.fullmatch(r"[-+.\de]+", text) else text


def _signed_zeros(maps: Any, masks: Any, image: int) -> tuple[Any, Any]:
    maps[maps < 0] = -0.0
    maps[image][maps[image] == 0] = 0.0
    return maps, masks


def _infinite(maps: Any, masks: Any, side: str, share: float) -> tuple[Any, Any]:
    edge = np.quantile(maps, share)
    maps[maps > edge if side == ">" else maps < edge] = np.inf if side == ">" else -np.inf
    return maps, masks


def _with_nan(maps: Any, masks: Any, *position: int) -> tuple[Any, Any]:
    maps[position] = np.nan
    return maps, masks


def _between(maps: Any, masks: Any, low: float, high: float) -> tuple[Any, Any]:
    unit = (maps - maps.min()) / (maps.max() - maps.min())
    return np.float32(low) + unit * np.float32(high - low), masks


RECIPES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "maps, masks": lambda maps, masks: (maps, masks),
    "maps, zeros": lambda maps, masks: (maps, np.zeros_like(masks)),
    "maps, ones": lambda maps, masks: (maps, np.ones_like(masks)),
    r"maps, (masks_\w+)": lambda maps, _, name: (maps, EDGE[name]),
    r"maps, (masks_\w+)/N as float32": lambda maps, _, name, top: (
        maps,
        EDGE[name].astype(np.float32) / top,
    ),
    r"full\(N\), masks": lambda maps, masks, value: (np.full_like(maps, value), masks),
    r"masks\*N": lambda maps, masks, value: (maps, masks * np.uint8(value)),
    "masks as bool": lambda maps, masks: (maps, masks.astype(bool)),
    r"round\(maps\)": lambda maps, masks: (np.round(maps), masks),
    "maps as float16": lambda maps, masks: (maps.astype(np.float16), masks),
    r"clip\(\(maps\+N\)\*N, N, N\) as uint8 \(truncating\)": lambda maps, masks, add, by, *ends: (
        np.clip((maps + add) * by, *ends).astype(np.uint8),
        masks,
    ),
    r"\[maps\[0\], maps\[1\]\[:N,:N\]\] and the same crop of the masks": lambda m, masks, h, w: (
        [m[0], m[1][:h, :w]],
        [masks[0], masks[1][:h, :w]],
    ),
    r"maps\[maps<0\]=-0\.0, then in image N every zero becomes \+0\.0": _signed_zeros,
    r"maps\*N\+N in float32": lambda maps, masks, by, add: (
        maps * np.float32(by) + np.float32(add),
        masks,
    ),
    r"min-max to \[N,N\] in float32": _between,
    r"N \+ maps\(float64\)\*N": lambda maps, masks, add, by: (
        add + maps.astype(np.float64) * by,
        masks,
    ),
    r"maps\[N,N,N\]=nan": _with_nan,
    r"maps\[maps ([<>]) quantile\(maps, N\)\] = [-+]inf": _infinite,
}
