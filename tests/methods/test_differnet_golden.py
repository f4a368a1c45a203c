"""DifferNet against arrays computed by the published code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import IMAGENET_MEAN, IMAGENET_STD
from bench.plugins.methods.differnet import DifferNet
from bench.plugins.methods.differnet.flow import (
    VectorFlow,
    negative_log_likelihoods,
    permutation,
)
from bench.plugins.methods.differnet.rotation import rotate
from tests.golden_files import golden

GOLDEN = golden("differnet")
FLOWS = GOLDEN.cases("*/perm")
PRECISIONS = {"f32": torch.float32, "f64": torch.float64}
LAYERS = {"fc1": 0, "fc2": 2, "fc2b": 4, "fc3": 6}


def renamed(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters, or their gradients, under our names; unused norms are left out."""
    state = {}
    for name, value in arrays.items():
        found = re.fullmatch(r"(?:nf\.)?module_list\.(\d+)\.(s[12])\.(\w+)\.(\w+)", name)
        if found is None or found[3] == "bn":
            continue
        # The chain of a block: a rearrangement, the coupling by N2 (s2), the coupling by N1.
        at = 3 * (int(found[1]) - 2) // 2 + {"s2": 1, "s1": 2}[found[2]]
        state[f"blocks.{at}.network.{LAYERS[found[3]]}.{found[4]}"] = value
    return state


def make_flow(case: str, dtype: torch.dtype = torch.float32) -> VectorFlow:
    cfg = GOLDEN.cfg(case)
    flow = VectorFlow(cfg["n_feat"], cfg["blocks"], cfg["internal"], cfg["clamp"])
    flow.load_state_dict(renamed(GOLDEN.tensors(f"{case}/init")))
    return flow.to(dtype)


@pytest.mark.parametrize("case", FLOWS)
def test_entries_are_rearranged_as_published(case: str) -> None:
    cfg = GOLDEN.cfg(case)
    found = torch.stack([permutation(k, cfg["n_feat"]) for k in range(cfg["blocks"])])
    GOLDEN.check(f"{case}/perm", found)


@pytest.mark.parametrize("case", FLOWS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_latents_loss_score_and_gradients_match(case: str, precision: str) -> None:
    dtype = PRECISIONS[precision]
    flow = make_flow(case, dtype)
    latents, log_dets = flow(GOLDEN.tensor(f"{case}/x").to(dtype))
    loss = negative_log_likelihoods(latents, log_dets).mean()
    prefix = f"{case}/{precision}"
    GOLDEN.check(f"{prefix}/z", latents.detach(), relative=1e-5)
    GOLDEN.check(f"{prefix}/log_jac_det", log_dets.detach(), relative=1e-5)
    GOLDEN.check(f"{prefix}/loss", loss.detach(), relative=1e-5)
    GOLDEN.check(f"{prefix}/score", latents.detach().square().mean(1), relative=1e-5)
    torch.autograd.backward(loss)
    if any(name.startswith(f"{prefix}/grad/") for name in GOLDEN.arrays):
        for name, wanted in renamed(GOLDEN.tensors(f"{prefix}/grad")).items():
            found = flow.get_parameter(name).grad
            GOLDEN.check(f"{prefix}/grad, {name}", found, wanted=wanted, relative=1e-4)


@pytest.mark.parametrize("case", FLOWS)
def test_the_inverse_returns_the_vectors(case: str) -> None:
    flow = make_flow(case, torch.float64)
    vectors = GOLDEN.tensor(f"{case}/x").double()
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(vectors)[0]), vectors, rtol=0, atol=1e-9)


class StandIn(nn.Module):
    """The small encoder of the training case, in place of AlexNet's convolutional part."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        convolution = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1], 4, padding=2)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        self.layers = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def make_method(state: str) -> DifferNet:
    """The method of the training case, with the flow's initial or final parameters."""
    cfg = GOLDEN.cfg("train")
    method = DifferNet(
        lr=cfg["lr"],
        betas=tuple(cfg["betas"]),
        eps=cfg["eps"],
        weight_decay=cfg["weight_decay"],
        rotations=cfg["n_transforms"],
        test_rotations=cfg["n_transforms_test"],
        chunk=4,
    )
    first = "train/init/feature_extractor.features.0"
    method.encoder = StandIn(GOLDEN.tensor(f"{first}.weight"), GOLDEN.tensor(f"{first}.bias"))
    flow = VectorFlow(cfg["n_feat"], cfg["blocks"], cfg["internal"], cfg["clamp"])
    prefix = "train/init" if state == "init" else "train/final/nf"
    flow.load_state_dict(renamed(GOLDEN.tensors(prefix)))
    method.flow = flow
    return method


def test_training_matches() -> None:
    cfg = GOLDEN.cfg("train")
    method = make_method("init")
    optimiser = method.optimiser()
    images, test = GOLDEN.tensor("train/images").float(), GOLDEN.tensor("train/test_images").float()
    losses, scores = [], []
    for epoch, order in enumerate(GOLDEN.tensor("train/order"), 1):
        for start in range(0, len(order), cfg["batch"]):
            rows = order[start : start + cfg["batch"]]
            losses.append(method.step(images[rows].flatten(0, 1), optimiser))
        if epoch % cfg["sub_epochs"] == 0:
            with torch.no_grad():
                z = method.flow(method.vectors(test.flatten(0, 1)))[0]
            scores.append(z.square().view(len(test), -1).mean(1))
    GOLDEN.check("train/loss_per_step", torch.stack(losses), relative=1e-5)
    GOLDEN.check("train/test_score_per_meta_epoch", torch.stack(scores), relative=1e-5)
    for name, wanted in renamed(GOLDEN.tensors("train/final/nf")).items():
        found = method.flow.get_parameter(name).detach()
        GOLDEN.check(f"train/final/nf, {name}", found, wanted=wanted, relative=1e-5)


def test_features_and_latents_of_a_picture_match() -> None:
    method = make_method("final")
    copies = GOLDEN.tensor("train/images")[0].float()
    with torch.no_grad():
        vectors = method.vectors(copies)
        GOLDEN.check("train/features_of_image_0", vectors, relative=1e-5)
        GOLDEN.check("train/z_of_image_0_after", method.flow(vectors)[0], relative=1e-5)


def test_gradient_maps_match(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make_method("final")
    labels = GOLDEN.tensor("train/test_labels").bool()
    copies = GOLDEN.tensor("train/test_images").float()[labels]
    angles = method.fixed_angles()
    first, _ = method.gradients(copies[0], len(angles))
    GOLDEN.check("train/raw_gradient_first_anomalous", first, relative=1e-4)
    found = []
    for rotated in copies:
        # The file has the copies, not the picture that they were made of.
        chunks = iter(rotated.split(method.chunk))
        monkeypatch.setattr(
            "bench.plugins.methods.differnet.rotate",
            lambda image, some, chunks=chunks: next(chunks),
        )
        found.append(method.explain(rotated[0], angles)[0])
    GOLDEN.check("train/gradient_maps", torch.stack(found), relative=1e-4)


def normalised(raw: np.ndarray[Any, Any], side: int) -> Tensor:
    """(H, W, 3) pixels resized as the published reader does, (3, side, side)."""
    from PIL import Image

    small = Image.fromarray(raw).resize((side, side), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def different(found: Tensor, wanted: Tensor) -> float:
    """Share of pixels that are not the same."""
    return float(((found - wanted).abs().amax(-3) > 1e-5).float().mean())


def test_copies_show_the_pixels_that_the_published_reader_shows() -> None:
    wanted = GOLDEN.tensor("prep/image")
    image = normalised(GOLDEN["prep/raw"], wanted.shape[-1])
    found = rotate(image, GOLDEN.tensor("prep/angles"))
    share = different(found, wanted)
    GOLDEN.check("prep/image, share of different pixels", share, wanted=0.0, absolute=0.005)


def test_the_fixed_rotations_of_the_single_picture_script_match() -> None:
    method = make_method("final")
    degrees, wanted = GOLDEN.tensor("fixed/degrees"), GOLDEN.tensor("fixed/images")
    method.test_rotations = len(degrees)
    torch.testing.assert_close(method.fixed_angles(), degrees.double())
    for raw, copies in zip(GOLDEN["fixed/raw"], wanted, strict=True):
        found = rotate(normalised(raw, copies.shape[-1]), degrees)
        share = different(found, copies)
        GOLDEN.check("fixed/images, share of different pixels", share, wanted=0.0, absolute=0.005)
    with torch.no_grad():
        z = torch.stack([method.flow(method.vectors(copies))[0] for copies in wanted])
    GOLDEN.check("fixed/z", z, relative=1e-5)
    GOLDEN.check("fixed/score", z.double().square().mean((1, 2)), relative=1e-5)


def test_alexnets_features_match(make_run: Any) -> None:
    cfg = GOLDEN.cfg("alexnet")
    method = DifferNet()
    method.encoder = make_run().backbone(method.backbone, (method.layer,))
    state = method.encoder.net.state_dict()
    sums = []
    for number, name in enumerate(map(str, GOLDEN["alexnet/keys"])):
        drawn = np.random.RandomState(cfg["seed"] + number).standard_normal(state[name].shape)
        bias = drawn.ndim == 1
        scale = 0.1 if bias else np.sqrt(2 / np.prod(drawn.shape[1:]))
        state[name].copy_(torch.from_numpy((drawn * scale).astype(np.float32)))
        sums.append(state[name].double())
    GOLDEN.check("alexnet/checksum_sum", torch.stack([w.sum() for w in sums]), relative=1e-9)
    GOLDEN.check("alexnet/checksum_abs", torch.stack([w.abs().sum() for w in sums]), relative=1e-9)
    drawn = np.random.RandomState(cfg["image_seed"]).standard_normal(cfg["image_shape"])
    with torch.no_grad():
        found = method.vectors(torch.from_numpy(drawn.astype(np.float32)))
    GOLDEN.check("alexnet/features", found, relative=1e-5)
