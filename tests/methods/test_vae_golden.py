"""The plain VAE against losses and training loops of public code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bench.blocks.autoencoder import AutoEncoder
from bench.blocks.smoothing import gaussian_smooth
from bench.plugins.methods.vae import Vae, sample, vae_loss
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

GOLDEN = golden("vae")
HALVES = ("encoder", "decoder")
# FAVAE's own loop, whose settings the file does not repeat.
FAVAE = {"lr": 5e-3, "weight_decay": 1e-5, "kl_weight": 1.0}


def test_samples_match() -> None:
    mu, logvar = GOLDEN.tensor("loss/mu"), GOLDEN.tensor("loss/logvar")
    z = sample(mu, logvar, GOLDEN.tensor("reparam/eps"))
    GOLDEN.check("reparam/z", z, absolute=1e-7)


@pytest.mark.parametrize("case", ["bce", *GOLDEN.cases("loss/mse_plus_*_kl_sum")])
def test_losses_and_gradients_match(case: str) -> None:
    arguments = {n: GOLDEN.tensor(f"loss/{n}").requires_grad_() for n in ("recon", "mu", "logvar")}
    kind, weight, name = (
        ("bce", 1.0, "bce") if case == "bce" else ("mse", float(case), "mse_" + case)
    )
    value = vae_loss(GOLDEN.tensor("loss/x"), *arguments.values(), kind, weight)
    value.backward()
    array = "loss/bce_plus_kl_sum" if case == "bce" else f"loss/mse_plus_{case}_kl_sum"
    GOLDEN.check(array, value, relative=1e-6)
    for argument, tensor in arguments.items():
        GOLDEN.check(f"loss/{name}_grad_{argument}", tensor.grad, relative=1e-6)


class Loop:
    """A published training loop on the file's images, indices and noise."""

    def __init__(self, case: str, method: Vae, index: str, names: Mapping[str, str]) -> None:
        self.case, self.method, self.names = case, method, names
        images = GOLDEN.tensor(f"{case}/image_uint8").float() / 255
        self.images = images
        self.load("init")
        self.start = {k: v.clone() for k, v in method.network.state_dict().items()}
        method.network.train()
        optimizer = method.optimizer()
        self.losses = []
        for step, noise in zip(
            GOLDEN.tensor(f"{case}/{index}"), GOLDEN.tensor(f"{case}/eps"), strict=True
        ):
            loss = method.patch_loss(images[step], noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.losses.append(float(loss.detach()))
        method.network.eval()

    def load(self, part: str) -> None:
        arrays = GOLDEN.tensors(f"{self.case}/{part}")
        state = self.method.network.state_dict()
        state |= {ours: arrays[theirs] for ours, theirs in self.names.items()}
        self.method.network.load_state_dict(state)

    def check(self) -> None:
        GOLDEN.check(f"{self.case}/loss_per_step", self.losses, relative=1e-5)
        wanted = {n: GOLDEN.tensor(f"{self.case}/final/{t}") for n, t in self.names.items()}
        movement = max(float((v - self.start[n]).abs().max()) for n, v in wanted.items())
        state = self.method.network.state_dict()
        for ours, theirs in self.names.items():
            if self.is_before_a_norm(ours):
                continue
            array = f"{self.case}/final/{theirs}"
            GOLDEN.check(array, state[ours], absolute=0.05 * movement)
        self.load("final")

    def is_before_a_norm(self, name: str) -> bool:
        """Such a bias has no gradient but rounding, which Adam makes whole steps of."""
        half, number, kind = name.split(".")
        after = getattr(self.method.network, half)[int(number) + 1 :][:1]
        return kind == "bias" and any(isinstance(layer, nn.BatchNorm2d) for layer in after)


@pytest.fixture
def network() -> Any:
    def build(images: Tensor, widths: list[int], latent: int, *, norm: bool) -> AutoEncoder:
        return AutoEncoder(
            images.shape[-1], images.shape[1], widths, latent, code=2 * latent, norm=norm
        )

    return build


@pytest.mark.parametrize("case", GOLDEN.cases("plain/*/cfg"))
def test_the_plain_network_trains_and_scores_as_recorded(case: str, network: Any) -> None:
    prefix = f"plain/{case}"
    cfg = GOLDEN.cfg(prefix)
    method = Vae(
        latent=cfg["latent"],
        lr=cfg["lr"],
        weight_decay=cfg["weight_decay"],
        kl_weight=cfg["kl_weight"],
        reconstruction=cfg["reconstruction"],
    )
    names = {}
    widths = [len(GOLDEN[f"{prefix}/init/encoder.{i}.bias"]) for i in range(8)]
    images = GOLDEN.tensor(f"{prefix}/image_uint8")
    method.network = network(images, widths, cfg["latent"], norm=False)
    for half in HALVES:
        layers = [i for i, m in enumerate(getattr(method.network, half)) if hasattr(m, "stride")]
        for theirs, ours in enumerate(layers):
            for kind in ("weight", "bias"):
                names[f"{half}.{ours}.{kind}"] = f"{half}.{theirs}.{kind}"
    loop = Loop(prefix, method, "batch_index", names)
    loop.check()
    check_evaluation(loop, f"{prefix}/eval")


def test_the_network_with_norms_trains_and_scores_as_favaes(network: Any) -> None:
    case = "batchnorm_vae"
    images = GOLDEN.tensor(f"{case}/image_uint8")
    latent = GOLDEN[f"{case}/eps"].shape[-1]
    widths = [len(GOLDEN[f"{case}/init/encode.{3 * i}.bias"]) for i in range(8)]
    method = Vae(latent=latent, batch_norm=True, **FAVAE)
    method.network = network(images, widths, latent, norm=True)
    names = {}
    for ours in method.network.state_dict():
        half, number, kind = ours.split(".")
        if kind != "num_batches_tracked":
            # FAVAE's decoder starts with a module without parameters.
            theirs = int(number) + (half == "decoder")
            names[ours] = f"{half.removesuffix('r')}.{theirs}.{kind}"
    loop = Loop(case, method, "batches", names)
    loop.check()
    check_evaluation(loop, f"{case}/eval")


@torch.no_grad()
def check_evaluation(loop: Loop, prefix: str) -> None:
    """Images 0 and 1 in evaluation mode; pictures at every second row and column."""
    method, images = loop.method, loop.images[:2]
    mu, logvar = method.gaussian(images)
    GOLDEN.check(f"{prefix}/mu", mu, relative=1e-4)
    GOLDEN.check(f"{prefix}/logvar", logvar, relative=1e-4)
    found = method.network.decode(mu)
    maps = method.residual(images, found)
    smooth = gaussian_smooth(maps, method.sigma)
    for name, value in (
        ("recon", found),
        ("recon_every_2", found),
        ("square_map_every_2", maps),
        ("square_map_smoothed_every_2", smooth),
    ):
        if f"{prefix}/{name}" in GOLDEN:
            GOLDEN.check(f"{prefix}/{name}", value[..., ::2, ::2], relative=1e-4)


@pytest.mark.parametrize("case", GOLDEN.cases("ssim_residual/*/a"))
def test_the_similarity_map_matches(case: str) -> None:
    a, b = (GOLDEN.tensor(f"ssim_residual/{case}/{name}")[None] for name in ("a", "b"))
    found = Vae(map="ssim").residual(a, b)[0]
    GOLDEN.check(f"ssim_residual/{case}/one_minus_ssim", found, absolute=1e-6)
