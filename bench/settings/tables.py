"""Tables of settings into fields: one check of keys and values, by the annotations of the fields.

Annotations are text, since those of plugins are read from their source. Every error names file,
section, key, value, and the nearest name or what is expected.
"""

from __future__ import annotations

import ast
import json
import math
import sys
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

from bench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Positive: TypeAlias = int
"""A whole number from 1."""
Count: TypeAlias = int
"""A whole number from 0."""
Amount: TypeAlias = float
"""A finite number from 0."""

_LISTS = ("tuple", "list", "Sequence")


def checked(
    values: Mapping[str, Any], types: Mapping[str, str], where: object, section: str = ""
) -> dict[str, Any]:
    """The values of a table, lists as tuples.

    Args:
        types: annotation of each key that there is.
        where: the file, for messages.
        section: of the file, as "[run]".

    Raises:
        ConfigError: an unknown key, or a value of another type.
    """
    for key, value in values.items():
        place = f"{section}.{key}" if section else key
        if key not in types:
            raise ConfigError(f"{where}: unknown key {place}; {nearest(key, types)}")
        if wrong := misfit(value, types[key]):
            raise ConfigError(f"{where}: {place} = {value!r}{wrong}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def types_of(kind: type, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The annotation of each field of a dataclass; a name of closed choices is spelled out."""
    names = vars(sys.modules[kind.__module__])
    texts = {f.name: str(f.type) for f in fields(kind) if f.name not in without}
    return {name: _spelled(text, names.get(text)) for name, text in texts.items()}


def _spelled(text: str, alias: object) -> str:
    return f"Literal{list(get_args(alias))}" if get_origin(alias) is Literal else text


def misfit(value: Any, annotation: str) -> str:
    """End of a message about a value that is not of the annotated type; empty where it is."""
    if fits(value, annotation):
        return ""
    if choices := _choices(_parsed(annotation)):
        return f"; {nearest(str(value), map(str, choices))}"
    return f" is not {_named(_parsed(annotation))}"


def as_typed(value: Any, annotation: str) -> Any:
    """A value of the command line, where 32 may be a number or a text: as the text if that fits."""
    text = json.dumps(value) if isinstance(value, (bool, int, float)) else value
    return text if fits(text, annotation) and not fits(value, annotation) else value


def fits(value: Any, annotation: str) -> bool:
    """Whether a value of TOML or JSON is of an annotated type, for the types that fields use."""
    return _fits(value, _parsed(annotation))


@lru_cache(maxsize=512)
def _parsed(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _fits(value: Any, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):  # X | Y
        return _fits(value, node.left) or _fits(value, node.right)
    if isinstance(node, ast.Constant):
        return node.value is None and value is None
    if choices := _choices(node):
        return value in choices
    name, items = _taken_apart(node)
    if name in _LISTS:
        return isinstance(value, (list, tuple)) and _fit_each(value, items)
    return name not in _PLAIN or _PLAIN[name](value)


def _fit_each(values: list[Any] | tuple[Any, ...], items: list[ast.expr]) -> bool:
    if not items:
        return True
    if _is_any_length(items):
        return all(_fits(value, items[0]) for value in values)
    return len(values) == len(items) and all(map(_fits, values, items))


def _is_any_length(items: list[ast.expr]) -> bool:
    """Of `tuple[X, ...]` and `list[X]`."""
    return len(items) == 1 or isinstance(items[1], ast.Constant)


def _choices(node: ast.expr) -> list[Any]:
    """Those of `Literal[...]`; none of any other annotation."""
    name, items = _taken_apart(node)
    return [ast.literal_eval(item) for item in items] if name == "Literal" else []


def _taken_apart(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """The last name of an annotation, and what stands in its brackets."""
    if isinstance(node, ast.Subscript):
        inner = node.slice
        items = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        return _taken_apart(node.value)[0], items
    return ast.unparse(node).rpartition(".")[2], []


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "int": _is_int,
    "Positive": lambda value: _is_int(value) and value > 0,
    "Count": lambda value: _is_int(value) and value >= 0,
    "float": _is_number,
    "Amount": lambda value: _is_number(value) and value >= 0,
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "ImageFolder": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, str),
    "Mapping": lambda value: isinstance(value, dict),
}

_WORDS = {
    "int": "whole number",
    "Positive": "whole number from 1",
    "Count": "whole number from 0",
    "float": "number",
    "Amount": "number from 0",
    "str": "text",
    "Mapping": "table",
}
_PHRASES = {
    "bool": "true or false",
    "ImageFolder": "the name of a folder",
    "Path": "the name of a folder",
}


def _named(node: ast.expr) -> str:
    """A type in words."""
    if isinstance(node, ast.BinOp):
        parts = [part for part in (node.left, node.right) if not _is_none(part)]
        return " or ".join(map(_named, parts))
    if choices := _choices(node):
        return " or ".join(map(repr, choices))
    name, items = _taken_apart(node)
    if name in _LISTS and items:
        count = "" if _is_any_length(items) else f"{len(items)} "
        return f"a list of {count}{_several(_taken_apart(items[0])[0])}"
    return _PHRASES.get(name) or f"a {_WORDS.get(name, name)}"


def _several(name: str) -> str:
    one, _, rest = _WORDS.get(name, name).partition(" from ")
    return f"{one}s from {rest}" if rest else f"{one}s"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
