"""In what rows differ from the defaults of their method and of their data set, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.rows.row_values import MEASURED
from bench.rows.settings import Likeness, defaults_of
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bench.rows.row import Row

OTHERS = "others at their defaults"
DEFAULTS = "the method's defaults"


def settings_notes(variants: Mapping[str, Sequence[Row]], told: Mapping[str, str]) -> list[str]:
    """What tells a method's variants apart, and the parameters that are not its defaults.

    A method with neither has no line. What all variants of a method share stands in one line.

    Args:
        variants: rows by variant.
        told: what tells the variants of one method apart, by their name.
    """
    lines = []
    for method, of_method in _by_method(variants).items():
        rest = _rest(of_method)
        if len(of_method) > 1 and len(set(rest.values())) == 1:
            lines += [f"{name}: {told[name]}" for name in of_method if name in told]
            common = next(iter(rest.values()))
            lines += [f"every {method}: {common}"] if common else []
        else:
            texts = {name: "; ".join(filter(None, (told.get(name), rest[name]))) for name in rest}
            lines += [f"{name}: {text}" for name, text in texts.items() if text]
    return lines


def settings_of(variants: Mapping[str, Sequence[Row]], told: Mapping[str, str], name: str) -> str:
    """The same of one variant, in one text; says it where all are defaults."""
    first = variants[name][0]
    parts = filter(None, (told.get(name), _rest(_by_method(variants)[first.method])[name]))
    is_known = defaults_of("methods", first.method, first.method_version) is not None
    is_measured = first.kind == MEASURED
    return "; ".join(parts) or (DEFAULTS if is_known and is_measured else "")


def options_text(row: Row, without: Collection[str] = ()) -> str:
    """`data set options: bad = 80, good = 40, others at their defaults`; empty if all are.

    Args:
        without: options that are named elsewhere.
    """
    defaults = defaults_of("datasets", row.dataset, row.dataset_version)
    options = sorted(row.dataset_params.items())
    others = {name: value for name, value in options if name not in without}
    changed = [
        f"{name} = {plain(value)}"
        for name, value in others.items()
        if defaults is None or name not in defaults or defaults[name] != value
    ]
    if not changed:
        return ""
    rest = [OTHERS] if len(changed) < len(others) else []
    return f"data set options: {', '.join([*changed, *rest])}"


def _by_method(variants: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Sequence[Row]]]:
    found: dict[str, dict[str, Sequence[Row]]] = {}
    for name, rows in variants.items():
        found.setdefault(rows[0].method, {})[name] = rows
    return found


def _rest(of_method: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Of each variant the parameters that are not defaults, but those that tell it from others."""
    likeness = Likeness([rows[0] for rows in of_method.values()])
    firsts = [likeness.settings(rows[0], "params") for rows in of_method.values()]
    names = {name for params in firsts for name in params}
    told = {n for n in names if len({json.dumps(params.get(n)) for params in firsts}) > 1}
    return {name: _changed(rows, told) for name, rows in of_method.items()}


def _changed(rows: Sequence[Row], told: Collection[str]) -> str:
    first = rows[0]
    defaults = defaults_of("methods", first.method, first.method_version)
    parts = unlike(rows, defaults or {}, told)
    if not parts:
        return ""
    if defaults is None:
        unknown = f"defaults of {first.method} version {first.method_version} are not known here"
        return f"{', '.join(parts)}; {unknown}"
    names = {name for row in rows for name in row.params} - set(told)
    return "; ".join([", ".join(parts), *([OTHERS] if len(parts) < len(names) else [])])


def unlike(
    rows: Sequence[Row], values: Mapping[str, Any], without: Collection[str] = ()
) -> list[str]:
    """Parameters that are not these values, each with its own; by category where they differ.

    Args:
        without: parameters that are not named.
    """
    defaults = {k: json.dumps(v) for k, v in values.items()}
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in row.params.items():
            if name in without:
                continue
            categories = found.setdefault(name, {}).setdefault(json.dumps(value), [])
            categories += [row.category] if row.category not in categories else []
    parts = []
    for name, by_value in sorted(found.items()):
        usual, *others = sorted(by_value, key=lambda value: -len(by_value[value]))
        if others or defaults.get(name) != usual:
            special = "; ".join(f"{plain(json.loads(v))}: {', '.join(by_value[v])}" for v in others)
            parts.append(
                f"{name} {plain(json.loads(usual))}" + (f" ({special})" if special else "")
            )
    return parts
