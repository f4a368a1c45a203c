from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bench.report.choice import summary
from bench.report.formats import render
from tests.row_maker import make_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from bench.rows.row import Row

row = partial(make_row, image_auroc=0.75, speed="speed-1", fps=12.5, fps_batch=8, device="CPU test")


def tables(rows: Iterable[Row], skip_scores: Collection[str] = ()) -> str:
    return render(summary.tables(rows, skip_scores), "txt")


def test_a_mean_stands_below_several_categories() -> None:
    text = tables([row(), row(category="b", image_auroc=0.25)])
    assert "mean" in text
    assert "50.0" in text


def test_one_seed_prints_no_deviation_and_several_do() -> None:
    assert "±" not in tables([row()])
    assert "50.0 ± 35.4" in tables([row(), row(seed=1, image_auroc=0.25)])


def test_the_deviation_of_a_mean_is_that_of_the_means_of_seeds() -> None:
    rows = [
        row(),
        row(category="b", image_auroc=0.25),
        row(seed=1),
        row(seed=1, category="b", image_auroc=0.25),
    ]
    mean = next(line for line in tables(rows).splitlines() if " mean " in line)
    assert "50.0 ± 0.0" in mean


def test_costs_are_medians_over_categories_and_seeds_and_the_caption_says_so() -> None:
    rows = [
        row(category=category, seed=seed, fps=fps)
        for category, numbers in {"a": (1.0, 2.0, 9.0), "b": (4.0, 8.0, 3.0)}.items()
        for seed, fps in enumerate(numbers)
    ]
    lines = tables(rows).splitlines()
    assert lines[0].endswith("; costs: median")
    assert [line.split()[-5] for line in lines if "padim" in line] == ["2.00", "4.00", "3.50"]


def test_the_caption_of_single_rows_says_nothing_of_medians() -> None:
    assert "median" not in tables([row(), row(method="cflow")])


def test_rows_of_two_protocols_are_never_in_one_table() -> None:
    text = tables([row(), row(protocol="native", protocol_fields={"mask_size": "native"})])
    assert text.count("image AUROC") == 2


def test_rows_of_two_devices_are_never_in_one_table() -> None:
    assert tables([row(), row(device="GPU test")]).count("image AUROC") == 2


@pytest.mark.parametrize("change", [{"threads": 4}, {"speed": "brief"}])
def test_costs_measured_in_two_ways_are_never_in_one_table(change: dict[str, Any]) -> None:
    first = row(threads=1, memory="resident high-water mark")
    text = tables([first, replace(first, seed=1, **change)])
    assert text.count("image AUROC") == 2
    assert "memory by resident high-water mark" in text.splitlines()[0]


def test_memory_read_in_two_ways_has_two_columns_and_splits_no_score() -> None:
    first = row(memory="anonymous", infer_mb=130.0)
    second = replace(first, seed=1, memory="resident", infer_mb=170.0, image_auroc=0.25)
    text = tables([first, second])
    assert text.count("image AUROC") == 1
    assert "50.0 ± 35.4" in text
    assert "memory (1) by anonymous, (2) by resident" in text.splitlines()[0]
    assert "infer MB (1)    infer MB (2)" in text
    assert "130             170" in text


def test_quiet_rows_decide_where_there_are_any() -> None:
    rows = [
        row(category=c, noisy=c != "a", fps=fps)
        for c, fps in zip("abc", (9.0, 5.0, 4.0), strict=True)
    ]
    lines = tables(rows).splitlines()
    fps = [line.split()[-5] for line in lines if line.split()[:1] == ["padim"]]
    assert fps == ["9.00", "5.00*", "4.00*", "9.00"]
    assert "FPS: from 1 of 3 rows of padim, the others are noisy" in lines


def test_settings_and_options_that_are_not_the_defaults_are_named() -> None:
    text = tables(
        [row(params={"dimensions": 550}, dataset="synthetic", dataset_params={"bad": 80})]
    )
    assert text.startswith("synthetic, protocol standard; data set options: bad = 80; seed 0")
    assert text.splitlines()[-1] == "padim: dimensions 550"


def test_noisy_timings_are_marked_and_explained() -> None:
    text = tables([row(noisy=True), row(method="cflow", noisy=False)])
    assert "padim* " in text
    assert "cflow " in text
    assert "\n*  step times spread by more than 10 %" in text


def test_scores_that_say_nothing_are_left_out_with_a_word() -> None:
    text = tables([row(protocol="costs", image_auroc=0.1), row()], ["costs"])
    assert text.count("image AUROC") == 1
    assert "scores of protocol costs say nothing: left out" in text
    assert text.count("p50 ms") == 2


def test_random_weights_oracle_epochs_and_transductive_scores_are_marked() -> None:
    text = tables([row(pretrained="random", epochs=3, last_epoch={"a": 1}, transductive=True)])
    assert "padim§†‡" in text.replace("†‡§", "§†‡")
    assert "random encoder weights" in text
    assert "chosen on the test set" in text
    assert "transductive" in text


def test_a_missing_value_is_named_and_spoils_the_mean() -> None:
    text = tables([row(), row(category="b", image_auroc=None)])
    mean = next(line for line in text.splitlines() if " mean " in line)
    assert "n/a" in mean


def test_a_seed_that_lacks_a_category_is_not_in_the_mean_and_is_named() -> None:
    text = tables([row(), row(category="b", image_auroc=0.25), row(seed=1, image_auroc=0.15)])
    mean = next(line for line in text.splitlines() if " mean " in line)
    assert "50.0" in mean
    assert "±" not in mean
    assert "padim: seed 1 does not count, lacks b" in text


def test_the_caption_names_protocol_seeds_device_and_batch() -> None:
    caption = tables([row()]).splitlines()[0]
    for part in ("protocol standard", "seed 0", "CPU test", "batch 8"):
        assert part in caption


def test_settings_by_category_make_one_mean_and_are_noted() -> None:
    rows = [row(params={"levels": 4}), row(category="b", image_auroc=0.25, params={"levels": 8})]
    text = tables(rows)
    assert "50.0" in text
    assert "#1" not in text
    assert "padim: settings differ by category" in text


def test_several_settings_of_one_category_are_numbered() -> None:
    text = tables([row(params={"levels": 4}), row(params={"levels": 8})])
    assert "padim #1 " in text
    assert "\npadim #2: levels=8" in text
    assert "differ by category" not in text


def test_an_undefined_score_says_why() -> None:
    reason = "no anomalous image in the test set"
    text = tables([row(image_auroc=None, undefined={"image_auroc": reason})])
    assert f"tile: image AUROC n/a: {reason}" in text


def test_two_configurations_by_category_keep_apart() -> None:
    rows = [
        row(category=category, params={"levels": levels, "sigma": sigma})
        for sigma in (1, 2)
        for category, levels in (("a", 4), ("b", 8))
    ]
    text = tables(rows).splitlines()
    lines = [line.split()[:3] for line in text if line.startswith("padim #") and ":" not in line]
    assert lines == [["padim", f"#{n}", c] for n in (1, 2) for c in ("a", "b", "mean")]


def test_a_category_called_mean_is_not_taken_for_the_mean() -> None:
    rows = [row(category="mean"), row(category="nut", image_auroc=0.25)]
    found = [line.split()[1] for line in tables(rows).splitlines() if "padim" in line]
    assert found == ["mean", "nut", "(mean)"]
