"""Maps that are read again and again: the same metrics as from one sort, whatever the room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.errors import DataError
from bench.evaluate import Evaluation, evaluate
from bench.evaluate.large import NEEDS_ALL, evaluate_large
from bench.evaluate.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

COUNT = 10

SCORES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x,
    "below zero": lambda x: (-np.abs(x)).astype(np.float32),
    "close together": lambda x: (1 + 1e-6 * x).astype(np.float32),
    "ties, and zeros of both signs": lambda x: (np.round(x) * np.sign(x)).astype(np.float32),
    "all equal": lambda x: np.ones(x.shape, np.float32),
    "uint8": lambda x: np.clip(x * 20 + 60, 0, 255).astype(np.uint8),
    "int32": lambda x: (x * 1e6).astype(np.int32),
}


class Set:
    """Ten images of several sizes: five normal, one without a mask, four with one or two defects.

    Attributes:
        reads: how often a map was asked for.
    """

    def __init__(self, make: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        rng = np.random.default_rng(3)
        self.reads = 0
        self.labels = np.arange(COUNT) % 2
        self.masks: list[NDArray[Any] | None] = []
        self.maps: list[NDArray[Any]] = []
        for index in range(COUNT):
            mask = np.zeros((30, 24 + index), np.uint8)
            if index % 2:
                mask[4 : 6 + index, 3:9] = 1
                mask[20:25, 12:20] = index > 2
            self.maps.append(make(rng.normal(size=mask.shape) + mask))
            self.masks.append(None if index == 5 else mask)
        self.scores = np.array([float(one.max()) for one in self.maps])

    def at_once(self) -> Evaluation:
        return evaluate(self.maps, self.masks, self.labels, self.scores)

    def in_parts(self, room_mb: float, published: tuple[str, ...] = ()) -> Evaluation:
        def read(index: int) -> NDArray[Any]:
            self.reads += 1
            return self.maps[index]

        maps = Lazy(read, COUNT)
        return evaluate_large(
            maps, self.masks, self.labels, self.scores, published=published, room_mb=room_mb
        )


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("room_mb", [0.003, 0.02, 100])
def test_every_value_is_that_of_one_sort(kind: str, room_mb: float) -> None:
    images = Set(SCORES[kind])
    exact, found = images.at_once(), images.in_parts(room_mb)
    assert found.counts == exact.counts
    assert found.undefined == exact.undefined
    assert found.warnings == exact.warnings
    for name, value in exact.values.items():
        assert found.values[name] == pytest.approx(value, abs=1e-12), name
    for name, values in exact.detail.items():
        assert found.detail[name] == pytest.approx(values, abs=1e-12), name


def test_less_room_takes_more_passes() -> None:
    images = Set(SCORES["float32"])
    reads = []
    for room_mb in (100, 0.02):
        images.reads = 0
        images.in_parts(room_mb)
        reads.append(images.reads)
    assert reads[0] < 8 * COUNT < reads[1]


def test_rules_of_papers_that_need_all_maps_say_so() -> None:
    found = Set(SCORES["float32"]).in_parts(1, published=("aupro_pyramidflow",))
    assert found.published == {"aupro_pyramidflow": None}
    assert found.undefined["aupro_pyramidflow"] == NEEDS_ALL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.maps[4].__setitem__((3, 2), np.nan), r"1 NaN .* image 4, the first at \(3, 2"),
        (lambda s: s.maps.__setitem__(6, s.maps[6][:-1]), "mask of image 6 has shape"),
        (lambda s: s.maps.__setitem__(7, s.maps[7].astype(np.float64)), "image 7 has type float64"),
        (lambda s: s.labels.__setitem__(3, 0), "image 3 is labelled normal"),
        (lambda s: s.masks.pop(), "10 maps and 9 masks"),
    ],
)
def test_what_is_wrong_with_an_image_is_named(
    change: Callable[[Set], object], message: str
) -> None:
    images = Set(SCORES["float32"])
    change(images)
    with pytest.raises(DataError, match=message):
        images.in_parts(1)


def test_a_set_whose_pixels_do_not_count_has_image_metrics_alone() -> None:
    maps = [np.ones((3, 3), np.float32)] * 2
    found = evaluate_large(maps, [None, None], [1, 1], [0.1, 0.2], room_mb=1)
    wanted = evaluate(maps, [None, None], [1, 1], [0.1, 0.2])
    assert (found.values, found.undefined) == (wanted.values, wanted.undefined)
