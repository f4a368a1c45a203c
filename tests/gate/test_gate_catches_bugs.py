"""A deliberate bug in a metric, a loss, a covariance or a search makes the regression gate fail."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import bench.blocks.gaussian
from bench.blocks.nearest import Neighbours, Search, nearest
from bench.evaluate.pro import RegionSums
from bench.rows.check_output import as_text
from bench.weights.lite_names import lite_to_timm
from bench.weights.statistics import Statistics
from tests.gate.tiny import changed, gate, train

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from bench.rows.row import Row
    from bench.settings.config import Settings

TINY: dict[str, dict[str, Any]] = {
    "padim": {"backbone": "tf_efficientnet_lite0.in1k", "dimensions": 12},
    # Fast steps: with the published rate so few of them hardly move the weights, and no score
    # would depend on the loss.
    "pyramidflow": {"channels": 4, "stacks": 1, "levels": 2, "epochs": 3, "lr": 0.005},
    # Roots matter where they are averaged; of one squared distance the order is the same.
    "patchcore": {
        "backbone": "tf_efficientnet_lite0.in1k",
        "layers": [1, 2],
        "layer_dimensions": 32,
        "dimensions": 24,
        "coreset": 0.05,
        "projection": 8,
        "neighbours": 3,
        "squared": False,
        "image_score": "paper",
    },
    "spade": {"backbone": "tf_efficientnet_lite0.in1k", "neighbours": 2},
    "stfpm": {"backbone": "tf_efficientnet_lite0.in1k", "epochs": 4, "batch": 2, "lr": 0.1},
}


@pytest.mark.parametrize("method", list(TINY))
def test_the_same_code_passes_bit_by_bit(
    settings: Settings, baseline: dict[str, Row], method: str
) -> None:
    again = train(settings, method)
    found = gate(settings, baseline[method], again)
    assert found.exit_code(complete=True) == 0, as_text(found, True)
    assert all(d.delta in (0, None) for cell in found.cells for d in cell.differences)


@pytest.mark.parametrize("loss", ["without the spectrum", "of one axis"])
def test_a_bug_in_the_fourier_loss_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    def wrong(difference: Tensor) -> Tensor:
        spectrum = torch.fft.fft(difference) if loss == "of one axis" else difference
        mean: Tensor = spectrum.abs().mean()
        return mean

    method = importlib.import_module("bench.plugins.methods.pyramidflow")
    monkeypatch.setattr(method, "fourier_loss", wrong)
    found = gate(settings, baseline["pyramidflow"], train(settings, "pyramidflow"))
    assert found.exit_code() == 1
    assert "pixel_ap" in changed(found)


@pytest.mark.parametrize("bug", ["not centred", "without epsilon"])
def test_a_bug_in_the_covariance_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    right = bench.blocks.gaussian.low_rank_factor

    def wrong(features: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        if bug == "not centred":
            mean, factor = right(features, epsilon)
            return torch.zeros_like(mean), factor
        return right(features, epsilon * 100)

    method = importlib.import_module("bench.plugins.methods.padim")
    monkeypatch.setattr(method, "low_rank_factor", wrong)
    found = gate(settings, baseline["padim"], train(settings, "padim"))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "aupro_30"} & changed(found)


@pytest.mark.parametrize("bug", ["ImageNet's statistics", "norms of a block exchanged"])
def test_a_bug_in_loading_or_normalising_real_weights_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    def exchanged(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
        named = right(state, expected)
        first, second = "blocks.1.0.bn1.", "blocks.1.0.bn2."
        return {
            key: named[key.replace(first, second) if first in key else key.replace(second, first)]
            for key in named
        }

    if bug == "ImageNet's statistics":
        wrong = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "wrong")
        monkeypatch.setattr("bench.weights.loading.statistics_of", lambda *_, **__: wrong)
    else:
        right = lite_to_timm
        monkeypatch.setattr("bench.weights.states.lite_to_timm", exchanged)
    found = gate(settings, baseline["padim"], train(settings, "padim"))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "aupro_30"} & changed(found)


def test_a_square_root_lost_in_patchcore_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object, found: Neighbours) -> Tensor:
        return found.squares.mean(1)

    method = importlib.import_module("bench.plugins.methods.patchcore")
    monkeypatch.setattr(method.PatchCore, "_patch_scores", wrong)
    found = gate(settings, baseline["patchcore"], train(settings, "patchcore"))
    assert found.exit_code() == 1
    assert "pixel_auroc" in changed(found)


@pytest.mark.parametrize("bug", ["of images", "of cells"])
def test_the_wrong_neighbour_in_spade_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    def after_the_first(found: Neighbours) -> Neighbours:
        return Neighbours(found.squares[:, 1:], found.index[:, 1:])

    def wrong(queries: Tensor, gallery: Tensor, neighbours: int) -> Neighbours:
        return after_the_first(nearest(queries, gallery, neighbours + 1))

    class WrongSearch(Search):
        def __init__(self, queries: Tensor, neighbours: int) -> None:
            super().__init__(queries, neighbours + 1)

        def result(self) -> Neighbours:
            return after_the_first(super().result())

    method = importlib.import_module("bench.plugins.methods.spade")
    if bug == "of images":
        monkeypatch.setattr(method, "nearest", wrong)
    else:
        monkeypatch.setattr(method, "Search", WrongSearch)
    found = gate(settings, baseline["spade"], train(settings, "spade"))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "pixel_ap"} <= changed(found)


@pytest.mark.parametrize("dropped", [0, 2])
def test_a_layer_dropped_in_stfpm_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, dropped: int
) -> None:
    method = importlib.import_module("bench.plugins.methods.stfpm")
    right = method.level_distances

    def wrong(student: Any, images: Tensor, targets: Any) -> list[Tensor]:
        distances: list[Tensor] = right(student, images, targets)
        del distances[dropped]
        return distances

    monkeypatch.setattr(method, "level_distances", wrong)
    found = gate(settings, baseline["stfpm"], train(settings, "stfpm"))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "pixel_ap", "aupro_30"} & changed(found)


@pytest.mark.parametrize("bug", ["not divided by its limit", "pixels instead of regions"])
def test_a_bug_in_aupro_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    right = RegionSums.per_region

    def wrong(sums: RegionSums, limit: float) -> NDArray[np.float64]:
        areas = right(sums, limit)
        if bug == "not divided by its limit":
            return areas * limit
        return np.full_like(areas, np.average(areas, weights=sums.sizes))

    monkeypatch.setattr(RegionSums, "per_region", wrong)
    found = gate(settings, baseline["padim"], train(settings, "padim"))
    assert found.exit_code() == 1
    assert "aupro_30" in changed(found)
    assert not {"image_auroc", "pixel_auroc", "params_m"} & changed(found)
