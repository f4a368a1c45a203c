"""Uninformed Students: the descriptors of a picture, dense against patch by patch.

    python benchmarks/uninformed_students.py [--device cuda]

Patch by patch, each network describes the patch around every pixel of the padded picture by
itself; a part of the picture is described so, and its time scaled to all of it. Both sides have the
same weights and agree. The goal is that of a picture's descriptors at all three scales: patches of
17 pixels share at most 26 times the work. A training step is compared with one that asks the
teacher anew for each student.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.plugins.methods.uninformed_students.network import LAYERS, PatchNetwork
from bench.plugins.methods.uninformed_students.students import (
    Target,
    pixels,
    student_step,
)
from timing import alternate, ratio

SIDE = 64
ROWS = 2
"""Rows of the picture that are described patch by patch."""
STUDENTS = 3


@torch.inference_mode()
def dense(network: PatchNetwork, images: Tensor) -> Tensor:
    """(H * W, 512) descriptors of one picture."""
    found: Tensor = network.decoded(pixels(network.embed_densely(images)))
    return found


@torch.inference_mode()
def by_patch(network: PatchNetwork, images: Tensor) -> Tensor:
    """(ROWS * W, 512) descriptors of the first rows, a batch of patches for each row."""
    side = network.patch
    padded = pad(images, [(side - 1) // 2] * 4)
    rows = []
    for y in range(ROWS):
        patches = [padded[..., y : y + side, x : x + side] for x in range(images.shape[-1])]
        rows.append(network(torch.cat(patches)))
    return torch.cat(rows)


def steps(device: torch.device) -> float:
    """Time of a step of three students that each ask the teacher, over one that asks it once."""
    torch.manual_seed(0)
    teacher, *students = (PatchNetwork(33).to(device) for _ in range(1 + STUDENTS))
    teacher.requires_grad_(False)
    optimizers = [torch.optim.Adam(student.parameters(), 1e-4) for student in students]
    length = teacher.decode.out_features
    target = Target(
        teacher, torch.zeros(length, device=device), torch.ones(length, device=device), True
    )
    images = torch.randn(1, 3, SIDE, SIDE, device=device)

    @torch.no_grad()
    def taught() -> Tensor:
        found: Tensor = pixels(teacher.embed_densely(images))
        return found

    def once() -> None:
        shared = taught()
        for student, optimizer in zip(students, optimizers, strict=True):
            student_step(student, images, shared, target, optimizer)

    def each() -> None:
        for student, optimizer in zip(students, optimizers, strict=True):
            student_step(student, images, taught(), target, optimizer)

    return ratio(each, once, device.type)


def compare(device: torch.device | str) -> list[tuple[str, float, float | None]]:
    """Name, ratio and goal of each comparison."""
    device = torch.device(device)
    found: list[tuple[str, float, float | None]] = []
    totals = {"dense": 0.0, "by_patch": 0.0}
    for patch in LAYERS:
        torch.manual_seed(0)
        network = PatchNetwork(patch).to(device)
        images = torch.randn(1, 3, SIDE, SIDE, device=device)
        part = by_patch(network, images)
        torch.testing.assert_close(dense(network, images)[: len(part)], part, rtol=1e-3, atol=1e-5)
        sides = {
            "dense": partial(dense, network, images),
            "by_patch": partial(by_patch, network, images),
        }
        medians = {
            name: statistics.median(times) for name, times in alternate(sides, device.type).items()
        }
        medians["by_patch"] *= SIDE / ROWS
        name = f"uninformed_students {patch}, patch by patch / dense"
        found.append((name, medians["by_patch"] / medians["dense"], None))
        totals = {side: totals[side] + seconds for side, seconds in medians.items()}
    name = "uninformed_students all scales, patch by patch / dense"
    found.append((name, totals["by_patch"] / totals["dense"], 50.0))
    found.append(("uninformed_students step, teacher for each student / once", steps(device), None))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    torch.set_num_threads(1)
    for name, share, goal in compare(parser.parse_args().device):
        print(f"{name:60s} {share:7.2f}   goal {goal}")


if __name__ == "__main__":
    main()
