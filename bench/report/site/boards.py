"""Measured rows as the pages show them: a board for each data set and protocol, a line for each
method as it ran. What cannot be compared lies on different boards or lines."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench.errors import StoreError
from bench.plan import canonical
from bench.report.quantities import group_by, is_lower_better, over_seeds, show
from bench.report.site.names import backbone, prior, slug
from bench.report.summary import marks
from bench.report.variants import configurations
from bench.row import MAIN_SCORES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.row import Row

PRINTED_AUPRO = "aupro_printed"
"""AUPRO by a paper's own definition; the limit differs between papers."""

COSTS = ("fps", "latency_p50_ms", "params_m", "infer_mb")
COLUMNS = (*MAIN_SCORES, PRINTED_AUPRO, *COSTS)
HEADINGS = {
    "image_auroc": "Image AUROC",
    "pixel_auroc": "Pixel AUROC",
    "aupro_30": "AUPRO 0.3",
    PRINTED_AUPRO: "AUPRO as printed",
    "fps": "FPS",
    "latency_p50_ms": "p50 ms",
    "params_m": "Params M",
    "infer_mb": "Infer MB",
}
_TIMED = ("fps", "latency_p50_ms")


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
class Line:
    """A method as it ran: one version, configuration, kind of weights, device and origin.

    Attributes:
        key: names its page of runs.
        rows: the newest of each category and seed.
        older: rows of the same category and seed that these replaced.
        label: what tells it from the method's other lines on its board.
        categories: that it covers.
        complete: whether these are all categories of its board.
        seeds: those that cover all its categories; a mean is over them.
        values: one for each of `COLUMNS`.
    """

    key: str
    rows: tuple[Row, ...]
    older: tuple[Row, ...]
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    complete: bool = True
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
    def backbone(self) -> str:
        """Its encoders as papers call them."""
        return backbone(self.first)

    @property
    def prior(self) -> str:
        """What the encoder was trained on."""
        return prior(self.first)


@dataclass(frozen=True)
class Board:
    """One data set under one protocol.

    Attributes:
        anchor: of its heading.
        title: the protocol's name, numbered where two protocols share it.
        lines: measured, best first; `random` holds those with random encoder weights.
        categories: of all `lines`, or of `random` where nothing else was measured.
    """

    key: str
    anchor: str
    title: str
    protocol_fields: dict[str, Any]
    options: dict[str, Any]
    categories: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    random: tuple[Line, ...] = field(default=())

    @property
    def all_lines(self) -> tuple[Line, ...]:
        """Every line, those with random weights last."""
        return (*self.lines, *self.random)

    @property
    def first(self) -> Row:
        """A row, for what all rows share."""
        return self.all_lines[0].first


def boards(rows: Iterable[Row]) -> list[Board]:
    """Every board, by data set and protocol; the standard one first.

    Raises:
        StoreError: a row whose JSON columns cannot be read.
    """
    groups = group_by(rows, _board)
    groups.sort(key=lambda group: (group[0].dataset, group[0].protocol != "standard"))
    names = Counter((group[0].dataset, group[0].protocol) for group in groups)
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for group in groups:
        name = group[0].dataset, group[0].protocol
        seen[name] += 1
        number = f" ({seen[name]})" if names[name] > 1 else ""
        found.append(_make_board(group, number))
    return found


def read_json(row: Row, column: str) -> Any:
    """The value of a column that holds JSON.

    Raises:
        StoreError: it does not.
    """
    try:
        return json.loads(getattr(row, column))
    except ValueError as error:
        raise StoreError(
            f"cell {row.cell} of {row.method} on {row.dataset}: column {column!r} is not JSON "
            f"({error}); restore the file or run the cell again"
        ) from error


def _board(row: Row) -> tuple[object, ...]:
    return (
        row.dataset,
        row.protocol,
        row.protocol_fields,
        row.dataset_version,
        row.dataset_params,
    )


def _make_board(rows: Sequence[Row], number: str) -> Board:
    row = rows[0]
    key = _hash(_board(row))
    lines = [line for group in group_by(rows, _line) for line in _lines(key, group)]
    fair = [line for line in lines if line.first.pretrained != "random"]
    lab = [line for line in lines if line.first.pretrained == "random"]
    every = {c for line in fair or lab for c in line.categories}
    options = read_json(row, "dataset_params")
    if row.dataset_version != 1:
        options = {"version": row.dataset_version, **options}
    return Board(
        key=key,
        anchor=f"{slug(row.protocol)}-{key[:4]}",
        title=f"{row.protocol}{number}",
        protocol_fields=read_json(row, "protocol_fields"),
        options=options,
        categories=tuple(sorted(every)),
        lines=tuple(_finish(fair, every)),
        random=tuple(_finish(lab, every)),
    )


def _line(row: Row) -> tuple[object, ...]:
    # The identity of random weights holds the seed, so it would part the seeds of one line.
    weights = "" if row.pretrained == "random" else row.weights
    return (row.method, row.method_version, row.kind, row.pretrained, weights, row.device)


def _lines(board: str, rows: Sequence[Row]) -> Iterable[Line]:
    for group in configurations(rows):
        newest: dict[tuple[str, int], Row] = {}
        for row in sorted(group, key=lambda row: row.started):
            newest[row.category, row.seed] = row
        kept = tuple(newest[place] for place in sorted(newest))
        categories = tuple(sorted({row.category for row in kept}))
        counts = Counter(row.seed for row in kept)
        yield Line(
            key=_hash([board, _line(kept[0]), sorted({row.params for row in kept})]),
            rows=kept,
            older=tuple(row for row in group if newest[row.category, row.seed] is not row),
            categories=categories,
            seeds=tuple(s for s in sorted(counts) if counts[s] == len(categories)),
        )


def _differing(rows: Iterable[Row]) -> list[str]:
    """Names of the parameters that are not the same in all rows."""
    texts = dict.fromkeys(row.params for row in rows)
    if len(texts) == 1:
        return []
    first = {row.params: row for row in rows}
    params = [read_json(first[text], "params") for text in texts]
    names = sorted({name for values in params for name in values})
    return [n for n in names if len({canonical(values.get(n)) for values in params}) > 1]


def _finish(lines: Sequence[Line], categories: set[str]) -> list[Line]:
    """Lines with their values and labels, best first, marked where they are best."""
    full = [
        replace(line, complete=set(line.categories) == categories, values=_values(line))
        for line in lines
    ]
    labelled = [
        replace(line, label=_label(line, [o for o in full if o.first.method == line.first.method]))
        for line in full
    ]
    labelled.sort(key=lambda line: (not line.complete, *_rank(line.values[0]), line.first.method))
    return _mark_best(labelled)


def _rank(value: Value) -> tuple[bool, float]:
    return value.number is None, -(value.number or 0)


def _mark_best(lines: list[Line]) -> list[Line]:
    """Only among complete lines with trained or no encoder, and only scores: speed depends on the
    device."""
    ranked = [x for x in lines if x.complete and x.first.pretrained != "random"]
    best: dict[int, float] = {}
    for column, name in enumerate(COLUMNS):
        numbers = [x.values[column].number for x in ranked]
        known = [round(n, 1) for n in numbers if n is not None]
        if name not in COSTS and len(known) > 1:
            best[column] = max(known)
    marked = []
    for line in lines:
        values = tuple(
            replace(value, best=_is_best(value, best.get(column)) and line in ranked)
            for column, value in enumerate(line.values)
        )
        marked.append(replace(line, values=values))
    return marked


def _is_best(value: Value, best: float | None) -> bool:
    return best is not None and value.number is not None and round(value.number, 1) == best


def _label(line: Line, siblings: Sequence[Line]) -> str:
    """What tells a line from its method's other lines on the same board."""
    parts = []
    if line.first.kind != "measured":
        parts.append(line.first.kind)
    if len({other.first.method_version for other in siblings}) > 1:
        parts.append(f"version {line.first.method_version}")
    if line.first.pretrained.startswith("file:"):
        parts.append(f"weights {line.first.pretrained}")
    own = set(_differing(line.rows))
    among = _differing([row for other in siblings for row in other.rows])
    params = read_json(line.first, "params")
    parts += [
        f"{name} by category" if name in own else f"{name} {_plain(params.get(name))}"
        for name in among
    ]
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _values(line: Line) -> tuple[Value, ...]:
    return tuple(value_of(line, name, line.categories) for name in COLUMNS)


def value_of(line: Line, name: str, categories: Sequence[str]) -> Value:
    """Mean over categories, then mean and deviation over seeds; a cost is a plain mean."""
    if name in COSTS:
        return _cost(line, name)
    if name == PRINTED_AUPRO:
        own = [
            n for n in read_json(line.first, "protocol_fields").get("published", ()) if "aupro" in n
        ]
        if not own:
            return Value("")
        name = own[0]
    mean, spread = over_seeds(line.rows, name, categories)
    if mean is None:
        return Value()
    text = show(name, mean)
    if spread is not None:
        text += f" ± {show(name, spread)}"
    return Value(text, 100 * mean)


def _cost(line: Line, name: str) -> Value:
    """Over all rows that have it, if they were timed alike."""
    rows = [row for row in line.rows if getattr(row, name) is not None]
    if not rows:
        return Value()
    conditions = {(row.speed, row.threads, row.fps_batch) for row in rows}
    if name in _TIMED and len(conditions) > 1:
        return Value("mixed")
    mean = statistics.fmean(getattr(row, name) for row in rows)
    return Value(show(name, mean), mean)


def better(name: str) -> str:
    """Which end of a column sorting shows first."""
    return "low" if name in COSTS and is_lower_better(name) else "high"


def _hash(values: object) -> str:
    return hashlib.sha256(canonical(values).encode()).hexdigest()[:12]
