"""One line of a results file: what a cell measured, and what makes it comparable."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import bench
from bench.plan.identity import NAMES, canonical, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.plan.cells import Cell

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

RESCORED = "rescored"
"""In `evaluator`: from maps kept in 16 bits; `bounds` says how far values can be off."""
SPOOLED = "spooled"
"""In `evaluator`: the maps were more than the budget, and sorted in parts from a file."""

IDENTITY = "identity"
SCORE = "score"
COMPLEXITY = "complexity"
PROVENANCE = "provenance"


def _column(group: str, *, since: int = 1, **default: Any) -> Any:
    return field(metadata={"group": group, "since": since}, **default)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a cell measured. Fractions are stored as such; a missing value is None, an empty cell.

    Sizes are in MB of 10^6 bytes, times in the unit of the name. Columns that hold JSON say so.
    """

    # identity
    schema: int = _column(IDENTITY, default=SCHEMA)
    cell: str = _column(IDENTITY)
    method: str = _column(IDENTITY)
    method_version: int = _column(IDENTITY)
    dataset: str = _column(IDENTITY)
    dataset_version: int = _column(IDENTITY)
    category: str = _column(IDENTITY)
    seed: int = _column(IDENTITY)
    protocol: str = _column(IDENTITY)
    protocol_fields: str = _column(IDENTITY, default="{}")  # JSON
    pretrained: str = _column(IDENTITY)  # or random, none, unknown, file:SHA
    params: str = _column(IDENTITY, default="{}")  # JSON, sorted keys
    dataset_params: str = _column(IDENTITY, default="{}")  # JSON, sorted keys
    # Empty: from before it was recorded (on a GPU then a mixture), or made elsewhere.
    precision: str = _column(IDENTITY, since=2, default="")

    # scores
    image_auroc: float | None = _column(SCORE, default=None)
    image_ap: float | None = _column(SCORE, default=None)
    image_f1max: float | None = _column(SCORE, default=None)
    pixel_auroc: float | None = _column(SCORE, default=None)
    pixel_ap: float | None = _column(SCORE, default=None)
    pixel_f1max: float | None = _column(SCORE, default=None)
    pixel_f1max_threshold: float | None = _column(SCORE, default=None)  # oracle
    aupro_05: float | None = _column(SCORE, default=None)
    aupro_30: float | None = _column(SCORE, default=None)
    aupro_100: float | None = _column(SCORE, default=None)
    region_aupro_30_median: float | None = _column(SCORE, default=None)
    region_aupro_30_worst: float | None = _column(SCORE, default=None)
    aupimo: float | None = _column(SCORE, default=None)
    published: str = _column(SCORE, default="{}")  # JSON: aupro_pyramidflow, ...
    undefined: str = _column(SCORE, default="{}")  # JSON: metric -> reason
    epoch: int | None = _column(SCORE, default=None)
    epochs: int | None = _column(SCORE, default=None)
    last_epoch: str = _column(SCORE, default="{}")  # JSON, oracle protocols only
    transductive: bool = _column(SCORE, default=False)
    maps: str = _column(SCORE, default="")  # "none", or "constant" within every image
    evaluator: str = _column(SCORE, since=2, default="")  # SPOOLED, RESCORED
    evaluator_version: int | None = _column(SCORE, since=2, default=None)
    bounds: str = _column(SCORE, since=2, default="{}")  # JSON: metric -> largest |exact - value|
    suspect: str = _column(SCORE, since=2, default="[]")  # JSON: DEGENERATE, NOT_FINITE
    n_train: int | None = _column(SCORE, default=None)
    n_held_out: int = _column(SCORE, default=0)  # of n_train, for validation
    n_test: int | None = _column(SCORE, default=None)
    n_anomalous: int | None = _column(SCORE, default=None)
    n_unmasked: int | None = _column(SCORE, default=None)
    n_leaked: int | None = _column(SCORE, default=None)  # test images that are training images too
    regions: int | None = _column(SCORE, default=None)
    regions_lost: int | None = _column(SCORE, default=None)

    # complexity: the speed protocol of docs/speed.md
    speed: str = _column(COMPLEXITY, default="")
    fps: float | None = _column(COMPLEXITY, default=None)  # at fps_batch
    fps_batch: int | None = _column(COMPLEXITY, default=None)
    fps_mean: float | None = _column(COMPLEXITY, default=None)  # images / total time, fps_batch
    fps_b1: float | None = _column(COMPLEXITY, default=None)
    fps_b8: float | None = _column(COMPLEXITY, default=None)
    latency_p50_ms: float | None = _column(COMPLEXITY, default=None)  # batch 1
    latency_p90_ms: float | None = _column(COMPLEXITY, default=None)
    latency_p95_ms: float | None = _column(COMPLEXITY, default=None)
    latency_p99_ms: float | None = _column(COMPLEXITY, default=None)
    latency_iqr: float | None = _column(COMPLEXITY, default=None)  # relative
    noisy: bool | None = _column(COMPLEXITY, default=None)
    steps: int | None = _column(COMPLEXITY, default=None)
    cpu_ms: float | None = _column(COMPLEXITY, default=None)  # process time, batch 1
    preprocess_ms: float | None = _column(COMPLEXITY, default=None)
    encoder_ms: float | None = _column(COMPLEXITY, default=None)
    decoder_ms: float | None = _column(COMPLEXITY, default=None)  # encoder + decoder
    encoder_batch_ms: float | None = _column(COMPLEXITY, since=2, default=None)  # an image,
    decoder_batch_ms: float | None = _column(COMPLEXITY, since=2, default=None)  # at fps_batch
    memory: str = _column(COMPLEXITY, default="")  # how peaks were measured
    infer_mb: float | None = _column(COMPLEXITY, default=None)  # batch 1
    infer_batch_mb: float | None = _column(COMPLEXITY, default=None)  # fps_batch
    infer_reserved_mb: float | None = _column(COMPLEXITY, default=None)
    fit_mb: float | None = _column(COMPLEXITY, default=None)
    fit_reserved_mb: float | None = _column(COMPLEXITY, default=None)
    fit_left_mb: float | None = _column(COMPLEXITY, default=None)  # held after fit
    fit_s: float | None = _column(COMPLEXITY, default=None)
    fit_cpu_s: float | None = _column(COMPLEXITY, default=None)
    fit_images_per_s: float | None = _column(COMPLEXITY, default=None)
    params_m: float | None = _column(COMPLEXITY, default=None)
    params_trainable_m: float | None = _column(COMPLEXITY, default=None)
    gflops: float | None = _column(COMPLEXITY, default=None)
    flops_uncounted: str = _column(COMPLEXITY, default="[]")  # JSON
    state_mb: float | None = _column(COMPLEXITY, default=None)
    state_backbone_mb: float | None = _column(COMPLEXITY, default=None)
    state_fitted_mb: float | None = _column(COMPLEXITY, default=None)
    unit_ms: float | None = _column(COMPLEXITY, default=None)  # ResNet18 forward

    # provenance
    kind: str = _column(PROVENANCE, default="measured")
    weights: str = _column(PROVENANCE, default="none")
    auxiliary: str = _column(PROVENANCE, default="")  # textures=dtd@<12 hex>, or =none
    weights_source: str = _column(PROVENANCE, default="")
    weights_statistics: str = _column(PROVENANCE, default="")  # of the images in training
    data: str = _column(PROVENANCE)
    code: str = _column(PROVENANCE)
    commit: str = _column(PROVENANCE, default="")
    bench: str = _column(PROVENANCE, default="")
    env: str = _column(PROVENANCE, default="")
    device: str = _column(PROVENANCE, default="")
    threads: int | None = _column(PROVENANCE, default=None)
    command: str = _column(PROVENANCE, default="")
    started: str = _column(PROVENANCE, default="")
    formerly: str = _column(PROVENANCE, since=2, default="")  # older ids of the cell

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
            "params": dict(cell.params),
            "dataset_params": dict(cell.dataset_params),
        }
        identity = {
            "cell": cell.id,
            **{name: getattr(cell, name) for name in NAMES},
            "protocol": cell.protocol.name,
            **{name: canonical(values) for name, values in settings.items()},
            "precision": cell.precision,
        }
        provenance = {"bench": bench.__version__, "env": digest(environment)}
        return cls(**{**identity, **provenance, **columns})


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


def columns(group: str | None = None) -> list[str]:
    """Column names in file order, of one group or all."""
    return [name for name, of in GROUPS.items() if group in (None, of)]


GROUPS = {f.name: f.metadata["group"] for f in fields(Row) if "group" in f.metadata}
"""Each column's group, in file order."""

MAIN_SCORES = ("image_auroc", "pixel_auroc", "aupro_30")
"""What a short table shows."""
