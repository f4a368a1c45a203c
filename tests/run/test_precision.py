"""One precision for training, scores and speed: float32, unless a run says otherwise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import Images, Method, Prediction, Run
from bench.errors import ConfigError
from bench.plan.cells import Cell
from bench.profile import SPEEDS, profile
from bench.profile.mode import prediction_mode
from bench.report.choice.marks import marks
from bench.report.choice.variants import variants
from bench.rows.csv_file import as_csv
from bench.run.context import CellRun, seed_everything
from bench.settings.config import load_settings
from bench.settings.precision import PRECISIONS
from bench.settings.protocol import PROTOCOLS
from bench.weights.choice import Weights
from tests.row_maker import make_row, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from bench.settings.precision import Precision


def switches() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def switches_of_torch() -> Iterator[None]:
    """As torch sets them: convolutions in TF32, products in float32."""
    before = switches()
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@dataclass
class Recording(Method):
    """Notes the switches under which it predicts."""

    seen: set[tuple[str, bool]] = field(init=False, default_factory=set)

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        self.seen.add(switches())
        return Prediction(images.mean(1))


def cell(**changes: Any) -> Cell:
    protocol = PROTOCOLS["standard"]
    plain = Cell("padim", 1, {}, "synthetic", 1, {}, "bolt", 0, protocol, "none", "")
    return replace(plain, **changes)


def test_tf32_is_off_after_seeding_although_torch_has_it_on() -> None:
    seed_everything(0)
    assert switches() == ("highest", False)


def test_a_run_in_tf32_has_it_on_everywhere() -> None:
    seed_everything(0, "tf32")
    assert switches() == ("high", True)


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", ("highest", False)), ("tf32", ("high", True))]
)
def test_speed_is_measured_in_the_precision_of_the_cell(
    precision: Precision, expected: tuple[str, bool]
) -> None:
    method = Recording()
    brief = replace(SPEEDS["brief"], max_batch=1, max_s=0.01)
    pixels, cpu = torch.rand(1, 3, 8, 8), torch.device("cpu")
    profile(method, pixels, [], (8, 8), brief, cpu, precision=precision)
    assert method.seen == {expected}
    assert switches()[1]  # as it was before


@dataclass
class Encoding(Method):
    """Notes the features of its encoder while it predicts."""

    def prepare(self, run: Run) -> None:
        self.encoder = run.backbone("resnet10t", (1, 2))

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        yield {}

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.encoder(images)[1].mean(1))


def test_in_bfloat16_encoders_differ_slightly_in_scoring_and_not_in_training() -> None:
    images, maps = torch.randn(2, 3, 64, 64), {}
    for precision in ("float32", "bfloat16"):
        method = Encoding()
        weights = Weights("random")
        run = CellRun(
            cell(pretrained="random", precision=precision), torch.device("cpu"), (64, 64), weights
        )
        method.prepare(run)
        with prediction_mode(method):
            scored = method.predict(images).require_maps()
        trained = method.predict(images).require_maps()
        assert scored.dtype == trained.dtype == torch.float32
        maps[precision] = scored, trained
    (full, plain), (reduced, training) = maps["float32"], maps["bfloat16"]
    assert torch.equal(full, plain)
    assert torch.equal(training, full)
    assert not torch.equal(reduced, full)
    torch.testing.assert_close(reduced, full, rtol=0.05, atol=0.05 * float(full.abs().max()))


def test_precision_is_part_of_a_cell_only_where_it_is_not_the_default() -> None:
    assert cell(precision="float32").id == cell().id
    assert len({cell(precision=p).id for p in PRECISIONS}) == len(PRECISIONS)
    assert Cell.from_json(json.loads(json.dumps(cell(precision="tf32").to_json()))).id == (
        cell(precision="tf32").id
    )


def test_the_column_survives_and_older_rows_leave_it_empty(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(as_csv([make_row(precision="tf32")]))
    assert read_csv(file)[0].precision == "tf32"
    header, line = file.read_text().splitlines()
    place = header.split(",").index("precision")
    assert line.split(",")[place] == "tf32"
    lines = [",".join(v for i, v in enumerate(t.split(",")) if i != place) for t in (header, line)]
    file.write_text("\n".join(lines) + "\n")
    assert read_csv(file)[0].precision == ""


def test_rows_in_tf32_are_marked_and_stand_apart() -> None:
    rows = [make_row(cell="a", precision=""), make_row(cell="b", precision="float32")]
    found, _ = variants([*rows, make_row(cell="c", precision="tf32")])
    assert [[row.cell for row in part] for part in found.values()] == [["a", "b"], ["c"]]
    assert "≈" in marks(make_row(precision="tf32"))
    assert "≈" not in marks(rows[0]) | marks(rows[1])


def test_a_precision_that_there_is_not_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text('[run]\nprecision = "tf23"\n')
    with pytest.raises(ConfigError, match=r"\[run\]\.precision = 'tf23'; did you mean 'tf32'"):
        load_settings(tmp_path)
