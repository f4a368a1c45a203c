"""Below a table stands in what its numbers differ from the defaults of methods and data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bench.report.choice.groups import TIMED_ALIKE, groups
from bench.report.compare.compare import tabulate_metric
from tests.report.shown import compared, complexity

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.rows.row import Row

    MakeRow = Callable[..., Row]


def cflow(make_row: MakeRow, **params: Any) -> Row:
    values = {"backbone": "resnet18.tv_in1k", "batch": 32, "lr": 0.001, **params}
    return make_row(method="cflow", params=values, image_auroc=0.6)


LINE = "cflow: backbone resnet18.tv_in1k, lr 0.001, meta_epochs 3; others at their defaults"


def test_settings_that_are_not_the_defaults_stand_below_the_table(make_row: MakeRow) -> None:
    (group,) = groups([cflow(make_row, meta_epochs=3), make_row(image_auroc=0.5)])
    table = tabulate_metric(group, "image_auroc")
    assert f"- {LINE}" in compared(table).splitlines()
    assert f"<p>{LINE}</p>" in compared(table, "html")
    assert LINE.replace("_", r"\_") in compared(table, "tex")
    assert f'"{LINE.removeprefix("cflow: ")}"' in compared(table, "csv")
    assert f"- {LINE}" in complexity(group, "image_auroc").splitlines()
    assert group.legend == [LINE]


def test_what_all_variants_of_a_method_share_is_said_once(make_row: MakeRow) -> None:
    (group,) = groups([cflow(make_row, meta_epochs=n) for n in (3, 25)])
    assert group.legend == [
        "cflow #1: meta_epochs=3",
        "cflow #2: meta_epochs=25",
        "every cflow: backbone resnet18.tv_in1k, lr 0.001; others at their defaults",
    ]


def test_settings_of_a_version_that_is_gone_are_all_named(make_row: MakeRow) -> None:
    (group,) = groups([make_row(method="cflow", method_version=99, params={"batch": 32})])
    assert group.legend == ["cflow: batch 32; defaults of cflow version 99 are not known here"]


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"bad": 80, "good": 8}, "; data set options: bad = 80, others at their defaults"),
        ({"bad": 80}, "; data set options: bad = 80"),
        ({"bad": 16, "good": 8}, ""),
    ],
)
def test_options_of_the_data_set_that_are_not_its_defaults_stand_in_the_title(
    options: dict[str, int], title: str, make_row: MakeRow
) -> None:
    (group,) = groups([make_row(dataset_params=options)])
    assert group.title == f"synthetic, protocol standard{title}"


def test_an_option_that_tells_two_tables_apart_is_named_once(make_row: MakeRow) -> None:
    rows = [make_row(dataset_params={"bad": n, "good": 40}) for n in (16, 80)]
    assert [group.title for group in groups(rows)] == [
        f"synthetic, protocol standard; bad={n}; data set options: good = 40" for n in (16, 80)
    ]


def timed(make_row: MakeRow, **changes: Any) -> Row:
    values = {"speed": "brief", "fps_b1": 9.0, "fit_mb": 80.0, "fit_s": 2.0, "state_mb": 5.0}
    return make_row(**{**values, "noisy": True, "image_auroc": 0.5, **changes})


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("fps_b1", "padim¶*"),
        ("fit_s", "padim¶*"),
        ("fit_mb", "padim"),
        ("state_mb", "padim"),
        ("image_auroc", "padim"),
    ],
)
def test_marks_of_timings_stand_beside_timings_alone(
    metric: str, label: str, make_row: MakeRow
) -> None:
    (group,) = groups([timed(make_row)], TIMED_ALIKE)
    text = compared(tabulate_metric(group, metric))
    assert f"| {label} " in text
    assert ("speed is uncertain" in text) == ("*" in label)
    assert ("figures are rough" in text) == ("¶" in label)
