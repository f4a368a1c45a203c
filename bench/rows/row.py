"""One line of a results file: what a cell measured, and what makes it comparable."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import bench
from bench.errors import nearest
from bench.plan.identity import NAMES, digest, plain
from bench.rows import row_values as holds
from bench.rows.column import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.plan.cells import Cell
    from bench.rows.column import Part
    from bench.rows.row_values import Values

SCHEMA = 2
"""2: identities leave out the defaults; see `bench.rows.schema`."""

OWN = "[own]@"
"""In `weights`, behind the name of a frozen network that the method built itself."""
UNRECORDED = "unrecorded@"
"""In `weights`, where a method holds frozen parameters that came from nowhere."""

DEGENERATE = "degenerate"
"""In `suspect`: all pixel scores of the test set are equal."""
NOT_FINITE = "loss not finite"
"""In `suspect`: an epoch gave a figure that is not finite."""


def _of(part: Part) -> Callable[..., Any]:
    """Makes fields of one part: `(values, since=..., label=..., default=...)`."""

    def column(values: Values, *, default: Any = MISSING, **described: Any) -> Any:
        metadata = {"column": Column(part=part, values=values, **described)}
        if isinstance(default, (dict, list)):
            return field(metadata=metadata, default_factory=type(default))
        return field(metadata=metadata, default=default)

    return column


_identity, _setting, _finding = _of("identity"), _of("setting"), _of("finding")
_condition, _provenance = _of("condition"), _of("provenance")


def _score(label: str, **described: Any) -> Any:
    """A fraction."""
    described = {"label": label, "unit": "%", "better": "higher", **described}
    return _of("score")(holds.FRACTION, default=None, **described)


def _main(label: str, **described: Any) -> Any:
    """A score of every table."""
    return _score(label, is_main=True, has_epoch=True, **described)


def _count(**changed: Any) -> Any:
    return _of("count")(holds.COUNT, **{"default": None, **changed})


def _cost(unit: str, label: str = "", values: Values = holds.AMOUNT, **described: Any) -> Any:
    """A time, a size or a rate."""
    described = {"unit": unit, "label": label, "better": "lower", **described}
    return _of("cost")(values, default=None, **described)


def _steps(unit: str, label: str = "", **described: Any) -> Any:
    """Of the timed steps of inference."""
    return _cost(unit, label, machine="steps", **described)


def _rate(label: str = "", **described: Any) -> Any:
    """Images in a second of those steps."""
    return _steps("fps", label, better="higher", **described)


def _fit(unit: str, label: str = "", **described: Any) -> Any:
    """Of training, in time."""
    return _cost(unit, label, is_of_training=True, **described)


def _peak(label: str = "", values: Values = holds.AMOUNT, **described: Any) -> Any:
    """Memory that was held at most."""
    return _cost("MB", label, values, machine="memory", is_of_training=True, **described)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a cell measured, a column of the file for each field.

    Fractions are stored as such; a missing value is None, an empty cell. Sizes are in MB of 10^6
    bytes, times in the unit of the name. Values of columns that hold JSON are not to be changed:
    rows share them.
    """

    schema: int = _identity(holds.COUNT, default=SCHEMA)
    cell: str = _identity(holds.TEXT)
    method: str = _identity(holds.TEXT)
    method_version: int = _identity(holds.COUNT, label="method version", origin="code")
    dataset: str = _identity(holds.TEXT)
    dataset_version: int = _identity(holds.COUNT, label="adapter version", origin="data")
    category: str = _identity(holds.TEXT)
    seed: int = _identity(holds.COUNT)
    protocol: str = _setting(holds.TEXT)
    protocol_fields: Mapping[str, Any] = _setting(holds.PROTOCOL, origin="protocol", default={})
    pretrained: str = _setting(holds.PRETRAINED, origin="weights")
    params: Mapping[str, Any] = _setting(holds.OBJECT, default={})
    dataset_params: Mapping[str, Any] = _setting(holds.OBJECT, default={})
    # Empty: from before it was recorded (on a GPU then a mixture), or made elsewhere.
    precision: str = _setting(holds.PRECISION, since=2, default="")

    image_auroc: float | None = _main("image AUROC", level="image")
    image_ap: float | None = _score("image AP", level="image")
    image_f1max: float | None = _score("image F1-max", level="image", is_maximum=True)
    pixel_auroc: float | None = _main("pixel AUROC", level="pixel")
    pixel_ap: float | None = _score("pixel AP", level="pixel")
    pixel_f1max: float | None = _score("pixel F1-max", level="pixel", is_maximum=True)
    # Of pixel F1-max, in units of the maps.
    pixel_f1max_threshold: float | None = _finding(holds.THRESHOLD, is_gated=True, default=None)
    aupro_05: float | None = _score("AUPRO 0.05", level="pixel")
    aupro_30: float | None = _main("AUPRO 0.3", level="pixel")
    aupro_100: float | None = _score("AUPRO 1.0", level="pixel", has_epoch=True)
    region_aupro_30_median: float | None = _score("region AUPRO 0.3 median", level="pixel")
    region_aupro_30_worst: float | None = _score("region AUPRO 0.3 worst", level="pixel")
    aupimo: float | None = _score("AUPIMO", level="pixel")
    # By the definitions of papers: aupro_pyramidflow, ...
    published: Mapping[str, float | None] = _finding(holds.SCORES, default={})
    undefined: Mapping[str, str] = _finding(holds.REASONS, default={})  # metric -> reason
    epoch: int | None = _count()
    epochs: int | None = _count()
    last_epoch: Mapping[str, float | None] = _finding(holds.OBJECT, default={})  # of oracles alone
    transductive: bool = _finding(holds.FLAG, default=False)
    maps: str = _finding(holds.MAPS, default="")  # "none", or "constant" within every image
    evaluator: str = _finding(holds.EVALUATOR, since=2, default="")
    evaluator_version: int | None = _finding(holds.COUNT, since=2, default=None)
    # metric -> largest |exact - value|
    bounds: Mapping[str, float] = _finding(holds.SCORES, since=2, default={})
    suspect: Sequence[str] = _finding(holds.TEXTS, since=2, default=[])  # DEGENERATE, NOT_FINITE
    n_train: int | None = _count()
    n_held_out: int = _count(default=0)  # of n_train, for validation
    n_test: int | None = _count()
    n_anomalous: int | None = _count()
    n_unmasked: int | None = _count()
    n_leaked: int | None = _count()  # test images that are training images too
    regions: int | None = _count()
    regions_lost: int | None = _count()

    # The speed protocol of docs/speed.md.
    speed: str = _condition(holds.TEXT, origin="protocol", default="")
    fps: float | None = _rate("FPS at its batch", heading="FPS", is_at_batch=True, is_main=True)
    fps_batch: int | None = _condition(holds.COUNT, default=None)
    fps_mean: float | None = _rate(is_at_batch=True)  # images / total time
    fps_b1: float | None = _rate("FPS at batch 1", heading="FPS b1")
    fps_b8: float | None = _rate("FPS at batch 8", heading="FPS b8")
    latency_p50_ms: float | None = _steps("ms", "p50 ms", is_main=True)  # batch 1
    latency_p90_ms: float | None = _steps("ms")
    latency_p95_ms: float | None = _steps("ms", "p95 ms")
    latency_p99_ms: float | None = _steps("ms")
    latency_iqr: float | None = _cost("", machine="speed")  # relative
    noisy: bool | None = _condition(holds.FLAG, default=None)
    steps: int | None = _condition(holds.COUNT, default=None)
    cpu_ms: float | None = _cost("ms", machine="speed")  # process time, batch 1
    preprocess_ms: float | None = _steps("ms")
    encoder_ms: float | None = _steps("ms")
    decoder_ms: float | None = _steps("ms")  # encoder + decoder
    encoder_batch_ms: float | None = _steps("ms", is_at_batch=True, since=2)  # an image
    decoder_batch_ms: float | None = _steps("ms", is_at_batch=True, since=2)
    memory: str = _condition(holds.TEXT, default="")  # how peaks were measured
    infer_mb: float | None = _peak(
        "inference MB", holds.NUMBER, heading="infer MB", is_main=True
    )  # batch 1
    infer_batch_mb: float | None = _peak("", holds.NUMBER, is_at_batch=True)
    infer_reserved_mb: float | None = _peak()
    # CACHED: training was not measured, and the costs in OF_TRAINING are empty.
    features: str = _condition(holds.FEATURES, since=2, default="")
    fit_mb: float | None = _peak("training MB", holds.NUMBER, heading="fit MB", is_main=True)
    fit_reserved_mb: float | None = _peak()
    fit_left_mb: float | None = _peak("", holds.NUMBER)  # held after fit
    fit_s: float | None = _fit("s", "training s", heading="fit s", machine="fit", is_main=True)
    fit_cpu_s: float | None = _fit("s", machine="speed")
    fit_images_per_s: float | None = _fit("1/s", machine="fit", better="higher")
    params_m: float | None = _cost("M", "parameters M", heading="params M", is_gated=True)
    params_trainable_m: float | None = _cost("M", is_gated=True)
    gflops: float | None = _cost("GFLOP", "GFLOPs", is_gated=True)
    flops_uncounted: Sequence[str] = _condition(holds.OPERATORS, default=[])
    state_mb: float | None = _cost("MB", "state MB")
    state_backbone_mb: float | None = _cost("MB", "encoder MB")
    state_fitted_mb: float | None = _cost("MB")
    unit_ms: float | None = _steps("ms")  # ResNet18 forward

    kind: str = _provenance(holds.KIND, default=holds.MEASURED)
    trained_with: str = _provenance(holds.TEXT, since=2, default="")  # cell that has its training
    weights: str = _provenance(holds.TEXT, origin="weights", default="none")
    auxiliary: str = _provenance(holds.TEXT, default="")  # textures=dtd@<12 hex>, or =none
    weights_source: str = _provenance(holds.TEXT, default="")
    weights_statistics: str = _provenance(holds.TEXT, default="")  # of the images in training
    data: str = _provenance(holds.TEXT, label="files", origin="data")
    code: str = _provenance(holds.TEXT, label="files of the method", origin="code")
    commit: str = _provenance(holds.TEXT, default="")
    bench: str = _provenance(holds.TEXT, origin="code", default="")
    env: str = _provenance(holds.TEXT, default="")
    device: str = _provenance(holds.TEXT, origin="environment", default="")
    threads: int | None = _provenance(holds.COUNT, origin="environment", default=None)
    command: str = _provenance(holds.TEXT, default="")
    started: str = _provenance(holds.TIME, default="")
    formerly: str = _provenance(holds.TEXT, since=2, default="")  # older ids of the cell

    extra: Mapping[str, str] = field(default_factory=dict)
    """Columns that this version does not know; they survive a rewrite."""

    @classmethod
    def of(cls, cell: Cell, environment: Mapping[str, str], **columns: Any) -> Row:
        """What was found about a cell; its names and settings are the cell's.

        Args:
            environment: in which it was found; the row names it by its digest.
            columns: all others; also one of the cell's, to say something else.
        """
        settings = {
            "protocol_fields": cell.protocol.identity(),
            "params": cell.params,
            "dataset_params": cell.dataset_params,
        }
        identity = {
            "cell": cell.id,
            **{name: getattr(cell, name) for name in NAMES},
            "protocol": cell.protocol.name,
            **{name: plain(values) for name, values in settings.items()},
            "precision": cell.precision,
        }
        provenance = {"bench": bench.__version__, "env": digest(environment)}
        return cls(**{**identity, **provenance, **columns})

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The columns that hold JSON as they stand in a file: equal where their values are."""
        return {name: COLUMNS[name].values.write(getattr(self, name)) for name in JSON}

    def key(self, name: str) -> Any:
        """The value of a column, JSON as its text: to be compared, sorted and shown."""
        return self.texts[name] if name in JSON else getattr(self, name)


COLUMNS: Mapping[str, Column] = {
    f.name: f.metadata["column"] for f in fields(Row) if "column" in f.metadata
}
"""Every column, in the order of the file."""

JSON = tuple(name for name, column in COLUMNS.items() if column.values in holds.JSON)


def columns(*parts: Part) -> tuple[str, ...]:
    """Names of the columns of some parts, or of all, in the order of the file."""
    return tuple(n for n, column in COLUMNS.items() if column.part in parts or not parts)


MAIN_SCORES, MAIN_COSTS = (
    tuple(name for name in columns(part) if COLUMNS[name].is_main) for part in ("score", "cost")
)
"""What a short table shows."""

OF_TRAINING = tuple(name for name in columns("cost") if COLUMNS[name].is_of_training)
"""Costs of training, and memory of inference, in which what training left behind is counted."""

TIMES_OF_TRAINING = tuple(name for name in OF_TRAINING if COLUMNS[name].machine != "memory")
"""Of these, times and rates."""

UNSTORED = ("image_f1max_threshold", "region_aupro_30_mean")
"""Of an evaluation, without a column: the first follows from the image scores beside the rows, the
second is `aupro_30`."""


def stored(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Of what an evaluation found, what a row stores.

    Raises:
        ValueError: a name that is no score's, so that no number is lost by its spelling.
    """
    kept = {name: value for name, value in values.items() if name not in UNSTORED}
    known = (*columns("score"), "pixel_f1max_threshold")
    if odd := [name for name in kept if name not in known]:
        raise ValueError(f"{odd[0]!r} is no score of a row; {nearest(odd[0], known)}")
    return kept


def map_kind(maps: Iterable[Any] | None) -> str:
    """What column `maps` says of a test set's (H, W) maps, arrays or tensors; None: there are none.

    "constant": each has one value, and so says no more than the image score.
    """
    if maps is None:
        return "none"
    return "constant" if all(bool((one == one[0, 0]).all()) for one in maps) else ""


def newest(a: Row, b: Row) -> Row:
    """Of two rows of one cell, the one that started later."""
    return b if b.started > a.started else a


def succeed(row: Row, older: Row) -> Row:
    """The row, known by the former ids of the one that it replaces too."""
    ids = dict.fromkeys([*row.formerly.split(), *older.formerly.split()])
    return replace(row, formerly=" ".join(ids))
