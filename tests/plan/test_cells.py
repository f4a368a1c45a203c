from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ConfigError
from bench.plan import discovery
from bench.plan.cells import Cell, resolve_params, split_overrides, trainings, uses_backbone
from bench.plan.identity import canonical
from bench.settings.config import Settings
from bench.settings.protocol import Protocol


def cell(**changes: Any) -> Cell:
    values: dict[str, Any] = {
        "method": "padim",
        "method_version": 1,
        "params": {"dimensions": 100},
        "dataset": "mtd",
        "dataset_version": 1,
        "dataset_params": {},
        "category": "tile",
        "seed": 0,
        "protocol": Protocol("standard"),
        "pretrained": "pretrained",
        "data": "0" * 16,
    }
    return Cell(**{**values, **changes})


def settings(**tables: Any) -> Settings:
    return Settings(project=Path(), **tables)


def test_a_cell_survives_the_way_to_a_worker() -> None:
    first = cell(protocol=Protocol("padim", resize=256, crop=224, published=("aupro_cflow",)))
    again = Cell.from_json(json.loads(json.dumps(first.to_json())))
    assert again == first
    assert again.id == first.id


def test_renaming_a_protocol_changes_no_cell_and_editing_it_does() -> None:
    assert cell(protocol=Protocol("other name")).id == cell().id
    assert cell(protocol=Protocol("standard", crop=224)).id != cell().id


@pytest.mark.parametrize(
    "change",
    [
        {"method": "cflow"},
        {"method_version": 2},
        {"params": {"dimensions": 50}},
        {"dataset": "btad"},
        {"dataset_version": 2},
        {"category": "other"},
        {"seed": 1},
        {"pretrained": "random"},
        {"data": "1" * 16},
    ],
)
def test_every_part_of_the_identity_makes_another_cell(change: dict[str, Any]) -> None:
    assert cell(**change).id != cell().id


READ: dict[str, Any] = {
    "mask_size": "native",
    "mask_resample": "covered",
    "image_score": "max",
    "published": ("aupro_cflow",),
}
TRAINED: dict[str, Any] = {
    "resize": 300,
    "resample": "lanczos",
    "crop": 224,
    "epoch": "oracle",
}


def test_cells_that_differ_after_prediction_alone_share_a_training() -> None:
    assert {*READ, *TRAINED} == {*Protocol.defaults()}
    for name, value in READ.items():
        other = cell(protocol=Protocol("other", **{name: value}))
        assert (other.training, other.id != cell().id) == (cell().training, True), name
    assert cell(seed=1).training != cell().training


@pytest.mark.parametrize("name", TRAINED)
def test_another_image_or_epoch_is_another_training(name: str) -> None:
    assert cell(protocol=Protocol("other", **{name: TRAINED[name]})).training != cell().training


def test_an_oracle_trains_alone_since_it_looks_at_the_test_images_meanwhile() -> None:
    oracles = [
        cell(protocol=Protocol("o", epoch="oracle", image_score=s)) for s in ("max", "method")
    ]
    assert len(trainings([cell(), *oracles])) == 3


def test_cells_of_one_training_come_together_in_the_order_of_the_plan() -> None:
    first, second = cell(), cell(protocol=Protocol("native", mask_size="native"))
    other = cell(seed=1)
    assert trainings([first, other, second]) == [(first, second), (other,)]


def test_options_of_the_data_set_count_only_by_the_data_that_they_make() -> None:
    assert cell(dataset_params={"categories_only": "tile"}).id == cell().id


def test_the_order_of_parameters_does_not_matter() -> None:
    assert cell(params={"a": 1, "b": 2}).id == cell(params={"b": 2, "a": 1}).id


def test_parameters_come_from_fields_then_tables_then_the_command_line() -> None:
    padim = discovery.describe("methods", "padim")
    tables = {"padim": {"sigma": 2.0, "mtd/tile": {"sigma": 3.0}}}
    chosen = settings(methods=tables)
    assert resolve_params(padim, settings(), {})["sigma"] == 4.0
    assert resolve_params(padim, chosen, {}, "mtd/other")["sigma"] == 2.0
    assert resolve_params(padim, chosen, {}, "mtd/tile")["sigma"] == 3.0
    assert resolve_params(padim, chosen, {"sigma": 1}, "mtd/tile")["sigma"] == 1.0


@pytest.mark.parametrize(("typed", "value"), [(32, "32"), ("sum", "sum"), ("32", "32")])
def test_a_number_on_the_command_line_is_text_where_the_field_takes_text(
    typed: object, value: str
) -> None:
    patchsvdd = discovery.describe("methods", "patchsvdd")
    assert resolve_params(patchsvdd, settings(), {"combine": typed})["combine"] == value
    with pytest.raises(ConfigError, match="combine = 33; did you mean '32'"):
        resolve_params(patchsvdd, settings(), {"combine": 33})


def test_an_unknown_parameter_names_the_nearest_one() -> None:
    padim = discovery.describe("methods", "padim")
    with pytest.raises(ConfigError, match=r"\[methods.padim\].*did you mean 'sigma'"):
        resolve_params(padim, settings(methods={"padim": {"sigm": 1.0}}), {})


def test_a_parameter_of_the_wrong_type_is_refused() -> None:
    padim = discovery.describe("methods", "padim")
    with pytest.raises(ConfigError, match="is not a number"):
        resolve_params(padim, settings(), {"sigma": "large"})


def test_an_override_goes_to_each_method_that_has_the_field() -> None:
    plugins = [discovery.describe("methods", name) for name in ("padim", "pyramidflow")]
    plugins.append(discovery.describe("datasets", "synthetic"))
    found = split_overrides({"sigma": 1.0, "synthetic.size": 64}, plugins)
    assert found == {"padim": {"sigma": 1.0}, "pyramidflow": {}, "synthetic": {"size": 64}}


def test_an_override_that_fits_nothing_is_refused() -> None:
    plugins = [discovery.describe("methods", "padim")]
    with pytest.raises(ConfigError, match="did you mean 'sigma'"):
        split_overrides({"sigmma": 1}, plugins)
    with pytest.raises(ConfigError, match="'cflow' is not selected"):
        split_overrides({"cflow.lr": 1}, plugins)


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"backbone": "resnet18"}, True), ({"stem": "none"}, False), ({"levels": 3}, False)],
)
def test_a_method_uses_a_backbone_if_a_field_names_one(
    params: dict[str, Any], expected: bool
) -> None:
    assert uses_backbone(params) is expected


def test_canonical_json_is_the_same_text_for_the_same_value() -> None:
    assert canonical({"b": [1.0, 2], "a": None}) == '{"a":null,"b":[1.0,2]}'


def test_a_label_names_what_runs() -> None:
    assert replace(cell(), seed=3).label == "padim mtd/tile seed 3"
