from __future__ import annotations

from typing import Any

import pytest

from bench import discovery
from bench.config import load_settings
from bench.discovery import builtin_root
from bench.plan import resolve_params
from bench.report.published import MEANS

CATEGORIES = MEANS["mean"]
EIGHT_LEVELS = {"carpet", "metal_nut", "transistor"}
SVN = {"carpet", "grid", "bottle", "transistor"}
TEXTURES = {"carpet", "grid", "leather", "tile", "wood"}
PIXELS = {128: {"transistor"}, 256: {"cable", "capsule", "hazelnut", "metal_nut", "pill"}}


def resolved(preset: str, category: str) -> dict[str, Any]:
    method = discovery.describe("methods", preset.split("-")[0])
    return resolve_params(method, load_settings(builtin_root(), preset), {}, f"mvtec/{category}")


@pytest.mark.parametrize(("preset", "svn"), [("code", SVN), ("paper", SVN | {"zipper"})])
def test_pyramidflow_takes_levels_norm_and_augmentation_by_category(
    preset: str, svn: set[str]
) -> None:
    for category in CATEGORIES:
        params = resolved(f"pyramidflow-{preset}", category)
        levels = 8 if category in EIGHT_LEVELS else 2 if category == "screw" else 4
        assert params["levels"] == levels
        assert params["volume_norm"] == ("svn" if category in svn else "cvn")
        assert params["augment"] == ("flips_rot90" if category in TEXTURES else "none")
        assert params["input_size"] == (1024 if preset == "code" else 256)


def test_cflow_takes_the_input_size_of_the_published_table() -> None:
    for category in CATEGORIES:
        size = next((side for side, names in PIXELS.items() if category in names), 512)
        assert resolved("cflow-paper", category)["input_size"] == size


def test_padim_takes_the_same_settings_for_every_category() -> None:
    found = [resolved("padim-paper", category) for category in CATEGORIES]
    assert all(params == found[0] for params in found)
    assert (found[0]["backbone"], found[0]["dimensions"]) == ("wide_resnet50_2.tv_in1k", 550)


@pytest.mark.parametrize(
    ("preset", "protocol"),
    [
        ("pyramidflow-code", "pyramidflow"),
        ("pyramidflow-paper", "pyramidflow"),
        ("cflow-paper", "cflow"),
        ("padim-paper", "padim"),
    ],
)
def test_a_preset_of_a_paper_brings_its_protocol(preset: str, protocol: str) -> None:
    assert load_settings(builtin_root(), preset).run.protocol == protocol
