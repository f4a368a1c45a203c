"""SPADE against arrays of the common implementation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import Sample
from bench.blocks.nearest import nearest
from bench.blocks.smoothing import gaussian_smooth
from bench.evaluate import auroc
from bench.files.geometry import centre_box
from bench.files.tensors import ImageSet, load_masks
from bench.plugins.methods.spade import SPADE
from bench.settings.protocol import PROTOCOLS
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

GOLDEN = golden("spade")
CASES = GOLDEN.cases("*/cfg")
WHOLE = "distance_full_gallery_float64_by_formula"


class PreparedFeatures(nn.Module):
    """Stands for a backbone: an image whose pixels are n gives the n-th prepared features."""

    def __init__(self, case: str) -> None:
        super().__init__()
        layers = [*GOLDEN.cfg(case)["levels"], "avgpool"]
        self.maps = [
            torch.cat([GOLDEN.tensor(f"{case}/{split}/{layer}") for split in ("train", "test")])
            for layer in layers
        ]

    def forward(self, images: Tensor) -> list[Tensor]:
        index = images[:, 0, 0, 0].long()
        return [m[index] for m in self.maps]


@dataclass
class Fitted:
    method: SPADE
    test: Tensor  # images that stand for the test features


@pytest.fixture
def fitted(make_images: Any, make_run: Any) -> Callable[..., Fitted]:
    def fit(case: str, **fields: Any) -> Fitted:
        cfg = GOLDEN.cfg(case)
        (height, width), count = cfg["map_size"], cfg["train"]
        images = torch.arange(float(count + cfg["test"])).view(-1, 1, 1, 1)
        images = images.expand(-1, 3, height, width)
        run = make_run((height, width))
        backbone = PreparedFeatures(case)
        run.backbone = lambda *_: backbone
        method = SPADE(**{"neighbours": cfg["K"], "batch": 4, **fields})
        method.prepare(run)
        assert list(method.fit(make_images(images[:count]), run)) == [{}]
        return Fitted(method, images[count:])

    return fit


@pytest.mark.parametrize("case", CASES)
def test_nearest_images_and_their_distances_match(case: str) -> None:
    new, known = (GOLDEN.tensor(f"{case}/{s}/avgpool").flatten(1) for s in ("test", "train"))
    found = nearest(new, known, GOLDEN.cfg(case)["K"])
    GOLDEN.check(f"{case}/nearest_images", found.index)
    if f"{case}/image_distances" in GOLDEN:
        distances = GOLDEN.tensor(f"{case}/image_distances").gather(1, found.index)
        name = f"{case}/image_distances at nearest_images"
        GOLDEN.check(name, found.squares.sqrt(), relative=1e-6, wanted=distances)


@pytest.mark.parametrize("case", CASES)
def test_image_scores_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case)
    GOLDEN.check(f"{case}/image_score", run.method.predict(run.test).scores, relative=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_distances_match_where_the_rest_of_a_gallery_is_dropped(
    case: str, fitted: Callable[..., Fitted]
) -> None:
    run = fitted(case, drop_rest=True)
    found = run.method.raw(run.test)
    for layer, distances in zip(GOLDEN.cfg(case)["levels"], found, strict=True):
        # The implementation adds 1e-6 to each component of a difference.
        GOLDEN.check(f"{case}/distance/{layer}", distances, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_distances_match_the_formula_for_the_whole_gallery(
    case: str, fitted: Callable[..., Fitted]
) -> None:
    run = fitted(case)
    found = run.method.raw(run.test)
    for layer, distances in zip(GOLDEN.cfg(case)["levels"], found, strict=True):
        GOLDEN.check(f"{case}/{WHOLE}/{layer}", distances, relative=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_maps_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case, drop_rest=True)
    maps = run.method.predict(run.test).maps
    kept = GOLDEN.cfg(case).get("keep_maps", len(maps))
    GOLDEN.check(f"{case}/maps", maps[:kept], relative=1e-5)
    unsmoothed = fitted(case, drop_rest=True, sigma=0.0).method.predict(run.test).maps
    GOLDEN.check(f"{case}/mean_of_layers", unsmoothed[:kept], relative=1e-5)
    if f"{case}/mean_of_layers" in GOLDEN:
        smoothed = gaussian_smooth(GOLDEN.tensor(f"{case}/mean_of_layers"), SPADE.sigma)
        GOLDEN.check(f"{case}/maps", smoothed, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_areas_under_the_curve_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case, drop_rest=True)
    prediction = run.method.predict(run.test)
    assert prediction.scores is not None
    labels, masks = GOLDEN[f"{case}/labels"], GOLDEN[f"{case}/masks"]
    GOLDEN.check(f"{case}/image_auroc", auroc(prediction.scores, labels), absolute=1e-6)
    found = auroc(prediction.maps.flatten(), masks.ravel())
    GOLDEN.check(f"{case}/pixel_auroc", found, absolute=1e-6)


@pytest.mark.parametrize("number", GOLDEN.cases("prep/*/raw"))
def test_images_and_masks_are_read_as_published(number: str, tmp_path: Path) -> None:
    Image.fromarray(GOLDEN[f"prep/{number}/raw"]).save(tmp_path / "x.png")
    Image.fromarray(GOLDEN[f"prep/{number}/raw_mask"]).save(tmp_path / "x_mask.png")
    sample = Sample(tmp_path / "x.png", 1, "x", tmp_path / "x_mask.png", mask_rule=">=128")
    resize, crop = map(int, GOLDEN[f"prep/{number}/resize_crop"])
    protocol = replace(PROTOCOLS["spade"], resize=resize, crop=crop)
    cpu = torch.device("cpu")
    images = ImageSet([sample], protocol, method_size=None, device=cpu, seed=0)
    (batch,) = images.batches(1)
    GOLDEN.check(f"prep/{number}/image", batch[0], absolute=1e-6)
    (mask,) = load_masks([sample], protocol, images.image_size).masks
    assert mask is not None
    # Pillow takes either native pixel where the centre of a new one lies on their border; ours is
    # always the later one.
    native = GOLDEN[f"prep/{number}/raw_mask"].shape
    resized = images.geometry.resized(native)
    top, left, bottom, right = centre_box(resized, images.image_size)
    rows, columns = (between(*sides) for sides in zip(native, resized, strict=True))
    clear = ~(rows[top:bottom, None] | columns[None, left:right])
    wanted = GOLDEN[f"prep/{number}/mask"]
    name = f"prep/{number}/mask between borders"
    GOLDEN.check(name, mask * clear, wanted=wanted.reshape(mask.shape) * clear)


def between(native: int, size: int) -> NDArray[np.bool_]:
    """(size,) whether the centre of a resized pixel lies on the border of two native ones."""
    found: NDArray[np.bool_] = (2 * np.arange(size) + 1) * native % (2 * size) == 0
    return found
