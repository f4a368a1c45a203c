"""Measured rows as the pages show them: a board for each data set and protocol, a line for each
method as it ran. What cannot be compared lies on different boards or lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.plan.identity import digest
from bench.report.choice.groups import options_of, scored_alike
from bench.report.choice.quantities import group_by
from bench.report.choice.settings_text import not_shared
from bench.report.site.lines import BoardLine, finish, lines_of
from bench.report.site.names import slug
from bench.report.site.parameters import Parameter, parameters
from bench.report.site.plugins import Plugins
from bench.rows.settings import Likeness
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.rows.row import Row


@dataclass(frozen=True)
class Board:
    """One data set, with its options, under one protocol.

    Attributes:
        anchor: of its heading.
        title: the protocol's name, with what differs where two boards share it.
        options: of the data set.
        lines: measured, best first; `random` holds those with random encoder weights.
        categories: every category of the data set, measured or not; those of its lines where
            nobody says.
    """

    key: str
    anchor: str
    title: str
    protocol_fields: Mapping[str, Any]
    options: tuple[Parameter, ...]
    categories: tuple[str, ...]
    lines: tuple[BoardLine, ...] = ()
    random: tuple[BoardLine, ...] = field(default=())

    @property
    def all_lines(self) -> tuple[BoardLine, ...]:
        """Every line, those with random weights last."""
        return (*self.lines, *self.random)

    @property
    def measured(self) -> tuple[str, ...]:
        """Categories of any line."""
        return tuple(sorted({c for line in self.all_lines for c in line.categories}))

    @property
    def first(self) -> Row:
        """A row, for what all rows share."""
        return self.all_lines[0].first


def boards(rows: Iterable[Row], plugins: Plugins | None = None) -> list[Board]:
    """Every board, by data set and protocol; the standard one first."""
    plugins = plugins or Plugins()
    rows = list(rows)
    likeness = Likeness(rows)
    groups = group_by(rows, lambda row: scored_alike(row, likeness))
    groups.sort(key=lambda group: _place(group[0]))
    titles = _titles([group[0] for group in groups])
    return [
        _make_board(group, title, likeness, plugins)
        for group, title in zip(groups, titles, strict=True)
    ]


def _place(row: Row) -> tuple[object, ...]:
    """Sorts boards: by data set, the standard protocol first."""
    return row.dataset, row.protocol != "standard", row.protocol, row.texts["protocol_fields"]


def _titles(rows: Sequence[Row]) -> list[str]:
    """The protocol of each; where boards of a data set share it, also in what they differ."""
    titles = []
    for row in rows:
        shared = [r for r in rows if (r.dataset, r.protocol) == (row.dataset, row.protocol)]
        options = options_of(shared)
        own = options[[other is row for other in shared].index(True)]
        differ = [
            f"{name} {_word(own[name]) if name in own else 'not stated'}"
            for name in sorted(not_shared(options))
        ]
        titles.append(f"{row.protocol} ({', '.join(differ)})" if differ else row.protocol)
    return titles


def _word(value: Any) -> str:
    return "none" if value is None else plain(value)


def _make_board(rows: Sequence[Row], title: str, likeness: Likeness, plugins: Plugins) -> Board:
    row = rows[0]
    key = digest(scored_alike(row, likeness))
    lines = lines_of(key, rows)
    fair = [line for line in lines if line.first.pretrained != "random"]
    lab = [line for line in lines if line.first.pretrained == "random"]
    every = plugins.categories(row.dataset, row.dataset_params) or {
        c for line in lines for c in line.categories
    }
    return Board(
        key=key,
        anchor=f"{slug(row.protocol)}-{key[:4]}",
        title=title,
        protocol_fields=row.protocol_fields,
        options=parameters([row], "dataset_params"),
        categories=tuple(sorted(every)),
        lines=tuple(finish(fair, every)),
        random=tuple(finish(lab, every)),
    )
