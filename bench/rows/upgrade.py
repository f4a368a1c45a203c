"""A results folder of an older schema, carried over in one step: its rows and their artifacts.

The new files are written to a folder of their own beside the old ones. Renaming that folder to
`.upgrade` is the step: before it the old state holds, after it the new one, for readers too, which
take a file from `.upgrade` where one lies there. Then files and artifacts are put into place, and
whoever finds `.upgrade` when it next takes the lock goes on with that. Artifacts stand under both
names until everything else is in place, so that nobody who reads meanwhile misses one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bench.disk import flush_file, flush_folder, replace_file
from bench.errors import StoreError
from bench.rows.csv_file import as_csv, read_lines, read_schemas, sort_rows
from bench.rows.row import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.rows.row import Row

STAGE = ".upgrade"
_PART, _OVER = ".upgrade.part", ".upgrade.over"
_NAMES = "names.json"


def current(file: Path) -> Path:
    """Where the content of a results file is read: in `.upgrade` while one is half done."""
    staged = file.parents[1] / STAGE / file.parent.name / file.name
    return staged if staged.exists() else file


def artifacts_of(artifacts: Path, row: Row) -> Path:
    """The folder of a row's artifacts, which need not exist.

    Args:
        artifacts: of the results; where those are of an older schema, it lies there under the
            row's former id.
    """
    places = [artifacts / name for name in (row.cell, *row.formerly.split())]
    return next((place for place in places if place.is_dir()), places[0])


def is_outdated(file: Path) -> bool:
    """Whether a file has a row of an older schema that is known in the present one."""
    older = read_schemas(file) - {str(SCHEMA)}
    return bool(older) and any(line.written != line.row.cell for line in read_lines(file))


def upgrade(folder: Path, files: Sequence[Path]) -> None:
    """Carry a results folder over to the present schema, where it is of an older one.

    Args:
        folder: of the results; its lock is held.
        files: its CSV files.

    Raises:
        StoreError: a file that cannot be read, or a folder that cannot be written; what was there
            is kept.
    """
    finish(folder)
    for left in (_PART, _OVER):
        shutil.rmtree(folder / left, ignore_errors=True)
    outdated = [file for file in files if is_outdated(file)]
    if not outdated:
        return
    names: dict[str, str] = {}
    part = folder / _PART
    for file in outdated:
        if not os.access(file.parent, os.W_OK):
            raise StoreError(
                f"{file.parent} cannot be written, and holds rows of an older schema; nothing was "
                "changed: make it writable, or choose another folder with --results"
            )
        lines = read_lines(file)
        names |= {line.written: line.row.cell for line in lines if line.written != line.row.cell}
        rows = sort_rows(line.row for line in lines)
        replace_file(part / file.parent.name / file.name, as_csv(rows))
    replace_file(part / _NAMES, json.dumps(names, indent=1).encode())
    try:
        for path in (*part.iterdir(), part):
            flush_folder(path if path.is_dir() else path.parent)
        part.replace(folder / STAGE)
        flush_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finish(folder)


def finish(folder: Path) -> None:
    """Put into place what an upgrade has decided; nothing where none is half done.

    Raises:
        StoreError: it cannot be written; readers see the new state all the same.
    """
    stage = folder / STAGE
    if not stage.is_dir():
        return
    try:
        names: dict[str, str] = json.loads((stage / _NAMES).read_text(encoding="utf-8"))
        artifacts, failures = folder / "artifacts", folder / "failures"
        for old, new in names.items():
            _stand_beside(artifacts / old, artifacts / new)
        for file in _files(stage):
            replace_file(folder / file.parent.name / file.name, file.read_bytes())
        for old, new in names.items():
            log = failures / f"{old}.txt"
            if log.exists():
                log.replace(failures / f"{new}.txt")
        if artifacts.is_dir():
            flush_folder(artifacts)
        for old in names:
            _remove(artifacts / old)
        stage.replace(folder / _OVER)
        shutil.rmtree(folder / _OVER)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{folder} is of an older schema and cannot be carried over ({error}); its rows are kept, "
        "and the next run goes on with it"
    )


def _files(stage: Path) -> Iterator[Path]:
    return iter(sorted(stage.glob("*/*.csv")))


def _stand_beside(old: Path, new: Path) -> None:
    """Let a folder of artifacts stand under its new name too, at once and whole."""
    if new.exists() or new.is_symlink() or not old.is_dir():
        return
    if old.is_symlink():
        new.symlink_to(old.readlink(), target_is_directory=True)
        return
    part = new.with_name(f"{new.name}.part")
    if part.exists():
        shutil.rmtree(part)
    shutil.copytree(old, part, symlinks=True, copy_function=_link)
    part.replace(new)


def _link(source: str, target: str) -> None:
    """The same file under a second name; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        flush_file(Path(target))


def _remove(old: Path) -> None:
    if old.is_symlink():
        old.unlink()
    elif old.is_dir():
        shutil.rmtree(old)
