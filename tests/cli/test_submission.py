"""Maps out of the harness and back in: the same numbers, and every problem on its own line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.rows.column import FOUND
from bench.rows.row import columns
from bench.rows.store import ResultStore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Bench = Callable[..., subprocess.CompletedProcess[str]]

QUICK = ("--dataset", "tiny", "--device", "cpu", "--threads", "1", "--category", "left")


@pytest.mark.slow
def test_exported_maps_score_the_same_and_are_marked_as_submitted(
    project: Path, bench: Bench
) -> None:
    assert bench("run", "-m", "mean", *QUICK, "--save-maps").returncode == 0
    exported = bench("export", "--out", "theirs")
    assert exported.returncode == 0, exported.stderr
    assert "12 maps of 32 x 32 pixels" in exported.stdout
    assert len(list((project / "theirs" / "left" / "test").glob("*/*.tiff"))) == 12
    scored = bench("score", "theirs", "--dataset", "tiny", "-c", "left")
    assert scored.returncode == 0, scored.stderr
    assert "submitted: maps made elsewhere" in scored.stdout
    measured, submitted = ResultStore(project / "results").rows()
    assert (submitted.method, submitted.kind, submitted.weights) == (
        "theirs",
        "submitted",
        "unknown",
    )
    training = {"epoch", "epochs", "n_train"}
    for name in set(columns(*FOUND)) - training:
        ours, theirs = getattr(measured, name), getattr(submitted, name)
        if isinstance(ours, float):
            assert theirs == pytest.approx(ours, abs=1e-6), name
        else:
            assert theirs == ours, name
    assert submitted.fps is None
    assert submitted.state_mb is None
    assert (project / "results" / "env" / f"{submitted.env}.json").is_file()


def test_problems_are_listed_and_nothing_is_scored(project: Path, bench: Bench) -> None:
    (project / "theirs" / "left" / "test" / "good").mkdir(parents=True)
    (project / "theirs" / "left" / "test" / "good" / "0.npy").write_bytes(b"x")
    (project / "theirs" / "up" / "test").mkdir(parents=True)
    done = bench("score", "theirs", "--dataset", "tiny")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    kinds = [line.split(":")[0] for line in lines]
    assert kinds.count("missing") == 11 + 1
    assert kinds.count("unreadable") == 1
    assert "extra: theirs/up: the data set has no category up" in lines
    assert lines[-1] == "bench: theirs: 14 problems, listed above; nothing was scored"
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "nothing", "-d", "tiny"), "nothing is not a folder"),
        (("score", "methods", "-d", "tinny"), "did you mean 'tiny'"),
        (("score", "methods", "-d", "tiny", "-c", "lefft"), "did you mean 'left'"),
        (("score", "methods", "-d", "tiny", "--name", "mean"), "a name of its own"),
        (("score", "methods", "-d", "tiny", "--name", "a/b"), "write letters"),
        (("export", "--out", "x"), "holds no maps"),
        (("export", "--out", "x", "--cell", "abc"), "holds no row"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
