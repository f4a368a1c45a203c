"""STFPM: our training step against one with the unused fourth stage and the teacher computed anew.

    python benchmarks/stfpm.py [--device cuda]

Both sides train the same ResNet18 on the same 256-pixel images, take turns, and end with the same
student; a ratio is the other side's time over ours. Process CPU time on a CPU.
"""

from __future__ import annotations

import argparse
import copy
from typing import TYPE_CHECKING

import timm
import torch
from torch.nn.functional import normalize

from bench.blocks.backbone import build_backbone
from bench.plugins.methods.stfpm import STFPM, train_step, unit_features
from timing import ratio

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDE = 256
BATCH = 8
LAYERS = (1, 2, 3)


class FourStages:
    """The published step: all four stages of both networks, the teacher's features every time."""

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        self.teacher, self.student = teacher, student
        self.optimizer = sgd(student)

    def step(self, images: Tensor) -> Tensor:
        self.student.train()
        with torch.no_grad():
            targets = self.features(self.teacher, images)
        found = self.features(self.student, images)
        loss = torch.zeros((), device=images.device)
        for teacher, student in zip(targets, found, strict=True):
            distance = (normalize(teacher, dim=1) - normalize(student, dim=1)).square().sum(1)
            loss = loss + distance.mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    @staticmethod
    def features(network: nn.Module, images: Tensor) -> list[Tensor]:
        """Stages 1 to 3; the fourth is computed and dropped."""
        maps: list[Tensor] = network(images)
        return maps[: len(LAYERS)]


def sgd(student: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        student.parameters(), STFPM.lr, STFPM.momentum, weight_decay=STFPM.weight_decay
    )


def four_stages(three: nn.Module) -> nn.Module:
    """A ResNet18 with all stages whose first three have the weights given."""
    whole = timm.create_model("resnet18", features_only=True, out_indices=(*LAYERS, 4))
    whole.load_state_dict(three.state_dict(), strict=False)
    return whole


def compare(device: torch.device | str) -> list[tuple[str, float, float | None]]:
    """Name, ratio and goal of each comparison."""
    device = torch.device(device)
    torch.manual_seed(0)
    teacher, student = (build_backbone("resnet18", LAYERS).to(device) for _ in range(2))
    teacher.eval().requires_grad_(False)
    images = torch.randn(BATCH, 3, SIDE, SIDE, device=device)
    published = FourStages(
        four_stages(teacher.net).eval().requires_grad_(False).to(device),
        four_stages(student.net).to(device),
    )
    optimizer = sgd(student)
    with torch.no_grad():
        kept = unit_features(teacher, images)
    first = published.step(images), train_step(student, images, kept, optimizer)
    torch.testing.assert_close(*first, rtol=1e-4, atol=1e-5)
    recomputed = copy.deepcopy(student)
    other = sgd(recomputed)

    def anew() -> None:
        with torch.no_grad():
            targets = unit_features(teacher, images)
        train_step(recomputed, images, targets, other)

    name = str(device.type)
    return [
        (
            "stfpm step, four stages and the teacher anew / ours",
            ratio(
                lambda: published.step(images),
                lambda: train_step(student, images, kept, optimizer),
                name,
            ),
            1.3,
        ),
        (
            "stfpm step, the teacher anew / ours",
            ratio(anew, lambda: train_step(student, images, kept, optimizer), name),
            None,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    torch.set_num_threads(1)
    for name, found, goal in compare(parser.parse_args().device):
        print(f"{name:60s} {found:6.2f}   goal {goal}")


if __name__ == "__main__":
    main()
