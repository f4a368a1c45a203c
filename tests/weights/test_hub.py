"""The hub is asked last, with a time limit, and not at all where it does not answer."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
import torch

from bench.errors import MethodError
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def load() -> None:
    load_backbone("test_resnet", (1,), Weights("pretrained"), seed=0, device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a machine that lets nobody connect: its queue of callers is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    callers = []
    for _ in range(8):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
        callers.append(caller)
    yield f"http://127.0.0.1:{port}"
    for caller in [listener, *callers]:
        caller.close()


def test_a_hub_that_does_not_answer_costs_its_time_limit_and_no_more(
    deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", deaf)
    monkeypatch.setenv("BENCH_HUB_TIMEOUT", "0.5")
    start = time.monotonic()
    with pytest.raises(MethodError, match=r"does not answer within 0\.5 s\); pass --weights FILE"):
        load()
    assert time.monotonic() - start < 60  # the client alone would try for minutes


def test_a_hub_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(MethodError, match=f"{address} cannot be reached: Connection refused"):
        load()


def test_the_ways_out_stand_in_the_order_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MethodError) as caught:
        load()
    message = str(caught.value)
    ways = ("--weights FILE", "[paths].weights", "bench weights fetch", "--preset lite")
    places = [message.index(way) for way in (*ways, "--random-weights")]
    assert places == sorted(places)
    assert "\n" not in message


def test_a_time_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_HUB_TIMEOUT", "soon")
    with pytest.raises(MethodError, match="BENCH_HUB_TIMEOUT = 'soon' is no number of seconds"):
        load()
