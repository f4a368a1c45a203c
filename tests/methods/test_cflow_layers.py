"""CFLOW-AD's published taps of MobileNetV3 and EfficientNet, by names of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.api import MethodError
from bench.blocks.backbone import build_backbone
from bench.plugins.methods.cflow import Cflow
from bench.report.paper.published import load_published
from bench.report.paper.table_files import load_table
from bench.settings.config import load_settings
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from bench.report.paper.table_spec import RowSpec

EFFICIENTNET = ("blocks.2.4.bn3", "blocks.4.6.bn3", "blocks.5.8.bn3")


def mobilenets(name: str) -> list[RowSpec]:
    table = load_table(name, load_settings(builtin_root()), load_published())
    return [row for row in table.rows if "MobileNet" in row.label and row.method == "cflow"]


@pytest.mark.parametrize("name", ["cflow/table2", "cflow/table6"])
def test_mobilenet_rows_tap_the_published_projections_without_reflection(name: str) -> None:
    rows = mobilenets(name)
    assert len(rows) == 2
    for row in rows:
        params: dict[str, Any] = dict(row.params)
        encoder = build_backbone(params["backbone"], params["layers"])
        assert encoder.channels == [40, 112, 160]
        assert encoder.strides == [8, 16, 32]
        assert params["padding"] == "zeros"
        # 12 MB are printed, of all encoder parameters before the last tap.
        assert sum(p.numel() for p in encoder.parameters()) * 4 / 1e6 == pytest.approx(12, abs=1)


def test_efficientnet_is_tapped_at_the_third_norm_of_the_last_units() -> None:
    encoder = build_backbone("tf_efficientnet_b5", EFFICIENTNET)
    assert (encoder.channels, encoder.strides) == ([64, 176, 304], [8, 16, 32])


def test_named_layers_are_the_levels(make_run: Any) -> None:
    small: dict[str, Any] = {"backbone": "resnet18", "couplings": 1, "condition": 8, "levels": 2}
    named = Cflow(**small, layers=("layer3", "layer4"))
    numbered = Cflow(**small)
    for method in (named, numbered):
        method.prepare(make_run())
    assert named.encoder.channels == numbered.encoder.channels == [256, 512]
    assert named.state().keys() >= {"maxima"}


def test_other_levels_than_layers_are_refused() -> None:
    with pytest.raises(MethodError, match="layers names 1 modules, but levels=3; set levels=1"):
        Cflow(layers=("layer3",))
