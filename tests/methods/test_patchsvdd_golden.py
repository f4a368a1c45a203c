"""Patch SVDD against arrays of the published code."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import IMAGENET_MEAN, IMAGENET_STD
from bench.blocks.nearest import nearest
from bench.evaluate import evaluate
from bench.plugins.methods.patchsvdd import PatchSVDD, mean_picture, to_unit
from bench.plugins.methods.patchsvdd.network import Encoder, PositionClassifier
from bench.plugins.methods.patchsvdd.sampling import Pairs, Sampler, draw_near, draw_neighbours
from bench.plugins.methods.patchsvdd.scoring import cover_map
from bench.plugins.methods.patchsvdd.training import parameters, train_step
from tests.golden_files import golden
from tests.golden_weights import by_recipe, check_sampled

GOLDEN = golden("patchsvdd")
SIZE = (PatchSVDD.input_size, PatchSVDD.input_size)
SIDES = (64, 32)
STRIDES = dict(zip(SIDES, PatchSVDD.strides, strict=True))


def filled(net: Any, names: list[str], seed: int) -> Any:
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    net.load_state_dict(by_recipe(shapes, names, seed))
    return net


def encoder(length: int, seed: str) -> Any:
    cfg = GOLDEN.cfg()
    return filled(Encoder(length), cfg["encoder_names"], cfg["seeds"][seed])


def classifier(length: int, seed: str) -> Any:
    cfg = GOLDEN.cfg()
    return filled(PositionClassifier(length), cfg["classifier_names"], cfg["seeds"][seed])


def enlarged(name: str) -> Any:
    """(n, H, W, 3) pictures that the file holds small, each pixel repeated."""
    small = GOLDEN[name]
    return small.repeat(SIZE[0] // small.shape[1], 1).repeat(SIZE[1] // small.shape[2], 2)


def train_mean() -> Any:
    return enlarged("train/image16").astype(np.float32).mean(0)


def standardised(raw: Any) -> Tensor:
    """As the published code does it, in its precision: the draws are replayed bit by bit."""
    found = (raw.astype(np.float32) - train_mean()) / 255
    return torch.from_numpy(found.astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def pictures_of_the_test() -> Any:
    raw = enlarged("test/image16")
    top, bottom, left, right, value = GOLDEN["test/square_image0_y0y1x0x1_value"]
    raw[0, top:bottom, left:right] = value
    return raw


def square_mask() -> Any:
    mask = np.zeros((len(GOLDEN["test/image16"]), *SIZE), np.uint8)
    top, bottom, left, right, _ = GOLDEN["test/square_image0_y0y1x0x1_value"]
    mask[0, top:bottom, left:right] = 1
    return mask


def to_type(pairs: Any, dtype: torch.dtype) -> Any:
    return {
        side: Pairs(
            one.first.to(dtype),
            one.second.to(dtype),
            one.direction,
            one.near.to(dtype),
            one.near_to.to(dtype),
        )
        for side, one in pairs.items()
    }


@cache
def trained(dtype: torch.dtype) -> tuple[Any, Any, list[Any], list[Any]]:
    """Encoder, classifiers, losses and pairs of the published training loop, replayed."""
    cfg = GOLDEN.cfg()
    net = encoder(cfg["D"], "net_train").to(dtype)
    classifiers = {side: classifier(cfg["D"], f"cls{side}").to(dtype) for side in SIDES}
    optimizer = torch.optim.Adam(parameters(net, classifiers), cfg["lr"])
    draw = np.random.RandomState(cfg["seed"] + 9)
    sampler = Sampler(
        standardised(enlarged("train/image16")), draw, PatchSVDD.color_shift, PatchSVDD.noise
    )
    losses, drawn = [], []
    for index in GOLDEN["train/index"]:
        drawn.append(sampler.batch(index.tolist()))
        pairs = to_type(drawn[-1], dtype)
        losses.append(train_step(net, classifiers, pairs, cfg["lambda_value"], optimizer))
    return net, classifiers, losses, drawn


@pytest.mark.parametrize("side", SIDES)
@torch.no_grad()
def test_embeddings_of_patches_match(side: int) -> None:
    net = encoder(GOLDEN[f"net/embed{side}"].shape[1], "net64")
    found = net.embed(GOLDEN.tensor(f"net/patch{side}"))
    GOLDEN.check(f"net/embed{side}", found, relative=1e-5)


def test_the_position_classifier_and_its_gradients_match() -> None:
    first = GOLDEN.tensor("cls/h1").requires_grad_()
    net = classifier(first.shape[1], "cls_net")
    logits = net(first, GOLDEN.tensor("cls/h2"))
    loss = cross_entropy(logits, GOLDEN.tensor("cls/label"))
    loss.backward()  # type: ignore[no-untyped-call]
    GOLDEN.check("cls/logits", logits, relative=1e-5)
    GOLDEN.check("cls/loss", loss, relative=1e-5)
    GOLDEN.check("cls/grad_h1", first.grad, relative=1e-5)
    GOLDEN.check("cls/grad_fc3_bias", net.fc3.bias.grad, relative=1e-5)
    GOLDEN.check("cls/grad_fc1_bias", net.fc1.bias.grad, relative=1e-5)
    assert (net.fc3.weight.grad is not None) == GOLDEN.cfg()["fc3_weight_has_gradient"]


@pytest.mark.parametrize("side", SIDES)
def test_coordinates_are_drawn_as_published(side: int) -> None:
    draw = np.random.RandomState(GOLDEN.cfg()["seed"] + side)
    pairs = [draw_neighbours(draw, side, SIZE) for _ in GOLDEN[f"coords/position{side}"]]
    found = [[*first, *second, direction] for first, second, direction in pairs]
    GOLDEN.check(f"coords/position{side}", found)
    near = [draw_near(draw, side, SIZE) for _ in GOLDEN[f"coords/svdd{side}"]]
    GOLDEN.check(f"coords/svdd{side}", [[*first, *second] for first, second in near])


@pytest.mark.parametrize("side", SIDES)
def test_the_patches_of_a_batch_are_those_of_the_published_loader(side: int) -> None:
    _, _, _, drawn = trained(torch.float64)
    first = drawn[0][side]
    prefix = "train/batch0"
    GOLDEN.check(f"{prefix}/pos{side}_label", first.direction)
    for number, told, near in ((1, first.first, first.near), (2, first.second, first.near_to)):
        GOLDEN.check(f"{prefix}/pos{side}_patch{number}_item0", told[0])
        for kind, patches in (("pos", told), ("svdd", near)):
            sums = patches.double().sum((1, 2, 3))
            GOLDEN.check(f"{prefix}/{kind}{side}_sums{number}", sums, absolute=1e-9)
    for step, pairs in enumerate(drawn):
        GOLDEN.check(f"train/label/{step}/{side}", pairs[side].direction)


@pytest.mark.parametrize(
    ("dtype", "prefix", "losses", "weights"),
    [(torch.float64, "train_f64", 1e-10, 1e-10), (torch.float32, "train", 1e-3, 5e-3)],
)
def test_the_published_training_is_replayed(
    dtype: torch.dtype, prefix: str, losses: float, weights: float
) -> None:
    net, classifiers, found, _ = trained(dtype)
    GOLDEN.check(f"{prefix}/loss", [step.total.item() for step in found], relative=losses)
    for name in ("position", "closeness"):
        by_side = [[getattr(step, name)[side].item() for side in SIDES] for step in found]
        wanted = f"{prefix}/loss_{'pos' if name == 'position' else 'svdd'}"
        GOLDEN.check(wanted, by_side, relative=losses)
    for part, network in (("enc", net), ("cls64", classifiers[64]), ("cls32", classifiers[32])):
        for name, value in network.state_dict().items():
            check_sampled(GOLDEN, f"{prefix}/final/{part}/{name}", value, relative=weights)


def test_test_pictures_are_standardised_by_the_training_mean(make_images: Any) -> None:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def normal(raw: Any) -> Tensor:
        return (torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255 - mean) / std

    train = make_images(normal(enlarged("train/image16")))
    found = to_unit(normal(pictures_of_the_test())) - mean_picture(train)
    every8 = found.permute(0, 2, 3, 1)[:, ::8, ::8]
    GOLDEN.check("test/standardized_every8", every8, absolute=1e-6)
    GOLDEN.check(
        "test/standardized_every8",
        standardised(pictures_of_the_test()).permute(0, 2, 3, 1)[:, ::8, ::8],
    )


@torch.no_grad()
def test_dense_embeddings_match() -> None:
    net = copy.deepcopy(trained(torch.float64)[0]).float()
    large, small = net.embed_densely(standardised(pictures_of_the_test()), PatchSVDD.strides)
    GOLDEN.check("test/embed64", large, relative=5e-3)
    GOLDEN.check("test/embed32", small, relative=5e-3)
    large, small = net.embed_densely(standardised(enlarged("train/image16")), PatchSVDD.strides)
    GOLDEN.check("nn/train_embed64", large, relative=5e-3)
    GOLDEN.check("train/embed64_image0", large[0], relative=5e-3)
    GOLDEN.check("nn/train_embed32", small[:, ::2, ::2], relative=5e-3)


def distances(side: int) -> tuple[Tensor, Tensor]:
    queries, gallery = GOLDEN.tensor(f"test/embed{side}"), GOLDEN.tensor(f"nn/train_embed{side}")
    found = nearest(queries.flatten(0, -2), gallery.flatten(0, -2))
    shape = queries.shape[:-1]
    return found.squares.sqrt().view(shape), found.index.view(shape)


@pytest.mark.parametrize("side", SIDES)
def test_nearest_neighbours_match(side: int) -> None:
    found, index = distances(side)
    GOLDEN.check(f"nn/distance{side}", found, relative=1e-5)
    if f"nn/index{side}" in GOLDEN:
        GOLDEN.check(f"nn/index{side}", index)


def test_maps_and_scores_match() -> None:
    large, small = (
        cover_map(GOLDEN.tensor(f"nn/distance{side}"), side, STRIDES[side], SIZE) for side in SIDES
    )
    maps = {"64": large, "32": small, "mult": large * small, "sum": large + small}
    GOLDEN.check("nn/map64", large[:, ::8, ::8], relative=1e-5)
    GOLDEN.check("nn/map32_every3", small[:, ::3, ::3], relative=1e-5)
    GOLDEN.check("nn/map_mult_every3", maps["mult"][:, 1::3, 2::3], relative=1e-5)
    GOLDEN.check("nn/map_sum_every5", maps["sum"][:, ::5, ::5], relative=1e-5)
    masks = square_mask()
    for name, found in maps.items():
        GOLDEN.check(f"nn/image_score_{name}", found.amax((1, 2)), relative=1e-5)
        labels = [int(mask.any()) for mask in masks]
        values = evaluate(
            list(found.numpy()), list(masks), labels, found.amax((1, 2)).numpy()
        ).values
        GOLDEN.check(f"nn/pixel_auroc_{name}", values["pixel_auroc"], absolute=1e-5)


def test_several_neighbours_are_averaged() -> None:
    queries = GOLDEN.tensor("small/test")
    count = GOLDEN["small/distance"].shape[-1]
    found = nearest(queries.flatten(0, -2), GOLDEN.tensor("small/train"), count)
    by_query = found.squares.sqrt().view(*queries.shape[:-1], count)
    GOLDEN.check("small/distance", by_query, relative=1e-5)
    GOLDEN.check("small/index", found.index.view(by_query.shape))
    GOLDEN.check("small/score_mean_of_3", by_query.mean(-1), relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("small/map_*"))
def test_maps_of_other_sizes_match(case: str) -> None:
    found = re.fullmatch(r"(\d+)x(\d+)_K(\d+)_S(\d+)", case)
    assert found is not None
    height, width, side, stride = map(int, found.groups())
    maps = cover_map(GOLDEN.tensor("small/score_mean_of_3"), side, stride, (height, width))
    GOLDEN.check(f"small/map_{case}", maps, relative=1e-5)
