"""What a table or plot can show of a row: scores, cost, and what follows from them by division."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.rows.column import Column
from bench.rows.row import COLUMNS, Row, columns
from bench.rows.row_values import FRACTION
from bench.rows.text import percent, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.settings.protocol import Protocol

SCORES = columns("score")
"""Columns that hold a fraction, higher is better."""

COSTS = columns("cost")
"""Columns that hold a time, a size or a rate."""

_RATES = {
    "encoder_fps": "encoder_ms",
    "decoder_fps": "decoder_ms",
    "encoder_fps_batch": "encoder_batch_ms",
    "decoder_fps_batch": "decoder_batch_ms",
}
_THOUSANDTHS = {
    "latency_p50_s": ("latency_p50_ms", "s"),
    "state_gb": ("state_mb", "GB"),
    "state_fitted_gb": ("state_fitted_mb", "GB"),
    "fit_gb": ("fit_mb", "GB"),
    "infer_gb": ("infer_mb", "GB"),
}
DERIVED = (*_RATES, *_THOUSANDTHS)
"""Images per second of a part (encoder; encoder and decoder); seconds; gigabytes."""

_DERIVED_NAMES = {
    "encoder_fps": {"label": "encoder FPS"},
    "decoder_fps": {"heading": "enc+dec FPS"},
}
_PUBLISHED = Column(part="score", values=FRACTION, unit="%", better="higher", level="pixel")
"""A score of maps under the definition of a paper; column `published` holds them."""

_PUBLISHED_LABELS = {
    "aupro_pyramidflow": "AUPRO (PyramidFlow's code)",
    "aupro_cflow": "AUPRO (CFLOW-AD's code)",
    "aupro_dfr": "AUPRO (DFR's code)",
}


def _derived(of: str, **changed: Any) -> Column:
    """What follows from a column by division: of another unit, and not called as it is."""
    return replace(COLUMNS[of], **{"label": "", "heading": "", **changed})


_DESCRIBED: Mapping[str, Column] = {
    **{name: COLUMNS[name] for name in (*SCORES, *COSTS)},
    **{
        name: _derived(of, unit="fps", better="higher", **_DERIVED_NAMES.get(name, {}))
        for name, of in _RATES.items()
    },
    **{name: _derived(of, unit=unit) for name, (of, unit) in _THOUSANDTHS.items()},
    **{name: replace(_PUBLISHED, label=label) for name, label in _PUBLISHED_LABELS.items()},
}


def described(name: str) -> Column:
    """What a quantity is; what is no column and follows from none is a paper's score."""
    return _DESCRIBED.get(name, _PUBLISHED)


def published_metrics(protocols: Mapping[str, Protocol]) -> list[str]:
    """Metrics under their papers' definitions that some protocol records."""
    return sorted({name for protocol in protocols.values() for name in protocol.published})


def known_quantities(protocols: Mapping[str, Protocol]) -> list[str]:
    """Every name that `quantity` understands."""
    return [*SCORES, *COSTS, *DERIVED, *published_metrics(protocols)]


def quantity(row: Row, name: str) -> float | None:
    """The value of a row, a fraction where it is a score; None where it is missing."""
    if name in _RATES:
        value = getattr(row, _RATES[name])
        return 1000 / value if value else None
    if name in _THOUSANDTHS:
        value = getattr(row, _THOUSANDTHS[name][0])
        return None if value is None else value / 1000
    if name in _DESCRIBED and name not in _PUBLISHED_LABELS:
        found: float | None = getattr(row, name)
        return found
    value = row.published.get(name)
    return None if value is None else float(value)


def is_score(name: str) -> bool:
    """Whether it is a fraction that tables print in percent."""
    return described(name).part == "score"


def is_of_pixels(name: str) -> bool:
    """Whether it is a score of maps against masks."""
    return described(name).level == "pixel"


def is_lower_better(name: str) -> bool:
    """Times and sizes; scores and rates are better when higher."""
    return described(name).better == "lower"


def unit(name: str) -> str:
    """Unit of the value as printed; empty for a ratio."""
    return described(name).unit


def depends_on_hardware(name: str) -> bool:
    """Whether numbers of two machines must not be subtracted."""
    return described(name).machine != ""


def is_timing(name: str) -> bool:
    """Whether it follows from a time; memory does not."""
    return described(name).machine in ("steps", "fit", "speed")


def conditions(name: str) -> tuple[str, ...]:
    """Columns of rows whose numbers may stand in one median or side by side.

    Batches apart, which tables name beside the number.
    """
    if not depends_on_hardware(name):
        return ()
    return ("device", "threads", "speed" if is_timing(name) else "memory")


def is_memory(name: str) -> bool:
    """Whether it depends on how memory was read."""
    return described(name).machine == "memory"


def is_noisy(row: Row, name: str) -> bool:
    """Whether the time that a number follows from is uncertain.

    Of training as of the steps of inference: on the CPU with one thread where it took more than
    10 % longer than its process time; with several threads process time says nothing, and the row's
    own mark stands for the state of the machine. Memory, sizes and process times have no noise.
    """
    machine = described(name).machine
    if machine not in ("steps", "fit"):
        return False
    if machine == "steps":
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
    return described(name).label or name.replace("_", " ")


def heading(name: str) -> str:
    """The same where space is scarce."""
    return described(name).heading or label(name)


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

    With no seed left there is no mean, and with fewer than two no deviation.
    """
    found = [row for row in rows if row.category in categories]
    means = by_seed(found, name, categories)
    if not is_score(name):
        return median_cost((row for row in found if row.seed in means), name), None
    spread = statistics.stdev(means.values()) if len(means) > 1 else None
    return statistics.fmean(means.values()) if means else None, spread


def by_seed(rows: Iterable[Row], name: str, categories: Sequence[str]) -> dict[int, float]:
    """The mean over categories of each seed; one that lacks a category does not count."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if row.category in categories and (value := quantity(row, name)) is not None:
            found.setdefault(row.seed, {})[row.category] = value
    whole = len(set(categories))
    return {s: statistics.fmean(of.values()) for s, of in found.items() if len(of) == whole}


def median_cost(rows: Iterable[Row], name: str) -> float | None:
    """Median over the quiet rows that have a cost, over all where none is; None without any."""
    present = [value for row in quiet(rows, name) if (value := quantity(row, name)) is not None]
    return statistics.median(present) if present else None


def batches(rows: Iterable[Row]) -> tuple[int, ...]:
    """At which throughput was measured."""
    return tuple(sorted({row.fps_batch for row in rows if row.fps_batch}))


def group_by(rows: Iterable[Row], key: Callable[[Row], tuple[object, ...]]) -> list[list[Row]]:
    """Rows with equal keys together, sorted by key as text."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [groups[k] for k in sorted(groups, key=lambda k: tuple(map(str, k)))]
