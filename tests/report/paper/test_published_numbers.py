"""The published numbers as data: keys, ranges, counts, means, notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.paper.published import (
    MEANS,
    PublishedNumber,
    PublishedNumbers,
    load_published,
    matches,
)

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = {
    ("pyramidflow", "Table 1"): 48,
    ("pyramidflow", "Table 2"): 60,
    ("pyramidflow", "Table 3"): 260,
    ("pyramidflow", "Table 4"): 48,
    ("cflow", "Table 2"): 144,
    ("cflow", "Table 3"): 192,
    ("cflow", "Table 4"): 16,
    ("cflow", "Table 5 (value from the text)"): 2,
    ("cflow", "Table 6"): 27,
    ("pyramidflow", "Table 5"): 30,
    ("pyramidflow", "Table S1"): 60,
    ("pyramidflow", "Table S2"): 110,
    ("pyramidflow", "Figure 5"): 34,
    ("padim", "Table I"): 30,
    ("padim", "Table II"): 30,
    ("padim", "Table III"): 252,
    ("padim", "Table IV"): 3,
    ("padim", "Table V"): 15,
    ("padim", "Table VI"): 18,
    ("padim", "Table VII"): 4,
    ("padim", "Table VIII"): 7,
    ("spade", "Table 1"): 5,
    ("spade", "Table 2"): 94,
    ("spade", "Table 3"): 128,
    ("spade", "Table 4"): 7,
    ("spade", "Table 5"): 4,
    ("spade", "Table 6"): 64,
    ("spade", "Table 7"): 4,
    ("vt_adl", "Table III"): 160,
    ("vt_adl", "Table IV"): 8,
    ("patchcore", "Table S1 (transcribed)"): 45,
    ("patchcore", "Table S2 (transcribed)"): 45,
    ("patchcore", "Tables 1-3 (transcribed)"): 20,
    ("patchcore", "inference-time table (transcribed)"): 24,
    ("patchcore", "larger-model table (transcribed)"): 9,
    ("patchcore", "Table S6 (transcribed)"): 30,
    ("patchcore", "Table S5 (transcribed)"): 36,
    ("patchcore", "mSTC/MTD table (transcribed)"): 8,
    ("runinho_cutpaste", "README"): 48,
    ("cutpaste", "Table 1 (transcribed)"): 48,
    ("hcw_patchcore", "README"): 32,
    ("stpm", "per-class table (transcribed)"): 17,
    ("hcw_stpm", "README"): 32,
    ("byungjae_spade", "README"): 32,
    ("xiahaifeng_padim", "README"): 72,
    ("gathierry_fastflow", "README"): 128,
    ("fastflow", "efficiency table (transcribed)"): 30,
    ("fastflow", "MVTec comparison (transcribed)"): 15,
    ("fastflow", "BTAD table (transcribed)"): 4,
    ("draem", "Tables 1-2 (transcribed)"): 14,
    ("draem_repo", "README"): 3,
    ("patchcore_repo", "README"): 6,
    ("cflow_repo", "README"): 2,
    ("anomalib", "padim README"): 96,
    ("anomalib", "cflow README"): 48,
    ("anomalib", "patchcore README"): 96,
    ("anomalib", "csflow README"): 128,
    ("anomalib", "fastflow README"): 256,
    ("anomalib", "dfkde README"): 64,
    ("anomalib", "dfm README"): 64,
    ("anomalib", "stfpm README"): 96,
    ("anomalib", "cfa README"): 160,
    ("ader", "MVTec AD-100epochs"): 144,
    ("ader", "VisA-100epochs"): 135,
    ("ader", "BTAD-100epochs"): 144,
    ("ader", "MVTec AD-300epochs"): 144,
    ("ader", "VisA-300epochs"): 135,
    ("ader", "BTAD-300epochs"): 144,
    ("ader", "log pyramidflow/mvtec_100e"): 96,
    ("ader", "log pyramidflow/mvtec_300e"): 96,
    ("ader", "log pyramidflow/btad_100e"): 24,
    ("ader", "log pyramidflow/btad_300e"): 24,
    ("ader", "log cflow/mvtec_100e"): 96,
    ("ader", "log cflow/mvtec_300e"): 96,
    ("ader", "log cflow/btad_100e"): 24,
    ("ader", "log cflow/btad_300e"): 24,
    ("im_iad", "README, vanilla BTAD"): 196,
    ("baoiad", "README, MVTec summary"): 21,
    ("baoiad", "README, VisA summary"): 21,
    ("baoiad", "README, speed summary"): 12,
}

# Printed means that no rounding explains: paper, table, method, metric, mean.
WRONG = {
    ("cflow", "Table 3", "SPADE", "aupro", "mean"),
    ("cflow", "Table 3", "PaDiM", "aupro", "mean"),
    ("padim", "Table III", "SPADE", "pixel_auroc", "mean"),
    ("vt_adl", "Table III", "AnoGAN", "aupro", "mean"),
    ("xiahaifeng_padim", "README", "PaDiM", "pixel_auroc", "mean_texture"),
}


def test_no_number_stands_twice(published: PublishedNumbers) -> None:
    keys = Counter(number.key for number in published.numbers)
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_table_has_its_known_count(published: PublishedNumbers) -> None:
    assert len(published.numbers) == 5148
    assert Counter((number.paper, number.table) for number in published.numbers) == COUNTS


def test_every_source_is_described(published: PublishedNumbers) -> None:
    assert {number.paper for number in published.numbers} <= set(published.papers)
    assert {n.source_kind for n in published.numbers} == {"seed", "paper", "docs", "repo"}


def test_scores_are_percentages_and_costs_positive(published: PublishedNumbers) -> None:
    for number in published.numbers:
        if number.unit == "%":
            assert 0 <= number.number <= 100, number
        elif number.unit == "pp":
            assert -100 <= number.number <= 100, number
        else:
            assert number.number > 0 or number.metric == "additional_params_m", number
        assert not number.std or float(number.std) >= 0, number


def test_notes_select_the_numbers_that_they_are_about(published: PublishedNumbers) -> None:
    """Which cells of PyramidFlow's tables three of the notes touch."""
    own = [n for n in published.numbers if n.paper == "pyramidflow"]
    found = {id: [n for n in own if id in published.notes_of(n)] for id in ("S5", "S10", "S13")}
    objects = {"mean_object", *MEANS["mean_object"]}
    assert not [n for n in found["S10"] if n.table == "Table S2" or n.category in objects]
    assert {n.table for n in found["S10"]} == {"Table 1", "Table 2", "Table S1", "Table 3"}
    assert "Table S2" not in published.note("S10").text
    assert {n.table for n in found["S13"]} == {"Table 3", "Table 5"}
    assert {n.category for n in found["S13"]} == {"hazelnut"}
    assert {n.method for n in found["S5"] if n.table == "Table 5"} == {"AE-SSIM", "SPADE"}
    assert {n.method for n in found["S5"] if n.table == "Table 3"} == {
        *("PaDiM", "SPADE", "AE-SSIM", "AnoGAN", "CS-Flow", "DRAEM", "S-T"),
    }


@pytest.mark.parametrize(
    ("id", "facts"),
    [
        ("S1", ["wood 87.4", "transistor 87.4", "92.39", "91.6", "96.9"]),
        ("S5", ["24 of 24", "23 of 24", "22 of 24", "VT-ADL", "could not be traced", "0.3"]),
        ("S20", ["(96.7, 90.5)", "(96.7, 90.1)", "90.0", "Rd 200"]),
        ("S25", ["82.0", "90.2", "90.9", "99.7"]),
    ],
)
def test_a_note_has_the_whole_of_its_facts(
    id: str, facts: list[str], published: PublishedNumbers
) -> None:
    text = published.note(id).text
    assert [fact for fact in facts if fact not in text] == []


def test_changes_are_differences_of_printed_numbers(published: PublishedNumbers) -> None:
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
    published: PublishedNumbers,
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


def _complete(published: PublishedNumbers) -> dict[tuple[str, ...], dict[str, PublishedNumber]]:
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


def test_there_are_28_notes_and_each_touches_what_it_names(published: PublishedNumbers) -> None:
    assert [note.id for note in published.notes] == [f"S{i}" for i in range(1, 29)]
    for note in published.notes:
        assert note.rows or note.tables, note.id
        for selector in note.rows:
            assert any(matches(n, selector) for n in published.numbers), (note.id, selector)
        for table in note.tables:
            assert published.of_table(*table.split("/", 1)), (note.id, table)


def test_a_misprint_is_noted_and_not_ranked(published: PublishedNumbers) -> None:
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
