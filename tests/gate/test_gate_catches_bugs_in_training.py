"""A deliberate bug in one of the networks that methods train makes the gate fail."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.gate.tiny import changed, gate, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.rows.row import Row
    from bench.settings.config import Settings

REAL = {"backbone": "tf_efficientnet_lite0.in1k"}
TINY: dict[str, dict[str, Any]] = {
    "dfr": {
        **REAL,
        "layers": ["blocks.0", "blocks.1"],
        "padding": "zeros",
        "latent": 8,
        "epochs": 4,
        "lr": 0.002,
    },
    # Fast steps: with fewer of them no score depends on the log-determinant.
    "csflow": {
        **REAL,
        "layer": "blocks.2",
        "padding": "own",
        "blocks": 2,
        "hidden": 8,
        "meta_epochs": 1,
        "sub_epochs": 8,
        "batch": 3,
        "lr": 0.02,
    },
    "differnet": {
        **REAL,
        "layer": "blocks.4",
        "scales": 2,
        "blocks": 2,
        "hidden": 8,
        "meta_epochs": 1,
        "sub_epochs": 4,
        "batch": 3,
        "lr": 0.005,
        "rotations": 1,
        "test_rotations": 2,
    },
    "cutpaste": {"network": "resnet10t", "steps": 2, "steps_per_epoch": 2, "batch": 2},
    "ae_ssim": {
        "patch": 64,
        "latent": 8,
        "width": 4,
        "epochs": 2,
        "batch": 8,
        "patches_per_epoch": 32,
        "lr": 0.005,
    },
}


def plant_in_dfr(patch: pytest.MonkeyPatch, method: Any) -> None:
    """A tap is dropped."""
    right = method.DFR._taps

    def wrong(self: Any, run: Any) -> Any:
        self.layers = self.layers[:-1]
        return right(self, run)

    patch.setattr(method.DFR, "_taps", wrong)


def plant_in_csflow(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The log-determinant has the other sign."""
    right = method.flow_loss

    def wrong(latents: Sequence[Tensor], log_dets: Sequence[Tensor]) -> Tensor:
        loss: Tensor = right(latents, [-log_det for log_det in log_dets])
        return loss

    patch.setattr(method, "flow_loss", wrong)


def plant_in_differnet(patch: pytest.MonkeyPatch, method: Any) -> None:
    """Every scale is the first one."""

    def wrong(self: Any, copies: Tensor) -> Tensor:
        return torch.cat([self.encoder(copies)[0].mean((2, 3))] * self.scales, 1)

    patch.setattr(method.DifferNet, "vectors", wrong)


def plant_in_cutpaste(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The covariance in place of its inverse."""
    right = method.fit_gauss

    def wrong(vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean, precision = right(vectors)
        return mean, torch.linalg.inv(precision)

    patch.setattr(method, "fit_gauss", wrong)


def plant_in_ae_ssim(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The map is the similarity, not what is missing of it."""
    right = method.AeSsim.residual
    patch.setattr(method.AeSsim, "residual", lambda *given: 1 - right(*given))


PLANT: dict[str, Callable[[pytest.MonkeyPatch, Any], None]] = {
    "dfr": plant_in_dfr,
    "csflow": plant_in_csflow,
    "differnet": plant_in_differnet,
    "cutpaste": plant_in_cutpaste,
    "ae_ssim": plant_in_ae_ssim,
}


@pytest.mark.parametrize("method", list(TINY))
def test_a_bug_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    PLANT[method](monkeypatch, importlib.import_module(f"bench.plugins.methods.{method}"))
    found = gate(settings, baseline[method], train(settings, method))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "image_auroc"} & changed(found)
