"""Solar cells: labels from the table, a fixed draw, and the package where there is no folder."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bench.api import ConfigError, DataError
from bench.plugins.datasets.elpv import ELPV

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, draw_image: Any) -> Path:
    """Forty cells: of each type ten normal ones, then the other probabilities."""
    lines = []
    for number in range(40):
        type_ = ("mono", "poly")[number % 2]
        probability = (
            "0.0"
            if number < 20
            else ("0.3333333333333333", "0.6666666666666666", "1.0")[number // 2 % 3]
        )
        lines.append(f"images/cell{number:04d}.png  {probability}   {type_}\n")
        draw_image(tmp_path / "elpv" / "images" / f"cell{number:04d}.png")
    (tmp_path / "elpv" / "labels.csv").write_text("".join(lines), encoding="utf-8")
    return tmp_path / "elpv"


def test_normal_cells_are_on_one_side_and_certain_defects_in_the_test_half(root: Path) -> None:
    found = ELPV(root)
    assert found.categories() == ["mono", "poly"]
    train, test = found.samples("mono", "train"), found.samples("mono", "test")
    assert {s.defect for s in train} == {"good"}
    assert len(train) == 6
    assert not {s.image for s in train} & {s.image for s in test}
    assert {(s.label, s.defect) for s in test} == {(0, "good"), (1, "defective")}
    assert all(s.mask is None for s in [*train, *test])


def test_uncertain_cells_come_in_on_their_side_of_a_half(root: Path) -> None:
    out, into = (ELPV(root, uncertain=u).samples("poly", "test") for u in ("out", "in"))
    assert {s.image for s in out} < {s.image for s in into}
    new = [s for s in into if s not in out]
    assert {(s.label, s.defect) for s in new} == {(0, "doubtful"), (1, "likely")}
    assert ELPV(root).samples("poly", "train") == ELPV(root, uncertain="in").samples(
        "poly", "train"
    )


def test_the_draw_depends_on_names_alone(root: Path) -> None:
    before = [s.image.name for s in ELPV(root).samples("mono", "train")]
    table = root / "labels.csv"
    table.write_text("".join(sorted(table.read_text().splitlines(keepends=True), reverse=True)))
    assert [s.image.name for s in ELPV(root).samples("mono", "train")] == before


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("images/cell0000.png 1.0\n", "is not `image probability type`"),
        ("images/cell0000.png one mono\n", "is not `image probability type`"),
        ("images/cell0000.png 0.9 mono extra words\n", "is not `image probability type`"),
        ("images/cell0000.png 7.0 mono\n", "unknown probability or type"),
        ("images/cell0000.png 1.0 thin\n", "unknown probability or type"),
    ],
)
def test_a_line_that_is_none_is_named(root: Path, line: str, text: str) -> None:
    (root / "labels.csv").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=rf"labels\.csv:1: .*{text}"):
        ELPV(root).samples("mono", "train")


def test_missing_images_other_folders_and_wrong_names_are_refused(
    root: Path, tmp_path: Path
) -> None:
    (root / "images" / "cell0002.png").unlink()
    with pytest.raises(DataError, match=r"cell0002\.png: no such file \(1 of 20 images of mono"):
        ELPV(root).samples("mono", "test")
    with pytest.raises(DataError, match=r"holds no labels\.csv; not the folder of elpv"):
        ELPV(root / "images").categories()
    with pytest.raises(DataError, match="no category 'thin'"):
        ELPV(root).samples("thin", "test")
    with pytest.raises(ConfigError, match="choose out or in"):
        ELPV(root, uncertain="maybe")


def test_without_folder_and_package_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match=r"pip install 'flawbench\[elpv\]' \(91 MB, licence: CC"):
        ELPV(tmp_path / "absent").categories()


def test_an_installed_package_serves_and_is_not_imported(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "elpv_dataset"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    root.rename(package / "data")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    samples = ELPV(tmp_path / "absent").samples("mono", "train")
    assert samples[0].image.parent == package / "data" / "images"
    assert "elpv_dataset" not in sys.modules


@pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is None, reason="pip install 'flawbench[elpv]'"
)
@pytest.mark.parametrize("uncertain", ["out", "in"])
def test_the_real_package_has_the_counts_that_the_adapter_expects(
    tmp_path: Path, uncertain: str
) -> None:
    found = ELPV(tmp_path / "absent", uncertain=uncertain)
    for category, expected in found.expected().items():
        train, test = found.samples(category, "train"), found.samples(category, "test")
        anomalous = sum(s.label for s in test)
        counts = {"train": len(train), "good": len(test) - anomalous, "anomalous": anomalous}
        assert counts == expected
