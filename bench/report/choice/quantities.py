"""What a table or plot can show of a row: scores, cost, and what follows from them by division."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.rows.row import Row, columns
from bench.rows.text import percent, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.settings.protocol import Protocol

SCORES = columns("score")
"""Columns that hold a fraction, higher is better."""

COSTS = columns("cost")
"""Columns that hold a time, a size or a rate."""

_INVERSE = {
    "encoder_fps": "encoder_ms",
    "decoder_fps": "decoder_ms",
    "encoder_fps_batch": "encoder_batch_ms",
    "decoder_fps_batch": "decoder_batch_ms",
}
_THOUSANDTH = {
    "latency_p50_s": "latency_p50_ms",
    "state_gb": "state_mb",
    "state_fitted_gb": "state_fitted_mb",
    "fit_gb": "fit_mb",
    "infer_gb": "infer_mb",
}
DERIVED = (*_INVERSE, *_THOUSANDTH)
"""Images per second of a part (encoder; encoder and decoder); seconds; gigabytes."""

LABELS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro_05": "AUPRO 0.05",
    "aupro_30": "AUPRO 0.3",
    "aupro_100": "AUPRO 1.0",
    "region_aupro_30_median": "region AUPRO 0.3 median",
    "region_aupro_30_worst": "region AUPRO 0.3 worst",
    "aupimo": "AUPIMO",
    "aupro_pyramidflow": "AUPRO (PyramidFlow's code)",
    "aupro_cflow": "AUPRO (CFLOW-AD's code)",
    "aupro_dfr": "AUPRO (DFR's code)",
    "fps": "FPS at its batch",
    "fps_b1": "FPS at batch 1",
    "fps_b8": "FPS at batch 8",
    "encoder_fps": "encoder FPS",
    "latency_p50_ms": "p50 ms",
    "latency_p95_ms": "p95 ms",
    "params_m": "parameters M",
    "gflops": "GFLOPs",
    "state_mb": "state MB",
    "state_backbone_mb": "encoder MB",
    "infer_mb": "inference MB",
    "fit_mb": "training MB",
    "fit_s": "training s",
}
_LOWER = ("_ms", "_mb", "_gb", "_s", "_m", "gflops", "latency_iqr")
_HARDWARE = ("fps", "_ms", "_s", "infer_", "fit_")


def published_metrics(protocols: Mapping[str, Protocol]) -> list[str]:
    """Metrics under their papers' definitions that some protocol records."""
    return sorted({name for protocol in protocols.values() for name in protocol.published})


def known_quantities(protocols: Mapping[str, Protocol]) -> list[str]:
    """Every name that `quantity` understands."""
    return [*SCORES, *COSTS, *DERIVED, *published_metrics(protocols)]


def quantity(row: Row, name: str) -> float | None:
    """The value of a row, a fraction where it is a score; None where it is missing."""
    if name in _INVERSE:
        value = getattr(row, _INVERSE[name])
        return 1000 / value if value else None
    if name in _THOUSANDTH:
        value = getattr(row, _THOUSANDTH[name])
        return None if value is None else value / 1000
    if name in SCORES or name in COSTS:
        found: float | None = getattr(row, name)
        return found
    value = row.published.get(name)
    return None if value is None else float(value)


def is_score(name: str) -> bool:
    """Whether it is a fraction that tables print in percent."""
    return name not in COSTS and name not in DERIVED


def is_of_pixels(name: str) -> bool:
    """Whether it is a score of maps against masks."""
    return is_score(name) and not name.startswith("image_")


def is_lower_better(name: str) -> bool:
    """Times and sizes; scores and rates are better when higher."""
    is_rate = "per_s" in name or "fps" in name
    return not is_score(name) and not is_rate and name.endswith(_LOWER)


_UNITS = {
    "_ms": "ms",
    "_mb": "MB",
    "_gb": "GB",
    "_s": "s",
    "_m": "M",
    "fps": "fps",
    "fps_mean": "fps",
    "fps_b1": "fps",
    "fps_b8": "fps",
    "gflops": "GFLOP",
}


def unit(name: str) -> str:
    """Unit of the value as printed; empty for a ratio."""
    if is_score(name):
        return "%"
    if name.endswith("_per_s"):
        return "1/s"
    return next((text for end, text in _UNITS.items() if name.endswith(end)), "")


def depends_on_hardware(name: str) -> bool:
    """Whether numbers of two machines must not be subtracted."""
    if is_score(name) or name.startswith(("params", "state", "gflops")):
        return False
    return any(part in name for part in _HARDWARE) or name.endswith(("_ms", "_s"))


def is_timing(name: str) -> bool:
    """Whether it follows from a time; memory does not."""
    return depends_on_hardware(name) and not name.endswith(("_mb", "_gb"))


def is_step_time(name: str) -> bool:
    """Whether it follows from the timed steps of inference."""
    return is_timing(name) and not name.startswith("fit_")


AT_BATCH = ("fps", "fps_mean", "infer_batch_mb")
"""Costs that were measured at the row's `fps_batch`."""


def conditions(name: str) -> tuple[str, ...]:
    """Columns of rows whose numbers may stand in one median or side by side.

    Batches apart, which tables name beside the number.
    """
    if not depends_on_hardware(name):
        return ()
    return ("device", "threads", "speed" if is_timing(name) else "memory")


def is_memory(name: str) -> bool:
    """Whether it depends on how memory was read."""
    return depends_on_hardware(name) and not is_timing(name)


def is_noisy(row: Row, name: str) -> bool:
    """Whether the time that a number follows from is uncertain.

    Of training as of the steps of inference: on the CPU with one thread where it took more than
    10 % longer than its process time; with several threads process time says nothing, and the row's
    own mark stands for the state of the machine. Memory, sizes and process times have no noise.
    """
    if not is_timing(name) or name in ("cpu_ms", "fit_cpu_s"):
        return False
    if is_step_time(name):
        return bool(row.noisy)
    if row.threads == 1 and row.device.startswith("CPU") and row.fit_s and row.fit_cpu_s:
        return row.fit_s > WAITED * row.fit_cpu_s
    return bool(row.noisy)


WAITED = 1.1
"""The 10 % of docs/speed.md."""


def quiet(rows: Iterable[Row], name: str) -> list[Row]:
    """The rows that a cost is taken from: those without noise where there are any."""
    having = [row for row in rows if quantity(row, name) is not None]
    return [row for row in having if not is_noisy(row, name)] or having


def is_uncertain(rows: Iterable[Row], name: str) -> bool:
    """Whether every row that has a cost is noisy."""
    return any(is_noisy(row, name) for row in quiet(rows, name))


def label(name: str) -> str:
    """How tables call it."""
    return LABELS.get(name, name.replace("_", " "))


def show(name: str, value: float | None, decimals: int = 1) -> str:
    """The value as printed: percent for a score, three significant digits otherwise."""
    if value is None:
        return ""
    return percent(value, decimals) if is_score(name) else three_digits(value)


def over_seeds(
    rows: Iterable[Row], name: str, categories: Sequence[str]
) -> tuple[float | None, float | None]:
    """Mean over categories within a seed, then mean and deviation over seeds; of a cost the median
    over both, of quiet rows where there are any.

    A seed that lacks one of the categories does not count; with none left there is no mean, and
    with fewer than two no deviation.
    """
    by_seed: dict[int, dict[str, float]] = {}
    found = [row for row in rows if row.category in categories]
    for row in found:
        value = quantity(row, name)
        if value is not None:
            by_seed.setdefault(row.seed, {})[row.category] = value
    whole = [v for v in by_seed.values() if len(v) == len(set(categories))]
    if not whole or not categories:
        return None, None
    if not is_score(name):
        seeds = [seed for seed, v in by_seed.items() if len(v) == len(set(categories))]
        return median_cost((r for r in found if r.seed in seeds), name), None
    means = [statistics.fmean(values.values()) for values in whole]
    spread = statistics.stdev(means) if len(means) > 1 else None
    return statistics.fmean(means), spread


def median_cost(rows: Iterable[Row], name: str) -> float | None:
    """Median over the quiet rows that have a cost, over all where none is; None without any."""
    present = [value for row in quiet(rows, name) if (value := quantity(row, name)) is not None]
    return statistics.median(present) if present else None


def group_by(rows: Iterable[Row], key: Callable[[Row], tuple[object, ...]]) -> list[list[Row]]:
    """Rows with equal keys together, sorted by key as text."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [groups[k] for k in sorted(groups, key=lambda k: tuple(map(str, k)))]
