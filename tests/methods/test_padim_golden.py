"""PaDiM against arrays of the implementation that most later work took over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.blocks.gaussian import PositionMoments
from bench.blocks.smoothing import gaussian_smooth, upsample_and_smooth
from bench.plugins.methods.padim import PaDiM, align, draw_channels

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "padim.npz")
CASES = ("fullrank", "lowrank", "official_idx_r18")
LAYERS = ("layer1", "layer2", "layer3")


def tensor(name: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[name]))


def features(case: str, split: str) -> list[Tensor]:
    return [tensor(f"{case}/{split}/{layer}") for layer in LAYERS]


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
class Case:
    name: str
    size: int
    method: PaDiM
    test: Tensor  # images that stand for the test features

    def array(self, key: str) -> Tensor:
        return tensor(f"{self.name}/{key}")


@pytest.fixture
def fitted(make_images: Any, make_run: Any) -> Callable[..., Case]:
    def fit(name: str, **fields: Any) -> Case:
        cfg = json.loads(str(GOLDEN[f"{name}/cfg"]))
        size, count, tests = cfg["size"], cfg["N"], cfg["n"]
        images = torch.arange(float(count + tests)).view(-1, 1, 1, 1).expand(-1, 3, size, size)
        run = make_run((size, size))
        run.backbone = lambda *_: PreparedFeatures(name)
        method = PaDiM(dimensions=len(GOLDEN[f"{name}/idx"]), **fields)
        method.prepare(run)
        method.keep(tensor(f"{name}/idx"))
        list(method.fit(make_images(images[:count]), run))
        return Case(name, size, method, images[count:])

    return fit


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2"])
def test_the_default_seed_draws_the_published_channels(name: str, make_run: Any) -> None:
    wanted = tensor(f"official_idx/{name}")
    total = {"resnet18": 448, "wide_resnet50_2": 1792}[name]
    assert torch.equal(draw_channels(total, len(wanted), PaDiM.index_seed, make_run()), wanted)


@pytest.mark.parametrize("case", CASES)
def test_the_embedding_is_exact(case: str) -> None:
    joined = align(features(case, "test")).permute(2, 3, 0, 1)
    selected = joined[:, tensor(f"{case}/idx")]
    assert torch.equal(selected, tensor(f"{case}/embedding_test"))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [5, 12])
def test_mean_and_covariance_of_batches_match(case: str, batch: int) -> None:
    index = tensor(f"{case}/idx")
    embedding = align(features(case, "train"))[..., index].flatten(0, 1)
    moments = PositionMoments(embedding.shape[0], len(index), embedding.device)
    for part in embedding.split(batch, dim=1):
        moments.add(part)
    assert relative(moments.mean.float().T, tensor(f"{case}/mean")) < 1e-6
    found = moments.covariance(slice(None), epsilon=0.01).float().permute(1, 2, 0)
    if case == "official_idx_r18":
        found, wanted = found[..., tensor(f"{case}/cov_positions")], f"{case}/cov_at_positions"
    else:
        wanted = f"{case}/cov"
    assert relative(found, tensor(wanted)) < 1e-6


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["auto", "full"])
def test_distances_match(case: str, form: str, fitted: Callable[..., Case]) -> None:
    run = fitted(case, covariance=form)
    distances = run.method.raw(run.test)
    assert relative(distances, run.array("mahalanobis")) < 1e-5
    assert relative(distances.double(), run.array("mahalanobis_float64_by_formula")) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_anomaly_maps_match(case: str, fitted: Callable[..., Case]) -> None:
    run = fitted(case)
    assert relative(run.method.predict(run.test).maps, run.array("smoothed")) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_image_scores_match_after_the_published_scaling(
    case: str, fitted: Callable[..., Case]
) -> None:
    run = fitted(case)
    prediction = run.method.predict(run.test)
    assert prediction.scores is not None
    low, high = prediction.maps.min(), prediction.maps.max()
    scaled = (prediction.scores - low) / (high - low)
    assert torch.allclose(scaled, run.array("image_score"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_upsampling_alone_matches(case: str) -> None:
    wanted = tensor(f"{case}/upsampled")
    size = (wanted.shape[1], wanted.shape[2])
    found = upsample_and_smooth(tensor(f"{case}/mahalanobis"), size, sigma=0)
    assert relative(found, wanted) < 1e-5


@pytest.mark.parametrize(("border", "key"), [("edge", "output"), ("mirror", "anomalib_output")])
def test_smoothing_matches_at_both_borders(border: Any, key: str) -> None:
    found = gaussian_smooth(tensor("smooth/input"), sigma=4.0, border=border)
    assert relative(found, tensor(f"smooth/{key}")) < 1e-5
