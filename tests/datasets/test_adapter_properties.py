"""Adapters under names and counts that nobody chose."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import DataError
from bench.files.folders import is_litter
from bench.files.layout import pair_masks
from bench.plugins.datasets.folder import Folder
from bench.plugins.datasets.mvtec import MVTec

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STEMS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\0"),
    min_size=1,
    max_size=12,
).filter(lambda stem: not is_litter(stem) and len(stem.encode()) < 200)
SETS = st.sets(STEMS.map(lambda stem: unicodedata.normalize("NFC", stem)), min_size=1, max_size=6)


def touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@settings(max_examples=150)
@given(stems=SETS, suffix=st.sampled_from(["_mask", ""]), shout=st.booleans(), nfd=st.booleans())
def test_every_image_finds_its_own_mask(
    stems: set[str],
    suffix: str,
    shout: bool,
    nfd: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("train test good")
    named = {unicodedata.normalize("NFD", stem) if nfd else stem: stem for stem in stems}
    touch(root / "bottle/train/good", ["0.png"])
    touch(root / "bottle/test/bad", [stem + (".PNG" if shout else ".png") for stem in named])
    touch(root / "bottle/ground_truth/bad", [f"{stem}{suffix}.png" for stem in stems])
    for dataset, category in ((MVTec(root), "bottle"), (Folder(root / "bottle"), "bottle")):
        try:
            samples = dataset.samples(category, "test")
        except DataError as error:
            # One stem may continue another with "_mask": then both could own a mask.
            assert "fit" in str(error)  # noqa: PT017 - not every example raises
            assert any(stem + "_mask" in stems for stem in stems)
            continue
        assert len(samples) == len(stems)
        for sample in samples:
            assert sample.mask is not None
            assert sample.mask.stem == named[sample.image.stem] + suffix


@settings(max_examples=150)
@given(images=SETS, masks=SETS)
def test_pairs_are_refused_exactly_where_names_differ(
    images: set[str], masks: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    left = [folder / f"{stem}.png" for stem in sorted(images)]
    right = [folder / "masks" / f"{stem}.png" for stem in sorted(masks)]
    loose = pair_masks(left, right, ("",), strict=False)
    assert [mask.stem if mask else None for mask in loose] == [
        stem if stem in masks else None for stem in sorted(images)
    ]
    try:
        strict = pair_masks(left, right, ("",))
    except DataError:
        assert images != masks
    else:
        assert images == masks
        assert strict == loose
