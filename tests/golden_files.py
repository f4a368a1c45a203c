"""Golden files: arrays of published code, from `tests/golden` or the folder of `--golden`.

    GOLDEN = golden("padim")

    @pytest.mark.parametrize("case", GOLDEN.cases("*/cfg"))
    def test_means_match(case: str) -> None:
        cfg = GOLDEN.cfg(case)
        found = fit(GOLDEN.tensor(f"{case}/train/layer1"), cfg["d"])
        GOLDEN.check(f"{case}/mean", found, relative=1e-6)

Names, sizes and settings of a test come from the file, so that it passes on any file of that name.
What a file lacks is skipped and named. The session ends with the largest error of each file.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

COMMITTED = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Compared:
    """The error of one comparison, as the table at the end shows it."""

    file: str
    array: str
    kind: str  # relative to the largest entry, or absolute
    error: float
    tolerance: float


@dataclass
class Record:
    """What one test found in golden files, or all tests of a session."""

    compared: list[Compared] = field(default_factory=list)
    lacking: list[tuple[str, str]] = field(default_factory=list)  # file, array; "" for all of it

    def __bool__(self) -> bool:
        return bool(self.compared or self.lacking)

    def as_property(self) -> tuple[str, dict[str, Any]]:
        """A property of a test's report, of plain values, which travel between processes."""
        # A number of NumPy's is none of those that travel.
        compared = [
            asdict(e) | {"error": float(e.error), "tolerance": float(e.tolerance)}
            for e in self.compared
        ]
        return ("golden", {"compared": compared, "lacking": [list(e) for e in self.lacking]})

    def add_property(self, value: dict[str, Any]) -> None:
        self.compared += [Compared(**entry) for entry in value["compared"]]
        self.lacking += [(file, array) for file, array in value["lacking"]]


def lacking_line(file: str, arrays: str, folder: Path) -> str:
    return f"{file} lacks {arrays}" if arrays else f"{folder} lacks {file}"


class Session:
    """The folder that the golden files are read from, and the record of the test that runs."""

    def __init__(self) -> None:
        self.folder = COMMITTED
        self.record = Record()

    def use(self, folder: Path) -> None:
        """Read golden files from this folder.

        Raises:
            pytest.UsageError: if it holds none.
        """
        if not any(folder.glob("*.npz")):
            raise pytest.UsageError(f"--golden {folder}: no .npz files there")
        self.folder = folder

    def lacks(self, file: str, array: str) -> str:
        """Note what a file lacks, all of it if `array` is empty, and say so in one line."""
        self.record.lacking.append((file, array))
        return lacking_line(file, array, self.folder)


session = Session()


class GoldenFile:
    """One golden file. Reading what it lacks skips the test, and names it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.name

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name; none if there is no such file."""
        if not self.path.is_file():
            return {}
        with np.load(self.path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A copy of an array, so that no test changes what another reads."""
        if name not in self.arrays:
            self.skip(name)
        return np.array(self.arrays[name])

    def skip(self, name: str) -> NoReturn:
        """Skip the test, for want of this array."""
        pytest.skip(self.lacks(name))

    def lacks(self, name: str) -> str:
        """Note that there is no such array, and go on."""
        return session.lacks(self.file, name if self.arrays else "")

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self[name]))

    def tensors(self, prefix: str, needed: Iterable[str] = ()) -> dict[str, Tensor]:
        """All arrays below `prefix/`, by the rest of their names; those `needed` must be there."""
        found = {
            name.removeprefix(f"{prefix}/"): torch.from_numpy(value.copy())
            for name, value in self.arrays.items()
            if name.startswith(f"{prefix}/")
        }
        if not found:
            self.skip(f"{prefix}/*")
        for name in needed:
            if name not in found:
                self.skip(f"{prefix}/{name}")
        return found

    def below(self, prefix: str) -> list[str]:
        """Names below `prefix/`, to compare one after the other; none is noted, and no skip."""
        found = [n.removeprefix(f"{prefix}/") for n in self.arrays if n.startswith(f"{prefix}/")]
        if not found:
            self.lacks(f"{prefix}/*")
        return found

    def sequence(self, prefix: str, count: int = 0) -> list[Tensor]:
        """The arrays `prefix/0`, `prefix/1`, ...: `count`, or up to the last that the file has."""
        count = count or max(self._count(prefix), 1)
        return [self.tensor(f"{prefix}/{i}") for i in range(count)]

    def _count(self, prefix: str) -> int:
        numbers = (re.fullmatch(f"{re.escape(prefix)}/(\\d+)", name) for name in self.arrays)
        return max((int(match[1]) + 1 for match in numbers if match), default=0)

    def cfg(self, case: str = "") -> dict[str, Any]:
        """The settings of a case, or of the file."""
        return self.json(f"{case}/cfg" if case else "cfg")

    def json(self, name: str) -> dict[str, Any]:
        return dict(json.loads(str(self[name])))

    def names(self, pattern: str) -> list[str]:
        """What `*` stands for in the names like `pattern`, such as `*/cfg`, in the file's order.

        `*` is one part of a name, without `/`. With two, the parts are joined by `/`.
        """
        regular = re.escape(pattern).replace(r"\*", "([^/]+)")
        found = (re.fullmatch(regular, name) for name in self.arrays)
        return list(dict.fromkeys("/".join(match.groups()) for match in found if match))

    def cases(self, pattern: str = "*/cfg") -> list[Any]:
        """`names(pattern)` for `parametrize`; one skipped case that says what lacks, if none."""
        lacks = pytest.mark.golden_lacks(self.file, pattern if self.arrays else "")
        return self.names(pattern) or [pytest.param("lacking", marks=lacks)]

    def check(
        self,
        name: str,
        found: Any,
        *,
        relative: float | None = None,
        absolute: float | None = None,
        wanted: Any = None,
    ) -> float:
        """Compare with the array `name`, and keep the error for the table at the end.

        An array that the file lacks is named and compared with nothing; a test whose arrays are
        all lacking ends as skipped.

        Args:
            name: array of the file.
            found: what our code computes; tensor, array or number of the same shape.
            relative: largest difference allowed, as a share of the array's largest entry.
            absolute: largest difference allowed. Without either, both must be equal.
            wanted: compare with this instead; `name` then says what it is made of.

        Returns:
            The error, 0 if the array is lacking.

        Raises:
            AssertionError: naming file, array and error.
        """
        if relative is not None and absolute is not None:
            raise TypeError("relative or absolute, not both")
        if wanted is None:
            if name not in self.arrays:
                self.lacks(name)
                return 0.0
            wanted = self.arrays[name]
        kind = "absolute" if relative is None else "relative"
        tolerance = relative if relative is not None else (absolute or 0.0)
        ours, theirs = _float64(found), _float64(wanted)
        assert ours.shape == theirs.shape, (
            f"{self.file}: {name} is of shape {theirs.shape}, found {ours.shape}"
        )
        error = difference(ours, theirs, relative=relative is not None)
        session.record.compared.append(Compared(self.file, name, kind, error, tolerance))
        assert error <= tolerance, (
            f"{self.file}: {name}: {kind} error {error:.2e}, allowed {tolerance:.2e}"
        )
        return error

    def check_all(self, prefix: str, found: Sequence[Any], **tolerance: float) -> None:
        """`check` for the arrays `prefix/0`, `prefix/1`, ..., as many as there are."""
        count = self._count(prefix)
        assert count <= len(found), f"{self.file}: {count} of {prefix}, found {len(found)}"
        for i, value in enumerate(found):
            self.check(f"{prefix}/{i}", value, **tolerance)


def _float64(values: Any) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


def difference(found: NDArray[np.float64], wanted: NDArray[np.float64], *, relative: bool) -> float:
    """Largest difference; relative to the largest entry of `wanted` if asked for.

    Equal infinities, and NaN on both sides, do not differ; NaN on one side differs infinitely.
    """
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        gap = np.abs(found - wanted)[~same]
    error = float(np.where(np.isnan(gap), np.inf, gap).max())
    if relative:
        largest = float(np.abs(wanted).max())
        return error / largest if largest > 0 else float("inf")
    return error


def golden(name: str) -> GoldenFile:
    """The golden file `NAME.npz` of this session's folder; it is read at first use."""
    return _file(session.folder / f"{name}.npz")


@functools.cache
def _file(path: Path) -> GoldenFile:
    """One object for all tests of a process, so that a file is read once."""
    return GoldenFile(path)


def golden_like(pattern: str) -> list[GoldenFile]:
    """The files whose names match: those of this session's folder, and all that are committed."""
    names = {path.stem for folder in (COMMITTED, session.folder) for path in folder.glob(pattern)}
    return [golden(name) for name in sorted(names)]


def present(files: Iterable[GoldenFile]) -> list[Any]:
    """Files for `parametrize`; a file that is not there is a skipped case that says so."""
    return [
        pytest.param(
            file,
            id=file.path.stem,
            marks=() if file.path.is_file() else pytest.mark.golden_lacks(file.file, ""),
        )
        for file in files
    ]


def cases_of(files: Iterable[GoldenFile], pattern: str = "*/cfg") -> list[Any]:
    """`cases(pattern)` of several files: parameters of a file and a name."""
    return [
        pytest.param(file, *_values(case), id=f"{file.path.stem}-{_values(case)[0]}", marks=marks)
        for file in files
        for case in file.cases(pattern)
        for marks in [() if isinstance(case, str) else case.marks]
    ]


def _values(case: Any) -> Sequence[Any]:
    return (case,) if isinstance(case, str) else case.values


def table(record: Record, folder: Path) -> Iterator[str]:
    """The lines that end a session: the largest error of each file, then what was lacking."""
    largest: dict[tuple[str, str], Compared] = {}
    counts: dict[tuple[str, str], int] = {}
    for entry in record.compared:
        key = (entry.file, entry.kind)
        counts[key] = counts.get(key, 0) + 1
        if key not in largest or entry.error > largest[key].error:
            largest[key] = entry
    header = ("file", "largest error", "", "allowed", "of", "array")
    rows = [
        (file, f"{e.error:.1e}", kind, f"{e.tolerance:.0e}", f"{counts[file, kind]}", e.array)
        for (file, kind), e in sorted(largest.items())
    ]
    if rows:
        yield from _aligned([header, *rows])
    lacking: dict[str, dict[str, None]] = {}
    for file, array in record.lacking:
        lacking.setdefault(file, {})[array] = None
    for file, arrays in sorted(lacking.items()):
        yield "skipped: " + lacking_line(file, ", ".join(filter(None, arrays)), folder)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
