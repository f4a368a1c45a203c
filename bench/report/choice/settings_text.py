"""In what rows differ from each other, and from the defaults of method and data set; in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.plan.identity import canonical
from bench.rows.row_values import MEASURED
from bench.rows.settings import Likeness, changed, defaults_of
from bench.rows.text import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

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
    others = row.dataset_params.keys() - set(without)
    found = sorted((k, v) for k, v in changed(row, "dataset_params").items() if k in others)
    parts = [f"{name} = {plain(value)}" for name, value in found]
    rest = [OTHERS] if len(parts) < len(others) else []
    return f"data set options: {', '.join([*parts, *rest])}" if parts else ""


def _by_method(variants: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, Sequence[Row]]]:
    found: dict[str, dict[str, Sequence[Row]]] = {}
    for name, rows in variants.items():
        found.setdefault(rows[0].method, {})[name] = rows
    return found


def _rest(of_method: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Of each variant the parameters that are not defaults, but those that tell it from others."""
    told = varying([rows[0] for rows in of_method.values()])
    return {name: _changed(rows, told) for name, rows in of_method.items()}


def _changed(rows: Sequence[Row], told: Collection[str]) -> str:
    first, parts = rows[0], unlike(rows, told)
    if not parts:
        return ""
    if defaults_of("methods", first.method, first.method_version) is None:
        unknown = f"defaults of {first.method} version {first.method_version} are not known here"
        return f"{', '.join(parts)}; {unknown}"
    names = {name for row in rows for name in row.params} - set(told)
    return "; ".join([", ".join(parts), *([OTHERS] if len(parts) < len(names) else [])])


def in_words(rows: Sequence[Row], without: Collection[str] = ()) -> str:
    """`backbone resnet18, d 50`; says it where all are the method's defaults."""
    return ", ".join(unlike(rows, without)) or DEFAULTS


def unlike(rows: Sequence[Row], without: Collection[str] = ()) -> list[str]:
    """Parameters that are not the method's defaults; by category where they differ.

    Args:
        rows: of one version of one method.
        without: parameters that are not named.
    """
    names = {name for row in rows for name in changed(row, "params")} - set(without)
    parts = []
    for name, values in sorted(by_value(rows, "params").items()):
        if name in names:
            usual, *others = sorted(values, key=lambda text: -len(values[text]))
            special = "; ".join(f"{text}: {', '.join(values[text])}" for text in others)
            parts.append(f"{name} {usual}" + (f" ({special})" if special else ""))
    return parts


def by_value(rows: Iterable[Row], column: str) -> dict[str, dict[str, list[str]]]:
    """Of each setting of a column its values as text, each with the categories that have it."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in getattr(row, column).items():
            categories = found.setdefault(name, {}).setdefault(plain(value), [])
            categories += [row.category] if row.category not in categories else []
    return found


def varying(rows: Sequence[Row]) -> list[str]:
    """Parameters that are not the same in all rows."""
    likeness = Likeness(rows)
    return not_shared([likeness.settings(row, "params") for row in rows])


def named_values(values: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """`key=value` of each key that there is."""
    return [f"{key}={plain(values[key])}" for key in keys if key in values]


def not_shared(sets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values are not the same in all."""
    keys = dict.fromkeys(key for each in sets for key in each)
    return [k for k in keys if len({canonical(each.get(k)) for each in sets}) > 1]
