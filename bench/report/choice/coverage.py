"""From which files, seeds and categories the numbers of a table come: the same in every number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.rows.text import listed, of_categories, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.rows.row import Row


@dataclass(frozen=True)
class Chosen:
    """The rows of one method that count.

    Attributes:
        seeds: those that have every category in `rows`, sorted.
        rows: category -> its rows, one for each seed, in the order of `seeds`.
        dropped: every other seed, with the categories that it lacks.
        older: rows that a newer one of their category and seed replaced.
    """

    seeds: tuple[int, ...]
    rows: Mapping[str, tuple[Row, ...]]
    dropped: Mapping[int, tuple[str, ...]]
    older: tuple[Row, ...]

    @property
    def every_row(self) -> tuple[Row, ...]:
        """Those of all categories, by category, then seed."""
        return tuple(row for rows in self.rows.values() for row in rows)


@dataclass(frozen=True)
class Coverage:
    """Rows that count, and the categories over which methods can be compared.

    Attributes:
        chosen: by variant.
        compared: variants in means, ranks and tests, in the order of the group.
        left_out: every other variant, with the reason.
        shared: categories that every compared variant has, sorted.
        missing: the other categories.
    """

    chosen: Mapping[str, Chosen]
    compared: tuple[str, ...]
    left_out: Mapping[str, str]
    shared: tuple[str, ...]
    missing: tuple[str, ...]

    def shared_rows(self, name: str) -> list[Row]:
        """The rows of a compared variant in the shared categories."""
        return [row for category in self.shared for row in self.chosen[name].rows[category]]

    def notes(self) -> list[str]:
        """Seeds, and what was left out, one line each."""
        lines = _seed_notes(self.chosen)
        if self.missing and self.compared:
            lines.append(
                f"over {of_categories(self.shared)}, without {', '.join(self.missing)}: "
                "not measured for every method"
            )
        return [*lines, *(f"{name} left out: {why}" for name, why in self.left_out.items())]


LEAKING = "test images are training images too"


def cover(
    variants: Mapping[str, Sequence[Row]],
    value: Callable[[Row], float | None],
    is_score: bool = False,
) -> Coverage:
    """Choose seeds and categories.

    Each variant has the seeds and categories that `choose` takes of its rows with a value. Variants
    without a value are left out, of scores those with leaking test images, and those with fewer
    than half of the categories, unless fewer than two would remain.

    Args:
        variants: rows by variant.
        value: the quantity; None where a row lacks it.
        is_score: whether the quantity is one that leaking test images make better.
    """
    chosen = {
        name: choose(row for row in rows if value(row) is not None)
        for name, rows in variants.items()
    }
    every = sorted({category for each in chosen.values() for category in each.rows})
    reasons = {name: _lack(variants[name]) for name, each in chosen.items() if not each.rows}
    if is_score:
        leaking = [n for n, each in chosen.items() if any(row.n_leaked for row in each.every_row)]
        reasons |= dict.fromkeys(leaking, LEAKING)
    usable = [name for name in chosen if name not in reasons]
    wide = [name for name in usable if 2 * len(chosen[name].rows) >= len(every)]
    compared = tuple(wide if len(wide) > 1 else usable)
    reasons |= {
        name: f"{len(chosen[name].rows)} of {of_categories(every)}"
        for name in usable
        if name not in compared
    }
    shared = [c for c in every if compared and all(c in chosen[name].rows for name in compared)]
    return Coverage(
        chosen=chosen,
        compared=compared,
        left_out={name: reasons[name] for name in chosen if name in reasons},
        shared=tuple(shared),
        missing=tuple(c for c in every if c not in shared),
    )


def _lack(rows: Sequence[Row]) -> str:
    """Why no row has a value: it has image scores, so a score that it lacks is one of maps."""
    text = "has no such value"
    is_image_level = all(row.maps == "none" and row.image_auroc is not None for row in rows)
    return f"{text}: the method gives no maps" if is_image_level else text


def data_states(rows: Iterable[Row]) -> dict[str, list[str]]:
    """The data hashes of each category, the one that tables show first.

    That is the one on which most methods were tested; of as many that of most cells, then that of
    the newest row.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.category, {}).setdefault(row.data, []).append(row)
    return {
        category: sorted(by_hash, key=lambda data: _weight(by_hash[data]), reverse=True)
        for category, by_hash in found.items()
    }


def _weight(rows: Sequence[Row]) -> tuple[int, int, str, str]:
    newest = max(row.started for row in rows)
    return len({row.method for row in rows}), len({row.cell for row in rows}), newest, rows[0].data


def choose(rows: Iterable[Row]) -> Chosen:
    """The seeds whose numbers count: those with the most categories, all with the same ones.

    Of several such sets of categories the one that more seeds have counts, of as many that of the
    lowest seed. Of rows of one category and seed the newest counts.

    Args:
        rows: of one method as it ran.
    """
    by_seed: dict[int, dict[str, Row]] = {}
    older = []
    for row in sorted(rows, key=lambda row: (row.started, row.cell)):
        found = by_seed.setdefault(row.seed, {})
        older += [found[row.category]] if row.category in found else []
        found[row.category] = row
    if not by_seed:
        return Chosen((), {}, {}, ())
    sets: dict[frozenset[str], list[int]] = {}
    for seed, of_seed in sorted(by_seed.items()):
        sets.setdefault(frozenset(of_seed), []).append(seed)
    best = max(sets, key=lambda found: (len(found), len(sets[found]), -sets[found][0]))
    seeds = tuple(sets[best])
    return Chosen(
        seeds=seeds,
        rows={c: tuple(by_seed[seed][c] for seed in seeds) for c in sorted(best)},
        dropped={
            seed: tuple(sorted(best - of_seed.keys()))
            for seed, of_seed in sorted(by_seed.items())
            if seed not in seeds
        },
        older=tuple(older),
    )


def _seed_notes(chosen: Mapping[str, Chosen]) -> list[str]:
    found = {name: each for name, each in chosen.items() if each.seeds}
    lines = []
    if len({each.seeds for each in found.values()}) > 1:
        each_its_own = [f"{name}: {listed('seed', each.seeds)}" for name, each in found.items()]
        lines.append("; ".join(each_its_own))
    elif found:
        lines.append(listed("seed", next(iter(found.values())).seeds))
    return lines + dropped(found)


def dropped(chosen: Mapping[str, Chosen]) -> list[str]:
    """One line for each seed that does not count."""
    return [
        f"{name}: seed {seed} does not count, lacks {some(lost)}"
        for name, each in chosen.items()
        for seed, lost in each.dropped.items()
    ]
