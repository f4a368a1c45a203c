from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.errors import ConfigError, StoreError
from bench.report.compare.intervals import image_score
from bench.rows.check import Comparison, check, compare
from bench.rows.check_output import as_json, as_text, speed
from bench.rows.column import ORIGINS
from bench.rows.drawn_again import two_means
from bench.rows.store import ResultStore
from bench.rows.tolerances import (
    COUNTS,
    FRACTIONS,
    IMAGE_LEVEL,
    RELATIVE,
    Tolerances,
    one_swap,
)
from bench.settings.config import load_settings
from tests.rows.gate import NOWHERE, TOLERANCES, outcome, row

if TYPE_CHECKING:
    from bench.rows.row import Row

ROOT = Path(__file__).parents[2]


def changed_metrics(found: Comparison) -> list[str]:
    return [d.metric for cell in found.changed for d in cell.changed]


def test_equal_rows_agree() -> None:
    found = outcome([row()], [row()])
    assert found.exit_code() == 0
    assert (found.changed, found.missing, found.new) == ([], [], [])
    assert "1 cell compared: 1 agree, 0 changed; 0 missing, 0 new\nOK" in as_text(found, False)


@pytest.mark.parametrize("delta", [0.01, -0.01])
@pytest.mark.parametrize("metric", FRACTIONS)
def test_a_score_of_the_gate_that_moves_by_a_hundredth_either_way_is_changed(
    metric: str, delta: float
) -> None:
    settings = load_settings(ROOT)
    images = settings.presets["gate"]["datasets"]["synthetic"]
    counts = {"n_anomalous": images["bad"], "n_test": images["good"] + images["bad"]}
    tolerances = Tolerances.from_table(settings.check, "bench.toml")
    old = row(**{metric: 0.9, **counts})
    found = outcome([old], [row(**{metric: 0.9 + delta, **counts})], tolerances)
    assert changed_metrics(found) == [metric]


@given(st.floats(0, 1), st.floats(0, 0.5), st.booleans())
def test_a_score_passes_exactly_within_its_tolerance(
    tolerance: float, beyond: float, up: bool
) -> None:
    inside, outside = (0.5 + (1 if up else -1) * (tolerance + by) for by in (0.0, beyond + 1e-6))
    allowed = Tolerances(scores=tolerance)
    assert outcome([row(aupro_30=0.5)], [row(aupro_30=inside)], allowed).exit_code() == 0
    assert outcome([row(aupro_30=0.5)], [row(aupro_30=outside)], allowed).exit_code() == 1


@pytest.mark.parametrize("metric", COUNTS)
def test_counts_are_exact(metric: str) -> None:
    wide = Tolerances(scores=1.0)
    assert changed_metrics(outcome([row(**{metric: 40})], [row(**{metric: 41})], wide)) == [metric]


def test_parameters_and_flops_are_gated_by_ratio_and_speed_is_not() -> None:
    now = row(params_m=2.79, gflops=10.05, fps=1.0)
    found = outcome([row()], [now])
    assert changed_metrics(found) == ["params_m"]
    assert speed(found) == {"padim": {"fps": 0.02}}
    assert "speed, not gated: padim fps x0.02" in as_text(found, False)


def test_speed_on_another_device_is_not_compared() -> None:
    assert speed(outcome([row()], [row(device="CPU y")])) == {}


@pytest.mark.parametrize(("old", "now"), [(0.5, None), (None, 0.5)])
def test_a_score_that_becomes_undefined_or_defined_is_changed(
    old: float | None, now: float | None
) -> None:
    found = outcome([row(aupimo=old)], [row(aupimo=now)], Tolerances(scores=1.0))
    assert changed_metrics(found) == ["aupimo"]
    assert "undefined" in as_text(found, False)


def test_scores_of_other_evaluators_are_gated_too() -> None:
    old, now = (row(published={"aupro_x": v}) for v in (0.5, 0.6))
    assert changed_metrics(outcome([old], [now])) == ["published.aupro_x"]


@pytest.mark.parametrize("metric", IMAGE_LEVEL)
@pytest.mark.parametrize(("normal", "anomalous"), [(1, 1), (2, 4), (4, 2), (4, 4), (5, 3)])
def test_an_image_score_may_move_by_what_the_worst_swap_of_two_images_does(
    metric: str, normal: int, anomalous: int
) -> None:
    counts = {"n_test": normal + anomalous, "n_anomalous": anomalous}
    scores = np.arange(normal + anomalous, 0, -1.0)
    worst = 0.0
    for chosen in combinations(range(normal + anomalous), anomalous):
        labels = np.isin(np.arange(normal + anomalous), chosen)
        for rank in range(normal + anomalous - 1):
            swapped = labels.copy()
            swapped[[rank, rank + 1]] = labels[[rank + 1, rank]]
            values = [image_score(metric, scores, each) for each in (labels, swapped)]
            worst = max(worst, abs(values[0] - values[1]))
    assert one_swap(metric, row(**counts)) == pytest.approx(worst)
    for moved, code in ((worst, 0), (worst + 1e-6, 1)):
        old, now = ({metric: 0.5 - by, **counts} for by in (0.0, moved))
        assert outcome([row(**old)], [row(**now)], Tolerances()).exit_code() == code


def test_missing_and_new_cells_are_told_apart_from_changed_ones() -> None:
    found = outcome([row(0), row(1)], [row(0), row(2)])
    assert [r.seed for r in found.missing] == [1]
    assert [r.seed for r in found.new] == [2]
    assert found.exit_code() == 0
    assert found.exit_code(complete=True) == 1
    text = as_text(found, False)
    assert "MISSING padim mtd/tile seed 1" in text
    assert "NEW     padim mtd/tile seed 2" in text


@pytest.mark.parametrize(
    ("old", "now"), [([], []), ([], [row()]), ([row()], []), ([row()], [row(1)])]
)
def test_nothing_compared_is_exit_code_3(old: list[Row], now: list[Row]) -> None:
    found = outcome(old, now)
    assert found.exit_code() == found.exit_code(complete=True) == 3
    assert "NOTHING COMPARED" in as_text(found, False)


def test_a_cell_whose_data_or_version_changed_is_still_compared_by_its_names() -> None:
    now = row(cell="f" * 12, data="other", method_version=2, aupro_30=0.7)
    found = outcome([row()], [now])
    assert (found.missing, found.new) == ([], [])
    (cell,) = found.changed
    assert {c.part: c.details for c in cell.changes if c.details} == {
        "code": ("method version 1 -> 2",),
        "data": ("files feed -> other",),
    }


def test_a_parameter_that_was_added_since_with_its_default_parts_no_cells() -> None:
    old = row(params={"dimensions": 100})
    now = row(cell="f" * 12, data="other", params={"dimensions": 100, "batch": 32})
    assert (outcome([old], [now]).missing, outcome([old], [now]).new) == ([], [])
    other = row(cell="f" * 12, data="other", params={"dimensions": 100, "batch": 2})
    assert outcome([old], [other]).missing == [old]


def test_of_several_rows_with_a_cells_names_the_newest_is_compared() -> None:
    older = row(cell="e" * 12, data="a", aupro_30=0.1)
    newer = row(cell="f" * 12, data="b", started="2026-02-01T00:00:00+00:00")
    found = outcome([row()], [newer, older])
    assert found.exit_code() == 0
    assert [r.cell for r in found.new] == ["e" * 12]


@pytest.mark.parametrize(
    ("changes", "part", "text"),
    [
        ({"code": "dead"}, "code", "files of the method beef -> dead"),
        ({"commit": "def"}, "code", "commit abc -> def"),
        ({"weights": "sha 1"}, "weights", "weights random resnet18 -> sha 1"),
        ({"data": "d00d"}, "data", "files feed -> d00d"),
        ({"env": "f00d"}, "environment", "env cafe -> f00d"),
        ({"threads": 2}, "environment", "threads None -> 2"),
        ({"protocol_fields": {"crop": 2}}, "protocol", 'protocol_fields {} -> {"crop":2}'),
    ],
)
def test_the_part_that_changed_is_named(changes: dict[str, Any], part: str, text: str) -> None:
    found = outcome([row()], [row(aupro_30=0.1, **changes)])
    (cell,) = found.changed
    assert [(c.part, c.details) for c in cell.changes if c.details] == [(part, (text,))]
    same = ", ".join(p for p in ORIGINS if p != part)
    assert f"differs: {part} ({text})" in as_text(found, False)
    assert f"the same: {same}" in as_text(found, False)


def test_uncommitted_changes_may_differ_and_are_said() -> None:
    found = outcome([row(commit="a-dirty")], [row(commit="a-dirty", aupro_30=0.1)])
    assert "both from a-dirty: uncommitted changes, which may differ" in as_text(found, False)


def test_a_change_without_a_recorded_cause_is_said() -> None:
    text = as_text(outcome([row()], [row(aupro_30=0.1)]), False)
    assert "nothing recorded differs" in text


def test_packages_that_differ_are_named_where_the_environments_are_known(tmp_path: Path) -> None:
    for folder, key, torch in (("old", "cafe", "2.4"), ("now", "f00d", "2.5")):
        ResultStore(tmp_path / folder).put(row(env=key, aupro_30=0.6 if folder == "old" else 0.1))
        (tmp_path / folder / "env").mkdir()
        text = json.dumps({"torch": torch, "python": "3.11"})
        (tmp_path / folder / "env" / f"{key}.json").write_text(text)
    found = check(tmp_path / "old", tmp_path / "now", TOLERANCES)
    assert "environment (torch 2.4 -> 2.5)" in as_text(found, False)


SEEDS = [row(s, aupro_30=v) for s, v in enumerate((0.60, 0.62, 0.61, 0.59))]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_fall_of_every_cell_fails_however_many_seeds_there_are(count: int) -> None:
    fallen = [replace(r, aupro_30=(r.aupro_30 or 0) - 0.01) for r in SEEDS[:count]]
    found = outcome(SEEDS[:count], fallen)
    assert found.exit_code() == 1
    assert [changed.seeds for changed in found.changed] == [(seed,) for seed in range(count)]
    assert {d.tolerance for cell in found.changed for d in cell.changed} == {0.002}


def drawn(values: list[float], first_seed: int, **changes: Any) -> list[Row]:
    return [row(first_seed + i, aupro_30=v, **changes) for i, v in enumerate(values)]


def test_other_seeds_are_missing_and_new_unless_they_are_asked_for() -> None:
    now = drawn([0.6, 0.62, 0.61], 7)
    found = outcome(SEEDS, now)
    assert (found.exit_code(), len(found.missing), len(found.new)) == (3, 4, 3)
    assert "4 of the missing have rows of other seeds in the results: --new-seeds" in as_text(
        found, False
    )
    asked = compare(SEEDS, now, TOLERANCES, NOWHERE, new_seeds=True)
    assert (asked.exit_code(complete=True), asked.cells) == (0, [])
    assert (asked.missing, asked.new, asked.other_seeds) == ([], [], 0)


def test_the_tolerance_of_other_seeds_is_that_of_students_test() -> None:
    before, after = [0.60, 0.62, 0.61, 0.59], [0.55, 0.58, 0.56]
    difference = sum(before) / 4 - sum(after) / 3
    p = float(stats.ttest_ind(before, after).pvalue)
    assert two_means(before, after, p) == pytest.approx(difference)
    for chance, code in ((p * 1.01, 1), (p * 0.99, 0)):
        tolerances = Tolerances(false_alarms=chance)
        old, now = drawn(before, 0), drawn(after, 4)
        found = compare(old, now, tolerances, NOWHERE, new_seeds=True)
        assert found.exit_code() == code
    text = as_text(compare(old, now, Tolerances(), NOWHERE, new_seeds=True), False)
    assert "CHANGED padim mtd/tile mean of seeds 4, 5, 6 against that of 0, 1, 2, 3" in text
    values = json.loads(as_json(found, False))["agree"][0]
    assert (values["seeds"], values["baseline_seeds"]) == ([4, 5, 6], [0, 1, 2, 3])


def test_figures_that_depend_on_the_seed_share_the_chance_of_a_false_alarm() -> None:
    def tolerance(**others: list[float]) -> float:
        figures = {"aupro_30": [0.5, 0.6, 0.7], **others}
        old = [row(s, **{name: values[s] for name, values in figures.items()}) for s in range(3)]
        now = [row(s) for s in (3, 4, 5)]
        (mean,) = compare(old, now, Tolerances(), NOWHERE, new_seeds=True).means
        return next(d.tolerance for d in mean.differences if d.metric == "aupro_30")

    alone = two_means([0.5, 0.6, 0.7], [0.6] * 3, 0.05)
    assert tolerance() == pytest.approx(alone)
    both = tolerance(pixel_auroc=[0.8, 0.9, 0.7])
    assert both == pytest.approx(two_means([0.5, 0.6, 0.7], [0.6] * 3, 0.025))


def test_same_seeds_stay_paired_beside_other_seeds() -> None:
    now = [replace(SEEDS[0], aupro_30=0.597), *drawn([0.6, 0.61], 8)]
    found = compare(SEEDS, now, TOLERANCES, NOWHERE, new_seeds=True)
    assert [cell.seeds for cell in found.changed] == [(0,)]
    assert [(mean.old_seeds, mean.seeds) for mean in found.means] == [((1, 2, 3), (8, 9))]


def test_a_count_that_no_seed_changed_stays_exact_among_other_seeds() -> None:
    old = [row(s, regions=40, epoch=e) for s, e in enumerate((3, 4, 5))]
    now = [row(s, regions=g, epoch=4) for s, g in zip((3, 4), (40, 41), strict=True)]
    found = compare(old, now, Tolerances(scores=1.0), NOWHERE, new_seeds=True)
    assert changed_metrics(found) == ["regions"]


def test_one_seed_on_each_side_has_no_spread_and_is_not_compared() -> None:
    found = compare([row(0)], [row(1)], TOLERANCES, NOWHERE, new_seeds=True)
    assert (found.exit_code(), found.other_seeds) == (3, 1)
    with pytest.raises(ValueError, match="1 and 1 seeds: a deviation needs three together"):
        two_means([0.5], [0.6], 0.05)


def test_a_damaged_baseline_is_refused_with_its_line(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(row())
    file = store.file("mtd", "padim")
    file.write_text(file.read_text().replace("0.600000", "sixty"))
    with pytest.raises(StoreError, match=r":2: column 'aupro_30' holds 'sixty'"):
        check(tmp_path, tmp_path, TOLERANCES)


def test_a_baseline_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder; give --baseline"):
        check(tmp_path / "no", tmp_path, TOLERANCES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"score": 0.1}, "did you mean 'scores'"),
        ({"absolute": {"aupro": 0.1}}, "did you mean 'aupro_"),
        ({"relative": {"gflop": 0.1}}, "did you mean 'gflops'"),
        ({"scores": "1%"}, "'1%' is not a number from 0"),
        ({"scores": True}, "True is not a number"),
        ({"spread": 3}, "unknown key .check..spread"),
        ({"false_alarms": -1}, "-1 is not a number from 0"),
        ({"false_alarms": 0}, "false_alarms = 0 is not between 0 and 1"),
        ({"false_alarms": 1.0}, "false_alarms = 1.0 is not between 0 and 1"),
        ({"absolute": {"aupro_30": float("nan")}}, "nan is not a number"),
        ({"relative": {"gflops": float("inf")}}, "inf is not a number"),
    ],
)
def test_an_unusable_tolerance_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tolerances.from_table(table, "bench.toml")


def test_the_shipped_tolerances_are_valid() -> None:
    settings = load_settings(ROOT)
    tolerances = Tolerances.from_table(settings.check, "bench.toml")
    assert set(tolerances.relative) == set(RELATIVE)
    assert 0 < tolerances.of("aupro_30", row()) < 0.01
