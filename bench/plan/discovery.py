"""Names of plugins, cheaply; one plugin by name, imported.

A plugin is a file `<name>.py` or a folder `<name>/__init__.py` in a `methods/` or `datasets/`
folder, or an entry point of group `bench.methods` / `bench.datasets`. Its class is the one public
subclass of `Method` / `Dataset` that the file defines. Everything that planning needs (summary,
version, fields and their literal defaults) is read from the source by `ast`, so that nothing heavy
is imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.disk import read_text
from bench.errors import PluginError, nearest
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["methods", "datasets"]

KINDS: tuple[Kind, ...] = ("methods", "datasets")
BASES: dict[str, str] = {"methods": "Method", "datasets": "Dataset"}


@dataclass(frozen=True)
class Field:
    """One hyper-parameter or option: its annotation as written, and its default."""

    name: str
    annotation: str
    default: Any
    required: bool = False


@dataclass(frozen=True)
class Plugin:
    """What a plugin's source says of itself."""

    kind: Kind
    name: str
    path: Path
    module: str
    class_name: str
    summary: str
    version: int
    fields: dict[str, Field]
    constants: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The file, or all files of the folder (code and data) but compiled ones, sorted."""
        if self.path.name != "__init__.py":
            return [self.path]
        found = (file for file in self.path.parent.rglob("*") if file.is_file())
        return sorted(f for f in found if "__pycache__" not in f.parts)

    def code(self) -> str:
        """First 12 hex digits of the SHA-256 over the names and bytes of the source files."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.relative_to(self.path.parent).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def defaults(self) -> dict[str, Any]:
        """Default of every field that has one."""
        return {f.name: f.default for f in self.fields.values() if not f.required}


def folders(kind: str) -> list[Path]:
    """Folders searched for plugins, the built-in one first."""
    found = [builtin_root() / kind]
    project = os.environ.get("BENCH_PROJECT")
    if project:
        found.append(Path(project) / kind)
    return [Path(f) for f in dict.fromkeys(str(f.resolve()) for f in found if f.is_dir())]


def plugin_path(kind: str, own: Iterable[str]) -> list[str]:
    """`__path__` of `bench.plugins.<kind>`."""
    return [*own, *(str(folder) for folder in folders(kind))]


def sources(kind: Kind) -> dict[str, tuple[Path, str]]:
    """Source file and import name of every plugin, by name, sorted.

    Raises:
        PluginError: a folder with an `__init__.py` of its own, or two different files of one name.
    """
    found: dict[str, tuple[Path, str]] = {}
    for name, path, module in [*_from_folders(kind), *_from_entry_points(kind)]:
        if name in found and not _same_source(found[name][0], path):
            raise PluginError(
                f"two different {kind} are called {name!r}: {found[name][0]} and {path}; rename one"
            )
        found.setdefault(name, (path, module))
    return dict(sorted(found.items()))


def describe(kind: Kind, name: str) -> Plugin:
    """What the source of one plugin says, without importing it.

    Raises:
        PluginError: unknown name, unreadable source, no or several classes, a default that is not
            a literal.
    """
    known = sources(kind)
    if name not in known:
        what = {"methods": "method", "datasets": "data set"}[kind]
        raise PluginError(f"unknown {what} {name!r}; {nearest(name, known)}")
    path, module = known[name]
    return _read(kind, name, path, module)


def describe_all(kind: Kind) -> tuple[list[Plugin], list[PluginError]]:
    """Every readable plugin, and the errors of the others: one bad file breaks only itself."""
    plugins, errors = [], []
    for name, (path, module) in sources(kind).items():
        try:
            plugins.append(_read(kind, name, path, module))
        except PluginError as error:
            errors.append(error)
    return plugins, errors


def load(plugin: Plugin) -> type[Any]:
    """The plugin's class, imported.

    Raises:
        PluginError: the import fails; the cause is kept.
    """
    try:
        module = importlib.import_module(plugin.module)
    except Exception as error:  # a plugin may raise anything at import; the cause is kept
        cause = f"{type(error).__name__}: {error}"
        raise PluginError(f"{plugin.path} cannot be imported: {cause}") from error
    return getattr(module, plugin.class_name)  # type: ignore[no-any-return]


def _from_folders(kind: Kind) -> Iterator[tuple[str, Path, str]]:
    for folder in folders(kind):
        if (folder / "__init__.py").exists():
            raise PluginError(
                f"{folder / '__init__.py'} must not exist: it would make {kind!r} an importable "
                "package that hides others of this name; delete it"
            )
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(("_", ".")):
                continue
            source = entry / "__init__.py" if entry.is_dir() else entry
            if source.suffix == ".py" and source.is_file():
                yield entry.stem, source, f"bench.plugins.{kind}.{entry.stem}"


def _from_entry_points(kind: Kind) -> Iterator[tuple[str, Path, str]]:
    for point in importlib.metadata.entry_points(group=f"bench.{kind}"):
        path = _module_file(point.module)
        if path is None:
            raise PluginError(
                f"entry point {point.name!r} of bench.{kind} names the module {point.module!r}, "
                "which is not installed; reinstall or remove its package"
            )
        yield point.name, path, point.module


def _module_file(module: str) -> Path | None:
    """Source file of a dotted module, found without importing its parents."""
    search: list[str] | None = None
    spec = None
    for depth, _ in enumerate(module.split(".")):
        part = ".".join(module.split(".")[: depth + 1])
        spec = importlib.machinery.PathFinder.find_spec(part, search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None


def _same_source(a: Path, b: Path) -> bool:
    """Byte-identical copies count as one, as when a wheel runs inside its checkout."""
    if a.resolve() == b.resolve():
        return True
    if (a.name == "__init__.py") != (b.name == "__init__.py"):
        return False
    if a.name != "__init__.py":
        return a.read_bytes() == b.read_bytes()
    left = {f.relative_to(a.parent): f.read_bytes() for f in a.parent.rglob("*.py")}
    right = {f.relative_to(b.parent): f.read_bytes() for f in b.parent.rglob("*.py")}
    return left == right


def _read(kind: Kind, name: str, path: Path, module: str) -> Plugin:
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise PluginError(f"{path} cannot be read: {error}") from error
    chain = _class_chain(tree, kind, path)
    attributes: dict[str, Any] = {}
    found: dict[str, Field] = {}
    for node in chain:
        for statement in node.body:
            _collect(statement, found, attributes, path)
    if kind == "datasets":
        found.pop("root", None)
    return Plugin(
        kind=kind,
        name=name,
        path=path,
        module=module,
        class_name=chain[-1].name,
        summary=(ast.get_docstring(tree) or "").split("\n", 1)[0],
        version=attributes.get("version", 1),
        fields=found,
        constants=attributes,
    )


def _class_chain(tree: ast.Module, kind: Kind, path: Path) -> list[ast.ClassDef]:
    """The plugin's class, after those of its bases that the file defines too."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    parents = {n: [_last_name(b) for b in node.bases] for n, node in classes.items()}

    def descends(name: str) -> bool:
        return any(p == BASES[kind] or (p in classes and descends(p)) for p in parents[name])

    candidates = [name for name in classes if descends(name) and not name.startswith("_")]
    extended = {parent for name in candidates for parent in parents[name]}
    leaves = [name for name in candidates if name not in extended]
    if len(leaves) != 1:
        count = f"defines {', '.join(leaves)}" if leaves else "defines none"
        raise PluginError(f"{path} must define one public subclass of {BASES[kind]}, but {count}")
    chain, name = [classes[leaves[0]]], leaves[0]
    while local := [p for p in parents[name] if p in classes]:
        name = local[0]
        chain.insert(0, classes[name])
    return chain


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _collect(
    statement: ast.stmt, found: dict[str, Field], attributes: dict[str, Any], path: Path
) -> None:
    """Read one statement of a class body: a field, or a constant such as `version`."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        _constant(statement.targets[0].id, statement.value, attributes)
    if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
        return
    name, annotation = statement.target.id, ast.unparse(statement.annotation)
    if annotation.startswith(("ClassVar", "typing.ClassVar")):
        _constant(name, statement.value, attributes)
    elif statement.value is None:
        found[name] = Field(name, annotation, None, required=True)
    elif not _is_state(statement.value):
        found[name] = Field(name, annotation, _literal(name, statement.value, path))


def _constant(name: str, value: ast.expr | None, attributes: dict[str, Any]) -> None:
    try:
        attributes[name] = ast.literal_eval(value) if value is not None else None
    except ValueError:
        return  # computed when the class is made: not needed for planning


def _is_state(value: ast.expr) -> bool:
    """`field(init=False, ...)`: something the object holds, not a hyper-parameter."""
    return isinstance(value, ast.Call) and any(
        k.arg == "init" and isinstance(k.value, ast.Constant) and k.value.value is False
        for k in value.keywords
    )


def _literal(name: str, value: ast.expr, path: Path) -> Any:
    if isinstance(value, ast.Call) and _last_name(value.func) == "field":
        defaults = [k.value for k in value.keywords if k.arg == "default"]
        value = defaults[0] if defaults else value
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise PluginError(
            f"{path}:{value.lineno}: the default of {name!r} must be a literal, so that runs can "
            "be planned without importing the file"
        ) from error
