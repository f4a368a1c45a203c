"""Settings of a tiny gate, and its rows without a bug for `TINY` of a test's module."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.settings.config import load_settings
from bench.settings.protocol import make_protocol
from tests.gate.tiny import train

if TYPE_CHECKING:
    from pathlib import Path

    from bench.rows.row import Row
    from bench.settings.config import Settings

ONCE = {"warmup_steps_cpu": 1, "min_steps_cpu": 1, "min_s_cpu": 0, "max_batch": 1}


@pytest.fixture(scope="module")
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Sixteen images of 64 pixels; the shipped tolerances."""
    shipped = load_settings()
    folder: Path = tmp_path_factory.mktemp("gate")
    return replace(
        shipped,
        paths=replace(shipped.paths, cache=folder / "cache", results=folder / "results"),
        run=replace(shipped.run, protocol="tiny", speed="once", device="cpu", threads=1),
        protocols={"tiny": make_protocol("tiny", {"resize": [64, 64]}, "test")},
        speed={"once": ONCE},
        methods=request.module.TINY,
        datasets={
            "synthetic": {"size": 64, "train": 6, "good": 4, "bad": 6, "severity": "easy"},
        },
    )


@pytest.fixture(scope="module")
def baseline(request: pytest.FixtureRequest, settings: Settings) -> dict[str, Row]:
    """What the code gives without a bug."""
    return {method: train(settings, method) for method in request.module.TINY}
