"""STFPM against arrays of the published code."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import Sample
from bench.blocks.backbone import build_backbone
from bench.blocks.smoothing import upsample_and_smooth
from bench.evaluate import evaluate
from bench.files.held_out import published_split
from bench.files.masks import load_masks
from bench.files.tensors import ImageSet
from bench.plugins.methods.stfpm import (
    STFPM,
    level_distances,
    product_map,
    train_step,
    unit_features,
)
from bench.settings.protocol import PROTOCOLS
from tests.golden_files import golden
from tests.golden_weights import FEATURES, by_recipe, check_sampled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

GOLDEN = golden("stfpm")
LEVELS = ("layer1", "layer2", "layer3")
GRID = (STFPM.grid, STFPM.grid)
TARGET = (STFPM.input_size, STFPM.input_size)
RESNET = {"model.0": "conv1", "model.1": "bn1"}
RESNET |= {f"model.{3 + stage}": f"layer{stage}" for stage in (1, 2, 3, 4)}
"""timm's names of what the published code calls by position."""


class StandIn(nn.Module):
    """A small network with the children of a ResNet, up to the third stage."""

    def __init__(self, channels: Sequence[int], state: dict[str, Tensor]) -> None:
        super().__init__()
        stem, first, second, third = channels
        stages = [(stem, first, 1), (first, second, 2), (second, third, 2)]
        self.model = nn.ModuleList(
            [
                nn.Conv2d(3, stem, 3, 2, 1, bias=False),
                nn.BatchNorm2d(stem),
                nn.ReLU(),
                nn.MaxPool2d(3, 2, 1),
                *(
                    nn.Sequential(
                        nn.Conv2d(before, after, 3, stride, 1, bias=False),
                        nn.BatchNorm2d(after),
                        nn.ReLU(),
                    )
                    for before, after, stride in stages
                ),
            ]
        )
        kept = {k: v for k, v in state.items() if not k.startswith("model.7.")}
        self.load_state_dict(kept, strict=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        found = []
        for position, child in enumerate(self.model):
            images = child(images)
            if position >= 4:
                found.append(images)
        return found


def stand_in(prefix: str) -> StandIn:
    return StandIn(GOLDEN.cfg()["standin_channels"], GOLDEN.tensors(prefix))


def resnet18(which: str) -> nn.Module:
    """ResNet18's first three stages with weights by the recipe."""
    cfg = GOLDEN.cfg()["resnet18"]
    net = build_backbone("resnet18", (1, 2, 3))
    names = [own_name(name) for name in cfg["names"]]
    own = net.net.state_dict()
    state = by_recipe({k: v.shape for k, v in own.items()}, names, cfg[f"{which}_seed"])
    net.net.load_state_dict(own | state)
    return net


def own_name(name: str) -> str:
    prefix = ".".join(name.split(".")[:2])
    return RESNET[prefix] + name.removeprefix(prefix)


def sgd(student: nn.Module) -> torch.optim.Optimizer:
    cfg = GOLDEN.cfg()
    return torch.optim.SGD(
        student.parameters(), cfg["lr"], cfg["momentum"], weight_decay=cfg["weight_decay"]
    )


@torch.no_grad()
def maps(teacher: nn.Module, student: nn.Module, images: Tensor) -> Tensor:
    teacher.eval()
    student.eval()
    distances = level_distances(student, images, unit_features(teacher, images))
    product: Tensor = product_map(distances, GRID)
    return product


def mean_map(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    return float(maps(teacher, student, images).double().mean())


@torch.no_grad()
def targets(teacher: nn.Module, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = unit_features(teacher.eval(), images)
    return found


def epochs(images: Tensor, order: Any) -> Iterator[list[Tensor]]:
    batch = GOLDEN.cfg()["batch"]
    for row in torch.as_tensor(order):
        yield [images[index] for index in row.split(batch)]


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_features_of_resnet18_match(which: str) -> None:
    images = GOLDEN.tensor("resnet18/image")
    with torch.no_grad():
        found = resnet18(which).eval()(images)
    for level, feature in zip(LEVELS, found, strict=True):
        check_sampled(GOLDEN, f"resnet18/{which}/{level}", feature, FEATURES, relative=1e-5)


def test_score_maps_of_resnet18_match() -> None:
    found = maps(resnet18("teacher"), resnet18("student"), GOLDEN.tensor("resnet18/image"))
    GOLDEN.check("resnet18/score_map64", found, relative=1e-5)


def test_training_of_resnet18_matches() -> None:
    images = GOLDEN.tensor("resnet18/image")
    teacher, student = resnet18("teacher"), resnet18("student")
    optimizer = sgd(student)
    goal = targets(teacher, images)
    losses, errors = [], []
    for _ in GOLDEN["resnet18/train/loss"]:
        losses.append(train_step(student, images, goal, optimizer))
        errors.append(mean_map(teacher, student, images))
    GOLDEN.check("resnet18/train/loss", torch.stack(losses), relative=1e-5)
    GOLDEN.check("resnet18/train/val_error", errors, relative=1e-4)
    state = student.net.state_dict()  # type: ignore[union-attr]
    for name in GOLDEN.cfg()["resnet18"]["names"]:
        if own_name(name) in state:
            wanted = f"resnet18/train/final/{name}"
            check_sampled(GOLDEN, wanted, state[own_name(name)], relative=1e-4)


def test_the_published_training_is_replayed() -> None:
    images = GOLDEN.tensor("train/image").float()
    seen, unseen = (images[GOLDEN.tensor(f"train/{part}_index")] for part in ("train", "val"))
    teacher, student = stand_in("train/teacher"), stand_in("train/init")
    optimizer = sgd(student)
    losses, errors, best = [], [], copy.deepcopy(student)
    for batches in epochs(seen, GOLDEN["train/order"]):
        for batch in batches:
            losses.append(train_step(student, batch, targets(teacher, batch), optimizer))
        errors.append(mean_map(teacher, student, unseen))
        if errors[-1] == min(errors):
            best = copy.deepcopy(student)
    GOLDEN.check("train/loss", torch.stack(losses), relative=1e-5)
    GOLDEN.check("train/val_error", errors, relative=1e-5)
    for kept, network in (("final", student), ("best", best)):
        state = network.state_dict()
        for name in GOLDEN.tensors(f"train/{kept}"):
            if name in state:
                GOLDEN.check(f"train/{kept}/{name}", state[name], relative=1e-4)


def test_features_of_the_test_images_match() -> None:
    images = GOLDEN.tensor("test/image").float()
    with torch.no_grad():
        for which, prefix in (("teacher", "train/teacher"), ("student", "train/best")):
            for level, found in zip(LEVELS, stand_in(prefix).eval()(images), strict=True):
                GOLDEN.check(f"test/{which}/{level}", found, relative=1e-5)


def test_maps_and_scores_of_the_test_images_match() -> None:
    images = GOLDEN.tensor("test/image").float()
    product = maps(stand_in("train/teacher"), stand_in("train/best"), images)
    GOLDEN.check("test/map64", product, relative=1e-5)
    found = upsample_and_smooth(product.double(), TARGET, sigma=0)
    GOLDEN.check("test/image_score", found.amax((1, 2)), relative=1e-5)


def test_upsampling_matches_in_double_precision() -> None:
    found = upsample_and_smooth(GOLDEN.tensor("test/map64").double(), TARGET, sigma=0)
    GOLDEN.check("test/map256_every5", found[:, 1::5, 2::5], absolute=1e-9)


@pytest.mark.parametrize("count", GOLDEN.cases("split/*/train"))
def test_the_published_split_is_drawn(count: str) -> None:
    rest, held = published_split(int(count), STFPM.validation, STFPM.split_seed, "validation")
    GOLDEN.check(f"split/{count}/train", rest, wanted=np.sort(GOLDEN[f"split/{count}/train"]))
    GOLDEN.check(f"split/{count}/val", held, wanted=np.sort(GOLDEN[f"split/{count}/val"]))


def test_the_protocol_reads_images_as_published(tmp_path: Path) -> None:
    Image.fromarray(GOLDEN["prep/raw"]).save(tmp_path / "x.png")
    images = ImageSet(
        [Sample(tmp_path / "x.png", 0, "good")],
        PROTOCOLS["stfpm"],
        method_size=STFPM.input_size,
        device=torch.device("cpu"),
        seed=0,
    )
    found = next(images.batches(1))[0]
    GOLDEN.check("prep/image_every3", found[:, ::3, ::3], absolute=1e-5)


def read_mask(raw: Any, folder: Path) -> Any:
    """A mask file as the protocol brings it to the size of the maps."""
    Image.fromarray(raw).save(folder / "mask.png")
    Image.fromarray(np.zeros((*raw.shape, 3), np.uint8)).save(folder / "x.png")
    sample = Sample(folder / "x.png", 1, "bad", folder / "mask.png", mask_rule="nonzero")
    return load_masks([sample], PROTOCOLS["stfpm"], TARGET, STFPM.input_size).masks[0]


def test_the_protocol_reads_masks_as_published(tmp_path: Path) -> None:
    GOLDEN.check("mask/out", read_mask(GOLDEN["mask/raw"], tmp_path))


def test_the_protocol_reads_large_masks_as_published(tmp_path: Path) -> None:
    raw = np.zeros(tuple(GOLDEN["mask/large_size"]), np.uint8)
    for top, bottom, left, right in GOLDEN["mask/large_rects_y0y1x0x1"]:
        raw[top:bottom, left:right] = 255
    GOLDEN.check("mask/large_out", read_mask(raw, tmp_path))


def test_metrics_of_the_published_evaluation_match() -> None:
    masks, scores = GOLDEN["eval/masks"], GOLDEN["eval/scores"]
    labels = [int(mask.any()) for mask in masks]
    found = evaluate(
        list(scores),
        [mask.astype(np.uint8) for mask in masks],
        labels,
        scores.max((1, 2)),
        published=("aupro_stfpm",),
    )
    GOLDEN.check("eval/pro", found.published["aupro_stfpm"], absolute=1e-9)
    GOLDEN.check("eval/pro_exact_own", found.values["aupro_30"], absolute=1e-9)
    GOLDEN.check("eval/pixel_auroc", found.values["pixel_auroc"], absolute=1e-9)
    GOLDEN.check("eval/image_auroc", found.values["image_auroc"], absolute=1e-9)
