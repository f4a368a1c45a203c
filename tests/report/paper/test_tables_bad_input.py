"""A table's file with something unknown: the message has file, row and the nearest name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.paper.table_files import load_table, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report.paper.published import PublishedNumbers
    from bench.settings.config import Settings

TABLE = """\
title = "Comparison on BTAD"
paper = "pyramidflow"
table = "Table 4"
source = "Lei et al., Table 4"
dataset = "btad"
protocol = "pyramidflow"
published_protocol = "1024 pixels"
categories = [
  "01",
  "02",
]
means = ["mean"]

[[metric]]
published = "image_auroc"
measured = "image_auroc"
label = "image AUROC"

[[metric]]
published = "pixel_auroc"
measured = "pixel_auroc"
label = "pixel AUROC"

[[row]]
label = "VT-ADL"
published = { method = "VT-ADL" }

[[row]]
label = "PaDiM"
published = { method = "PaDiM" }
method = "padim"
params = { dimensions = 550 }
marks = ["oracle"]

[row.category_params]
"01" = { dimensions = 100 }
"""


TOP, METRIC = "", "metric 'pixel AUROC': "
FIRST, SECOND = "row 'VT-ADL': ", "row 'PaDiM': "


def read(text: str, folder: Path, settings: Settings, published: PublishedNumbers) -> None:
    file = folder / "table4.toml"
    file.write_text(text, encoding="utf-8")
    read_table(file, settings, published)


def test_the_table_as_it_stands_is_fine(
    tmp_path: Path, settings: Settings, published: PublishedNumbers
) -> None:
    read(TABLE, tmp_path, settings, published)


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        (
            '"pyramidflow"\ntable',
            '"pyramidflov"\ntable',
            TOP,
            "unknown paper 'pyramidflov'; did you",
        ),
        ('"Table 4"\nsource', '"Table 9"\nsource', TOP, "unknown table of the paper 'Table 9'"),
        ('dataset = "btad"', 'dataset = "btda"', TOP, "data set 'btda'; did you mean 'btad'"),
        ('protocol = "pyramidflow"', 'protocol = "pyramid"', TOP, "did you mean 'pyramidflow'"),
        ('  "02",', '  "O2",', TOP, "unknown category 'O2'; did you mean '02'"),
        ('means = ["mean"]', 'means = ["maen"]', TOP, "'maen'; did you mean 'mean'"),
        ('published = "pixel_auroc"', 'published = "pixel_aurok"', METRIC, "mean 'pixel_auroc'"),
        (
            'measured = "pixel_auroc"',
            'measured = "pixel_auc"',
            METRIC,
            "unknown metric 'pixel_auc'",
        ),
        (
            'method = "padim"\n',
            'method = "pad1m"\n',
            SECOND,
            "unknown method 'pad1m'; did you mean",
        ),
        (
            "dimensions = 550",
            "dimension = 550",
            SECOND,
            "unknown field of padim 'dimension'; did you",
        ),
        (
            "dimensions = 550",
            'dimensions = "550"',
            SECOND,
            "padim.dimensions = '550' is not a whole number",
        ),
        ('"oracle"', '"orakel"', SECOND, "unknown mark 'orakel'; did you mean 'oracle'"),
        ('"01" = {', '"04" = {', SECOND, "unknown category '04'"),
        ('{ method = "VT-ADL" }', '{ method = "VTADL" }', FIRST, "fits no number of the table"),
        ('{ method = "VT-ADL" }', '{ metod = "VT-ADL" }', FIRST, "column 'metod'; did you mean"),
        ('{ method = "VT-ADL" }', '{ encoder = "" }', FIRST, "fits 5 numbers"),
        ("means =", "meens =", TOP, "unknown key meens; did you mean 'means'"),
        ('label = "VT-ADL"', 'label = "PaDiM"', SECOND, "a `label` of its own"),
        ('means = ["mean"]', 'means = "mean"', TOP, "means = 'mean' is not a list of texts"),
        ('source = "Lei et al., Table 4"\n', "", TOP, "key 'source' is missing"),
        ("params = { dimensions = 550 }", "params = 3", SECOND, "params = 3 is not a table"),
        ('"01" = {', '"01" = 3 #', SECOND, "category_params.01 = 3 is not a table"),
        ('means = ["mean"]', "means = [1]", TOP, "means = [1] is not a list of texts"),
        ('means = ["mean"]', 'means = ["mean_object"]', TOP, "mean on btad 'mean_object'; did"),
        ('means = ["mean"]', 'means = ["mean", "mean"]', TOP, "means has 'mean' twice"),
        ('  "02",', '  "01",', TOP, "categories has '01' twice"),
        ('  "02",', '  "",', TOP, "categories has an empty name"),
        ('means = ["mean"]', "seeds = []", TOP, "seeds = []; name at least one"),
        ('means = ["mean"]', "seeds = [0, true]", TOP, "is not a list of whole numbers"),
        ('means = ["mean"]', 'layout = "rows"', TOP, "known: categories, metrics"),
        (
            'label = "pixel AUROC"',
            'label = "p"\ndecimals = 400',
            "metric 'p': ",
            "0 to 6 are possible",
        ),
        (
            'label = "pixel AUROC"',
            'label = "p"\ndecimals = -1',
            "metric 'p': ",
            "0 to 6 are possible",
        ),
        (
            'label = "pixel AUROC"',
            'label = "image AUROC"',
            "metric 'image AUROC': ",
            "needs a `label` of",
        ),
        (
            'method = "padim"\n',
            'method = "padim"\npreset = "padim"\n',
            SECOND,
            "mean 'padim-paper'",
        ),
        ('method = "padim"\n', 'method = "padim"\npreset = "cflow-paper"\n', SECOND, "for padim"),
        ('means = ["mean"]', 'change_from = "PaDim"', TOP, "did you mean 'PaDiM'"),
        ('marks = ["oracle"]', 'definition = { ap = "x" }', SECOND, "metric of this table 'ap'"),
        ('marks = ["oracle"]', 'printed = { ap = "x" }', SECOND, "metric of this table 'ap'"),
        ('marks = ["oracle"]', "printed = { image_auroc = 1 }", SECOND, "image_auroc is no text"),
        ('marks = ["oracle"]', "seeds = [0, 0]", SECOND, "seeds has one twice"),
        ('marks = ["oracle"]', "seeds = [true]", SECOND, "is not a list of whole numbers"),
        ("dimensions = 550", 'covariance = "sparse"', SECOND, "known: auto, full, lowrank"),
    ],
)
def test_something_unknown_is_named_with_its_row_or_metric(
    old: str,
    new: str,
    place: str,
    message: str,
    tmp_path: Path,
    settings: Settings,
    published: PublishedNumbers,
) -> None:
    assert TABLE.count(old) >= 1
    with pytest.raises(ConfigError) as caught:
        read(TABLE.replace(old, new, 1), tmp_path, settings, published)
    assert message in str(caught.value)
    assert f"table4.toml: {place}" in str(caught.value)


@pytest.mark.parametrize("section", ["metric", "row"])
def test_a_table_without_metrics_or_rows_is_refused(
    section: str, tmp_path: Path, settings: Settings, published: PublishedNumbers
) -> None:
    parts = TABLE.split("[[")
    text = "[[".join(part for part in parts if not part.startswith(section))
    with pytest.raises(ConfigError, match=rf"table4\.toml: the table has no \[\[{section}\]\]"):
        read(text, tmp_path, settings, published)


OWN = """\
title = "Own"
paper = "pyramidflow"
table = "none"
source = "own"
dataset = "DATASET"
protocol = "standard"
published_protocol = "none"
categories = ["CATEGORY"]

[[metric]]
measured = "pixel_auroc"
label = "pixel AUROC"

[[row]]
label = "PaDiM"
method = "padim"
"""


@pytest.mark.parametrize("section", ["metric", "row"])
def test_single_brackets_are_refused(
    section: str, tmp_path: Path, settings: Settings, published: PublishedNumbers
) -> None:
    text = OWN.replace("DATASET", "mtd").replace("CATEGORY", "tile")
    with pytest.raises(ConfigError) as caught:
        read(text.replace(f"[[{section}]]", f"[{section}]"), tmp_path, settings, published)
    message = f"{section} is not a list of tables; write [[{section}]] above each"
    assert f"table4.toml: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "wrong", "right"),
    [
        ("mtd", "tiles", "tile"),
        ("visa", "candel", "candle"),
        ("synthetic", "weav", "weave"),
        ("btad", "1", "01"),
        ("folder", "bottel", "bottle"),
    ],
)
def test_categories_of_an_own_table_are_those_of_its_data_set(
    dataset: str,
    wrong: str,
    right: str,
    tmp_path: Path,
    settings: Settings,
    published: PublishedNumbers,
) -> None:
    (tmp_path / "folder" / "bottle" / "train" / "good").mkdir(parents=True)
    settings = replace(settings, paths=replace(settings.paths, data=tmp_path))
    text = OWN.replace("DATASET", dataset)
    read(text.replace("CATEGORY", right), tmp_path, settings, published)
    with pytest.raises(ConfigError) as caught:
        read(text.replace("CATEGORY", wrong), tmp_path, settings, published)
    assert f"table4.toml: unknown category {wrong!r}; did you mean {right!r}" in str(caught.value)
    with pytest.raises(ConfigError, match="unknown category 'mean'"):
        read(text.replace("CATEGORY", "mean"), tmp_path, settings, published)


def test_choices_are_listed_once(
    tmp_path: Path, settings: Settings, published: PublishedNumbers
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(TABLE.replace('"btad"', '"btda"', 1), tmp_path, settings, published)
    assert str(caught.value).count(" btad") == 1


def test_text_that_is_no_toml_is_refused_with_its_line(
    tmp_path: Path, settings: Settings, published: PublishedNumbers
) -> None:
    with pytest.raises(ConfigError, match=r"table4\.toml.*line 2"):
        read("title = 1\ntable = = 2\n", tmp_path, settings, published)


def test_an_unknown_table_names_the_nearest(
    settings: Settings, published: PublishedNumbers
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'pyramidflow/table4'"):
        load_table("pyramidflow/tabel4", settings, published)


FIGURE = """
[figure]
file = "batches"
title = "AUROC against the batch"
origin = "Table 4"
published = "printed"
x = "batch"
x_label = "batch"
metric = "image_auroc"
y_label = "image AUROC"
curves = { wide = { dimensions = 550 } }
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_auroc", "image_aurok", r"\[figure\]: unknown metric 'image_aurok'; did you mean"),
        ('x = "batch"', 'x = "bach"', r"\[figure\]: unknown field of padim 'bach'; did you mean"),
        ("dimensions", "dimension", r"unknown field of padim 'dimension'; did you mean"),
        ('origin = "Table 4"', "", r"key 'origin' is missing"),
        ("x_label", "xlabel", r"unknown key \[figure\].xlabel; did you mean 'x_label'"),
    ],
)
def test_a_figure_with_something_unknown_is_refused(
    old: str,
    new: str,
    message: str,
    tmp_path: Path,
    settings: Settings,
    published: PublishedNumbers,
) -> None:
    read(TABLE + FIGURE, tmp_path, settings, published)
    with pytest.raises(ConfigError, match=message):
        read(TABLE + FIGURE.replace(old, new), tmp_path, settings, published)
