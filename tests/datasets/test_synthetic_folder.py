"""The generated folder: layout, reuse, interruption, damage, and the options of the data set."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from bench.errors import ConfigError, DataError
from bench.plan import discovery
from bench.plugins.datasets.synthetic import Synthetic, listing, writer
from bench.plugins.datasets.synthetic.picture import make_picture

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {
    "size": 64,
    "train": 2,
    "good": 2,
    "bad": 5,
    "categories_only": "brushed,bolt",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two small categories; not to be changed."""
    dataset = Synthetic(tmp_path_factory.mktemp("cache"), **SMALL)
    dataset.prepare()
    return dataset


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """One small category that a test may damage."""
    dataset = Synthetic(tmp_path, **{**SMALL, "categories_only": "brushed"})
    dataset.prepare()
    return dataset


def again(dataset: Any, **changes: Any) -> Any:
    """Another object of the same data set, which has checked nothing yet."""
    options = {**SMALL, "categories_only": dataset.categories_only, **changes}
    return Synthetic(dataset.root, **options)


def test_the_plugin_is_found_without_importing_it() -> None:
    plugin = discovery.describe("datasets", "synthetic")
    assert plugin.version == 1
    assert plugin.constants["generated"] is True
    assert plugin.defaults() == {
        "seed": 0,
        "size": 256,
        "train": 24,
        "good": 8,
        "bad": 16,
        "severity": "mixed",
        "categories_only": "",
        "keep_clean": False,
    }


def test_samples_have_the_counts_that_were_asked_for(made: Any) -> None:
    assert list(made.categories()) == ["brushed", "bolt"]
    for category in made.categories():
        train, test = made.samples(category, "train"), made.samples(category, "test")
        assert len(train) == 2
        assert {s.label for s in train} == {0}
        assert [s.label for s in test].count(0) == 2
        assert [s.label for s in test].count(1) == 5
        assert [s.image for s in test] == sorted(s.image for s in test)
        assert all((s.mask is not None) == (s.label == 1) for s in test)
        assert all(s.defect == s.image.parent.name for s in test)
    assert made.expected()["bolt"] == {"train": 2, "good": 2, "anomalous": 5}


def test_masks_are_grey_files_of_0_and_255_of_the_image_s_size(made: Any) -> None:
    for category in made.categories():
        for sample in made.samples(category, "test"):
            if sample.mask is None:
                continue
            assert sample.mask.name == f"{sample.image.stem}_mask.png"
            with Image.open(sample.mask) as mask, Image.open(sample.image) as image:
                assert mask.mode == "L"
                assert mask.size == image.size
                assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_brushed_files_are_grey_and_the_others_are_colour(made: Any) -> None:
    for category, mode in (("brushed", "L"), ("bolt", "RGB")):
        for sample in made.samples(category, "test"):
            with Image.open(sample.image) as image:
                assert image.mode == mode


def test_good_and_bad_files_have_the_same_png_chunks(made: Any) -> None:
    for category in made.categories():
        samples = [*made.samples(category, "train"), *made.samples(category, "test")]
        heads = {sample.image.read_bytes()[:33] for sample in samples}
        assert len(heads) == 1
        kinds = {tuple(sorted(set(png_chunks(s.image.read_bytes())))) for s in samples}
        assert kinds == {(b"IDAT", b"IEND", b"IHDR")}


def png_chunks(data: bytes) -> list[bytes]:
    names, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        names.append(data[at + 4 : at + 8])
        at += length + 12
    return names


def test_one_image_alone_equals_the_same_image_of_the_full_run(made: Any) -> None:
    for category in made.categories():
        for key in made.settings.keys(category)[-3:]:
            with Image.open(made.folder / category / listing.image_path(key)) as image:
                assert np.array_equal(np.asarray(image), make_picture(key).pixels)


def test_two_processes_write_the_same_pixels_as_one(tmp_path: Path, made: Any) -> None:
    writer.write_categories(tmp_path, made.settings, ["brushed"], 2, lambda _: None)
    for name in ("manifest.csv", "parameters.json"):
        one, two = (f / "brushed" / name for f in (made.folder, tmp_path))
        assert one.read_text() == two.read_text()


def test_the_first_images_are_the_same_whatever_the_counts(made: Any) -> None:
    fewer = listing.Settings(size=64, train=1, good=1, bad=3)
    assert set(fewer.keys("bolt")) < set(made.settings.keys("bolt"))


def test_types_take_turns_and_each_goes_through_the_severities() -> None:
    keys = [k for k in listing.Settings(bad=15).keys("bolt") if k.severity]
    for kind in {key.kind for key in keys}:
        assert [k.severity for k in keys if k.kind == kind] == ["hard", "medium", "easy"]
    hard = [k for k in listing.Settings(severity="hard").keys("bolt") if k.severity]
    assert {key.severity for key in hard} == {"hard"}


def test_manifest_and_parameters_say_what_was_made(made: Any) -> None:
    folder = made.folder / "bolt"
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    for row in rows:
        if row["label"] == "1":
            with Image.open(folder / listing.mask_path(writer.PurePosixPath(row["path"]))) as mask:
                assert int((np.asarray(mask) > 0).sum()) == int(row["mask_area"])
    parameters = json.loads((folder / "parameters.json").read_text())
    assert parameters["generator_version"] == listing.GENERATOR_VERSION
    assert parameters["licence"] == "Apache-2.0"
    assert parameters["size"] == 64


def test_a_second_use_makes_nothing(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.root.rglob("*")}
    again(made).prepare()
    assert {p: p.stat().st_mtime_ns for p in made.root.rglob("*")} == before
    assert capsys.readouterr().err == ""


def test_progress_is_plain_lines_outside_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Synthetic(tmp_path, **{**SMALL, "bad": 1, "categories_only": "brushed"}).prepare()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "synthetic: making 5 images of 64 pixels, once"
    assert lines[1].startswith("synthetic: brushed done (5 images)")


def test_samples_make_only_their_own_category(tmp_path: Path) -> None:
    dataset = Synthetic(tmp_path, **{**SMALL, "categories_only": ""})
    assert len(dataset.categories()) == 6
    assert not any(tmp_path.iterdir())
    dataset.samples("brushed", "train")
    assert [p.name for p in dataset.folder.iterdir()] == ["brushed"]


def test_an_interrupted_run_leaves_only_what_is_complete(tmp_path: Path) -> None:
    settings = listing.Settings(size=64, train=2, good=1, bad=1)
    made = []

    def interrupt(category: str) -> None:
        made.append(category)
        if made.count("bolt") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write_categories(tmp_path, settings, ["brushed", "bolt"], 1, interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["brushed"]


def test_a_category_that_another_process_finished_first_is_kept(own: Any) -> None:
    before = (own.folder / "brushed" / "manifest.csv").stat().st_mtime_ns
    writer.write_categories(own.folder, own.settings, ["brushed"], 1, lambda _: None)
    assert (own.folder / "brushed" / "manifest.csv").stat().st_mtime_ns == before
    assert [p.name for p in own.folder.iterdir()] == ["brushed"]


def test_changed_pixels_are_found_and_named(own: Any) -> None:
    image = own.samples("brushed", "test")[0].image
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(image)
    with pytest.raises(DataError, match=r"test/dent/000\.png has other pixels.*delete"):
        again(own).prepare()


def test_a_truncated_image_is_found_and_named(own: Any) -> None:
    image = own.samples("brushed", "test")[0].image
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(DataError, match=r"test/dent/000\.png cannot be read"):
        again(own).prepare()


def test_a_missing_mask_is_found_and_named(own: Any) -> None:
    bad = [s for s in own.samples("brushed", "test") if s.mask]
    bad[1].mask.unlink()
    with pytest.raises(DataError, match=rf"{bad[1].mask.name} is missing"):
        again(own).prepare()


@pytest.mark.parametrize("name", ["manifest.csv", "parameters.json"])
def test_a_damaged_list_is_found_and_named(own: Any, name: str) -> None:
    (own.folder / "brushed" / name).write_text("nonsense")
    with pytest.raises(DataError, match=name):
        again(own).prepare()


def test_other_settings_have_another_folder_and_another_fingerprint(made: Any) -> None:
    for change in ({"seed": 1}, {"size": 96}, {"train": 3}, {"good": 3}, {"bad": 4}):
        other = again(made, **change)
        assert other.folder != made.folder
        assert other.fingerprint("bolt") != made.fingerprint("bolt")
    assert made.fingerprint("bolt") != made.fingerprint("brushed")
    assert again(made, keep_clean=True).folder != made.folder
    assert again(made, keep_clean=True).fingerprint("bolt") == made.fingerprint("bolt")
    assert again(made, categories_only="bolt").fingerprint("bolt") == made.fingerprint("bolt")


def test_the_clean_twin_is_written_on_request(tmp_path: Path) -> None:
    options = {**SMALL, "bad": 1, "categories_only": "bolt", "keep_clean": True}
    dataset = Synthetic(tmp_path, **options)
    bad = next(s for s in dataset.samples("bolt", "test") if s.mask)
    files = [bad.image, dataset.folder / "bolt/clean/scratch/000.png", bad.mask]
    pixels, clean, mask = (np.asarray(Image.open(f)) for f in files)
    assert np.array_equal(pixels[mask == 0], clean[mask == 0])
    assert not np.array_equal(pixels, clean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 100}, r"synthetic.size is 100; a multiple of 32"),
        ({"size": 32}, "64 to 1024"),
        ({"size": 2048}, "64 to 1024"),
        ({"train": 0}, "synthetic.train is 0; at least 1"),
        ({"good": 0}, "synthetic.good"),
        ({"bad": -1}, "synthetic.bad"),
        ({"seed": -1}, "synthetic.seed"),
        ({"severity": "harder"}, "did you mean 'hard'"),
        ({"categories_only": "weave,bolts"}, "did you mean 'bolt'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_way_out(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Synthetic(tmp_path, **options)


def test_an_unknown_category_is_refused_with_the_nearest_name(made: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'capsule'"):
        made.samples("capsules", "train")
