"""A paper's table with published numbers beside measured ones, before it takes a format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.plan.identity import canonical
from bench.report.choice import quantities as q
from bench.report.choice.marks import NAMED, OF_SCORES, ROUGH, caution, data_notes, marks
from bench.report.paper import captions
from bench.report.paper.matching import Match, Matcher
from bench.report.paper.ranking import (
    DIFFERENCE,
    MEASURED,
    ONLY,
    PUBLISHED,
    Entry,
    PaperLine,
    Section,
    rank,
    signed,
    with_changes,
)
from bench.report.paper.table_spec import ANY, MetricSpec, RowSpec, TableSpec
from bench.rows.text import three_digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.report.paper.published import PublishedNumber, PublishedNumbers
    from bench.rows.row import Row
    from bench.settings.config import Settings


@dataclass(frozen=True)
class PaperTable:
    """Everything that a format needs."""

    spec: TableSpec
    title: str
    caption: tuple[str, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    common: tuple[str, ...]  # notes on the paper's table as a whole
    protocol_fields: str  # JSON
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


def build(
    spec: TableSpec,
    published: PublishedNumbers,
    rows: Sequence[Row],
    settings: Settings,
    seeds: Sequence[int] = (),
) -> PaperTable:
    """Published numbers and measured rows of a table, ranked apart, with all that is missing."""
    matcher = Matcher(spec, settings)
    matched = matcher.match(rows, seeds)
    builder = _Builder(spec, published, matcher, matched)
    sections = tuple(builder.sections())
    return PaperTable(
        spec=spec,
        title=captions.title(spec, published),
        caption=(*captions.caption(spec, matcher, matched), *builder.machine_captions()),
        sections=sections,
        footnotes=tuple(captions.footnotes(spec, published, sections, builder.own)),
        remarks=(
            *caution(spec.dataset),
            *data_notes([row for match in matched.values() for row in match.rows]),
        ),
        common=tuple(sorted(builder.common, key=captions.note_order)),
        protocol_fields=canonical(matcher.protocol.identity()),
        missing=tuple(captions.missing(spec, matched)),
        left_out=tuple(matcher.left_out(rows, matched)),
    )


class _Builder:
    """Makes the lines; knows what was matched."""

    def __init__(
        self,
        spec: TableSpec,
        published: PublishedNumbers,
        matcher: Matcher,
        matched: dict[str, Match],
    ) -> None:
        self.spec = spec
        self.matcher = matcher
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
        if self.spec.change_from:
            decimals = [metric.decimals for metric, _ in pairs]
            for kind in {line.kind for line in lines if line.kind.startswith(MEASURED)}:
                lines = with_changes(lines, self.spec.change_from, kind, decimals)
        ranked = rank(lines, lower) if self.spec.rank else lines
        return Section(title, heads, tuple(ranked))

    def _lines(self, row: RowSpec, pairs: list[tuple[MetricSpec, str]]) -> Iterable[PaperLine]:
        numbers = [self._number(row, metric, column) for metric, column in pairs]
        printed = any(n is not None for n in numbers)
        names = [row.measured.get(metric.id, metric.measured) for metric, _ in pairs]
        measurable = bool(row.method) and any(names)
        on_label, entries = self._published_entries(numbers)
        entries = self._with_origin(row, pairs, entries)
        own, entries = self._apart(entries, [self._definition(row, m) for m, _ in pairs])
        if printed:
            kind = PUBLISHED if measurable else ONLY
            scored = any(n and n.unit == "%" for n in numbers)
            text = "".join(NAMED[mark] for mark in row.marks) if scored else ""
            entries = self._with_printed_changes(row, pairs, entries)
            yield PaperLine(row.label, kind, row.block, entries, text, (*own, *on_label))
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
        return [(letter, group) for letter, group in groups if group] or [("", [])]

    def _measured_lines(
        self,
        row: RowSpec,
        pairs: list[tuple[MetricSpec, str]],
        names: list[str],
        numbers: list[PublishedNumber | None],
        letter: str,
        group: list[Row],
    ) -> Iterable[PaperLine]:
        entries = tuple(
            self._measured_entry(group, name, metric, column)
            for (metric, column), name in zip(pairs, names, strict=True)
        )
        text = _marks(group, [name for name in names if name])
        definitions = [
            self._definition(row, metric, name)
            for (metric, _), name in zip(pairs, names, strict=True)
        ]
        own, entries = self._apart(entries, definitions)
        origin = captions.origin(group) if group else None
        yield PaperLine(row.label, f"{MEASURED}{letter}", row.block, entries, text, own, origin)
        gaps = tuple(
            Entry()
            if metric.id in row.printed
            else _difference(entry, number, name, metric.decimals)
            for entry, number, name, (metric, _) in zip(entries, numbers, names, pairs, strict=True)
        )
        if any(gap.text for gap in gaps):
            yield PaperLine(row.label, DIFFERENCE, row.block, gaps, origin=origin)

    def _number(self, row: RowSpec, metric: MetricSpec, column: str) -> PublishedNumber | None:
        if not row.published:
            return None
        return self._find(row, metric, metric.published, column)

    def _find(
        self, row: RowSpec, metric: MetricSpec, name: str, column: str
    ) -> PublishedNumber | None:
        selector = {"category": column, **self.spec.selector(row, metric, name)}
        found = self.published.find(self.spec.paper, self.spec.table, selector)
        return found[0] if found else None

    def _with_printed_changes(
        self, row: RowSpec, pairs: list[tuple[MetricSpec, str]], entries: tuple[Entry, ...]
    ) -> tuple[Entry, ...]:
        """The entries with the changes that the paper prints behind them."""
        changes = [self._find(row, m, f"{m.published}_delta", column) for m, column in pairs]
        return tuple(
            replace(entry, change=change.value) if change else entry
            for entry, change in zip(entries, changes, strict=True)
        )

    def _with_origin(
        self, row: RowSpec, pairs: list[tuple[MetricSpec, str]], entries: tuple[Entry, ...]
    ) -> tuple[Entry, ...]:
        """The entries, with a note where the paper made a number otherwise than its row."""
        return tuple(
            replace(e, notes=(self.own.id(f"{text}: no difference"), *e.notes))
            if e.text and (text := row.printed.get(metric.id)) and row.method
            else e
            for e, (metric, _) in zip(entries, pairs, strict=True)
        )

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
                unit=number.unit,
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
        if q.is_score(name) and (notes := self._undefined(group, name, members)):
            return Entry("n/a", ranked=False, notes=notes, unit=q.unit(name))
        mean, spread = q.over_seeds(group, name, members)
        if mean is None:
            return Entry()
        scale = 100 if q.is_score(name) else 1
        std = q.show(name, spread, metric.decimals) if q.is_score(name) else ""
        text = q.show(name, mean, metric.decimals)
        leaks = q.is_score(name) and any(r.n_leaked for r in group if r.category in members)
        return Entry(text, scale * mean, std, ranked=not leaks, unit=q.unit(name))

    def _undefined(
        self, group: Sequence[Row], name: str, members: Sequence[str]
    ) -> tuple[str, ...]:
        """Notes on scores that rows of these categories do not have, with their reasons."""
        lacking = [r for r in group if r.category in members and q.quantity(r, name) is None]
        reasons = {
            (r.category, r.undefined.get(name, "the row has no such score")) for r in lacking
        }
        texts = [f"{q.label(name)} of {c} is not defined: {why}" for c, why in sorted(reasons)]
        return tuple(sorted(map(self.own.id, texts), key=lambda id: (len(id), id)))


def _is_one(texts: set[str]) -> bool:
    """Whether they are one text, and not the empty one."""
    return len(texts) == 1 and "" not in texts


def _marks(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Marks of a measured line, without those on scores or on timing that it does not show."""
    hidden = "" if any(map(q.is_score, names)) else OF_SCORES
    hidden += "" if any(map(q.is_timing, names)) else ROUGH
    return "".join(sorted({mark for row in rows for mark in marks(row)} - set(hidden)))


def _difference(entry: Entry, number: PublishedNumber | None, name: str, decimals: int) -> Entry:
    if entry.number is None or number is None or q.depends_on_hardware(name):
        return Entry()
    gap = entry.number - number.number
    if q.is_score(name):
        return Entry(signed(gap, decimals), gap, ranked=False, unit="pp")
    text = f"{'+' if gap >= 0 else ''}{three_digits(gap)}"
    return Entry(text, gap, ranked=False, unit=q.unit(name))


def _machine(row: Row) -> tuple[object, ...]:
    return (row.device, row.threads, row.speed, row.memory)


def _letter(index: int) -> str:
    return f" {chr(ord('A') + index % 26)}{index // 26 or ''}"
