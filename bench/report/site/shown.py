"""What one table, or one line on its method's page, shows besides the line itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.choice.groups import left_to_noise
from bench.report.choice.marks import data_notes
from bench.report.choice.quantities import batches
from bench.report.site.lines import COLUMNS, COSTS, HEADINGS, TIMED, BoardLine, Value, better
from bench.report.site.names import PRIORS
from bench.report.site.printed import PrintedLine
from bench.rows.row import MAIN_SCORES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.report.site.boards import Board
    from bench.report.site.parameters import Parameter
    from bench.report.site.pictures import Pictures

Columns = Sequence[tuple[int, str, str]]
"""Of each column its index into the values of a line, its heading, and which end sorts first."""


@dataclass(frozen=True)
class Shown:
    """A board with what stands beside and below its lines.

    Attributes:
        left: published lines that stand only at the end of the page.
        scores, costs: columns.
        by_category: for each main score its lines, over the categories that any line has.
    """

    board: Board
    printed: Sequence[PrintedLine]
    left: int
    scores: Columns
    costs: Columns
    by_category: Sequence[tuple[str, Sequence[tuple[BoardLine, Sequence[Value]]]]]

    def marks(self, lines: Sequence[BoardLine | PrintedLine]) -> dict[str, str]:
        """Every mark of the lines and of their speeds, with its meaning."""
        found = {mark: text for line in lines for mark, text in line.marks.items()}
        for line in lines:
            found |= line.timing_marks if isinstance(line, BoardLine) else {}
        return found

    def data_notes(self, lines: Sequence[BoardLine]) -> list[str]:
        """What is odd about the images of the lines."""
        return data_notes([row for line in lines for row in line.rows])

    def timing(self, lines: Sequence[BoardLine]) -> str:
        """Batch sizes and speed protocols of the timed columns."""
        rows = [row for line in lines for row in line.rows if row.speed]
        if not (found := batches(rows)):
            return ""
        speeds = " and ".join(sorted({row.speed for row in rows}))
        sizes = ", ".join(map(str, found))
        noisy = [
            f" {text}."
            for line in lines
            for text in left_to_noise(_name(line), line.rows, [(HEADINGS[c], c) for c in TIMED])
        ]
        text = f" FPS at batch {sizes}, latency at batch 1, timed under {speeds}."
        return text + "".join(noisy)


@dataclass(frozen=True)
class ShownLine:
    """A line on the page of its method.

    Attributes:
        cells: for each category its main scores.
        damaged: artifacts that cannot be read.
        absent: what it has no pictures of, with the command that makes them, or "".
    """

    board: Board
    line: BoardLine
    cells: Mapping[str, tuple[Value, ...]]
    params: Sequence[Parameter]
    pictures: Sequence[Pictures]
    damaged: Sequence[str]
    absent: Sequence[tuple[str, str]]

    @property
    def data_notes(self) -> list[str]:
        """What is odd about its images."""
        return data_notes(self.line.rows)

    @property
    def unlike(self) -> list[Parameter]:
        """Parameters that are not the method's default."""
        return [p for p in self.params if p.is_changed]


def _name(line: BoardLine) -> str:
    return ", ".join(filter(None, (line.first.method, line.label)))


def columns(lines: Sequence[BoardLine | PrintedLine]) -> tuple[Columns, Columns]:
    """Columns of scores and of costs; only the main scores where no line has a number."""
    used = [
        (index, name)
        for index, name in enumerate(COLUMNS)
        if name in MAIN_SCORES or any(x.values[index].text not in ("", "n/a") for x in lines)
    ]
    columns = {name: (index, HEADINGS[name], better(name)) for index, name in used}
    return (
        [column for name, column in columns.items() if name not in COSTS],
        [column for name, column in columns.items() if name in COSTS],
    )


def printed_columns(lines: Sequence[PrintedLine]) -> Columns:
    """Columns of published lines alone: those in which any has a number."""
    return [column for column in columns(lines)[0] if any(x.values[column[0]].text for x in lines)]


def has(line: BoardLine, name: str) -> bool:
    """Whether any run of a line has a number."""
    return any(getattr(row, name) is not None for row in line.rows)


def mixed(line: BoardLine) -> list[str]:
    """What the runs of a line do not share although one method made them."""
    codes = sorted({row.code for row in line.rows})
    found = [f"made by {len(codes)} states of the method's source: {', '.join(codes)}"]
    changed = sum(row.commit.endswith("-dirty") for row in line.rows)
    dirty = f"{changed} of {len(line.rows)} made from files that were changed after the commit"
    return (found if len(codes) > 1 else []) + ([dirty] if changed else [])


def choices(lines: Iterable[BoardLine | PrintedLine]) -> dict[str, list[str]]:
    """What the filters of a page offer."""
    found: dict[str, set[str]] = {"backbone": set(), "prior": set(), "device": set()}
    for line in lines:
        found["prior"].add(line.prior)
        if isinstance(line, PrintedLine):
            found["backbone"].add(line.encoder or "not stated")
        else:
            found["backbone"].add(line.backbone)
            found["device"].add(line.first.device)
    ordered = {name: sorted(values) for name, values in found.items()}
    ordered["prior"] = [prior for prior in PRIORS if prior in found["prior"]]
    return ordered
