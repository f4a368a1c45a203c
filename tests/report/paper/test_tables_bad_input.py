"""A table's file with something unknown: the message has file, line and the nearest name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.errors import ConfigError
from bench.report.paper.table_files import load_table, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report.paper.published import Published
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


def read(text: str, folder: Path, settings: Settings, published: Published) -> None:
    file = folder / "table4.toml"
    file.write_text(text, encoding="utf-8")
    read_table(file, settings, published)


def test_the_table_as_it_stands_is_fine(
    tmp_path: Path, settings: Settings, published: Published
) -> None:
    read(TABLE, tmp_path, settings, published)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('"pyramidflow"\ntable', '"pyramidflov"\ntable', 2, "unknown paper 'pyramidflov'; did you"),
        ('"Table 4"\nsource', '"Table 9"\nsource', 3, "unknown table of the paper 'Table 9'"),
        ('dataset = "btad"', 'dataset = "btda"', 5, "data set 'btda'; did you mean 'btad'"),
        ('protocol = "pyramidflow"', 'protocol = "pyramid"', 6, "did you mean 'pyramidflow'"),
        ('  "02",', '  "O2",', 10, "unknown category 'O2'; did you mean '02'"),
        ('means = ["mean"]', 'means = ["maen"]', 12, "'maen'; did you mean 'mean'"),
        ('published = "pixel_auroc"', 'published = "pixel_aurok"', 20, "mean 'pixel_auroc'"),
        ('measured = "pixel_auroc"', 'measured = "pixel_auc"', 21, "unknown metric 'pixel_auc'"),
        ('method = "padim"\n', 'method = "pad1m"\n', 31, "unknown method 'pad1m'; did you mean"),
        ("dimensions = 550", "dimension = 550", 32, "unknown field of padim 'dimension'; did you"),
        (
            "dimensions = 550",
            'dimensions = "550"',
            32,
            "padim.dimensions = '550' is not a whole number",
        ),
        ('"oracle"', '"orakel"', 33, "unknown mark 'orakel'; did you mean 'oracle'"),
        ('"01" = {', '"04" = {', 36, "unknown category '04'"),
        ('{ method = "VT-ADL" }', '{ method = "VTADL" }', 26, "fits no number of the table"),
        ('{ method = "VT-ADL" }', '{ metod = "VT-ADL" }', 26, "column 'metod'; did you mean"),
        ('{ method = "VT-ADL" }', '{ encoder = "" }', 26, "fits 5 numbers"),
        ("means =", "meens =", 12, "unknown key 'meens'; did you mean 'means'"),
        ('label = "VT-ADL"', 'label = "PaDiM"', 29, "a `label` of its own"),
        ('means = ["mean"]', 'means = "mean"', 12, "means = 'mean' is not a list of texts"),
        ('source = "Lei et al., Table 4"\n', "", 1, "key 'source' is missing"),
        ("params = { dimensions = 550 }", "params = 3", 32, "params = 3 is not a table"),
        ('"01" = {', '"01" = 3 #', 36, "category_params.01 = 3 is not a table"),
        ('means = ["mean"]', "means = [1]", 12, "means = [1] is not a list of texts"),
        ('means = ["mean"]', 'means = ["mean_object"]', 12, "mean on btad 'mean_object'; did"),
        ('means = ["mean"]', 'means = ["mean", "mean"]', 12, "means has 'mean' twice"),
        ('  "02",', '  "01",', 9, "categories has '01' twice"),
        ('  "02",', '  "",', 8, "categories has an empty name"),
        ('means = ["mean"]', "seeds = []", 12, "seeds = []; name at least one"),
        ('means = ["mean"]', "seeds = [0, true]", 12, "is not a list of whole numbers"),
        ('means = ["mean"]', 'layout = "rows"', 12, "not one of categories, metrics"),
        ('label = "pixel AUROC"', 'label = "p"\ndecimals = 400', 23, "0 to 6 are possible"),
        ('label = "pixel AUROC"', 'label = "p"\ndecimals = -1', 23, "0 to 6 are possible"),
        ('label = "pixel AUROC"', 'label = "image AUROC"', 22, "a metric needs a `label` of"),
        ('method = "padim"\n', 'method = "padim"\npreset = "padim"\n', 32, "mean 'padim-paper'"),
        ('method = "padim"\n', 'method = "padim"\npreset = "cflow-paper"\n', 32, "for padim"),
        ('means = ["mean"]', 'change_from = "PaDim"', 12, "did you mean 'PaDiM'"),
        ('marks = ["oracle"]', 'definition = { ap = "x" }', 33, "metric of this table 'ap'"),
        ('marks = ["oracle"]', 'printed = { ap = "x" }', 33, "metric of this table 'ap'"),
        ('marks = ["oracle"]', "printed = { image_auroc = 1 }", 33, "image_auroc is no text"),
        ('marks = ["oracle"]', "seeds = [0, 0]", 33, "seeds has one twice"),
        ('marks = ["oracle"]', "seeds = [true]", 33, "is not a list of whole numbers"),
        ("dimensions = 550", 'covariance = "sparse"', 32, "not one of auto, full, lowrank"),
    ],
)
def test_something_unknown_is_named_with_its_line(
    old: str,
    new: str,
    line: int,
    message: str,
    tmp_path: Path,
    settings: Settings,
    published: Published,
) -> None:
    assert TABLE.count(old) >= 1
    with pytest.raises(ConfigError) as caught:
        read(TABLE.replace(old, new, 1), tmp_path, settings, published)
    assert message in str(caught.value)
    assert f"table4.toml:{line}: " in str(caught.value)


@pytest.mark.parametrize("section", ["metric", "row"])
def test_a_table_without_metrics_or_rows_is_refused(
    section: str, tmp_path: Path, settings: Settings, published: Published
) -> None:
    parts = TABLE.split("[[")
    text = "[[".join(part for part in parts if not part.startswith(section))
    with pytest.raises(ConfigError, match=rf"table4\.toml:1: the table has no \[\[{section}\]\]"):
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


@pytest.mark.parametrize(("section", "line"), [("metric", 10), ("row", 14)])
def test_single_brackets_are_refused_with_the_line_of_the_header(
    section: str, line: int, tmp_path: Path, settings: Settings, published: Published
) -> None:
    text = OWN.replace("DATASET", "mtd").replace("CATEGORY", "tile")
    with pytest.raises(ConfigError) as caught:
        read(text.replace(f"[[{section}]]", f"[{section}]"), tmp_path, settings, published)
    message = f"{section} is not a list of tables; write [[{section}]] above each"
    assert f"table4.toml:{line}: {message}" in str(caught.value)


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
    published: Published,
) -> None:
    (tmp_path / "folder" / "bottle" / "train" / "good").mkdir(parents=True)
    settings = replace(settings, paths=replace(settings.paths, data=tmp_path))
    text = OWN.replace("DATASET", dataset)
    read(text.replace("CATEGORY", right), tmp_path, settings, published)
    with pytest.raises(ConfigError) as caught:
        read(text.replace("CATEGORY", wrong), tmp_path, settings, published)
    assert f"table4.toml:8: unknown category {wrong!r}; did you mean {right!r}" in str(caught.value)
    with pytest.raises(ConfigError, match="unknown category 'mean'"):
        read(text.replace("CATEGORY", "mean"), tmp_path, settings, published)


def test_choices_are_listed_once(tmp_path: Path, settings: Settings, published: Published) -> None:
    with pytest.raises(ConfigError) as caught:
        read(TABLE.replace('"btad"', '"btda"', 1), tmp_path, settings, published)
    assert str(caught.value).count(" btad") == 1


def test_text_that_is_no_toml_is_refused_with_its_line(
    tmp_path: Path, settings: Settings, published: Published
) -> None:
    with pytest.raises(ConfigError, match=r"table4\.toml.*line 2"):
        read("title = 1\ntable = = 2\n", tmp_path, settings, published)


def test_an_unknown_table_names_the_nearest(settings: Settings, published: Published) -> None:
    with pytest.raises(ConfigError, match="did you mean 'pyramidflow/table4'"):
        load_table("pyramidflow/tabel4", settings, published)
