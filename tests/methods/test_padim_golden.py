"""PaDiM against arrays of the implementation that most later work took over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import Tensor, nn

from bench.blocks.gaussian import PositionMoments
from bench.blocks.smoothing import gaussian_smooth, upsample_and_smooth
from bench.evaluate import auroc
from bench.plugins.methods.padim import PaDiM, align, draw_channels
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = golden("padim")
CASES = GOLDEN.cases("*/cfg")


def features(case: str, split: str) -> list[Tensor]:
    found = {layer for part in ("train", "test") for layer in GOLDEN.names(f"{case}/{part}/*")}
    layers = sorted(found)
    if len(layers) < len(GOLDEN.cfg(case)["C"]):
        GOLDEN.skip(f"{case}/*/{{{','.join(layers)},...}}")
    return [GOLDEN.tensor(f"{case}/{split}/{layer}") for layer in layers]


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
    method: PaDiM
    test: Tensor  # images that stand for the test features


@pytest.fixture
def fitted(make_images: Any, make_run: Any) -> Callable[..., Fitted]:
    def fit(case: str, **fields: Any) -> Fitted:
        cfg = GOLDEN.cfg(case)
        size, count, tests = cfg["size"], cfg["N"], cfg["n"]
        images = torch.arange(float(count + tests)).view(-1, 1, 1, 1).expand(-1, 3, size, size)
        run = make_run((size, size))
        backbone = PreparedFeatures(case)
        run.backbone = lambda *_: backbone
        index = GOLDEN.tensor(f"{case}/idx")
        method = PaDiM(dimensions=len(index), **fields)
        method.prepare(run)
        method.keep(index)
        list(method.fit(make_images(images[:count]), run))
        return Fitted(method, images[count:])

    return fit


@pytest.mark.parametrize("network", GOLDEN.cases("official_idx/*"))
def test_the_default_seed_draws_the_published_channels(network: str, make_run: Any) -> None:
    wanted = GOLDEN[f"official_idx/{network}"]
    with torch.device("meta"):
        net: Any = timm.create_model(network, features_only=True, out_indices=PaDiM.layers)
    total = sum(net.feature_info.channels())
    found = draw_channels(total, len(wanted), PaDiM.index_seed, make_run())
    GOLDEN.check(f"official_idx/{network}", found)


@pytest.mark.parametrize("case", CASES)
def test_the_embedding_is_exact(case: str) -> None:
    joined = align(features(case, "test")).permute(2, 3, 0, 1)
    GOLDEN.check(f"{case}/embedding_all_dims_test", joined)
    GOLDEN.check(f"{case}/embedding_test", joined[:, GOLDEN.tensor(f"{case}/idx")])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batches", [1, 3])
def test_mean_and_covariance_of_batches_match(case: str, batches: int) -> None:
    index = GOLDEN.tensor(f"{case}/idx")
    embedding = align(features(case, "train"))[..., index].flatten(0, 1)
    moments = PositionMoments(embedding.shape[0], len(index), embedding.device)
    for part in embedding.tensor_split(batches, dim=1):
        moments.add(part)
    GOLDEN.check(f"{case}/mean", moments.mean.float().T, relative=1e-6)
    covariance = moments.covariance(slice(None), PaDiM.epsilon).float().permute(1, 2, 0)
    if f"{case}/cov_positions" in GOLDEN:
        # The whole array would be large, where many channels are kept.
        positions = GOLDEN.tensor(f"{case}/cov_positions")
        GOLDEN.check(f"{case}/cov_at_positions", covariance[..., positions], relative=1e-6)
    else:
        GOLDEN.check(f"{case}/cov", covariance, relative=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["auto", "full"])
def test_distances_match(case: str, form: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case, covariance=form)
    distances = run.method.raw(run.test)
    GOLDEN.check(f"{case}/mahalanobis", distances, relative=1e-5)
    GOLDEN.check(f"{case}/mahalanobis_float64_by_formula", distances, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_anomaly_maps_match(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case)
    GOLDEN.check(f"{case}/smoothed", run.method.predict(run.test).maps, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_scores_match_after_the_published_scaling(case: str, fitted: Callable[..., Fitted]) -> None:
    run = fitted(case)
    prediction = run.method.predict(run.test)
    assert prediction.scores is not None
    low, high = prediction.maps.min(), prediction.maps.max()
    maps, scores = ((x - low) / (high - low) for x in (prediction.maps, prediction.scores))
    GOLDEN.check(f"{case}/scores_min_max_over_test_set", maps, absolute=1e-5)
    GOLDEN.check(f"{case}/image_score", scores, absolute=1e-5)
    GOLDEN.check(f"{case}/image_auroc", auroc(scores, GOLDEN[f"{case}/labels"]), absolute=1e-12)
    found = auroc(maps.flatten(), GOLDEN[f"{case}/masks"].ravel())
    # Pixels that rounding swaps move the area by less.
    GOLDEN.check(f"{case}/pixel_auroc", found, absolute=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_settings_of_anomalib_give_its_distances_maps_and_scores(
    case: str, fitted: Callable[..., Fitted]
) -> None:
    run = fitted(case, epsilon=PaDiM.epsilon + 1e-5, smoothing_border="mirror")
    prediction = run.method.predict(run.test)
    GOLDEN.check(f"{case}/anomalib/mahalanobis", run.method.raw(run.test), relative=1e-5)
    GOLDEN.check(f"{case}/anomalib/anomaly_map", prediction.maps, relative=1e-5)
    GOLDEN.check(f"{case}/anomalib/image_score", prediction.scores, relative=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_upsampling_alone_matches(case: str) -> None:
    size = GOLDEN[f"{case}/upsampled"].shape[-2:]
    found = upsample_and_smooth(GOLDEN.tensor(f"{case}/mahalanobis"), size, sigma=0)
    GOLDEN.check(f"{case}/upsampled", found, relative=1e-5)


@pytest.mark.parametrize(("border", "key"), [("edge", "output"), ("mirror", "anomalib_output")])
def test_smoothing_matches_at_both_borders(border: Any, key: str) -> None:
    found = gaussian_smooth(GOLDEN.tensor("smooth/input"), PaDiM.sigma, border)
    GOLDEN.check(f"smooth/{key}", found, relative=1e-5)
