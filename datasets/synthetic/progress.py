"""Progress of the generation: a bar on a terminal, one line for each category elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@contextmanager
def shown(totals: Mapping[str, int], size: int) -> Iterator[Callable[[str], None]]:
    """Show how far the images are; written to standard error.

    Args:
        totals: images by category, in the order in which they are made.
        size: side of the images, for the message.

    Yields:
        a function to call with the category's name after each image.
    """
    console = Console(stderr=True)
    title = f"synthetic: making {sum(totals.values())} images of {size} pixels, once"
    if not console.is_terminal:
        console.print(title, soft_wrap=True, highlight=False)
        yield _lines(console, totals)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=sum(totals.values()))
        yield lambda category: progress.advance(task)


def _lines(console: Console, totals: Mapping[str, int]) -> Callable[[str], None]:
    started, done = time.monotonic(), dict.fromkeys(totals, 0)

    def on_image(category: str) -> None:
        done[category] += 1
        if done[category] == totals[category]:
            seconds = time.monotonic() - started
            text = f"synthetic: {category} done ({done[category]} images), {seconds:.1f} s"
            console.print(text, soft_wrap=True, highlight=False)

    return on_image
