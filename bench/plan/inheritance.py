"""Classes of a plugin and their bases, followed from file to file by syntax trees: no import."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.disk import read_text
from bench.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Locate = Callable[[Path, str], Path | None]


@dataclass(frozen=True)
class Definition:
    """A class, and the file that defines it."""

    path: Path
    node: ast.ClassDef

    @property
    def key(self) -> tuple[Path, str]:
        """Equal for the same class."""
        return self.path, self.node.name


@dataclass
class Inheritance:
    """Looks classes up by name, across the modules that `locate` finds.

    Args:
        root: name of the class that all plugins of a kind descend from.
        locate: the file of a module as another file imports it (".base", "package.base"); None:
            a module whose classes have no fields of a plugin, as those of torch.
    """

    root: str
    locate: Locate
    _trees: dict[Path, ast.Module] = field(default_factory=dict)

    def tree(self, path: Path) -> ast.Module:
        """The syntax tree of a file.

        Raises:
            PluginError: the file cannot be read.
        """
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse(read_text(path))
            except (SyntaxError, ValueError, OSError) as error:
                raise PluginError(f"{path} cannot be read: {error}") from error
        return self._trees[path]

    def candidates(self, path: Path) -> list[str]:
        """Public plugin classes that a file defines, without those that another one extends."""
        classes = [node for node in self.tree(path).body if isinstance(node, ast.ClassDef)]
        found = [
            node
            for node in classes
            if not node.name.startswith("_") and self.descends(Definition(path, node))
        ]
        extended = {last_name(base) for node in found for base in node.bases}
        return [node.name for node in found if node.name not in extended]

    def find(self, path: Path, name: str) -> Definition | None:
        """The class of that name, defined in a file or imported there ("base.Shared")."""
        return self._find(path, name, ())

    def descends(self, definition: Definition) -> bool:
        """Whether a class comes from the root, over however many files."""
        return any(True for _ in self._paths_to_root(definition, ()))

    def chain(self, definition: Definition) -> list[Definition]:
        """The class after all its bases that are found, in the order in which fields are made."""
        return list({one.key: one for one in self._ordered(definition, ())}.values())

    def _find(self, path: Path, name: str, seen: tuple[tuple[Path, str], ...]) -> Definition | None:
        if (path, name) in seen:
            return None
        seen = (*seen, (path, name))
        head, _, rest = name.partition(".")
        for node in self.tree(path).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Definition(path, node)
        for module, imported, alias in _imports(self.tree(path)):
            if imported is None:  # import a.b, or import a.b as c
                if name.startswith(f"{alias}.") and (file := self.locate(path, module)):
                    return self._find(file, name.removeprefix(f"{alias}."), seen)
            elif alias == head:
                if rest:  # from . import base: base.Shared
                    inner = module if module.endswith(".") else f"{module}."
                    file = self.locate(path, inner + imported)
                    return self._find(file, rest, seen) if file else None
                file = self.locate(path, module)
                return self._find(file, imported, seen) if file else None
        return None

    def _bases(self, definition: Definition) -> Iterator[Definition]:
        for base in definition.node.bases:
            found = self.find(definition.path, _dotted(base))
            if found is not None and found.key != definition.key:
                yield found

    def _paths_to_root(
        self, definition: Definition, seen: tuple[tuple[Path, str], ...]
    ) -> Iterator[None]:
        if definition.key in seen:
            return
        if any(last_name(base) == self.root for base in definition.node.bases):
            yield
        for base in self._bases(definition):
            yield from self._paths_to_root(base, (*seen, definition.key))

    def _ordered(
        self, definition: Definition, seen: tuple[tuple[Path, str], ...]
    ) -> Iterator[Definition]:
        if definition.key in seen:
            raise PluginError(f"{definition.path}: {definition.node.name} is a base of itself")
        for base in reversed(list(self._bases(definition))):
            yield from self._ordered(base, (*seen, definition.key))
        yield definition


def last_name(node: ast.expr) -> str:
    """`Method` of `api.Method` and of `Method[int]`."""
    return _dotted(node).rpartition(".")[2]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _dotted(node.value)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _imports(tree: ast.Module) -> Iterator[tuple[str, str | None, str]]:
    """(module, imported name, name here); the module with its dots, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield module, alias.name, alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name
