"""State that is no tensor: refused by `test-plugin` and `fit`, and never a size of 0 in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

HEAD = '''"""Nearest training colours."""
from dataclasses import dataclass

import torch
from sklearn.neighbors import NearestNeighbors

from bench.api import Method, Prediction


def colours(images):
    return images.permute(0, 2, 3, 1).reshape(-1, 3)


@dataclass
class Colours(Method):
'''
PREDICT = """
    def predict(self, images):
        found = self.neighbours.kneighbors(colours(images).numpy())[0][:, 0]
        shape = (len(images), *images.shape[2:])
        return Prediction(torch.from_numpy(found).float().reshape(shape))
"""
OBJECT = """
    def fit(self, train, run):
        seen = torch.cat([colours(x)[::97] for x in train.batches(4)]).numpy()
        self.neighbours = NearestNeighbors(n_neighbors=1).fit(seen)
        yield {}
"""
TENSORS = """
    def fit(self, train, run):
        self.keep(torch.cat([colours(x)[::97] for x in train.batches(4)]))
        yield {}

    def keep(self, seen):
        self.seen = seen
        self.neighbours = NearestNeighbors(n_neighbors=1).fit(seen.numpy())

    def state(self):
        return {"seen": self.seen}

    def load_state(self, state):
        self.keep(state["seen"])
"""
ARRAYS = TENSORS.replace('{"seen": self.seen}', '{"seen": self.seen.numpy()}')
FINISH = """
    def fit(self, train, run):
        self.level = [float(x.std()) for x in train.batches(4)]
        yield {}

    def predict(self, images):
        return Prediction(images.mean(1))

    def finish(self, raw):
        return Prediction(raw.maps / self.level[0])
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (OBJECT + PREDICT, "neighbours (NearestNeighbors)"),
        (ARRAYS + PREDICT, "seen of state() is ndarray, and only tensors are saved"),
        (FINISH, "level (list)"),
    ],
)
def test_what_cannot_be_loaded_back_is_refused(
    project: Path, bench: Bench, body: str, message: str
) -> None:
    (project / "methods" / "colours.py").write_text(HEAD + body)
    tested = bench("test-plugin", "colours")
    assert tested.returncode == 1, tested.stdout + tested.stderr
    assert message in tested.stdout
    fitted = bench("fit", "-m", "colours", "-d", "tiny", "-c", "left", "--out", "model")
    assert fitted.returncode != 0
    assert message in fitted.stderr
    assert not (project / "model" / "model.json").exists()


def test_an_object_that_is_made_from_tensors_loads_back(project: Path, bench: Bench) -> None:
    (project / "methods" / "colours.py").write_text(HEAD + TENSORS + PREDICT)
    assert bench("test-plugin", "colours").returncode == 0
    fitted = bench("fit", "-m", "colours", "-d", "tiny", "-c", "left", "--out", "model")
    assert fitted.returncode == 0, fitted.stderr


def test_a_row_has_no_size_of_a_state_that_nobody_can_count(project: Path, bench: Bench) -> None:
    options = ("-m", "colours", "-d", "tiny", "-c", "left", "--device", "cpu")
    for body, is_known in ((OBJECT, False), (TENSORS, True)):
        (project / "methods" / "colours.py").write_text(HEAD + body + PREDICT)
        done = bench("run", *options, "--force")
        assert done.returncode == 0, done.stdout
        assert ("state_mb cannot count it" in done.stdout) is not is_known
        (row,) = ResultStore(project / "results").rows()
        assert (row.state_mb is not None) is is_known
