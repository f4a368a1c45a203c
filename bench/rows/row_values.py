"""What each column of a results file may hold: its text as a value, or what was expected of it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.rows.row import COMPLEXITY, RESCORED, SCORE, SPOOLED, Row, columns
from bench.settings.precision import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURED = "measured"
KINDS = (MEASURED, "submitted")
FREE = ("pixel_f1max_threshold", "infer_mb", "infer_batch_mb", "fit_mb", "fit_left_mb")
"""Numbers of any sign: a threshold of maps, and memory as a difference to what was held before."""


@dataclass(frozen=True)
class Reader:
    """How the text of a column is read.

    Attributes:
        read: its text as a value; ValueError if it holds none.
        expected: what it should hold, for a message.
        optional: whether it may be empty, which is None.
    """

    column: str
    read: Callable[[str], Any]
    expected: str
    optional: bool = False


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("no fraction")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError("negative or not finite")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("negative")
    return value


def _bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _kind(text: str) -> str:
    if text not in KINDS:
        raise ValueError("unknown")
    return text


def _maps(text: str) -> str:
    if text not in ("", "none", "constant"):
        raise ValueError("unknown")
    return text


def _evaluator(text: str) -> str:
    if text not in ("", SPOOLED, RESCORED):
        raise ValueError("unknown")
    return text


def _pretrained(text: str) -> str:
    known = text in ("pretrained", "random", "none", "unknown")
    if not known and not re.fullmatch("file:[0-9a-f]{6,64}", text):
        raise ValueError("unknown")
    return text


def _precision(text: str) -> str:
    if text and text not in PRECISIONS:
        raise ValueError("unknown")
    return text


def _time(text: str) -> str:
    """Stored as text: rows are ordered by it, and it is shown as it stands."""
    if text:
        # Python 3.10 reads no Z.
        datetime.fromisoformat(text.removesuffix("Z"))
    return text


@lru_cache(maxsize=4096)  # many rows share their parameters
def _object(text: str) -> str:
    return _json(text, lambda value: isinstance(value, dict))


@lru_cache(maxsize=4096)
def _numbers(text: str) -> str:
    return _json(text, lambda value: isinstance(value, dict) and _all_scores(value.values()))


@lru_cache(maxsize=4096)
def _texts(text: str) -> str:
    return _json(text, lambda value: isinstance(value, dict) and _all_text(value.values()))


@lru_cache(maxsize=4096)
def _list_of_texts(text: str) -> str:
    return _json(text, lambda value: isinstance(value, list) and _all_text(value))


def _json(text: str, fits: Callable[[Any], bool]) -> str:
    """The text itself, if it is JSON of the wanted shape."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not fits(value):
        raise ValueError("another shape")
    return text


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_score(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _all_scores(values: Any) -> bool:
    return all(map(_is_score, values))


def _all_text(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


_BY_NAME: dict[str, tuple[Callable[[str], Any], str]] = {
    "pretrained": (_pretrained, "pretrained, random, none, unknown or file:SHA-256"),
    "precision": (_precision, " or ".join(PRECISIONS)),
    "maps": (_maps, "none, constant or nothing"),
    "evaluator": (_evaluator, f"{SPOOLED}, {RESCORED} or nothing"),
    "bounds": (_numbers, "a JSON object of numbers"),
    "suspect": (_list_of_texts, "a JSON list of texts"),
    "kind": (_kind, " or ".join(KINDS)),
    "started": (_time, "a time as in 2026-01-31T12:00:00+00:00"),
    "protocol_fields": (_object, "a JSON object"),
    "params": (_object, "a JSON object"),
    "dataset_params": (_object, "a JSON object"),
    "last_epoch": (_object, "a JSON object"),
    "published": (_numbers, "a JSON object of numbers"),
    "undefined": (_texts, "a JSON object of texts"),
    "flops_uncounted": (_list_of_texts, "a JSON list of texts"),
}


def _readers() -> list[Reader]:
    """One for each column that not every text fits, in the order of the columns."""
    types = {f.name: str(f.type) for f in fields(Row)}
    found = []
    for name in columns():
        kind, _, rest = types[name].partition(" ")
        optional = bool(rest)
        if name in _BY_NAME:
            found.append(Reader(name, *_BY_NAME[name]))
        elif kind == "bool":
            found.append(Reader(name, _bool, "true or false", optional))
        elif kind == "int":
            found.append(Reader(name, _count, "a whole number from 0", optional))
        elif kind == "float" and name in FREE:
            found.append(Reader(name, _number, "a number", optional))
        elif kind == "float" and name in columns(SCORE):
            found.append(Reader(name, _fraction, "a fraction from 0 to 1", optional))
        elif kind == "float":
            assert name in columns(COMPLEXITY), name
            found.append(Reader(name, _amount, "a number from 0", optional))
    return found


READERS = _readers()
