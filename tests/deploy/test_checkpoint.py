"""Fitted methods saved and loaded: the same bits, no download, one line for what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from bench.api import Sample
from bench.deploy.checkpoint import Model, load_model, save_model
from bench.deploy.fitting import Options, fit_model
from bench.deploy.inference import (
    Predicted,
    image_scores,
    in_chunks,
    output_names,
    overlay,
    predict_images,
)
from bench.errors import BenchError, ConfigError, DataError, StoreError
from bench.files.manifest import file_digest
from bench.files.map_files import read_map, write_map
from bench.plan.cells import Cell
from bench.settings.protocol import Protocol
from bench.weights import loading as weights
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bench.api import Split

    Make = Callable[..., tuple[Model, Path]]

SMALL: dict[str, dict[str, Any]] = {
    "padim": {"backbone": "resnet18", "layers": [1, 2], "dimensions": 8},
    "cflow": {
        "backbone": "resnet18",
        "levels": 2,
        "couplings": 2,
        "condition": 16,
        "fibers": 16,
        "batch": 4,
        "meta_epochs": 1,
        "sub_epochs": 1,
    },
    "pyramidflow": {"stem": "none", "channels": 4, "stacks": 1, "levels": 2, "epochs": 1},
}
SMALL["pyramidflow-stem"] = {**SMALL["pyramidflow"], "stem": "resnet18"}
SIZE = 64


class Squares:
    """Noise in files; the anomalous ones have a bright square."""

    def __init__(self, root: Path, size: tuple[int, int] = (SIZE, SIZE)) -> None:
        rng = np.random.default_rng(0)
        for split, count in (("train", 6), ("test", 4)):
            (root / split).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(90, 130, (*size, 3), dtype=np.uint8)
                if split == "test" and index >= 2:
                    pixels[10:30, 10:30] = 255
                Image.fromarray(pixels).save(root / split / f"{index}.png")
        self.root = root

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        return [Sample(path, 0, "good") for path in sorted((self.root / split).glob("*.png"))]


def make_cell(method: str, protocol: Protocol, params: dict[str, Any]) -> Cell:
    return Cell(method, 1, params, "squares", 1, {}, "all", 0, protocol, "random", "data")


def fitted(root: Path, name: str, protocol: Protocol | None = None, **params: Any) -> Model:
    """A model fitted on noise, saved in root/model; the images lie in root/data."""
    data: Any = Squares(root / "data")
    cell = make_cell(
        name.split("-")[0],
        protocol or Protocol("small", resize=(SIZE, SIZE)),
        {**SMALL[name], **params},
    )
    model = fit_model(cell, data, Options(Weights("random"), device="cpu"), lambda _: None)
    save_model(root / "model", model, commit="c0ffee")
    return model


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make("padim")`: a fitted model, saved, and its folder."""

    def build(name: str, /, protocol: Protocol | None = None, **params: Any) -> tuple[Model, Path]:
        return fitted(tmp_path, name, protocol, **params), tmp_path / "model"

    return build


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """One fitted PaDiM for the tests that only read it."""
    root = tmp_path_factory.mktemp("padim")
    return fitted(root, "padim"), root / "model"


@pytest.fixture
def copy(saved: tuple[Model, Path], tmp_path: Path) -> Path:
    """A copy of that model's folder, to be damaged."""
    return Path(shutil.copytree(saved[1], tmp_path / "copy"))


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.parent.glob("data/test/*.png"))


def drawn(found: Predicted) -> NDArray[np.float32]:
    assert found.map is not None
    return found.map


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_loaded_model_predicts_the_same_bits_without_reading_any_weights(
    name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = make(name)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("bench.weights.loading.find_state", refuse)
    loaded = load_model(folder, "cpu")
    samples = [Sample(path, 0, "") for path in pictures(folder)]
    for (_, ours), (_, theirs) in zip(
        in_chunks(model, samples, 3), in_chunks(loaded, samples, 3), strict=True
    ):
        assert torch.equal(ours.require_maps(), theirs.require_maps())
        assert torch.equal(image_scores(model, ours), image_scores(loaded, theirs))
    assert loaded.train == model.train
    assert loaded.notes == ()
    assert loaded.cell == model.cell


def test_a_bright_square_scores_above_the_training_images(saved: tuple[Model, Path]) -> None:
    model, folder = saved
    found = list(predict_images(load_model(folder, "cpu"), pictures(folder)))
    assert model.train is not None
    assert [one.score > model.train.score_max for one in found[2:]] == [True, True]
    assert drawn(found[3]).shape == (SIZE, SIZE)
    assert drawn(found[3])[10:30, 10:30].mean() > drawn(found[3])[40:, 40:].mean()


def test_new_images_are_read_with_the_bits_of_the_training_images(
    saved: tuple[Model, Path], tmp_path: Path
) -> None:
    save_model(tmp_path / "model", replace(saved[0], bits=12))
    loaded = load_model(tmp_path / "model", "cpu")
    assert loaded.bits == 12
    grey = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE))
    deep = np.rint(grey * (4095 / 255)).astype(np.uint16)
    files = [tmp_path / "8.png", tmp_path / "12.png"]
    for file, pixels in zip(files, (grey.astype(np.uint8), deep), strict=True):
        Image.fromarray(pixels).save(file)
    known, found = predict_images(loaded, files)
    assert np.array_equal(drawn(known), drawn(found))
    pictures = [overlay(one, loaded.train, loaded.bits) for one in (known, found)]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_norms_and_input_statistics_of_other_weights_come_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = weights.load_backbone

    def foreign(*arguments: Any, **options: Any) -> Any:
        backbone, identity = load(*arguments, **options)
        backbone.expect((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-3
        return backbone, identity

    monkeypatch.setattr("bench.run.context.load_backbone", foreign)
    model, folder = make("padim")
    (one,) = predict_images(model, pictures(folder)[:1])
    (other,) = predict_images(load_model(folder, "cpu"), pictures(folder)[:1])
    assert np.array_equal(drawn(one), drawn(other))


def test_maps_lie_where_the_crop_saw_the_image(make: Make, tmp_path: Path) -> None:
    protocol = Protocol("cropped", resize=80, crop=SIZE)
    _, folder = make("padim", protocol)
    wide = tmp_path / "wide.png"
    Image.new("RGB", (200, 100), "grey").save(wide)
    (found,) = predict_images(load_model(folder, "cpu"), [wide])
    assert drawn(found).shape == (100, 200)
    assert drawn(found).dtype == np.float32
    seen = np.isfinite(drawn(found))
    assert seen[10:90, 60:140].all()
    assert seen.sum() == 80 * 80
    assert overlay(found, None).size == (200, 100)


def test_a_transductive_method_has_no_threshold_and_sees_all_images_at_once(make: Make) -> None:
    model, folder = make("cflow", aggregation="test")
    assert model.train is None
    card = json.loads((folder / "model.json").read_text())
    assert card["threshold"]["value"] is None
    found = list(predict_images(load_model(folder, "cpu"), pictures(folder), batch=1))
    # The least likely pixel of all images has the highest score, the most likely one 0.
    assert min(drawn(one).min() for one in found) == pytest.approx(0, abs=1e-6)
    assert overlay(found[0], None).size == (SIZE, SIZE)


def test_overlays_mark_what_exceeds_the_training_maps(saved: tuple[Model, Path]) -> None:
    model, folder = saved
    *_, found = predict_images(model, pictures(folder))
    picture = np.asarray(overlay(found, model.train)).astype(int)
    marked = (picture == (230, 159, 0)).all(-1)
    assert marked.any()
    assert model.train is not None
    assert (drawn(found)[marked] > model.train.map_max).all()


def edit(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    for key, value in changes.items():
        place, _, last = key.rpartition("__")
        (card[place] if place else card)[last] = value
    (folder / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "a model of format 2"),
        ({"cell__method_version": 7}, "fitted by version 7 of padim.*--force"),
        ({"cell": {"method": "padim"}}, "not a model of this program"),
        ({"cell": 5}, "not a model of this program"),
        ({"image_size": [64]}, "not a model of this program"),
        ({"cell__params": {"dimensionss": 8}}, "did you mean 'dimensions'"),
        ({"cell__params": {"dimensions": "8"}}, "is not a whole number"),
        ({"cell__method": "padin"}, "did you mean 'padim'"),
        ({"backbones": []}, "was not fitted with"),
        ({"sha256": "0" * 64}, "damaged"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    edit(copy, **changes)
    with pytest.raises(BenchError, match=message) as caught:
        load_model(copy, "cpu")
    assert "\n" not in str(caught.value)


def test_another_version_loads_by_force_with_a_note(copy: Path) -> None:
    edit(copy, cell__method_version=7)
    (note,) = load_model(copy, "cpu", force=True).notes
    assert "version 7" in note


def test_other_code_of_the_same_version_is_noted(copy: Path) -> None:
    edit(copy, code="0123456789ab")
    (note,) = load_model(copy, "cpu").notes
    assert "code of padim has changed" in note


def test_missing_damaged_and_foreign_files_are_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no model\.json"):
        load_model(tmp_path / "nothing")
    state = copy / "model.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[:-8])
    with pytest.raises(StoreError, match="damaged"):
        load_model(copy, "cpu")
    state.write_bytes(b"\x80\x04pickle")
    edit(copy, sha256=file_digest(state))
    with pytest.raises(StoreError, match="not a safetensors file"):
        load_model(copy, "cpu")
    state.write_bytes(safetensors.torch.save({"index": torch.zeros(8, dtype=torch.int64)}))
    edit(copy, sha256=file_digest(state))
    with pytest.raises(BenchError, match="not a PaDiM model"):
        load_model(copy, "cpu")
    state.unlink()
    with pytest.raises(StoreError, match=r"no model\.safetensors"):
        load_model(copy, "cpu")
    (copy / "model.json").write_bytes(b"\xff{")
    with pytest.raises(StoreError, match="not a model"):
        load_model(copy, "cpu")


def test_images_that_cannot_be_predicted_are_named_first(make: Make, tmp_path: Path) -> None:
    protocol = Protocol("shorter", resize=SIZE)
    model, folder = make("padim", protocol)
    wide, text = tmp_path / "wide.png", tmp_path / "text.png"
    Image.new("RGB", (128, SIZE)).save(wide)
    text.write_text("no image")
    good = pictures(folder)[0]
    for path, message in ((wide, "fitted on 64 x 64"), (text, "not an image"), (tmp_path, ".")):
        with pytest.raises(DataError, match=message) as caught:
            next(predict_images(model, [good, path]))
        assert str(path) in str(caught.value)


def test_results_keep_the_folders_of_their_images(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"]
    assert [str(name) for name in output_names(paths).values()] == ["a/1", "b/1"]
    assert [str(name) for name in output_names(paths[:1]).values()] == ["1"]
    with pytest.raises(ConfigError, match="both be written as 1"):
        output_names([paths[0], tmp_path / "a" / "1.jpg"])


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".npy"])
def test_map_files_keep_every_float32(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / "new" / f"x{suffix}"
    write_map(path, values)
    assert np.array_equal(read_map(path), values)
