"""The part of the training images that is kept for validation."""

from __future__ import annotations

import pytest
from sklearn.model_selection import train_test_split

from bench.api import MethodError
from bench.files.held_out import published_split, split_indices


@pytest.mark.parametrize("count", [2, 5, 10, 34, 209])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_the_parts_are_the_images_each_once_and_in_order(count: int, share: float) -> None:
    rest, held = split_indices(count, share, 0, "validation")
    assert sorted(rest + held) == list(range(count))
    assert rest == sorted(rest)
    assert held == sorted(held)


def test_the_number_held_out_is_rounded_up() -> None:
    sizes = {n: len(split_indices(n, 0.2, 0, "validation")[1]) for n in (5, 6, 10, 11, 209)}
    assert sizes == {5: 1, 6: 2, 10: 2, 11: 3, 209: 42}
    assert len(split_indices(30, 0.1, 0, "validation")[1]) == 3  # 0.1 * 30 > 3 in floating point


def test_seed_and_purpose_decide_which() -> None:
    one = split_indices(50, 0.3, 0, "validation")
    assert one == split_indices(50, 0.3, 0, "validation")
    assert one != split_indices(50, 0.3, 1, "validation")
    assert one != split_indices(50, 0.3, 0, "calibration")


@pytest.mark.parametrize("count", [5, 30, 35, 209])
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_with_a_seed_the_split_is_that_of_scikit_learn(count: int, share: float) -> None:
    for seed in (0, 7):
        rest, held = train_test_split(list(range(count)), test_size=share, random_state=seed)
        assert published_split(count, share, seed, "validation") == (sorted(rest), sorted(held))


@pytest.mark.parametrize(
    ("count", "share"), [(1, 0.5), (10, 0.0), (10, 1.0), (2, 0.6), (10, -0.1), (0, 0.5)]
)
def test_a_side_without_images_is_refused(count: int, share: float) -> None:
    with pytest.raises(MethodError, match="leaves no image on one side"):
        split_indices(count, share, 0, "validation")
    with pytest.raises(MethodError, match="leaves no image on one side"):
        published_split(count, share, 0, "validation")
