"""What an error of a plugin looks like to its author: one line, and the plugin's own frames."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def told(name: str, files: Sequence[Path]) -> Iterator[None]:
    """Turn whatever a method raises into a MethodError that shows where in its own code.

    Args:
        name: of the method.
        files: those that it is made of.

    Raises:
        MethodError: of any other exception; a BenchError passes.
    """
    try:
        yield
    except BenchError:
        raise
    except Exception as error:
        text = str(error).partition("\n")[0]
        cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise MethodError(f"{name}: {cause}{own_frames(error, files)}") from error


def own_frames(error: BaseException, files: Sequence[Path]) -> str:
    """The lines of an error's traceback that lie in these files, each on a line of its own."""
    own = {file.resolve() for file in files}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() in own
    ]
    return "".join(f"\n  {f.filename}:{f.lineno} in {f.name}: {f.line}" for f in frames)


def type_name(value: object) -> str:
    """The type of a value, as its library is written: "a numpy.ndarray"."""
    kind = type(value)
    place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return "None" if value is None else f"a {place}{kind.__qualname__}"
