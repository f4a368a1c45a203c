"""Ctrl-C at an awkward moment."""

from __future__ import annotations

import io
import signal
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from typing_extensions import override

from bench.driver import _Interrupts
from bench.executors import LocalExecutor

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Screen(io.RawIOBase):
    """Gets a Ctrl-C while it is written to."""

    def __init__(self) -> None:
        self.text = b""
        self.done = threading.Event()

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Buffer) -> int:
        part = bytes(data)
        self.text += part
        if part == b"a row":
            signal.raise_signal(signal.SIGINT)
        elif b"Ctrl-C again" in self.text:
            self.done.set()
        return len(part)


def test_ctrl_c_while_a_line_is_printed_stops_after_the_cells_that_run() -> None:
    screen = Screen()
    file = io.TextIOWrapper(io.BufferedWriter(screen), write_through=True)
    executor = LocalExecutor([{}], 0, lambda _job, _event: None)
    with _Interrupts(executor, Console(file=file)) as interrupts:
        file.write("a row")
        file.flush()
        assert screen.done.wait(60)
    assert interrupts.count == 1
    assert executor._stopping
