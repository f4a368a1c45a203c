"""PatchCore against arrays of the authors' code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import Sample
from bench.blocks.nearest import nearest
from bench.blocks.smoothing import upsample_and_smooth
from bench.evaluate import auroc
from bench.files.tensors import ImageSet, load_masks
from bench.plugins.methods.patchcore import Draws, PatchCore
from bench.plugins.methods.patchcore.embedding import PatchEmbedding
from bench.settings.protocol import PROTOCOLS
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOLDEN = golden("patchcore")
CASES = GOLDEN.cases("*/cfg")
SELECTION = {"approx": "approximate", "greedy": "greedy", "random": "random"}


def features(case: str, split: str) -> list[Tensor]:
    return [GOLDEN.tensor(f"{case}/{split}/{layer}") for layer in GOLDEN.cfg(case)["levels"]]


class PreparedFeatures(nn.Module):
    """Stands for a backbone: an image whose pixels are n gives the n-th prepared features."""

    def __init__(self, case: str) -> None:
        super().__init__()
        pairs = zip(features(case, "train"), features(case, "test"), strict=True)
        self.maps = [torch.cat(pair) for pair in pairs]
        self.channels = [m.shape[1] for m in self.maps]

    def forward(self, images: Tensor) -> list[Tensor]:
        index = images[:, 0, 0, 0].long()
        return [m[index] for m in self.maps]


@dataclass
class Fitted:
    method: PatchCore
    test: Tensor  # images that stand for the test features


def embedded(case: str, split: str) -> Tensor:
    """(cells, dimensions), in the order of the golden file."""
    cfg = GOLDEN.cfg(case)
    channels = [level[0] for level in cfg["levels"].values()]
    widths = [cfg["pretrain_dim"]] * len(channels)
    embedding = PatchEmbedding(channels, cfg["patchsize"], widths, cfg["target_dim"])
    found: Tensor = embedding(features(case, split))
    return found.flatten(0, 2)


def published(case: str) -> dict[str, Any]:
    """The fields that stand for the settings of a case."""
    cfg = GOLDEN.cfg(case)
    fields: dict[str, Any] = {
        "patch": cfg["patchsize"],
        "layer_dimensions": cfg["pretrain_dim"],
        "dimensions": cfg["target_dim"],
        "neighbours": cfg["num_nn"],
        "coreset": 1.0,
        "batch": 2,
    }
    if cfg["sampler"] in SELECTION:
        fields |= {"coreset": cfg["percentage"], "selection": SELECTION[cfg["sampler"]]}
    for name, key in (("projection", "project_to"), ("start_points", "starting_points")):
        if cfg.get(key):
            fields[name] = cfg[key]
    return fields


def draws(case: str) -> Draws:
    """What the authors' run drew: start points and projection, or the random selection itself."""
    names = ("start_points", "coreset_indices")
    rows = [GOLDEN.tensor(f"{case}/{key}") for key in names if f"{case}/{key}" in GOLDEN]
    projection = f"{case}/mapper_weight"
    return Draws(
        rows[0] if rows else torch.empty(0, dtype=torch.int64),
        GOLDEN.tensor(projection) if projection in GOLDEN else None,
    )


@pytest.fixture
def fitted(
    make_images: Any, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Fitted]:
    def fit(case: str, **fields: Any) -> Fitted:
        cfg = GOLDEN.cfg(case)
        (height, width), count = cfg["image_size"], cfg["train"]
        images = torch.arange(float(count + cfg["test"])).view(-1, 1, 1, 1)
        images = images.expand(-1, 3, height, width)
        run = make_run((height, width))
        backbone = PreparedFeatures(case)
        run.backbone = lambda *_: backbone
        method = PatchCore(**{**published(case), **fields})
        method.prepare(run)
        monkeypatch.setattr(method, "_draw", lambda *_: draws(case))
        assert list(method.fit(make_images(images[:count]), run)) == [{}]
        return Fitted(method, images[count:])

    return fit


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_embedding_matches(case: str, split: str) -> None:
    GOLDEN.check(f"{case}/embedding_{split}", embedded(case, split), relative=1e-6)


def test_the_embedding_at_the_published_ratios_of_widths_matches() -> None:
    layers = [GOLDEN.tensor(f"closed_form/layer{number}") for number in (2, 3)]
    width = GOLDEN["closed_form/embedding"].shape[-1]
    channels = [layer.shape[1] for layer in layers]
    embedding = PatchEmbedding(channels, PatchCore.patch, [width] * 2, width)
    GOLDEN.check("closed_form/embedding", embedding(layers), relative=1e-6)


@pytest.mark.parametrize("case", GOLDEN.cases("*/coreset_indices"))
def test_the_selection_takes_the_published_patches_in_order(
    case: str, fitted: Callable[..., Fitted]
) -> None:
    known = embedded(case, "train")
    # Where two patches are alike, either may stand for both: rows are compared by what they hold.
    found = nearest(fitted(case).method.memory, known).index[:, 0]
    GOLDEN.check(f"{case}/coreset_indices", found)


@pytest.mark.parametrize("case", CASES)
def test_the_memory_bank_matches(case: str, fitted: Callable[..., Fitted]) -> None:
    GOLDEN.check(f"{case}/memory", fitted(case).method.memory, relative=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_neighbours_and_squared_distances_match(case: str) -> None:
    new, known = GOLDEN.tensor(f"{case}/embedding_test"), GOLDEN.tensor(f"{case}/memory")
    found = nearest(new, known, GOLDEN.cfg(case)["num_nn"])
    GOLDEN.check(f"{case}/neighbours", found.index)
    GOLDEN.check(f"{case}/distances_squared", found.squares, relative=1e-5)
    key = f"{case}/distances_squared_float64_by_formula"
    GOLDEN.check(key, found.squares, relative=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_patch_scores_maps_and_image_scores_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case)
    prediction = run.method.predict(run.test)
    assert prediction.scores is not None
    GOLDEN.check(f"{case}/patch_scores", run.method.raw(run.test), relative=1e-5)
    GOLDEN.check(f"{case}/maps", prediction.maps, relative=1e-5)
    GOLDEN.check(f"{case}/image_score", prediction.scores, relative=1e-5)
    low, high = prediction.scores.min(), prediction.scores.max()
    scaled = (prediction.scores - low) / (high - low)
    GOLDEN.check(f"{case}/image_score_min_max_over_test_set", scaled, absolute=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_upsampling_alone_matches(case: str) -> None:
    size = GOLDEN[f"{case}/upsampled"].shape[-2:]
    found = upsample_and_smooth(GOLDEN.tensor(f"{case}/patch_scores"), size, sigma=0)
    GOLDEN.check(f"{case}/upsampled", found, relative=1e-5)


def test_smoothing_matches() -> None:
    size = GOLDEN["smooth/output"].shape[-2:]
    found = upsample_and_smooth(GOLDEN.tensor("smooth/input"), size, PatchCore.sigma)
    GOLDEN.check("smooth/output", found, relative=1e-5)


@pytest.mark.parametrize("name", GOLDEN.cases("*/paper_image_score_by_formula/*"))
def test_image_scores_of_the_paper_match_its_formula(
    name: str, fitted: Callable[..., Fitted]
) -> None:
    case, count = name.split("/b")
    run = fitted(case, image_score="paper", reweight_neighbours=int(count))
    scores = run.method.predict(run.test).scores
    GOLDEN.check(f"{case}/paper_image_score_by_formula/b{count}", scores, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_areas_under_the_curve_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case)
    prediction = run.method.predict(run.test)
    assert prediction.scores is not None
    labels, masks = GOLDEN[f"{case}/labels"], GOLDEN[f"{case}/masks"]
    GOLDEN.check(f"{case}/image_auroc", auroc(prediction.scores, labels), absolute=1e-6)
    found = auroc(prediction.maps.flatten(), masks.ravel())
    GOLDEN.check(f"{case}/pixel_auroc", found, absolute=1e-6)
    marked = masks.any(axis=(1, 2))
    found = auroc(prediction.maps[torch.from_numpy(marked)].flatten(), masks[marked].ravel())
    GOLDEN.check(f"{case}/pixel_auroc_anomalous_only", found, absolute=1e-6)


@pytest.mark.parametrize("number", GOLDEN.cases("prep/*/raw"))
def test_images_and_masks_are_read_as_published(number: str, tmp_path: Path) -> None:
    Image.fromarray(GOLDEN[f"prep/{number}/raw"]).save(tmp_path / "x.png")
    Image.fromarray(GOLDEN[f"prep/{number}/raw_mask"]).save(tmp_path / "x_mask.png")
    sample = Sample(tmp_path / "x.png", 1, "x", tmp_path / "x_mask.png", mask_rule=">=128")
    resize, crop = map(int, GOLDEN[f"prep/{number}/resize_crop"])
    protocol = replace(PROTOCOLS["patchcore"], resize=resize, crop=crop)
    cpu = torch.device("cpu")
    images = ImageSet([sample], protocol, method_size=None, device=cpu, seed=0)
    (batch,) = images.batches(1)
    GOLDEN.check(f"prep/{number}/image", batch[0], absolute=1e-6)
    (mask,) = load_masks([sample], protocol, images.image_size).masks
    GOLDEN.check(f"prep/{number}/mask_as_scored", mask)
