"""AE-SSIM against arrays of the best-known reimplementation; the authors published no code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from bench.api import IMAGENET_MEAN, IMAGENET_STD
from bench.blocks.patches import RandomPatch, Tiling, inner_square, rotated
from bench.blocks.ssim import Window, ssim_map
from bench.plugins.methods.ae_ssim import AeSsim, KerasAdam
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

GOLDEN = golden("ae_ssim")
NETWORKS = [case for case in GOLDEN.names("*/cfg") if f"{case}/image_uint8" in GOLDEN]


def method_of(cfg: Mapping[str, Any], run: Any, **fields: Any) -> AeSsim:
    method = AeSsim(
        patch=cfg["patch_size"],
        latent=cfg["latent"],
        width=cfg["first_width"],
        grey=cfg["channels"] == 1,
        **fields,
    )
    method.prepare(run)
    return method


def parameters(method: AeSsim) -> Iterator[tuple[str, Tensor]]:
    """The file's names: the number of a layer among the convolutions of its half."""
    for half in ("encoder", "decoder"):
        layers = [m for m in getattr(method.network, half) if hasattr(m, "kernel_size")]
        for i, layer in enumerate(layers):
            yield f"{half}/{i}/weight", layer.weight
            yield f"{half}/{i}/bias", layer.bias


@torch.no_grad()
def load(method: AeSsim, prefix: str) -> None:
    for name, parameter in parameters(method):
        parameter.copy_(GOLDEN.tensor(f"{prefix}/{name}"))


def rgb(pixels: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) bytes -> (N, 3, H, W) in [0, 1]."""
    return (pixels.float() / 255).expand(-1, 3, -1, -1)


def normalised(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("case", NETWORKS or GOLDEN.cases("*/image_uint8"))
@torch.no_grad()
def test_code_and_reconstruction_match(case: str, make_run: Any) -> None:
    cfg = GOLDEN.cfg(case)
    method = method_of(cfg, make_run((cfg["patch_size"], cfg["patch_size"])))
    load(method, f"{case}/init")
    images = GOLDEN.tensor(f"{case}/image_uint8").float() / 255
    code = method.network.encode(images)
    GOLDEN.check(f"{case}/latent", code, absolute=2e-5)
    found = method.network.decode(code)
    for step in GOLDEN.names(f"{case}/recon_every_*"):
        every = slice(None, None, int(step))
        GOLDEN.check(f"{case}/recon_every_{step}", found[..., every, every], absolute=2e-5)
    # A sum may be off by as much as all of its terms.
    tolerance = 2e-5 * found.numel()
    GOLDEN.check(f"{case}/recon_sum", found.double().sum(), absolute=tolerance)
    GOLDEN.check(f"{case}/recon_square_sum", found.double().square().sum(), absolute=2 * tolerance)


@pytest.mark.parametrize("case", GOLDEN.cases("ssim_loss/*/x"))
def test_losses_and_gradients_match(case: str, make_run: Any) -> None:
    x = GOLDEN.tensor(f"ssim_loss/{case}/x")
    GOLDEN.check(
        f"ssim_loss/{case}/ssim_map",
        similarity := ssim_map(x, GOLDEN.tensor(f"ssim_loss/{case}/y"), Window(summed="float64")),
        absolute=1e-5,
    )
    GOLDEN.check(f"ssim_loss/{case}/ssim_per_image", similarity.mean((1, 2, 3)), absolute=1e-6)
    for name in GOLDEN.names(f"ssim_loss/{case}/*_grad_y"):
        loss, weight = name.split("_loss_w")
        method = AeSsim(loss=loss, l1_weight=float(weight))
        y = GOLDEN.tensor(f"ssim_loss/{case}/y").requires_grad_()
        method.network = lambda _, y=y: y
        value = method.patch_loss(x)
        value.backward()
        GOLDEN.check(f"ssim_loss/{case}/{name}", value, absolute=1e-6)
        GOLDEN.check(f"ssim_loss/{case}/{name}_grad_y", y.grad, relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("train/*/cfg"))
def test_training_steps_match(case: str, make_run: Any) -> None:
    cfg = GOLDEN.cfg(f"train/{case}")
    loss = cfg["loss"].removesuffix("_loss")
    method = method_of(
        cfg,
        make_run((cfg["patch_size"], cfg["patch_size"])),
        loss=loss,
        l1_weight=float(cfg["weight"]),
        lr=cfg["lr"],
        lr_decay=cfg["decay"],
        epsilon=cfg["epsilon"],
    )
    load(method, f"train/{case}/init")
    start = {name: p.detach().clone() for name, p in parameters(method)}
    images = rgb(GOLDEN.tensor(f"train/{case}/image_uint8"))
    optimizer = KerasAdam(
        method.network, method.lr, method.lr_decay, method.weight_decay, method.epsilon
    )
    losses, rates = [], []
    for index in GOLDEN.tensor(f"train/{case}/batch_index"):
        rates.append(optimizer.rate)
        value = method.patch_loss(images[index])
        optimizer.step(value)
        losses.append(float(value.detach()))
    GOLDEN.check(f"train/{case}/lr_per_step", rates, relative=1e-6)
    GOLDEN.check(f"train/{case}/loss_per_step", losses, relative=2e-5)
    wanted = {name: GOLDEN.tensor(f"train/{case}/final/{name}") for name in start}
    movement = max(float((wanted[name] - start[name]).abs().max()) for name in start)
    for name, parameter in parameters(method):
        GOLDEN.check(f"train/{case}/final/{name}", parameter, absolute=0.05 * movement)


@pytest.mark.parametrize("case", GOLDEN.cases("score/*/cfg"))
@torch.no_grad()
def test_scores_match(case: str, make_run: Any) -> None:
    cfg = GOLDEN.cfg(f"score/{case}")
    prepared = GOLDEN.tensor(f"score/{case}/prepared_uint8")
    if prepared.ndim == 3:
        prepared = prepared[..., None]
    images = rgb(prepared.permute(0, 3, 1, 2))
    size = (images.shape[-2], images.shape[-1])
    method = method_of(cfg, make_run(size), stride=cfg["stride"])
    load(method, f"score/{case}/init")
    channels = prepared.shape[-1]
    found = torch.stack([method.reconstruct(image) for image in images[:, :channels]])
    bytes_ = (255 * found).floor().permute(0, 2, 3, 1)
    wanted = GOLDEN.tensor(f"score/{case}/recon_uint8").reshape(bytes_.shape).float()
    off = (bytes_ - wanted).abs()
    assert float(off.max()) <= 1
    assert float((off > 0).float().mean()) <= 1e-3

    # Maps from the stored reconstruction: a level that is off by one would move them.
    pixels, stored = images[:, :channels], wanted.permute(0, 3, 1, 2) / 255
    ssim = method.residual(pixels, nudged(stored))
    GOLDEN.check(f"score/{case}/ssim_map", ssim, absolute=1e-6)
    method.map = "l1"
    l1 = method.residual(pixels, nudged(stored))
    for step in GOLDEN.names(f"score/{case}/l1_map_every_*"):
        every = slice(None, None, int(step))
        GOLDEN.check(f"score/{case}/l1_map_every_{step}", l1[:, every, every], absolute=1e-6)
    # The file's thresholds are percentiles of the last images, a fifth of them rounded up.
    last = -(-len(images) // 5)
    for name, maps in (("ssim", ssim), ("l1", l1)):
        percentile = np.percentile(maps[-last:].double().numpy(), cfg["percent"])
        GOLDEN.check(f"score/{case}/{name}_threshold", percentile, absolute=1e-6)

    method.map = "ssim"
    weighted = method.predict(normalised(images)).maps
    frame = GOLDEN.tensor(f"score/{case}/border_weight").float()
    one = method.residual(pixels[:1], found[:1])[0]
    torch.testing.assert_close(weighted[0], one * frame, rtol=0, atol=1e-6)
    if f"score/{case}/patch_origins" in GOLDEN:
        origins = method.tiling.origins
        GOLDEN.check(f"score/{case}/patch_origins", np.array(origins))


def nudged(bytes_in_unit: Tensor) -> Tensor:
    """Bytes / 255 with a little added, so that rounding down gives the same bytes again."""
    return bytes_in_unit + 0.25 / 255


@pytest.mark.parametrize("case", GOLDEN.cases("tiling/*/cfg"))
def test_tiling_is_exact(case: str) -> None:
    cfg = GOLDEN.cfg(f"tiling/{case}")
    tiling = Tiling((cfg["size"], cfg["size"]), cfg["patch"], cfg["stride"])
    patches = tiling.cut(GOLDEN.tensor(f"tiling/{case}/image").permute(2, 0, 1))
    GOLDEN.check(f"tiling/{case}/patches", patches.permute(0, 2, 3, 1))
    other = GOLDEN.tensor(f"tiling/{case}/other_patches").permute(0, 3, 1, 2)
    GOLDEN.check(f"tiling/{case}/joined", tiling.join(other).permute(1, 2, 0))


@pytest.mark.parametrize("case", GOLDEN.cases("augment/rotate/*/angle"))
def test_rotation_matches(case: str) -> None:
    image = GOLDEN.tensor("augment/image").permute(2, 0, 1) / 255
    angle = float(GOLDEN[f"augment/rotate/{case}/angle"])
    turned = rotated(image, angle)
    for name, found in (("plain", turned), ("inner", inner_square(turned, angle))):
        array = f"augment/rotate/{case}/{name}"
        levels = (255 * found).round().permute(1, 2, 0)
        # A value half-way between two levels may fall either way.
        GOLDEN.check(array, levels, absolute=1)
        assert float((levels != GOLDEN.tensor(array)).float().mean()) <= 1e-3


class Recorded:
    """Draws from a file, which fail where the augmentation asks for others."""

    def __init__(self, draws: list[list[Any]]) -> None:
        self.draws = draws

    def _next(self, *kinds: str) -> list[Any]:
        draw = self.draws.pop(0)
        assert draw[0] in kinds
        return draw

    def share(self) -> float:
        return float(self._next("py", "np")[1])

    def angle(self, limit: float) -> float:
        return float(self._next("uniform")[1])

    def offset(self, bound: int) -> int:
        _, value, recorded = self._next("randint")
        assert recorded == bound
        return int(value)


def test_the_augmentation_matches_on_recorded_draws() -> None:
    import json

    cfg = GOLDEN.cfg("augment/pipeline")
    draws: list[list[list[Any]]] = [[]]
    for draw in json.loads(str(GOLDEN["augment/pipeline/draws"])):
        if draw[0] == "save":
            draws.append([])
        else:
            draws[-1].append(draw)
    image = GOLDEN.tensor("augment/pipeline/resized").permute(2, 0, 1) / 255
    augment = RandomPatch(
        cfg["patch"], cfg["p_rotate"], cfg["angle"], cfg["p_hflip"], cfg["p_vflip"]
    )
    found = []
    for recorded in filter(None, draws):
        patch = augment.draw(image, source := Recorded(recorded))
        assert not source.draws
        found.append((255 * patch).round().permute(1, 2, 0))
    wanted = GOLDEN.tensor("augment/pipeline/outputs")
    GOLDEN.check("augment/pipeline/outputs", torch.stack(found), absolute=1)
    assert float((torch.stack(found) != wanted).float().mean()) <= 1e-3
