"""The elements of a page, and its nesting checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "link", "img", "input", "br", "path"}


@dataclass
class Element:
    """A tag with its attributes, its text and the tags around it, outermost first."""

    tag: str
    attributes: dict[str, str]
    around: tuple[Element, ...] = field(repr=False)  # each holds those around it again
    text: str = ""

    def within(self, tag: str) -> Element | None:
        return next((e for e in reversed(self.around) if e.tag == tag), None)


@dataclass
class Page(HTMLParser):
    """Every element of a page; wrong nesting is an error."""

    file: Path
    elements: list[Element] = field(default_factory=list, repr=False)
    open: list[Element] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.file.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"{self.file}: {self.open[-1].tag} is not closed"

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{self.file}: {tag} repeats an attribute"
        element = Element(tag, {k: v or "" for k, v in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{self.file}: {tag} ends without a start"
        assert self.open[-1].tag == tag, f"{self.file}: {tag} ends inside {self.open[-1].tag}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [e for e in self.elements if e.tag in tags]

    def texts(self, tag: str, name: str) -> list[str]:
        """Of the tags of a class."""
        return [e.text for e in self.all(tag) if e.attributes.get("class") == name]
