"""What stands around a paper's table: protocol, devices, footnotes, cells that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.choice import quantities as q
from bench.report.choice.marks import MEANINGS
from bench.report.choice.settings_text import in_words
from bench.report.paper.ranking import Origin
from bench.rows.text import device, listed, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.report.paper.matching import Match, Matcher
    from bench.report.paper.published import PublishedNumbers
    from bench.report.paper.ranking import Section
    from bench.report.paper.table_spec import TableSpec
    from bench.rows.row import Row


def title(spec: TableSpec, published: PublishedNumbers) -> str:
    """Title, paper, year and number of the table."""
    paper = published.papers[spec.paper]
    origin = ", ".join(p for p in (paper["title"].split(":")[0], paper["year"], spec.table) if p)
    return f"{spec.title} ({origin})"


def caption(spec: TableSpec, matcher: Matcher, matched: Mapping[str, Match]) -> Iterable[str]:
    """The protocols and settings: a number never stands without its own."""
    yield f"Published: {spec.published_protocol.rstrip('.')}"
    if any(row.method for row in spec.rows):
        fields = matcher.protocol.identity()
        text = ", ".join(f"{k} {plain(v)}" for k, v in fields.items() if v not in (None, []))
        found = sorted({match.seeds for match in matched.values() if match.rows})
        place = f"data set {spec.dataset}, protocol {spec.protocol} ({text})"
        yield f"Measured: {place}; {_seeds(found)}"
        for row in spec.rows:
            if matched[row.label].rows:
                yield _settings(matched[row.label], row.label, len(found) > 1)
    if spec.rank:
        yield (
            "Best (bold) and second best (underlined or italic) of each block are marked, "
            "published and measured apart"
        )
    if spec.note:
        yield spec.note.rstrip(".")


def _seeds(found: Sequence[tuple[int, ...]]) -> str:
    """The seeds of a table, if all its lines have the same."""
    if not found:
        return "no row yet"
    return "seeds by line" if len(found) > 1 else listed("seed", found[0])


def _settings(match: Match, label: str, with_seeds: bool) -> str:
    """One line on a measured row: its parameters, weights of a file, seeds."""
    parts = [in_words(match.rows)]
    weights = {row.pretrained for row in match.rows}
    parts += [f"weights {name}" for name in sorted(weights) if name.startswith("file:")]
    parts += [listed("seed", match.seeds)] if with_seeds else []
    return f"Measured {label}: {'; '.join(parts)}"


def origin(rows: Sequence[Row]) -> Origin:
    """Where the numbers of a measured line come from."""

    def joined(column: str) -> str:
        values = {getattr(row, column) for row in rows}
        return ", ".join(str(value) for value in sorted(values, key=str) if value not in (None, ""))

    return Origin(
        seeds=joined("seed"),
        settings=in_words(rows),
        weights=joined("pretrained"),
        device=joined("device"),
        threads=joined("threads"),
        speed=joined("speed"),
    )


def machine(rows: Sequence[Row], letter: str) -> str:
    """The device of measured costs, and how they were measured."""
    row = rows[0]
    parts = [
        f"Measured{letter} on {device(row)}",
        f"speed protocol {row.speed or 'none'}",
        f"memory by {row.memory or 'no means'}",
    ]
    if len(rows) > 1:
        parts.append("medians over categories and seeds")
    if batches := q.batches(rows):
        parts.append(f"throughput at batch {', '.join(map(str, batches))}")
    return ", ".join(parts)


class OwnNotes:
    """Footnotes that the table itself gives to its numbers: a, b, c, ... in order of appearance."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def id(self, text: str) -> str:
        """The letter of a text; the same text has one."""
        if text not in self.texts:
            self.texts[text] = _letters(len(self.texts))
        return self.texts[text]


def _letters(index: int) -> str:
    """a, ..., z, aa, ab, ..."""
    rest, last = divmod(index, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("a") + last)


def footnotes(
    spec: TableSpec, published: PublishedNumbers, sections: Sequence[Section], own: OwnNotes
) -> Iterable[tuple[str, str]]:
    """The table's own notes, those on numbers that are shown or on the table, meaning of marks."""
    yield from ((id, text) for text, id in own.texts.items())
    lines = [line for section in sections for line in section.lines]
    ids = {n for line in lines for n in line.notes}
    ids |= {n for line in lines for entry in line.entries for n in entry.notes}
    ids |= set(published.notes_of_table(spec.paper, spec.table))
    ids -= set(own.texts.values())
    for id in sorted(ids, key=note_order):
        yield id, published.note(id).text
    for mark in sorted({mark for line in lines for mark in line.marks}):
        yield mark, MEANINGS[mark]


def missing(spec: TableSpec, matched: Mapping[str, Match]) -> Iterable[str]:
    """One line for each row and set of categories without measured rows."""
    for label, match in matched.items():
        by_seed: dict[int, list[str]] = {}
        for category, seed in match.missing:
            by_seed.setdefault(seed, []).append(category)
        seeds_of: dict[tuple[str, ...], list[int]] = {}
        for seed, categories in by_seed.items():
            seeds_of.setdefault(tuple(categories), []).append(seed)
        for names, numbers in seeds_of.items():
            every = len(names) > 3 and names == spec.wanted()
            what = f"all {len(names)} categories" if every else ", ".join(names)
            yield f"{label}: {what}; {listed('seed', numbers)}"


def note_order(note: str) -> tuple[int, str]:
    """S2 before S10."""
    return (int(note[1:]) if note[1:].isdigit() else 0, note)
