"""The training half of a cell: what its images must be, and the epochs of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.api import Method, MethodError
from bench.errors import DataError, counted
from bench.run.plugin_errors import type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.api import Images, Run, Sample
    from bench.plan.cells import Cell


def check_training(cell: Cell, method: Method, samples: Sequence[Sample]) -> None:
    """Refuse training images that the method cannot learn from.

    Raises:
        DataError: fewer than the method needs, or one that is labelled anomalous.
    """
    place = f"{cell.dataset}/{cell.category}"
    if len(samples) < method.min_train:
        raise DataError(
            f"{place}: {counted(len(samples), 'training image')}, but {cell.method} needs at least "
            f"{method.min_train}"
        )
    anomalous = [s.image for s in samples if s.label]
    if anomalous:
        raise DataError(
            f"{place}: {counted(len(anomalous), 'anomalous training image')}: {anomalous[0]}"
        )


def epochs_of(method: Method, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
    """The epochs of `fit`, at least one.

    Raises:
        MethodError: it returns instead of yielding, yields no mapping, or never yields.
    """
    name = type(method).__name__
    epochs = method.fit(train, run)
    if not hasattr(epochs, "__next__"):
        raise MethodError(
            f"{name}: fit returned {type_name(epochs)}; it must `yield {{}}` after each epoch, so "
            "that it is a generator"
        )
    count = 0
    for figures in epochs:
        if not hasattr(figures, "items"):
            raise MethodError(
                f"{name}: fit yielded {type_name(figures)}; yield the figures of the epoch, as in "
                '{"loss": 1.0}, or {}'
            )
        count += 1
        yield figures
    if not count:
        raise MethodError(f"{name}: fit ended without a usable state; it never yielded")
