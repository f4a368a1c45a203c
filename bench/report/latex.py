"""LaTeX that every table has: escaped text, a grid with booktabs rules, the frame around it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

_ESCAPED = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "◊": r"$\diamond$",
    "△": r"$\triangle$",
    "▲": r"$\blacktriangle$",
    "≈": r"$\approx$",
    "○": r"$\circ$",
    "◇": r"$\lozenge$",
    "●": r"$\bullet$",
    "≡": r"$\equiv$",
    "∞": r"$\infty$",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def tex(text: str) -> str:
    """The text with everything that LaTeX would take as a command escaped, and its quotes."""
    escaped = "".join(_ESCAPED.get(character, character) for character in text)
    return re.sub('"([^"]*)"', r"``\1''", escaped).replace('"', "''")


def grid(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    align: Sequence[str],
    breaks: Sequence[int] = (),
) -> str:
    """Cells that are LaTeX already as a tabular, made smaller where it is wider than the page.

    Args:
        breaks: numbers of the lines above which a rule stands, ascending.
    """
    body = tabulate(lines, head, "latex_raw", disable_numparse=True, colalign=align).splitlines()
    rules = [i for i, line in enumerate(body) if line == r"\hline"]
    for i, name in zip(rules, ("top", "mid", "bottom"), strict=True):
        body[i] = rf"\{name}rule"
    for number in reversed(breaks):
        body.insert(rules[1] + 1 + number, r"\midrule")
    size = r"{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
    return "\n".join([rf"\resizebox{size}{{{body[0]}", *body[1:]]) + "}"


def frame(caption: str, parts: Sequence[str]) -> str:
    """A table over both columns; caption and parts are LaTeX already."""
    return "\n".join(
        [
            r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{caption}}}",
            *parts,
            r"\end{table*}",
        ]
    )
