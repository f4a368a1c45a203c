"""A line of a table: a method as it ran, its means, what is best and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.plan.identity import digest
from bench.report.best import places
from bench.report.choice.coverage import choose, data_states
from bench.report.choice.marks import NOISY, NOISY_MEANING, marks
from bench.report.choice.quantities import (
    conditions,
    described,
    group_by,
    heading,
    is_lower_better,
    is_noisy,
    is_timing,
    is_uncertain,
    median_cost,
    over_seeds,
    quantity,
    show,
)
from bench.report.choice.settings_text import varying
from bench.report.choice.variants import configurations, identity_of_weights, told_by_weights
from bench.report.site.names import backbone, capital, prior
from bench.report.site.parameters import parameters
from bench.rows.row import MAIN_SCORES
from bench.rows.settings import precision_of
from bench.rows.text import fixed, plain, some
from bench.settings.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from bench.rows.row import Row

PRINTED_AUPRO = "aupro_printed"
"""AUPRO by a paper's own definition; the limit differs between papers."""

COSTS = ("fps", "latency_p50_ms", "params_m", "infer_mb")
COLUMNS = (*MAIN_SCORES, PRINTED_AUPRO, *COSTS)
HEADINGS = {
    **{name: capital(heading(name)) for name in (*MAIN_SCORES, *COSTS)},
    PRINTED_AUPRO: "AUPRO as printed",
}
TIMED = tuple(name for name in COSTS if is_timing(name))
"""Costs that are speeds."""


@dataclass(frozen=True)
class Value:
    """One number of a page.

    Attributes:
        text: as shown; "n/a" where a row lacks it.
        number: what sorting uses; None sorts last.
        best: the highest of the lines that are ranked.
        notes: ids of footnotes.
    """

    text: str = "n/a"
    number: float | None = None
    best: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardLine:
    """A method as it ran: one version, configuration, kind of weights, device and origin.

    Attributes:
        key: names its page of runs.
        rows: those that count, the newest of each category and seed, on the same data; every
            number of the line comes from them.
        older: rows of the same category, data and seed that newer ones replaced.
        uncounted: rows of seeds that lack categories, each with the reason.
        label: what tells it from the method's other lines on its board.
        categories: that it covers.
        complete: whether these are the categories of its board, all and no other.
        coverage: how many of them it has, as "2 of 15".
        is_other_data: whether its test images are others than those of the board's other lines.
        seeds: of its rows; each covers all its categories.
        values: one for each of `COLUMNS`.
    """

    key: str
    rows: tuple[Row, ...]
    older: tuple[Row, ...]
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    uncounted: tuple[tuple[Row, str], ...] = ()
    complete: bool = True
    coverage: str = ""
    is_other_data: bool = False
    label: str = ""
    values: tuple[Value, ...] = ()

    @property
    def first(self) -> Row:
        """A row, for what all rows share."""
        return self.rows[0]

    @property
    def marks(self) -> dict[str, str]:
        """Marks of any of its rows, with their meaning."""
        return {mark: text for row in self.rows for mark, text in marks(row).items()}

    @property
    def timing_marks(self) -> dict[str, str]:
        """Marks of its speeds, with their meaning."""
        timed = (row for row in self.rows for name in TIMED if is_noisy(row, name))
        return {NOISY: NOISY_MEANING} if any(quantity(r, n) for r in timed for n in TIMED) else {}

    @property
    def device(self) -> str:
        """Its device and the threads of its runs, as far as they are known."""
        threads = sorted({row.threads for row in self.rows if row.threads is not None})
        named = self.first.device or "device not stated"
        if not threads:
            return named
        return f"{named}, {' and '.join(map(str, threads))} thread{'s' * (threads != [1])}"

    @property
    def is_comparable(self) -> bool:
        """Whether its means are over the same images as the board's, none of them trained on."""
        return self.complete and not self.is_other_data and not any(r.n_leaked for r in self.rows)

    @property
    def is_ranked(self) -> bool:
        """Whether it may be best: random weights never are."""
        return self.is_comparable and self.first.pretrained != "random"

    @property
    def backbone(self) -> str:
        """Its encoders as papers call them."""
        return backbone(self.first)

    @property
    def prior(self) -> str:
        """What the encoder was trained on."""
        return prior(self.first)


def _line(row: Row) -> tuple[object, ...]:
    weights = identity_of_weights(row)
    own = (row.method, row.method_version, row.kind, row.pretrained, weights)
    return (*own, precision_of(row), row.device)


def lines_of(board: str, rows: Sequence[Row]) -> list[BoardLine]:
    """The lines of a board, without values and labels.

    Args:
        board: its key.
    """
    states = data_states(rows)
    version = {(c, data): place for c, known in states.items() for place, data in enumerate(known)}

    def key(row: Row) -> tuple[object, ...]:
        return (version[row.category, row.data], *_line(row))

    return [line for group in group_by(rows, key) for line in _lines(board, group, key)]


def _lines(
    board: str, rows: Sequence[Row], line: Callable[[Row], tuple[object, ...]]
) -> Iterable[BoardLine]:
    for group in configurations(rows):
        chosen = choose(group)
        replaced = {row.cell for row in chosen.older}
        kept = [row for row in group if row.cell not in replaced]
        yield BoardLine(
            key=digest([board, line(kept[0]), sorted({row.texts["params"] for row in kept})]),
            rows=chosen.every_row,
            older=tuple(row for row in group if row.cell in replaced),
            uncounted=tuple(
                (row, f"does not count: seed {row.seed} lacks {some(chosen.dropped[row.seed])}")
                for row in sorted(kept, key=lambda row: (row.category, row.seed))
                if row.seed in chosen.dropped
            ),
            categories=tuple(chosen.rows),
            is_other_data=line(kept[0])[0] != 0,
            seeds=chosen.seeds,
        )


def finish(lines: Sequence[BoardLine], categories: Collection[str]) -> list[BoardLine]:
    """Lines with their values and labels, best first, marked where they are best.

    Args:
        lines: of one board that stand together.
        categories: of the board.
    """
    full = [
        replace(
            line,
            complete=set(line.categories) == set(categories),
            coverage=_coverage(set(line.categories), set(categories)),
            values=_values(line),
        )
        for line in lines
    ]
    siblings: dict[str, list[BoardLine]] = {}
    for line in full:
        siblings.setdefault(line.first.method, []).append(line)
    labelled = [replace(x, label=_label(x, siblings[x.first.method])) for x in full]
    labelled.sort(key=lambda x: (not x.is_comparable, *rank(x.values[0]), x.first.method, x.key))
    return _mark_best(labelled)


def _coverage(own: set[str], categories: set[str]) -> str:
    others = len(own - categories)
    text = f"{len(own & categories)} of {len(categories)}"
    return text + (f" and {others} other{'s' if others > 1 else ''}" if others else "")


def rank(value: Value) -> tuple[bool, float]:
    """Sorts from high to low, missing numbers last."""
    return value.number is None, -(value.number or 0)


def _mark_best(lines: list[BoardLine]) -> list[BoardLine]:
    """Only scores: speed depends on the device."""
    columns = []
    for column, name in enumerate(COLUMNS):
        values = [line.values[column] for line in lines]
        ranked = name not in COSTS and [
            float(fixed(value.number, 1)) if line.is_ranked and value.number is not None else None
            for line, value in zip(lines, values, strict=True)
        ]
        best = [place == 1 for place in places(ranked or [None] * len(lines))]
        columns.append([replace(v, best=is_best) for v, is_best in zip(values, best, strict=True)])
    return [
        replace(line, values=values)
        for line, values in zip(lines, zip(*columns, strict=True), strict=True)
    ]


def _label(line: BoardLine, siblings: Sequence[BoardLine]) -> str:
    """What tells a line from its method's other lines on the same board and from its defaults."""
    parts = []
    if line.first.kind != "measured":
        parts.append(line.first.kind)
    if len({other.first.method_version for other in siblings}) > 1:
        parts.append(f"version {line.first.method_version}")
    if line.first.pretrained.startswith("file:"):
        parts.append(f"weights {line.first.pretrained}")
    if precision_of(line.first) != FULL:
        parts.append(precision_of(line.first))
    parts += told_by_weights(line.first, [other.first for other in siblings])
    if line.is_other_data:
        parts.append("other test data")
    own = varying(line.rows)
    among = varying([row for other in siblings for row in other.rows])
    unlike = [each.name for each in parameters(line.rows) if each.is_changed]
    parts += [
        f"{name} by category" if name in own else f"{name} {plain(line.first.params.get(name))}"
        for name in sorted({*among, *unlike})
    ]
    return ", ".join(parts)


def _values(line: BoardLine) -> tuple[Value, ...]:
    return tuple(value_of(line, name, line.categories) for name in COLUMNS)


def value_of(line: BoardLine, name: str, categories: Sequence[str]) -> Value:
    """Mean over categories, then mean and deviation over seeds; of a cost the median of all.

    A score that one of the rows lacks has no mean: another would be of fewer seeds than the line's.
    """
    if name in COSTS:
        return _cost(line, name)
    if name == PRINTED_AUPRO:
        published = line.first.protocol_fields.get("published", ())
        own = [n for n in published if "aupro" in n]
        if not own:
            return Value("")
        name = own[0]
    mean, spread = over_seeds(line.rows, name, categories)
    if mean is None or any(quantity(row, name) is None for row in line.rows):
        return Value()
    text = show(name, mean)
    if spread is not None:
        text += f" ± {show(name, spread)}"
    return Value(text, 100 * mean)


def _cost(line: BoardLine, name: str) -> Value:
    """Median over the quiet rows that have it, or all, if they were measured alike."""
    rows = [row for row in line.rows if getattr(row, name) is not None]
    if not rows:
        return Value()
    columns = (*conditions(name), *(["fps_batch"] if described(name).is_at_batch else []))
    mark = NOISY if is_uncertain(rows, name) else ""
    if len({tuple(getattr(row, column) for column in columns) for row in rows}) > 1:
        return Value(f"mixed{mark}")
    median = median_cost(rows, name)
    return Value(show(name, median) + mark, median)


def better(name: str) -> str:
    """Which end of a column sorting shows first."""
    return "low" if name in COSTS and is_lower_better(name) else "high"
