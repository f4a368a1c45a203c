"""Which images a gallery shows, the file they travel in, and the picture."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from bench.errors import DataError, StoreError
from bench.report.pictures.gallery import FOUND, TRUTH, render
from bench.rows.panels import SHARED, Panel, chosen, load_panels, save_panels, select, shared

if TYPE_CHECKING:
    from pathlib import Path


def panel(size: tuple[int, int] = (32, 32), label: int = 1, **fields: Any) -> Panel:
    """A grey image with a square defect in the middle, found by the map."""
    height, width = size
    mask = np.zeros(size, dtype=bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = bool(label)
    values: dict[str, Any] = {
        "name": "test/crack/001.png",
        "image": np.full((height, width, 3), 128, dtype=np.uint8),
        "mask": mask,
        "map": mask * 2.0,
        "score": 2.0 * label,
        "label": label,
        "defect": "crack" if label else "good",
        "reason": "highest score of the normal images",
    }
    return Panel(**(values | fields))


def test_failures_come_first() -> None:
    scores = [0.1, 0.9, 0.2, 0.8, 0.05, 0.6, 0.7, 0.3]
    labels = [0, 0, 0, 1, 1, 1, 1, 0]
    assert select(scores, labels, 4) == [
        (1, "highest score of the normal images"),
        (4, "lowest score of the anomalous images"),
        (6, "median score of the anomalous images"),
        (3, "highest score of the anomalous images"),
    ]


def test_ten_images_are_six_failures_and_the_median_and_best_of_both_kinds() -> None:
    scores = np.linspace(0, 1, 40)
    labels = np.arange(40) % 2
    chosen = select(scores, labels)
    assert [index for index, _ in chosen] == [38, 36, 34, 1, 3, 5, 21, 39, 20, 0]
    assert chosen[1][1] == "2nd highest score of the normal images"
    assert chosen[5][1] == "3rd lowest score of the anomalous images"
    assert chosen[-1][1] == "lowest score of the normal images"


def test_of_equal_scores_the_earlier_image_is_chosen() -> None:
    chosen = select(np.zeros(8), [0, 0, 0, 0, 1, 1, 1, 1], 2)
    assert [index for index, _ in chosen] == [0, 4]


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 1)), max_size=25),
    st.integers(1, 12),
)
@settings(max_examples=60)
def test_a_selection_is_as_large_as_can_be_and_repeats_nothing(
    images: list[tuple[float, int]], count: int
) -> None:
    scores, labels = [s for s, _ in images], [k for _, k in images]
    chosen = [index for index, _ in select(scores, labels, count)]
    assert len(chosen) == len(set(chosen)) == min(count, len(images))
    if count >= 2:
        for kind, end in ((0, max), (1, min)):
            of_kind = [s for s, k in images if k == kind]
            assert not of_kind or end(of_kind) in [scores[i] for i in chosen if labels[i] == kind]


def test_images_for_every_method_are_the_first_of_each_kind_then_the_second() -> None:
    defects = ["good", "good", "good", "crack", "dent", "dent", "crack"]
    assert shared(defects, 3) == [0, 3, 4]
    assert shared(defects, 5) == [0, 1, 3, 4, 5]
    assert shared(defects, 99) == list(range(7))
    assert shared([]) == []


def test_what_no_score_has_chosen_is_left_out_of_a_gallery() -> None:
    kept = [panel(), panel(reason=SHARED)]
    assert chosen(kept) == kept[:1]


def test_panels_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = [
        panel((20, 30), image=rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)),
        panel(label=0, mask=None, map=rng.random((16, 16)) * 1e6 - 3e5, name="übung/図.png"),
    ]
    save_panels(tmp_path / "panels.npz", before, 0.125)
    after, threshold = load_panels(tmp_path / "panels.npz")
    assert threshold == 0.125
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old.image, new.image)
        assert (old.mask is None) == (new.mask is None)
        if old.mask is not None and new.mask is not None:
            assert np.array_equal(old.mask, new.mask)
        assert old.map is not None
        assert new.map is not None
        # Half precision of the common range of a million.
        assert np.allclose(old.map, new.map, atol=1e6 * 2**-11)
        for key in ("name", "score", "label", "defect", "reason"):
            assert getattr(old, key) == getattr(new, key)


def test_a_missing_threshold_stays_missing(tmp_path: Path) -> None:
    save_panels(tmp_path / "panels.npz", [panel(map=np.ones((4, 4)))], None)
    panels, threshold = load_panels(tmp_path / "panels.npz")
    assert threshold is None
    shown = panels[0].map
    assert shown is not None
    assert np.array_equal(shown, np.ones((4, 4)))


def test_ten_panels_of_256_pixels_take_less_than_4_mb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [
        panel(
            (256, 256),
            image=rng.integers(0, 256, (256, 256, 3), dtype=np.uint8),
            map=rng.normal(size=(256, 256)),
        )
        for _ in range(10)
    ]
    save_panels(tmp_path / "panels.npz", noise, None)
    assert (tmp_path / "panels.npz").stat().st_size < 4e6


def test_large_panels_are_reduced_without_losing_thin_defects(tmp_path: Path) -> None:
    mask = np.zeros((300, 1100), dtype=np.uint8)
    mask[:, 700] = 255
    save_panels(tmp_path / "panels.npz", [panel((300, 1100), mask=mask, map=mask * 1.0)], 1.0)
    small = load_panels(tmp_path / "panels.npz")[0][0]
    assert small.image.shape == (140, 512, 3)
    assert small.map is not None
    assert small.map.shape == (140, 512)
    assert small.mask is not None
    assert small.mask.any(axis=1).all()
    assert small.mask.mean() < 0.01


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no panels; run the cell again"):
        load_panels(tmp_path / "panels.npz")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "newer.npz", format=np.int64(99))
    for name in ("text", "other"):
        with pytest.raises(StoreError, match="not a panel file"):
            load_panels(tmp_path / f"{name}.npz")
    with pytest.raises(StoreError, match="format 99"):
        load_panels(tmp_path / "newer.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"map_0": np.zeros(3)},
        {"image_0": np.zeros((0, 4, 3), np.uint8)},
        {"name": np.array([], dtype=str)},
        {"format": np.array([1, 1])},
        {"range": np.zeros(0)},
    ],
)
def test_a_panel_file_with_other_arrays_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save_panels(tmp_path / "good.npz", [panel()], 0.5)
    with np.load(tmp_path / "good.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(tmp_path / "bad.npz", **{**arrays, **change})
    with pytest.raises(StoreError, match="not a panel file"):
        load_panels(tmp_path / "bad.npz")


def test_a_panel_file_that_is_cut_off_or_overwritten_is_refused(tmp_path: Path) -> None:
    save_panels(tmp_path / "good.npz", [panel()], 0.5)
    good = (tmp_path / "good.npz").read_bytes()
    half = len(good) // 2
    for bad in (good[:half], good[:half] + b"\xff" * 40 + good[half + 40 :]):
        (tmp_path / "bad.npz").write_bytes(bad)
        with pytest.raises(StoreError, match="not a panel file"):
            load_panels(tmp_path / "bad.npz")


def drawn(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def has(pixels: np.ndarray[Any, Any], colour: str) -> bool:
    """Whether a colour is drawn above the legend."""
    target = np.array(to_rgb(colour)) * 255
    above = pixels[: int(len(pixels) * 0.8)]
    return bool((np.abs(above - target).max(axis=-1) < 12).any())


def test_truth_and_threshold_are_outlined(tmp_path: Path) -> None:
    render([panel()], 1.0, tmp_path / "a.png", "PaDiM on synthetic", "A caption.")
    pixels = drawn(tmp_path / "a.png")
    assert has(pixels, TRUTH)
    assert has(pixels, FOUND)


def test_a_normal_image_and_a_missing_threshold_get_no_outline(tmp_path: Path) -> None:
    render([panel(label=0)], None, tmp_path / "a.png", "PaDiM on synthetic")
    pixels = drawn(tmp_path / "a.png")
    assert not has(pixels, TRUTH)
    assert not has(pixels, FOUND)


def test_an_outline_that_touches_the_border_is_closed(tmp_path: Path) -> None:
    everything = panel(mask=np.ones((32, 32)), map=np.ones((8, 8)))
    render([everything], 0.5, tmp_path / "a.png", "All of it")
    assert has(drawn(tmp_path / "a.png"), TRUTH)
    assert has(drawn(tmp_path / "a.png"), FOUND)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(panel(map=np.zeros((32, 32))), id="constant map"),
        pytest.param(panel(mask=None), id="no mask known"),
        pytest.param(panel((8, 80)), id="wide"),
        pytest.param(panel((80, 8)), id="tall"),
        pytest.param(panel(image=np.zeros((32, 32), dtype=np.uint8)), id="grey"),
        pytest.param(panel(mask=np.ones((7, 9)), map=np.ones((1, 1))), id="other sizes"),
        pytest.param(panel(name="$x_{$/" * 60 + "図.png", defect="long " * 40), id="long names"),
        pytest.param(panel(name="", defect="", reason="", score=-1e-12), id="no text"),
    ],
)
def test_odd_images_are_drawn_without_a_warning(odd: Panel, tmp_path: Path) -> None:
    save_panels(tmp_path / "panels.npz", [odd], 0.5)
    panels, threshold = load_panels(tmp_path / "panels.npz")
    render(panels, threshold, tmp_path / "a.png", "A title " * 30, "A caption " * 60)
    height, width, _ = drawn(tmp_path / "a.png").shape
    assert width > 1000
    assert 250 < height < 1000


def test_the_same_panels_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        render([panel()], 1.0, tmp_path / f"{name}.png", "Twice")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        render([], None, tmp_path / "a.png", "Empty")


def test_a_gallery_needs_no_torch() -> None:
    code = (
        "import sys, bench.report.pictures.gallery; "
        "sys.exit(bool({'torch', 'timm', 'sklearn', 'skimage'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
