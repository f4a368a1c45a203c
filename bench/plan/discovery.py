"""Names of plugins, cheaply; one plugin by name, imported.

A plugin is a file `<name>.py` or a folder `<name>/__init__.py` in a `methods/` or `datasets/`
folder, or an entry point of group `bench.methods` / `bench.datasets`. Its class is the one that the
entry point names, else the one public subclass of `Method` / `Dataset` that the file defines.
Everything that planning needs (summary,
version, fields and their literal defaults) is read from the source by `ast`, so that nothing heavy
is imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import PluginError, nearest
from bench.plan.entry_points import entry_points, module_file
from bench.plan.inheritance import Inheritance, last_name
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    inherited: tuple[Path, ...] = ()
    """Other files that define its class or bases of it."""
    package: tuple[str, str] | None = None
    """Name and version of the installed package that offers it; None: a file of a project."""

    @property
    def files(self) -> list[Path]:
        """The file, or all files of the folder (code and data) but compiled ones, sorted.

        Then the files of its bases, wherever they lie.
        """
        own = [self.path]
        if self.path.name == "__init__.py":
            found = (file for file in self.path.parent.rglob("*") if file.is_file())
            own = sorted(f for f in found if "__pycache__" not in f.parts)
        return [*own, *(file for file in self.inherited if file not in own)]

    def code(self) -> str:
        """First 12 hex digits of the SHA-256 over the names and bytes of the source files."""
        digest = hashlib.sha256()
        for file in self.files:
            home = self.path.parent
            name = file.relative_to(home) if file.is_relative_to(home) else Path(file.name)
            digest.update(name.as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]

    def defaults(self) -> dict[str, Any]:
        """Default of every field that has one."""
        return {f.name: f.default for f in self.fields.values() if not f.required}


@dataclass(frozen=True)
class Source:
    """Where a plugin is said to be.

    Attributes:
        path: of its module.
        module: import name.
        class_name: that an entry point names; empty: the one that the file defines.
        package: name and version of the package whose entry point it is.
        problem: why it cannot be used; empty where nothing is known against it.
    """

    path: Path
    module: str
    class_name: str = ""
    package: tuple[str, str] | None = None
    problem: str = ""


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


def sources(kind: Kind) -> dict[str, Source]:
    """Where every plugin is, by name, sorted. A broken entry point has a `problem`.

    Raises:
        PluginError: a folder with an `__init__.py` of its own, or two different files of one name.
    """
    found: dict[str, Source] = {}
    for name, source in _from_folders(kind):
        if name in found and not _same_source(found[name].path, source.path):
            raise PluginError(_two(kind, name, found[name], source))
        found.setdefault(name, source)
    for name, source in _from_entry_points(kind):
        other = found.get(name)
        if other is None or other.problem:
            found[name] = source
        elif not source.problem and not _same_source(other.path, source.path):
            # Of a package, perhaps one that nobody asked for: it breaks this name alone.
            found[name] = replace(other, problem=_two(kind, name, other, source))
    return dict(sorted(found.items()))


def _two(kind: Kind, name: str, first: Source, second: Source) -> str:
    return f"two different {kind} are called {name!r}: {first.path} and {second.path}; rename one"


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
    return _read(kind, name, known[name])


def describe_all(kind: Kind) -> tuple[list[Plugin], list[PluginError]]:
    """Every readable plugin, and the errors of the others: one bad file breaks only itself."""
    plugins, errors = [], []
    for name, source in sources(kind).items():
        try:
            plugins.append(_read(kind, name, source))
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
    try:
        return getattr(module, plugin.class_name)  # type: ignore[no-any-return]
    except AttributeError as error:
        raise PluginError(f"{plugin.path}: once imported it has no {plugin.class_name}") from error


def make(plugin: Plugin, params: Mapping[str, Any], **places: Any) -> Any:
    """The plugin's object with these fields; a list of JSON or TOML is a tuple there.

    Raises:
        PluginError: as `load`.
    """
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}
    return load(plugin)(**places, **fields)


def _from_folders(kind: Kind) -> Iterator[tuple[str, Source]]:
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
                yield entry.stem, Source(source, f"bench.plugins.{kind}.{entry.stem}")


def _from_entry_points(kind: Kind) -> Iterator[tuple[str, Source]]:
    for point in entry_points(f"bench.{kind}"):
        where = f"entry point {point.name!r} of bench.{kind}"
        match = point.pattern.match(point.value)
        if match is None:
            problem = f"{where}: {point.value!r} is not module:Class; mend or remove its package"
            yield point.name, Source(Path(), "", problem=problem)
            continue
        module, class_name = match["module"], match["attr"] or ""
        path = module_file(module)
        if path is None:
            problem = (
                f"{where} names the module {module!r}, which is not installed; reinstall or "
                "remove its package"
            )
            yield point.name, Source(Path(), module, class_name, problem=problem)
            continue
        package = (point.dist.metadata["Name"], point.dist.version) if point.dist else None
        yield point.name, Source(path, module, class_name, package)


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


def _read(kind: Kind, name: str, source: Source) -> Plugin:
    if source.problem:
        raise PluginError(source.problem)
    path = source.path
    inheritance = Inheritance(BASES[kind], partial(_locate, source.module.partition(".")[0]))
    tree = inheritance.tree(path)
    class_name = _class_name(inheritance, kind, name, source)
    found_class = inheritance.find(path, class_name)
    assert found_class is not None  # it was found before
    chain = inheritance.chain(found_class)
    attributes: dict[str, Any] = {}
    found: dict[str, Field] = {}
    for definition in chain:
        for statement in definition.node.body:
            _collect(statement, found, attributes, definition.path)
    if kind == "datasets":
        found.pop("root", None)
    has_others = len(inheritance.candidates(path)) > 1
    described = found_class.node if has_others or found_class.path != path else tree
    return Plugin(
        kind=kind,
        name=name,
        path=path,
        module=source.module,
        class_name=class_name,
        summary=(ast.get_docstring(described) or "").split("\n", 1)[0],
        version=attributes.get("version", 1),
        fields=found,
        constants=attributes,
        inherited=tuple(dict.fromkeys(one.path for one in chain if one.path != path)),
        package=source.package,
    )


def _class_name(inheritance: Inheritance, kind: Kind, name: str, source: Source) -> str:
    """The class that an entry point names, else the only one that the file defines.

    Raises:
        PluginError: no such class, one that is no plugin, or none or several to choose from.
    """
    path, known = source.path, inheritance.candidates(source.path)
    if source.class_name:
        definition = inheritance.find(path, source.class_name)
        where = f"entry point {name!r} of bench.{kind} names {source.class_name}"
        if definition is None:
            raise PluginError(
                f"{where}, which {path} does not have; {nearest(source.class_name, known)}"
            )
        if not inheritance.descends(definition):
            raise PluginError(f"{where} of {path}, which is no subclass of {BASES[kind]}")
        return source.class_name
    if len(known) != 1:
        count = f"defines {', '.join(known)}" if known else "defines none"
        raise PluginError(f"{path} must define one public subclass of {BASES[kind]}, but {count}")
    return known[0]


def _locate(package: str, importer: Path, module: str) -> Path | None:
    """The file of a module that a plugin's file imports, where its classes may have fields.

    That is one of its own package, or another plugin ("bench.plugins.methods.padim").

    Args:
        package: the topmost package of the plugin.
        importer: the file that imports.
        module: as it is written there: ".base" is beside the importer.
    """
    name = module.lstrip(".")
    if level := len(module) - len(name):
        folder = importer.parents[level - 1]
        siblings = next((folders(k) for k in KINDS if folder in folders(k)), [folder])
        return next((file for one in siblings if (file := _in_folder(one, name))), None)
    for kind in KINDS:
        prefix = f"bench.plugins.{kind}."
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return next((file for one in folders(kind) if (file := _in_folder(one, rest))), None)
    return module_file(name) if name.partition(".")[0] == package != "bench" else None


def _in_folder(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split(".")) if module else folder
    options = [place / "__init__.py"] + ([place.with_suffix(".py")] if module else [])
    return next((file for file in options if file.is_file()), None)


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
    if isinstance(value, ast.Call) and last_name(value.func) == "field":
        defaults = [k.value for k in value.keywords if k.arg == "default"]
        value = defaults[0] if defaults else value
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise PluginError(
            f"{path}:{value.lineno}: the default of {name!r} must be a literal, so that runs can "
            "be planned without importing the file"
        ) from error
