"""Uninformed Students against arrays of a public re-implementation; the authors published none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.plugins.methods.uninformed_students import PatchNetwork
from bench.plugins.methods.uninformed_students.students import (
    Moments,
    Target,
    disagreement,
    error_and_variance,
    pixels,
    student_step,
)
from bench.plugins.methods.uninformed_students.teacher import (
    TeacherLoss,
    TeacherTrainer,
    compactness,
    distillation,
)
from tests.golden_files import golden
from tests.golden_weights import by_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GOLDEN = golden("uninformed_students")
PATCHES = GOLDEN.cases("net*/image")


def network(patch: str) -> Any:
    """The network of full width with weights by the recipe."""
    cfg = GOLDEN.cfg()
    net = PatchNetwork(int(patch))
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    net.load_state_dict(by_recipe(shapes, cfg["names"][patch], cfg["net_seed"][patch]))
    return net


def narrow(prefix: str, cfg: Mapping[str, Any]) -> Any:
    net = PatchNetwork(cfg["patch"], cfg["channels"], cfg["outputs"])
    net.load_state_dict(GOLDEN.tensors(prefix))
    return net


def adam(net: Any, cfg: Mapping[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), cfg["lr"], weight_decay=cfg["weight_decay"])


def batches(order: Any, size: int) -> Iterator[Tensor]:
    for epoch in torch.as_tensor(order):
        yield from torch.split(epoch, size)


def largest(patch: str) -> float:
    """Scale of the tolerance: the largest entry of all descriptors that the file holds whole."""
    return float(np.abs(GOLDEN[f"net{patch}/descriptor"]).max())


@pytest.mark.parametrize("patch", PATCHES)
@torch.no_grad()
def test_dense_descriptors_match(patch: str) -> None:
    net = network(patch)
    found = net.decoded(net.embed_densely(GOLDEN.tensor(f"net{patch}/image")).permute(0, 2, 3, 1))
    rows, columns = GOLDEN[f"net{patch}/positions"].T
    GOLDEN.check(f"net{patch}/descriptor", found[0, rows, columns], relative=1e-5)
    first = found[0, ..., : GOLDEN[f"net{patch}/dense_first4"].shape[-1]]
    GOLDEN.check(f"net{patch}/dense_first4", first, absolute=1e-5 * largest(patch))
    wide = found.double()
    sums = torch.stack([wide.sum(), wide.abs().sum(), wide.square().sum()])
    GOLDEN.check(f"net{patch}/dense_sums", sums, relative=1e-5)


@pytest.mark.parametrize("patch", PATCHES)
@torch.no_grad()
def test_descriptors_of_single_patches_match(patch: str) -> None:
    side = int(patch)
    padded = pad(GOLDEN.tensor(f"net{patch}/image"), [(side - 1) // 2] * 4)
    cut = [padded[..., y : y + side, x : x + side] for y, x in GOLDEN[f"net{patch}/positions"]]
    found = network(patch)(torch.cat(cut))
    GOLDEN.check(f"net{patch}/descriptor_by_patch", found, relative=1e-5)


def test_the_teachers_losses_and_gradients_match() -> None:
    target = GOLDEN.tensor("loss/target")
    for name, compute in (
        ("distillation", lambda output: distillation(output, target)),
        ("compactness", compactness),
    ):
        output = GOLDEN.tensor("loss/output").requires_grad_()
        loss = compute(output)
        loss.backward()
        GOLDEN.check(f"loss/{name}", loss, relative=1e-5)
        GOLDEN.check(f"loss/{name}_grad", output.grad, relative=1e-5)


def test_the_loss_of_a_student_is_the_mean_over_pixels() -> None:
    student, teacher = GOLDEN.tensor("loss/student_a"), GOLDEN.tensor("loss/student_b")
    error, _ = disagreement(student[None], teacher)
    GOLDEN.check("loss/student", error.mean(), relative=1e-5)


def test_running_moments_match() -> None:
    moments = Moments()
    for batch in GOLDEN.tensor("moments/batches"):
        moments.add(batch.flatten(0, -2))
    GOLDEN.check("moments/mean", moments.mean, relative=1e-5)
    GOLDEN.check("moments/var", moments.variance, relative=1e-5)


def test_calibration_and_score_maps_match() -> None:
    moments = Moments()
    moments.add(GOLDEN.tensor("score/teacher_train").flatten(0, -2))
    GOLDEN.check("score/teacher_mean", moments.mean, relative=1e-5)
    GOLDEN.check("score/teacher_var", moments.variance, relative=1e-5)
    mean, deviation = moments.mean.float(), moments.variance.sqrt().float()

    def maps(part: str) -> tuple[Tensor, Tensor]:
        target = (GOLDEN.tensor(f"score/teacher_{part}") - mean) / deviation
        error, variance = disagreement(
            GOLDEN.tensor(f"score/student_{part}").transpose(0, 1), target
        )
        return error, variance

    total = torch.zeros((), dtype=torch.float64)
    for name, map_name, known, new in zip(
        ("err", "var"), ("error", "variance"), maps("train"), maps("test"), strict=True
    ):
        own = Moments()
        own.add(known.flatten())
        GOLDEN.check(f"score/{name}_mu", own.mean, relative=1e-5)
        GOLDEN.check(f"score/{name}_var", own.variance, relative=1e-5)
        GOLDEN.check(f"score/{name}_max", known.max(), relative=1e-5)
        GOLDEN.check(f"score/{map_name}_map", new, relative=1e-5)
        total = total + (new - own.mean) / own.variance.sqrt()
    GOLDEN.check("score/score_map", total, relative=1e-5)


def test_the_students_training_is_replayed_to_the_score_maps() -> None:
    cfg = GOLDEN.cfg()["students"]
    images = GOLDEN.tensor("students/image").float()
    teacher = narrow("students/teacher", cfg).requires_grad_(False)
    moments = Moments()
    for image in images:
        moments.add(teacher.decoded(pixels(teacher.embed_densely(image[None]))))
    GOLDEN.check("students/teacher_mean", moments.mean, relative=1e-5)
    GOLDEN.check("students/teacher_var", moments.variance, relative=1e-5)
    target = Target(teacher, moments.mean.float(), moments.variance.sqrt().float(), True)
    losses, students = [], []
    for number, order in enumerate(GOLDEN["students/order"]):
        student = narrow(f"students/init{number}", cfg)
        optimizer = adam(student, cfg)
        for index in batches(order, cfg["batch"]):
            taught = pixels(teacher.embed_densely(images[index]))
            losses.append(student_step(student, images[index], taught, target, optimizer))
        for name, value in student.state_dict().items():
            GOLDEN.check(f"students/final{number}/{name}", value, relative=1e-5)
        students.append(student)
    shape = GOLDEN["students/loss"].shape
    GOLDEN.check("students/loss", torch.stack(losses).view(shape), relative=1e-5)
    known = [error_and_variance(students, image[None], target) for image in images]
    new = error_and_variance(students, GOLDEN.tensor("students/test_image").float(), target)
    total = torch.zeros((), dtype=torch.float64)
    for maps, found in zip(zip(*known, strict=True), new, strict=True):
        own = Moments()
        own.add(torch.cat(maps).flatten())
        total = total + (found - own.mean) / own.variance.sqrt()
    GOLDEN.check("students/test_score_map", total, relative=1e-5)


def test_the_teachers_training_is_replayed() -> None:
    cfg = GOLDEN.cfg()["teacher"]
    patches, targets = GOLDEN.tensor("teacher/patch").float(), GOLDEN.tensor("teacher/target")
    order = list(batches(GOLDEN["teacher/order"], cfg["batch"]))
    masks = iter(
        mask
        for number in range(len(order))
        for mask in (
            GOLDEN.tensor(f"teacher/mask_2d/{number}").flatten(1),
            GOLDEN.tensor(f"teacher/mask/{number}"),
        )
    )
    goals = iter([targets[index] for index in order])
    teacher = narrow("teacher/init", cfg)
    trainer = TeacherTrainer(
        network=teacher,
        target=lambda _: next(goals),
        loss=TeacherLoss(),
        masks=lambda *_: next(masks),
        is_decoded=True,
        optimizer=adam(teacher, cfg),
    )
    found = [trainer.step(patches[index]).tolist() for index in order]
    GOLDEN.check("teacher/distillation", [step[0] for step in found], relative=1e-5)
    GOLDEN.check("teacher/compactness", [step[1] for step in found], relative=1e-5)
    for name, value in teacher.state_dict().items():
        GOLDEN.check(f"teacher/final/{name}", value, relative=1e-5)
