"""What a column of a results file may hold: how its text is read and written, and what fits."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.plan.identity import canonical
from bench.settings.precision import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable

MEASURED = "measured"
KINDS = (MEASURED, "submitted")

RESCORED = "rescored"
"""In `evaluator`: from maps kept in 16 bits; `bounds` says how far values can be off."""
SPOOLED = "spooled"
"""In `evaluator`: the maps were more than the budget, and sorted in parts from a file."""

CACHED = "cached"
"""In `features`: some of the training images' came from a cache, or were stored in one."""


@dataclass(frozen=True)
class Values:
    """What fits a column.

    Attributes:
        read: a text as a value; ValueError if it holds none.
        write: the inverse.
        expected: what a text should hold, for a message.
    """

    read: Callable[[str], Any]
    expected: str
    write: Callable[[Any], str] = str


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


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError("unknown")
        return text

    return read


def _pretrained(text: str) -> str:
    known = text in ("pretrained", "random", "none", "unknown")
    if not known and not re.fullmatch("file:[0-9a-f]{6,64}", text):
        raise ValueError("unknown")
    return text


def _time(text: str) -> str:
    """Stored as text: rows are ordered by it, and it is shown as it stands."""
    if text:
        # Python 3.10 reads no Z.
        datetime.fromisoformat(text.removesuffix("Z"))
    return text


def _json(fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    """Reads JSON of a wanted shape; rows that share a text share its value, not to be changed."""

    @lru_cache(maxsize=4096)
    def read(text: str) -> Any:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except RecursionError as error:
            raise ValueError("too deep") from error
        if not fits(value):
            raise ValueError("another shape")
        return value

    return read


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_protocol(value: Any) -> bool:
    """An object; the metrics that it names under `published` are a list of texts."""
    return isinstance(value, dict) and _is_texts(value.get("published", []))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_score, value.values()))


def _is_score(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_reasons(value: Any) -> bool:
    return isinstance(value, dict) and _is_texts([*value.values()])


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


TEXT = Values(str, "text")
COUNT = Values(_count, "a whole number from 0")
FLAG = Values(_flag, "true or false", lambda value: "true" if value else "false")
TIME = Values(_time, "a time as in 2026-01-31T12:00:00+00:00")

FRACTION = Values(_fraction, "a fraction from 0 to 1", "{:.6f}".format)
AMOUNT = Values(_amount, "a number from 0", "{:.6g}".format)
NUMBER = Values(_number, "a number", "{:.6g}".format)
"""Of any sign, as memory that is a difference to what was held before."""
THRESHOLD = Values(_number, "a number", "{:.9g}".format)
"""Of maps, whose values are of type float32."""

KIND = Values(_one_of(*KINDS), " or ".join(KINDS))
MAPS = Values(_one_of("", "none", "constant"), "none, constant or nothing")
EVALUATOR = Values(_one_of("", SPOOLED, RESCORED), f"{SPOOLED}, {RESCORED} or nothing")
FEATURES = Values(_one_of("", CACHED), f"{CACHED} or nothing")
PRETRAINED = Values(_pretrained, "pretrained, random, none, unknown or file:SHA-256")
PRECISION = Values(_one_of("", *PRECISIONS), " or ".join(PRECISIONS))

OBJECT = Values(_json(_is_object), "a JSON object", canonical)
PROTOCOL = Values(
    _json(_is_protocol), "a JSON object with a list of texts as `published`, if any", canonical
)
SCORES = Values(_json(_is_scores), "a JSON object of numbers", canonical)
REASONS = Values(_json(_is_reasons), "a JSON object of texts", canonical)
TEXTS = Values(_json(_is_texts), "a JSON list of texts", canonical)
OPERATORS = Values(TEXTS.read, TEXTS.expected, json.dumps)
"""With spaces, as files have them since before the other columns had none."""
JSON = (OBJECT, PROTOCOL, SCORES, REASONS, TEXTS, OPERATORS)
