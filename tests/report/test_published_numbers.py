"""The published numbers as data: keys, ranges, counts, means, notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.published import MEANS, Published, PublishedNumber, load_published, matches

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {
    ("pyramidflow", "Table 1"): 48,
    ("pyramidflow", "Table 2"): 60,
    ("pyramidflow", "Table 3"): 260,
    ("pyramidflow", "Table 4"): 48,
    ("pyramidflow", "Table 5"): 30,
    ("pyramidflow", "Table S1"): 60,
    ("pyramidflow", "Table S2"): 110,
    ("pyramidflow", "Figure 5"): 34,
    ("cflow", "Table 2"): 144,
    ("cflow", "Table 3"): 192,
    ("cflow", "Table 4"): 16,
    ("cflow", "Table 5 (value from the text)"): 2,
    ("cflow", "Table 6"): 27,
    ("padim", "Table I"): 30,
    ("padim", "Table II"): 30,
    ("padim", "Table III"): 252,
    ("padim", "Table IV"): 3,
    ("padim", "Table V"): 15,
    ("padim", "Table VI"): 18,
    ("padim", "Table VII"): 4,
    ("padim", "Table VIII"): 7,
}
TOTALS = {"spade": 306, "vt_adl": 168, "patchcore": 217, "anomalib": 1008, "ader": 1326}

# Printed means that no rounding explains: paper, table, method, metric, mean.
WRONG = {
    ("cflow", "Table 3", "SPADE", "aupro", "mean"),
    ("cflow", "Table 3", "PaDiM", "aupro", "mean"),
    ("padim", "Table III", "SPADE", "pixel_auroc", "mean"),
    ("vt_adl", "Table III", "AnoGAN", "aupro", "mean"),
    ("xiahaifeng_padim", "README", "PaDiM", "pixel_auroc", "mean_texture"),
}


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published()


def test_no_number_stands_twice(published: Published) -> None:
    keys = Counter(number.key for number in published.numbers)
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_table_has_its_known_count(published: Published) -> None:
    assert len(published.numbers) == 5148
    counts = {key: len(published.of_table(*key)) for key in COUNTS}
    assert counts == COUNTS
    by_paper = Counter(number.paper for number in published.numbers)
    assert {paper: by_paper[paper] for paper in TOTALS} == TOTALS


def test_every_source_is_described(published: Published) -> None:
    assert {number.paper for number in published.numbers} <= set(published.papers)
    assert {n.source_kind for n in published.numbers} == {"seed", "paper", "docs", "repo"}


def test_scores_are_percentages_and_costs_positive(published: Published) -> None:
    for number in published.numbers:
        if number.unit == "%":
            assert 0 <= number.number <= 100, number
        elif number.unit == "pp":
            assert -100 <= number.number <= 100, number
        else:
            assert number.number > 0 or number.metric == "additional_params_m", number
        assert not number.std or float(number.std) >= 0, number


def test_changes_are_differences_of_printed_numbers(published: Published) -> None:
    """Table 2 prints the change against the baseline beside each number."""
    table = published.of_table("pyramidflow", "Table 2")
    value = {(n.variant, n.category, n.metric): n.number for n in table}
    deltas = [n for n in table if n.metric.endswith("_delta")]
    assert len(deltas) == 30
    for n in deltas:
        metric = n.metric.removesuffix("_delta")
        baseline = value["FNF, ablation baseline", n.category, metric]
        assert value[n.variant, n.category, metric] - baseline == pytest.approx(n.number, abs=0.01)


def test_printed_means_are_those_of_their_categories_but_for_known_slips(
    published: Published,
) -> None:
    wrong = set()
    checked = 0
    for cells in _complete(published).values():
        for mean, members in _means(cells).items():
            printed = cells[mean]
            # The mean has its own best epoch there.
            if "best test epoch" in printed.variant:
                continue
            checked += 1
            recomputed = sum(cells[c].number for c in members) / len(members)
            steps = [_step(cells[c]) for c in members]
            if abs(recomputed - printed.number) > (_step(printed) + min(steps)) / 2 + 1e-9:
                wrong.add((printed.paper, printed.table, printed.method, printed.metric, mean))
    assert checked > 250
    assert wrong == WRONG


def _complete(published: Published) -> dict[tuple[str, ...], dict[str, PublishedNumber]]:
    cells: dict[tuple[str, ...], dict[str, PublishedNumber]] = defaultdict(dict)
    for n in published.numbers:
        key = (n.paper, n.table, n.method, n.variant, n.encoder, n.dataset, n.metric)
        cells[key][n.category] = n
    return cells


def _means(cells: dict[str, PublishedNumber]) -> dict[str, tuple[str, ...]]:
    dataset = next(iter(cells.values())).dataset
    members = MEANS if dataset == "mvtec" else {"mean": ("01", "02", "03")}
    return {m: c for m, c in members.items() if m in cells and all(name in cells for name in c)}


def _step(number: PublishedNumber) -> float:
    return float(10 ** -len(number.value.partition(".")[2]))


def test_there_are_28_notes_and_each_touches_what_it_names(published: Published) -> None:
    assert [note.id for note in published.notes] == [f"S{i}" for i in range(1, 29)]
    for note in published.notes:
        assert note.rows or note.tables, note.id
        for selector in note.rows:
            assert any(matches(n, selector) for n in published.numbers), (note.id, selector)
        for table in note.tables:
            assert published.of_table(*table.split("/", 1)), (note.id, table)


def test_a_misprint_is_noted_and_not_ranked(published: Published) -> None:
    selector = {"method": "SPADE", "category": "transistor", "metric": "aupro"}
    (number,) = published.find("pyramidflow", "Table 3", selector)
    assert number.value == "97.4"
    assert "S1" in published.notes_of(number)
    assert not published.is_ranked(number)


def test_the_means_of_the_papers_are_over_their_own_sets() -> None:
    assert {name: len(members) for name, members in MEANS.items()} == {
        "mean": 15,
        "mean_texture": 5,
        "mean_object": 10,
        "mean_registered12": 12,
        "mean_unregistered4": 4,
    }
    assert not {"grid", "metal_nut", "screw"} & set(MEANS["mean_registered12"])


def test_a_value_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    names = "paper,table,source_kind,method,variant,encoder,dataset,category,metric,value,std,unit,"
    header = f"{names}input_size,notes\n"
    line = "p,T,paper,m,,,d,c,aupro,9x,,%,,\n"
    (tmp_path / "published.csv").write_text(header + line, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"published\.csv:2: value '9x'"):
        load_published(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_text("paper,table\np,T\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="column 'source_kind' is missing"):
        load_published(tmp_path)
