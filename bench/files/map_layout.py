"""Where the anomaly map of each test image lies: the layout of MVTec's evaluation script. No torch.

    FOLDER/<category>/test/<defect>/<image name>.tiff      float32, one for each test image
    FOLDER/<category>/scores.csv                           file,score: image scores, where given

The level of the category may be left out where there is only one, and `test/` where a method gives
image scores alone.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from bench.disk import read_text, replace_file
from bench.errors import ConfigError, DataError, StoreError
from bench.files.map_files import SUFFIXES, write_map

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.api import Sample

SCORES = "scores.csv"
TEST = "test"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a folder of maps.

    Attributes:
        kind: "missing", "extra", "twice", "unreadable", "misshapen", "not finite", "score".
        text: which file, and what is wrong with it.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        maps: how many.
        sizes: (height, width) of the maps, with how many have it.
        rounded: maps of higher precision than float32 that were written as float32.
    """

    maps: int
    sizes: Mapping[tuple[int, int], int]
    rounded: int


def map_keys(samples: Sequence[Sample]) -> list[str]:
    """ "test/<defect>/<image name>" for each sample.

    Raises:
        DataError: two images of one name, which the layout cannot tell apart.
    """
    return _keys([(s.defect, s.image.as_posix()) for s in samples])


def export_maps(artifacts: Path, category: str, out: Path, suffix: str = ".tiff") -> Exported:
    """Write the maps and image scores that a cell kept into `out/<category>`.

    Args:
        artifacts: of the cell, with `scores.npz` and `maps/`.
        suffix: ".tiff" for float32, ".npy" for the maps' own type.

    Raises:
        StoreError: no maps were kept, or one is missing or damaged.
        DataError: names that the layout cannot tell apart, a file that cannot be written.
    """
    names, defects, scores = _kept(artifacts)
    keys = _keys(list(zip(defects, names, strict=True)))
    base = out / _safe(category)
    sizes: Counter[tuple[int, int]] = Counter()
    rounded = 0
    for name, key in zip(names, keys, strict=True):
        source = (artifacts / "maps" / _safe(name)).with_suffix(".npy")
        try:
            values = np.load(source, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{source}: not the map of {name} ({error}); run the cell again with --save-maps"
            ) from error
        write_map(base / f"{_safe(key)}{suffix}", values)
        sizes[values.shape] += 1
        rounded += suffix != ".npy" and values.dtype.itemsize > 4
    _write_scores(base / SCORES, [f"{key}{suffix}" for key in keys], scores)
    return Exported(len(keys), sizes, rounded)


def find_base(folder: Path, category: str, is_only: bool) -> Path | None:
    """The folder that holds `test/` of a category; None where there is none.

    Args:
        is_only: no other category is looked for, so that its level may be left out.
    """
    if (folder / category / TEST).is_dir():
        return folder / category
    return folder if is_only and (folder / TEST).is_dir() else None


def find_scored(folder: Path, category: str, is_only: bool) -> Path | None:
    """The folder from which `scores.csv` names the images of a category that has no maps.

    Args:
        is_only: no other category is looked for, so that its level may be left out.
    """
    if (folder / category / SCORES).is_file():
        return folder / category
    if not (folder / SCORES).is_file():
        return None
    try:
        text = read_text(folder / SCORES)
    except (OSError, UnicodeDecodeError):
        return folder if is_only else folder / category  # `find_scores` says what is wrong with it
    if any(line.lstrip('" ').startswith(f"{category}/") for line in text.splitlines()):
        return folder / category
    return folder if is_only else None


def find_maps(base: Path, keys: Sequence[str]) -> tuple[dict[str, Path], list[Problem]]:
    """The map file of each key, and what is missing, there twice, or not asked for.

    Hidden files are passed over.
    """
    wanted = set(keys)
    found: dict[str, Path] = {}
    problems = []
    for path in sorted((base / TEST).rglob("*")):
        name = path.relative_to(base)
        if any(part.startswith(".") for part in name.parts) or path.is_dir():
            continue
        key = name.with_suffix("").as_posix()
        if path.suffix.lower() not in SUFFIXES:
            problems.append(Problem("extra", f"{path}: not a map; known: {', '.join(SUFFIXES)}"))
        elif key not in wanted:
            problems.append(Problem("extra", f"{path}: the test set has no such image"))
        elif key in found:
            problems.append(Problem("twice", f"{path}: beside {found[key].name}; keep one"))
        else:
            found[key] = path
    missing = [key for key in keys if key not in found]
    problems = [Problem("missing", f"{base / key}{SUFFIXES[0]}") for key in missing] + problems
    return found, problems


def find_scores(
    folder: Path, base: Path, category: str, keys: Sequence[str]
) -> tuple[dict[str, float], list[Problem]]:
    """Image scores by key, from `scores.csv` beside `test/` or at the top; empty without one.

    Lines name the files relative to where the CSV lies; suffixes do not matter. One at the top
    may hold other categories.
    """
    file, prefix = base / SCORES, ""
    if not file.is_file():
        file, prefix = folder / SCORES, f"{category}/"
    if not file.is_file():
        return {}, []
    try:
        lines = list(csv.reader(io.StringIO(read_text(file)), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [Problem("score", f"{file}: cannot be read: {error}")]
    if not lines or [part.strip() for part in lines[0]] != ["file", "score"]:
        return {}, [Problem("score", f"{file}: the first line must be file,score")]
    scores: dict[str, float] = {}
    problems = []
    for number, line in enumerate(lines[1:], 2):
        text = _take(line, prefix, set(keys), scores)
        if text:
            problems.append(Problem("score", f"{file}, line {number}: {text}"))
    missing = [key for key in keys if key not in scores]
    problems += [Problem("score", f"{file}: no score of {prefix}{key}") for key in missing]
    return scores, problems


def _take(line: Sequence[str], prefix: str, wanted: set[str], scores: dict[str, float]) -> str:
    """Read one line of scores; returns what is wrong with it, or ""."""
    if len(line) != 2:
        return f"{len(line)} values; write file,score" if line else ""
    name = PurePosixPath(line[0].strip().replace("\\", "/"))
    if not name.as_posix().startswith(prefix):
        return ""
    whole = name.as_posix().removeprefix(prefix)
    bare = name.with_suffix("").as_posix().removeprefix(prefix) if name.suffix else whole
    # A name may hold a point that begins no suffix: 1.2 is then an image, and so is 1.2.png.
    key = whole if whole in wanted else bare
    if key not in wanted:
        return f"the test set has no image {line[0]!r}"
    if key in scores:
        return f"{line[0]!r} has a score already"
    try:
        value = float(line[1])
    except ValueError:
        return f"{line[1]!r} is not a number"
    scores[key] = value
    return "" if math.isfinite(value) else f"{line[1]!r} is not finite"


def _kept(artifacts: Path) -> tuple[list[str], list[str], list[float]]:
    """Names, defects and image scores of a cell whose maps were kept."""
    file = artifacts / "scores.npz"
    if not file.is_file() or not (artifacts / "maps").is_dir():
        raise StoreError(f"{artifacts}: no maps; run the cell again with --save-maps --force")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            names = [str(name) for name in data["names"]]
            return names, [str(d) for d in data["defects"]], [float(s) for s in data["scores"]]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{file}: damaged ({error}); run the cell again") from error


def _keys(images: Sequence[tuple[str, str]]) -> list[str]:
    known: dict[str, str] = {}
    for defect, name in images:
        key = f"{TEST}/{defect}/{PurePosixPath(name).stem}"
        if key in known:
            raise DataError(
                f"{known[key]} and {name} are both {key} in the layout of maps; rename one image"
            )
        known[key] = name
    return list(known)


def _safe(name: str) -> PurePosixPath:
    """A relative path that stays in its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{name!r} is not a name of a folder or file below another")
    return path


def _write_scores(file: Path, names: Sequence[str], scores: Sequence[float]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["file", "score"])
    writer.writerows((name, repr(score)) for name, score in zip(names, scores, strict=True))
    replace_file(file, buffer.getvalue().encode())
