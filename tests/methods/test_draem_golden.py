"""DRAEM against arrays of the authors' code: networks, losses, training, noise and synthesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import IMAGENET_MEAN, IMAGENET_STD, Sample
from bench.evaluate import evaluate
from bench.files import opencv
from bench.files.tensors import ImageSet, load_masks
from bench.plugins.methods.draem import Draem
from bench.plugins.methods.draem import operations as ops
from bench.plugins.methods.draem.networks import Discrimination, Reconstruction
from bench.plugins.methods.draem.perlin import perlin, rotate
from bench.plugins.methods.draem.synthesis import Settings, paste
from bench.plugins.methods.draem.training import Trainer, focal_loss, rate, ssim_loss
from bench.settings.protocol import PROTOCOLS
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

GOLDEN = golden("draem")


def fill(network: nn.Module, prefix: str) -> nn.Module:
    """The network in float64 with the arrays below a prefix, which must be all that it has."""
    state = {name: value.double() for name, value in GOLDEN.tensors(prefix).items()}
    lacking, surplus = network.double().load_state_dict(state, strict=False)
    assert not surplus
    assert all(name.endswith("num_batches_tracked") for name in lacking)
    return network


def networks(prefix: str, cfg: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    return (
        fill(Reconstruction(cfg["recon_width"]), f"{prefix}/recon"),
        fill(Discrimination(cfg["disc_width"]), f"{prefix}/disc"),
    )


@pytest.fixture
def tiny(make_run: Any) -> Callable[[], Draem]:
    """The method with the networks of the file, in float64 and evaluation mode."""

    def make() -> Draem:
        cfg = GOLDEN.cfg("net")
        method = Draem(recon_width=cfg["recon_width"], disc_width=cfg["disc_width"])
        method.prepare(make_run())
        method.reconstruction, method.discrimination = (n.eval() for n in networks("net", cfg))
        return method

    return make


def normalised(pictures: Tensor) -> Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pictures - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_networks_match_in_evaluation_mode(tiny: Callable[[], Draem]) -> None:
    method, x = tiny(), GOLDEN.tensor("net/x").double()
    with torch.no_grad():
        redrawn = method.reconstruction(x)
        logits = method.discrimination(torch.cat([redrawn, x], 1))
    GOLDEN.check("net/eval/reconstruction", redrawn, relative=1e-6)
    GOLDEN.check("net/eval/logits", logits, relative=1e-6)


def test_networks_match_in_training_mode() -> None:
    reconstruction, discrimination = networks("net", GOLDEN.cfg("net"))
    x = GOLDEN.tensor("net/x").double()
    with torch.no_grad():
        redrawn = reconstruction.train()(x)
        logits = discrimination.train()(torch.cat([redrawn, x], 1))
    GOLDEN.check("net/train_mode/reconstruction_mean_abs", redrawn.abs().mean(), relative=1e-6)
    GOLDEN.check("net/train_mode/logits", logits, relative=1e-6)
    norm: Any = discrimination.get_submodule("encoder_segment.block2.1")
    GOLDEN.check("net/train_mode/some_running_mean", norm.running_mean, relative=1e-6)
    GOLDEN.check("net/train_mode/some_running_var", norm.running_var, relative=1e-6)


def test_image_scores_match(tiny: Callable[[], Draem]) -> None:
    method = tiny()
    with torch.no_grad():
        prediction = method.predict(normalised(GOLDEN.tensor("net/x").double()))
        means = torch.nn.functional.avg_pool2d(
            prediction.maps[:, None], method.pool, stride=1, padding=method.pool // 2
        )
    GOLDEN.check("net/eval/averaged", means[:, 0], relative=1e-5)
    GOLDEN.check("net/eval/image_score", prediction.scores, relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("loss/ssim/*/value"))
def test_ssim_loss_matches(case: str) -> None:
    prefix = f"loss/ssim/{case}"
    redrawn = GOLDEN.tensor(f"{prefix}/reconstruction").double().requires_grad_()
    target = GOLDEN.tensor(f"{prefix}/target").double()
    loss = ssim_loss(redrawn, target)
    loss.backward()
    GOLDEN.check(f"{prefix}/value", loss, absolute=1e-6)
    GOLDEN.check(f"{prefix}/grad", redrawn.grad, relative=2e-6)
    GOLDEN.check(f"{prefix}/l2", ((redrawn - target) ** 2).mean(), relative=1e-6)


@pytest.mark.parametrize("case", GOLDEN.cases("loss/focal/*/value"))
def test_focal_loss_matches(case: str) -> None:
    prefix = f"loss/focal/{case}"
    logits = GOLDEN.tensor(f"{prefix}/logits").double().requires_grad_()
    loss = focal_loss(logits, GOLDEN.tensor(f"{prefix}/mask").double())
    loss.backward()
    GOLDEN.check(f"{prefix}/value", loss, relative=1e-6)
    GOLDEN.check(f"{prefix}/grad", logits.grad, relative=1e-6)


def test_training_matches_step_by_step() -> None:
    cfg = GOLDEN.cfg("train")
    pair = networks("train/init", cfg)
    trainer = Trainer(*pair, cfg["lr"])
    losses, rates = [], []
    for epoch in range(cfg["epochs"]):
        rates.append(rate(cfg["lr"], epoch, cfg["epochs"], Draem.drops, Draem.drop_factor))
        trainer.set_rate(rates[-1])
        batch = GOLDEN.tensors(f"train/batch/{epoch % cfg['n_batches']}")
        names = ("image", "augmented_image", "anomaly_mask")
        losses.append(trainer.step(*(batch[name].double() for name in names)))
    for name, values in zip(("l2", "ssim", "focal"), torch.stack(losses).T, strict=True):
        GOLDEN.check(f"train/{name}_per_step", values, absolute=1e-7)
    GOLDEN.check("train/lr_per_step", rates, absolute=1e-12)
    for kind, network in zip(("recon", "disc"), pair, strict=True):
        before = GOLDEN.tensors(f"train/init/{kind}")
        state = network.state_dict()
        moves = [(state[n] - b.double()).abs().max() for n, b in before.items() if "weight" in n]
        largest = float(torch.stack(moves).max())
        for name in before:
            GOLDEN.check(f"train/final/{kind}/{name}", state[name], absolute=1e-3 * largest)


@pytest.mark.parametrize("case", GOLDEN.cases("schedule/*"))
def test_rates_match_where_the_published_comparison_finds_its_epochs(case: str) -> None:
    """It compares floats: where a share of the epochs is not whole, it never drops."""
    wanted = GOLDEN[f"schedule/{case}"]
    epochs, peak = len(wanted), float(wanted[0])
    found = [rate(peak, e, epochs, Draem.drops, Draem.drop_factor) for e in range(epochs)]
    if all((share * epochs).is_integer() for share in Draem.drops):
        GOLDEN.check(f"schedule/{case}", found, absolute=1e-12)
    else:
        GOLDEN.check(f"schedule/{case}", [peak] * epochs, absolute=1e-12)
        assert found[-1] < peak


@pytest.mark.parametrize("case", GOLDEN.cases("perlin/*/noise"))
def test_noise_matches(case: str) -> None:
    height, width, *cells = (int(n) for n in GOLDEN[f"perlin/{case}/shape_res"])
    uniform = GOLDEN.tensor(f"perlin/{case}/uniform")
    assert uniform.shape == (cells[0] + 1, cells[1] + 1)
    GOLDEN.check(f"perlin/{case}/noise", perlin(uniform, (height, width)), absolute=1e-6)


@pytest.mark.parametrize("case", GOLDEN.cases("synth/*/augmented_image"))
def test_a_sample_matches_from_its_draws(case: str) -> None:
    """The published reader draws whether there is an anomaly last, ours first."""
    prefix, settings = f"synth/{case}", Settings()
    u1, u2, u3 = GOLDEN[f"{prefix}/rand"]
    is_turned, is_anomalous = u1 > 1 - settings.rotate_share, u3 <= 1 - settings.anomaly_share
    name = f"{prefix}/image_{'rotated' if is_turned else 'resized'}_bgr"
    picture = _planes(GOLDEN[name]) / 255
    noise = GOLDEN.tensor(f"{prefix}/noise_rotated")
    mask = (noise > settings.threshold).float()[None, None] * is_anomalous
    texture = _planes(GOLDEN[f"{prefix}/texture_augmented_bgr"]) / 255
    beta = torch.tensor(settings.beta_max * u2).view(1, 1, 1, 1)
    GOLDEN.check(f"{prefix}/augmented_image", paste(picture, texture, mask, beta)[0], absolute=1e-6)
    GOLDEN.check(f"{prefix}/anomaly_mask", mask[0, 0])
    GOLDEN.check(f"{prefix}/has_anomaly", [float(mask.any())])
    cells = GOLDEN[f"{prefix}/randint"][2:]
    assert GOLDEN[f"{prefix}/uniform"].shape == tuple(2**cells + 1)
    assert all(0 <= n < len(ops.OPERATIONS) for n in GOLDEN[f"{prefix}/augmenters"])


@pytest.mark.parametrize("case", GOLDEN.cases("synth/*/image_rotated_bgr"))
def test_a_turned_picture_is_one_of_ours_at_some_angle(case: str) -> None:
    picture = _planes(GOLDEN[f"synth/{case}/image_resized_bgr"])
    wanted = _planes(GOLDEN[f"synth/{case}/image_rotated_bgr"])
    angles = torch.arange(-90, 90, 0.25)
    errors = [float((rotate(picture, a[None]) - wanted).abs().mean()) for a in angles]
    assert min(errors) < 1.5
    assert np.median(errors) > 10


def _planes(pixels: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W) float levels of (H, W, 3) pixels."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()


OPERATIONS: dict[str, tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], int]] = {
    "gamma": (lambda x: ops.gamma(x, [1.7] * 3), 0),
    "gamma_low": (lambda x: ops.gamma(x, [0.55] * 3), 0),
    "sharpness_0": (lambda x: ops.sharpness(x, 0.3), 0),
    "sharpness_2": (lambda x: ops.sharpness(x, 1.8), 0),
    "hue_sat": (lambda x: ops.hue_and_saturation(x, 37, -22), 1),
    "hue_sat_neg": (lambda x: ops.hue_and_saturation(x, -45, 30), 1),
    "solarize": (lambda x: ops.solarise(x, 70), 0),
    "posterize_2": (lambda x: ops.posterise(x, 2), 0),
    "posterize_5": (lambda x: ops.posterise(x, 5), 0),
    "invert": (ops.invert, 0),
    "autocontrast_0": (lambda x: ops.autocontrast(x, 0), 0),
    "autocontrast_15": (lambda x: ops.autocontrast(x, 15), 0),
    "equalize": (ops.equalise, 0),
    "affine_30": (lambda x: ops.turn(x, 30), 6),
    "affine_m41_5": (lambda x: ops.turn(x, -41.5), 6),
    "brightness_YCrCb": (lambda x: ops.brightness(x, "YCrCb", 1.15, -20, False), 3),
    "brightness_HSV": (lambda x: ops.brightness(x, "HSV", 1.15, -20, False), 2),
    "brightness_HLS": (lambda x: ops.brightness(x, "HLS", 1.15, -20, False), 3),
    "brightness_Lab": (lambda x: ops.brightness(x, "Lab", 1.15, -20, False), 5),
    # OpenCV interpolates in a table of 33^3 colours, which is coarse for dark ones.
    "brightness_Luv": (lambda x: ops.brightness(x, "Luv", 1.15, -20, False), 40),
    "brightness_YUV": (lambda x: ops.brightness(x, "YUV", 1.15, -20, False), 3),
}
"""Each operation at the parameters of the specification, and the levels that it may differ."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_match_imgaug(name: str) -> None:
    operation, levels = OPERATIONS[name]
    found = operation(GOLDEN["augment/image"])
    GOLDEN.check(f"augment/{name}", found, absolute=levels)
    mean = np.abs(found.astype(int) - GOLDEN[f"augment/{name}"]).mean()
    assert mean < (1 if levels == 40 else 0.3)


@pytest.mark.parametrize(
    "case", [k for k in GOLDEN.names("augment/*") if k.startswith("noise_rotated_")]
)
def test_turned_noise_matches(case: str) -> None:
    degrees = torch.tensor([float(case.removeprefix("noise_rotated_"))])
    noise = GOLDEN.tensor("augment/noise")[None, None]
    GOLDEN.check(f"augment/{case}", rotate(noise, degrees)[0, 0], absolute=0.02)


def _read(folder: Path, rgb: Any, mask: Any, side: int) -> tuple[Tensor, NDArray[np.uint8]]:
    """(3, H, W) levels and the mask of a picture under the protocol `draem`."""
    for name, values in (("x.png", rgb), ("mask.png", mask)):
        Image.fromarray(values).save(folder / name)
    sample = Sample(folder / "x.png", 1, "bad", folder / "mask.png", mask_rule=">=128")
    protocol, size = PROTOCOLS["draem"], (side, side)
    images = ImageSet([sample], protocol, method_size=size, device=torch.device("cpu"), seed=0)
    (found,) = load_masks([sample], protocol, images.image_size, size).masks
    assert found is not None
    return torch.from_numpy(images.raw(0).copy()).permute(2, 0, 1), found


@pytest.mark.parametrize("case", GOLDEN.cases("prep/*/raw_rgb"))
def test_pixels_and_masks_equal_those_of_the_published_reader(case: str, tmp_path: Path) -> None:
    grey = GOLDEN[f"prep/{case}/mask_times_255"]
    raw = GOLDEN[f"prep/{case}/raw_rgb"], GOLDEN[f"prep/{case}/raw_mask"]
    GOLDEN.check(f"prep/{case}/mask_times_255", opencv.resize(raw[1], grey.shape))
    pixels, mask = _read(tmp_path, *raw, len(grey))
    GOLDEN.check(f"prep/{case}/image_bgr", pixels.flip(0))
    # Its test divides by 255 and cuts to whole numbers.
    GOLDEN.check(f"prep/{case}/mask_times_255", mask, wanted=grey // 255)


def test_masks_are_scored_as_published(tmp_path: Path) -> None:
    masks, labels = GOLDEN["test/masks"], GOLDEN["test/labels"]
    raw = GOLDEN["test/raw_rgb"]
    wanted = np.unpackbits(GOLDEN["test/mask_as_scored_packed"], axis=-1)
    found = np.zeros_like(wanted)
    for i in np.flatnonzero(labels):
        height, width = masks[i].shape
        picture = Image.fromarray(raw[i]).resize((width, height))
        found[i] = _read(tmp_path, np.asarray(picture), masks[i], raw.shape[1])[1]
    GOLDEN.check("test/mask_as_scored_packed", found, wanted=wanted)


def test_the_published_test_run_gives_its_numbers(tiny: Callable[[], Draem]) -> None:
    method = tiny()
    method.reconstruction.float()
    method.discrimination.float()
    raw = GOLDEN["test/raw_rgb"]
    # The published reader hands BGR to the networks.
    pictures = torch.from_numpy(raw[..., ::-1].copy()).permute(0, 3, 1, 2).double() / 255
    with torch.no_grad():
        prediction = method.predict(normalised(pictures).float())
    GOLDEN.check("test/image_score", prediction.scores, absolute=1e-4)
    GOLDEN.check("test/map_every_eighth_pixel", prediction.maps[:, ::8, ::8], absolute=1e-2)
    masks = np.unpackbits(GOLDEN["test/mask_as_scored_packed"], axis=-1)
    labels = GOLDEN["test/labels"].astype(int)
    found = evaluate(prediction.maps, masks, labels, prediction.scores, limits=()).values
    for name, tolerance in (("image", 1e-6), ("pixel", 1e-3)):  # the map is float32 in theirs
        for metric in ("auroc", "ap"):
            GOLDEN.check(f"test/{name}_{metric}", found[f"{name}_{metric}"], absolute=tolerance)
