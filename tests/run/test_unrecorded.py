"""Frozen parameters of unknown origin, and state that does not come back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bench.api import Method, Prediction
from bench.plan.cells import Cell
from bench.report.choice.marks import marks
from bench.run.context import CellRun
from bench.run.loading_back import loads_back
from bench.settings.protocol import PROTOCOLS
from bench.weights.choice import Weights
from tests.row_maker import make_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from bench.api import Images, Run

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run() -> CellRun:
    cell = Cell(
        method="teacher",
        method_version=1,
        params={},
        dataset="synthetic",
        dataset_version=1,
        dataset_params={},
        category="bolt",
        seed=0,
        protocol=PROTOCOLS["standard"],
        pretrained="random",
        data="",
    )
    return CellRun(cell, torch.device("cpu"), (32, 32), Weights("random"))


class Rotation(nn.Module):
    """A fixed matrix of the method's own code, beside a library's block that trains another."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(3), requires_grad=False)
        self.block = nn.PReLU()
        self.block.register_parameter("order", nn.Parameter(torch.ones(3), requires_grad=False))


@dataclass
class Teacher(Method):
    """Holds a frozen network from somewhere."""

    origin: str = "nowhere"

    def prepare(self, run: Run) -> None:
        made = nn.Conv2d(3, 2, 3)
        if self.origin == "backbone":
            self.net: Any = run.backbone("test_resnet", ("layer1",))
        elif self.origin == "network":
            self.net = run.network("test_resnet", ("layer1",)).requires_grad_(False)
        elif self.origin == "module":
            self.net = run.module(made, "edges")
        elif self.origin == "trained":
            self.net = made
        elif self.origin == "constant":
            self.net = Rotation()
        else:
            self.net = made.requires_grad_(False)
        self.around = nn.Sequential(self.net)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images).mean(1))


def test_frozen_parameters_from_nowhere_are_noted_and_marked(run: CellRun) -> None:
    method = Teacher()
    method.prepare(run)
    text = run.note_unrecorded(method)
    assert text.startswith("56 frozen parameters came from nowhere, first net.weight: get")
    (identity,) = run.identities
    assert identity.startswith("unrecorded@")
    assert "▲" in marks(make_row(weights=identity))


@pytest.mark.parametrize("origin", ["backbone", "network", "module", "trained", "constant"])
def test_parameters_with_an_origin_are_not_noted(run: CellRun, origin: str) -> None:
    method = Teacher(origin)
    method.prepare(run)
    assert run.note_unrecorded(method) == ""
    assert not any("unrecorded" in identity for identity in run.identities)


def test_a_network_of_the_methods_own_is_marked(run: CellRun) -> None:
    Teacher("module").prepare(run)
    found = marks(make_row(weights=", ".join(run.identities)))
    assert "△" in found
    assert "▲" not in found


class Tree:
    """An object of another library, which state does not hold."""

    def __init__(self, level: float) -> None:
        self.level = level


@dataclass
class Learner(Method):
    """Keeps its level as a tensor, as an object, or as a number that prepare makes too."""

    kind: str = "tensor"

    def prepare(self, run: Run) -> None:
        self.level: Any = 0.0

    def learn(self) -> None:
        kinds = {"tensor": torch.tensor(3.0), "object": Tree(3.0), "number": 3.0}
        self.level = kinds[self.kind]

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        level = self.level.level if self.kind == "object" else self.level
        return Prediction(images.mean(1) * level)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("tensor", ""),
        ("object", r"cannot predict \(AttributeError: .*unlike level \(Tree\)"),
        ("number", "predicts other maps: tensor and module attributes are state; keep"),
    ],
)
def test_what_state_does_not_bring_back_is_told(run: CellRun, kind: str, problem: str) -> None:
    fitted = Learner(kind)
    fitted.prepare(run)
    fitted.learn()
    text = loads_back(fitted, Learner(kind), run, IMAGES)
    assert "\n" not in text
    assert re.search(problem, text) if problem else text == ""
