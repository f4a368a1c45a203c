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
    "cflow": {
        **REAL,
        "couplings": 2,
        "condition": 8,
        "levels": 2,
        "meta_epochs": 1,
        "sub_epochs": 4,
        "lr": 0.002,
        "batch": 3,
        "fibers": 12,
    },
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
    "vae": {
        "patch": 64,
        "latent": 8,
        "width": 4,
        "epochs": 2,
        "batch": 8,
        "patches_per_epoch": 32,
        "lr": 0.005,
    },
    "anogan": {
        "size": 32,
        "latent": 8,
        "width": 8,
        "gan_epochs": 20,
        "batch": 6,
        "lr": 0.005,
        "search_steps": 10,
        "search_lr": 0.3,
    },
    "vtadl": {
        "dim": 8,
        "depth": 1,
        "heads": 2,
        "mlp": 8,
        "width": 2,
        "gaussians": 2,
        "epochs": 1,
        "batch": 6,
        "lr": 1e-5,
    },
    "patchsvdd": {
        "embedding": 8,
        "width": 0.125,
        "epochs": 1,
        "repeats": 4,
        "batch": 4,
        "lr": 0.005,
    },
    "uninformed_students": {
        **REAL,
        "patches": [17],
        "students": 2,
        "width": 0.0625,
        "teacher_epochs": 3,
        "teacher_lr": 0.002,
        "epochs": 1,
        "lr": 0.002,
    },
    "draem": {
        "recon_width": 4,
        "disc_width": 4,
        "batch": 3,
        "epochs": 4,
        "learning_rate": 0.005,
        "bank": 4,
    },
}


def plant_in_cflow(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The log-determinant has the other sign, in training alone."""
    likelihood = importlib.import_module(f"{method.__name__}.likelihood")
    right = likelihood.log_likelihood
    patch.setattr(likelihood, "log_likelihood", lambda z, log_det: right(z, -log_det))


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


def plant_in_vae(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The divergence has the other sign."""
    right = method.vae_loss

    def wrong(*given: Any) -> Tensor:
        *others, kl_weight = given
        loss: Tensor = right(*others, -kl_weight)
        return loss

    patch.setattr(method, "vae_loss", wrong)


def plant_in_anogan(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The search stays where it starts."""
    right = method.Search.run
    patch.setattr(method.Search, "run", lambda search, images, z, _: right(search, images, z, 0))


def plant_in_vtadl(patch: pytest.MonkeyPatch, method: Any) -> None:
    """Log variances are below zero, not above."""
    right = method.Mixture.components

    def wrong(self: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, mu, log_variance = right(self, tokens)
        return weights, mu, -log_variance

    patch.setattr(method.Mixture, "components", wrong)


def plant_in_patchsvdd(patch: pytest.MonkeyPatch, method: Any) -> None:
    """Near copies are kept apart."""
    right = method.train_step

    def wrong(encoder: Any, classifiers: Any, pairs: Any, weight: float, optimizer: Any) -> Any:
        return right(encoder, classifiers, pairs, -weight, optimizer)

    patch.setattr(method, "train_step", wrong)


def plant_in_uninformed_students(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The students' variance is subtracted."""
    right = method.UninformedStudents._standard

    def wrong(self: Any, index: int, which: int, maps: Tensor) -> Tensor:
        found: Tensor = right(self, index, which, maps)
        return -found if which else found

    patch.setattr(method.UninformedStudents, "_standard", wrong)


def plant_in_draem(patch: pytest.MonkeyPatch, method: Any) -> None:
    """The focal loss takes the classes for each other."""
    training = importlib.import_module(f"{method.__name__}.training")
    right = training.focal_loss
    patch.setattr(training, "focal_loss", lambda logits, mask: right(logits, 1 - mask))


PLANT: dict[str, Callable[[pytest.MonkeyPatch, Any], None]] = {
    "cflow": plant_in_cflow,
    "dfr": plant_in_dfr,
    "csflow": plant_in_csflow,
    "differnet": plant_in_differnet,
    "cutpaste": plant_in_cutpaste,
    "ae_ssim": plant_in_ae_ssim,
    "vae": plant_in_vae,
    "anogan": plant_in_anogan,
    "vtadl": plant_in_vtadl,
    "patchsvdd": plant_in_patchsvdd,
    "uninformed_students": plant_in_uninformed_students,
    "draem": plant_in_draem,
}


@pytest.mark.parametrize("method", list(TINY))
def test_a_bug_fails_the_gate(
    settings: Settings, baseline: dict[str, Row], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    PLANT[method](monkeypatch, importlib.import_module(f"bench.plugins.methods.{method}"))
    found = gate(settings, baseline[method], train(settings, method))
    assert found.exit_code() == 1
    assert {"pixel_auroc", "image_auroc"} & changed(found)
