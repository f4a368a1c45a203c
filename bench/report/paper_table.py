"""A paper's table with published numbers beside measured ones, before it takes a format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.report import captions
from bench.report import quantities as q
from bench.report.matching import Match, Matcher
from bench.report.ranking import (
    DIFFERENCE,
    MEASURED,
    ONLY,
    PUBLISHED,
    Entry,
    Line,
    Section,
    rank,
)
from bench.report.summary import figure, marks
from bench.report.table_spec import ANY, MetricSpec, RowSpec, TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.config import Settings
    from bench.report.published import Published, PublishedNumber
    from bench.row import Row


@dataclass(frozen=True)
class PaperTable:
    """Everything that a format needs."""

    spec: TableSpec
    title: str
    caption: tuple[str, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


def build(
    spec: TableSpec,
    published: Published,
    rows: Sequence[Row],
    settings: Settings,
    seeds: Sequence[int] = (),
) -> PaperTable:
    """Published numbers and measured rows of a table, ranked apart, with all that is missing."""
    matcher = Matcher(spec, settings)
    matched = matcher.match(rows, seeds or spec.seeds)
    builder = _Builder(spec, published, matched)
    sections = tuple(builder.sections())
    return PaperTable(
        spec=spec,
        title=captions.title(spec, published),
        caption=(*captions.caption(spec, matcher, matched), *builder.machine_captions()),
        sections=sections,
        footnotes=tuple(captions.footnotes(spec, published, sections, builder.own)),
        missing=tuple(captions.missing(spec, matched)),
        left_out=tuple(matcher.left_out(rows, matched)),
    )


class _Builder:
    """Makes the lines; knows what was matched."""

    def __init__(self, spec: TableSpec, published: Published, matched: dict[str, Match]) -> None:
        self.spec = spec
        self.published = published
        self.matched = matched
        self.own = captions.OwnNotes()
        self.common = set(published.notes_of_table(spec.paper, spec.table))
        used = [row for match in matched.values() for row in match.rows]
        self.machines = q.group_by(used, _machine) if self.has_hardware() else []

    def has_hardware(self) -> bool:
        """Whether some column depends on the machine."""
        names = [m.measured for m in self.spec.metrics]
        names += [name for row in self.spec.rows for name in row.measured.values()]
        return any(name and q.depends_on_hardware(name) for name in names)

    def machine_captions(self) -> list[str]:
        """The devices, where some column depends on them."""
        if not self.has_hardware():
            return []
        several = len(self.machines) > 1
        return [
            captions.machine(group, _letter(i) if several else "")
            for i, group in enumerate(self.machines)
        ]

    def sections(self) -> Iterable[Section]:
        """One section for each metric, or one in which metrics are the columns."""
        spec = self.spec
        if spec.layout == "metrics":
            pairs = [(metric, spec.column) for metric in spec.metrics]
            heads = tuple(metric.label for metric in spec.metrics)
            yield self._section("", heads, pairs)
            return
        columns = (*spec.categories, *spec.means)
        for metric in spec.metrics:
            yield self._section(metric.label, columns, [(metric, c) for c in columns])

    def _section(
        self, title: str, heads: tuple[str, ...], pairs: list[tuple[MetricSpec, str]]
    ) -> Section:
        lines = [line for row in self.spec.rows for line in self._lines(row, pairs)]
        lower = [q.is_lower_better(metric.measured or metric.published) for metric, _ in pairs]
        ranked = rank(lines, lower) if self.spec.rank else lines
        return Section(title, heads, tuple(ranked))

    def _lines(self, row: RowSpec, pairs: list[tuple[MetricSpec, str]]) -> Iterable[Line]:
        numbers = [self._number(row, metric, column) for metric, column in pairs]
        printed = any(n is not None for n in numbers)
        names = [row.measured.get(metric.id, metric.measured) for metric, _ in pairs]
        measurable = bool(row.method) and any(names)
        on_label, entries = self._published_entries(numbers)
        own, entries = self._apart(entries, [self._definition(row, m) for m, _ in pairs])
        if printed:
            kind = PUBLISHED if measurable else ONLY
            text = "".join(captions.MARKS[mark] for mark in row.marks)
            yield Line(row.label, kind, row.block, entries, text, (*own, *on_label))
        if not measurable or not (printed or not row.published):
            return
        for letter, group in self._groups(row):
            yield from self._measured_lines(row, pairs, names, numbers, letter, group)

    def _groups(self, row: RowSpec) -> list[tuple[str, list[Row]]]:
        """The rows of one table row, apart by machine where that matters."""
        found = self.matched[row.label].rows
        if len(self.machines) < 2:
            return [("", found)]
        groups = [
            (_letter(i), [r for r in found if _machine(r) == _machine(group[0])])
            for i, group in enumerate(self.machines)
        ]
        return [(letter, group) for letter, group in groups if group]

    def _measured_lines(
        self,
        row: RowSpec,
        pairs: list[tuple[MetricSpec, str]],
        names: list[str],
        numbers: list[PublishedNumber | None],
        letter: str,
        group: list[Row],
    ) -> Iterable[Line]:
        entries = tuple(
            self._measured_entry(group, name, metric, column)
            for (metric, column), name in zip(pairs, names, strict=True)
        )
        timed = any(name and q.depends_on_hardware(name) for name in names)
        found = {mark for r in group for mark in marks(r) if timed or mark != captions.ROUGH}
        text = "".join(sorted(found))
        definitions = [
            self._definition(row, metric, name)
            for (metric, _), name in zip(pairs, names, strict=True)
        ]
        own, entries = self._apart(entries, definitions)
        yield Line(row.label, f"{MEASURED}{letter}", row.block, entries, text, own)
        gaps = tuple(
            _difference(entry, number, name)
            for entry, number, name in zip(entries, numbers, names, strict=True)
        )
        if any(gap.text for gap in gaps):
            yield Line(row.label, DIFFERENCE, row.block, gaps)

    def _number(self, row: RowSpec, metric: MetricSpec, column: str) -> PublishedNumber | None:
        if not row.published:
            return None
        selector = {"metric": metric.published, "dataset": self.spec.dataset, "category": column}
        selector |= {**metric.where, **row.published}
        found = self.published.find(self.spec.paper, self.spec.table, selector)
        return found[0] if found else None

    def _published_entries(
        self, numbers: list[PublishedNumber | None]
    ) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
        """Notes that hold for the whole line go to its label, the others to their number."""
        notes = [
            [n for n in self.published.notes_of(number) if n not in self.common] if number else None
            for number in numbers
        ]
        present = [set(n) for n in notes if n is not None]
        shared = set.intersection(*present) if len(present) > 1 else set()
        entries = [
            Entry(
                number.value,
                number.number,
                number.std,
                self.published.is_ranked(number),
                notes=tuple(n for n in found if n not in shared),
            )
            if number is not None and found is not None
            else Entry()
            for number, found in zip(numbers, notes, strict=True)
        ]
        return tuple(sorted(shared, key=captions.note_order)), tuple(entries)

    def _definition(self, row: RowSpec, metric: MetricSpec, name: str = "") -> str:
        """What a row has in place of the metric that the table's other rows have; or empty.

        Args:
            name: the measured quantity; empty for a published number.
        """
        if metric.id in row.definition:
            return row.definition[metric.id]
        if name and metric.measured and name != metric.measured and q.is_score(name):
            return f"measured as {q.label(name)}"
        return ""

    def _apart(
        self, entries: tuple[Entry, ...], definitions: list[str]
    ) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
        """The entries, those with a definition of their own not ranked and with a note.

        A note that holds for the whole line is returned for its label.
        """
        texts = {d for e, d in zip(entries, definitions, strict=True) if e.text}
        shared = (self.own.id(f"{next(iter(texts))}: not ranked"),) if _is_one(texts) else ()
        return shared, tuple(
            replace(
                e,
                ranked=False,
                notes=e.notes if shared else (self.own.id(f"{d}: not ranked"), *e.notes),
            )
            if e.text and d
            else e
            for e, d in zip(entries, definitions, strict=True)
        )

    def _measured_entry(
        self, group: list[Row], name: str, metric: MetricSpec, column: str
    ) -> Entry:
        if not name or not group:
            return Entry()
        members = self.spec.members(column)
        if column == ANY:  # a cost: over whatever was measured
            members = tuple(dict.fromkeys(row.category for row in group))
        mean, spread = q.over_seeds(group, name, members)
        if mean is None:
            return Entry()
        scale = 100 if q.is_score(name) else 1
        std = q.show(name, spread, metric.decimals) if q.is_score(name) else ""
        return Entry(q.show(name, mean, metric.decimals), scale * mean, std)


def _is_one(texts: set[str]) -> bool:
    """Whether they are one text, and not the empty one."""
    return len(texts) == 1 and "" not in texts


def _difference(entry: Entry, number: PublishedNumber | None, name: str) -> Entry:
    if entry.number is None or number is None or q.depends_on_hardware(name):
        return Entry()
    gap = entry.number - number.number
    return Entry(
        f"{gap:+.1f}" if q.is_score(name) else f"{'+' if gap >= 0 else ''}{figure(gap)}",
        gap,
        ranked=False,
    )


def _machine(row: Row) -> tuple[object, ...]:
    return (row.device, row.threads, row.speed, row.memory)


def _letter(index: int) -> str:
    return f" {chr(ord('A') + index % 26)}{index // 26 or ''}"
