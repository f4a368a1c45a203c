"""Which rows a comparison or plot is made of."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from bench.errors import ConfigError, nearest
from bench.plan.discovery import sources
from bench.rows.store import ResultStore
from bench.rows.text import plain, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.rows.row import Row
    from bench.settings.config import Settings


@dataclass(frozen=True)
class Selection:
    """What was asked for; empty means all.

    Attributes:
        params: value of a parameter, of methods that have it; `METHOD.name` of one method.
        pretrained: `pretrained`, `random`, `none`, `file:SHA`.
    """

    methods: Sequence[str] = ()
    datasets: Sequence[str] = ()
    protocol: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Sequence[str] = ()

    def rows(self, folder: Path, settings: Settings) -> list[Row]:
        """The rows of a results folder that were asked for, in the order of `methods`.

        Raises:
            ConfigError: an unknown name, or a method without a row; says what to run.
        """
        rows = ResultStore(folder).rows()
        _refuse_unknown("method", self.methods, {r.method for r in rows} | set(sources("methods")))
        _refuse_unknown(
            "data set", self.datasets, {r.dataset for r in rows} | set(sources("datasets"))
        )
        if self.protocol is not None and self.protocol not in {row.protocol for row in rows}:
            settings.protocol(self.protocol)
        found = [
            row
            for row in rows
            if (not self.methods or row.method in self.methods)
            and (not self.datasets or row.dataset in self.datasets)
            and self.protocol in (None, row.protocol)
        ]
        absent = [name for name in self.methods if name not in {row.method for row in found}]
        if absent:
            wanted = ",".join(absent)
            raise ConfigError(
                f"{folder} has no row of {wanted}{self._limits(' on ')}; "
                f"run: bench run -m {wanted}{self.run_options(folder, settings)}"
            )
        if not found:
            there = sorted({f"{row.dataset} under {row.protocol}" for row in rows})
            have = f"there are {some(there, 12)}" if there else "try `bench run --method padim`"
            raise ConfigError(f"{folder} has no row{self._limits(' of ')}; {have}")
        narrowed = self._narrow(found)
        order = {name: place for place, name in reversed(list(enumerate(self.methods)))}
        return sorted(narrowed, key=lambda row: order.get(row.method, 0))

    def run_options(self, folder: Path, settings: Settings) -> str:
        """What a suggested `bench run` must repeat, with a space before it."""
        text = f" -d {','.join(self.datasets)}" if self.datasets else ""
        text += f" --protocol {self.protocol}" if self.protocol else ""
        return text + results_option(folder, settings)

    def _limits(self, word: str) -> str:
        """The data sets and the protocol that were asked for, with a space before them."""
        text = f"{word}{', '.join(self.datasets)}" if self.datasets else ""
        return text + (f" under protocol {self.protocol}" if self.protocol else "")

    def _narrow(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of the asked parameters and weights.

        Raises:
            ConfigError: a parameter that no row has; a value that leaves a method without rows.
        """
        found = list(rows)
        for key, value in self.params.items():
            method, _, name = key.rpartition(".")
            having = [r for r in found if method in ("", r.method) and name in r.params]
            if not having:
                _refuse_parameter(key, rows)
            kept = [row for row in having if row.params[name] == value]
            lost = {row.method for row in having} - {row.method for row in kept}
            if lost:
                values = sorted({plain(r.params[name]) for r in having if r.method in lost})
                raise ConfigError(
                    f"--param {key}={plain(value)}: {', '.join(sorted(lost))} has no such row; "
                    f"there are {some(values, 12)}"
                )
            keep = {id(row) for row in kept}
            dropped = {id(row) for row in having} - keep
            found = [row for row in found if id(row) not in dropped]
        if self.pretrained:
            kept = [row for row in found if row.pretrained in self.pretrained]
            lost = {row.method for row in found} - {row.method for row in kept}
            if lost:
                raise ConfigError(
                    f"--pretrained {','.join(self.pretrained)}: {', '.join(sorted(lost))} has no "
                    f"such row; there are {', '.join(sorted({row.pretrained for row in found}))}"
                )
            found = kept
        return found


def results_option(folder: Path, settings: Settings) -> str:
    """`--results` of a suggested command, where it is not the configured folder."""
    return "" if folder == settings.paths.results else f" --results {shlex.quote(str(folder))}"


def _refuse_parameter(key: str, rows: Sequence[Row]) -> NoReturn:
    """A parameter that no row has: says which the method has, or all."""
    method, _, name = key.rpartition(".")
    theirs = [row for row in rows if method in ("", row.method)]
    if not theirs:
        methods = {row.method for row in rows}
        raise ConfigError(f"--param {key}: no row of {method!r}; {nearest(method, methods)}")
    known = {name for row in theirs for name in row.params}
    text = f"{method} has no parameter {name!r}" if method else "no row has it"
    raise ConfigError(f"--param {key}: {text}; {nearest(name, known)}")


def _refuse_unknown(what: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown {what} {name!r}; {nearest(name, known)}")
