"""A Ray cluster: how to reach it, which machines it has, and what fits into one."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with what it has in all."""

    id: str
    name: str
    cpus: float
    gpus: float
    memory_mb: float


@dataclass(frozen=True)
class Needs:
    """What a cell asks for."""

    cpus: float
    gpus: float
    memory_mb: float

    def fit_into(self, node: Node) -> int:
        """How many such cells a machine takes at a time."""
        pairs = (node.cpus, self.cpus), (node.gpus, self.gpus), (node.memory_mb, self.memory_mb)
        return min(int(has / asked + 1e-6) for has, asked in pairs if asked)

    def text(self) -> str:
        """In words."""
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus} and {self.memory_mb:.0f} MB"


def join(address: str) -> bool:
    """Connect to the cluster; False where this process is connected already.

    Raises:
        ConfigError: nobody answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of a Ray that starts here: its default, 15, would let cells wait for everything else.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if ray.is_initialized():
        return False
    text = f"--address {address}: there is no Ray cluster; `ray start --head` on one machine, and"
    text += " `ray start --address HOST:6379` on the others, make one"
    if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except OSError as error:
            raise ConfigError(f"{text} ({error.strerror or error})") from error
    options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{text} ({str(error).partition(chr(10))[0]})") from error
    return True


def machines() -> list[Node]:
    """The machines that are alive."""
    import ray

    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has: Mapping[str, float] = node["Resources"]
            found.append(
                Node(
                    node["NodeID"],
                    node["NodeManagerHostname"],
                    has.get("CPU", 0.0),
                    has.get("GPU", 0.0),
                    has.get("memory", 0.0) / 1e6,
                )
            )
    return found


def described(nodes: Sequence[Node]) -> str:
    """What the largest machines have, in words."""
    kinds = {Needs(n.cpus, n.gpus, n.memory_mb).text() for n in nodes}
    return f"the machines have {', '.join(sorted(kinds))}" if kinds else "there is no machine"
