"""How speed is measured: the named protocols of steps, warm-up and switches. No torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, nearest
from bench.settings.tables import Amount, Count, Positive, checked, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping


UNTIMED = "none"
"""Of cells that are scored alone: what they cost in time stays unknown."""


@dataclass(frozen=True)
class Pace:
    """The lower bounds of one stage on one kind of device.

    Attributes:
        warmup_steps: fewest steps that are thrown away.
        warmup_s: fewest seconds of them.
        min_steps: fewest steps that are kept.
        min_s: fewest seconds of them.
    """

    warmup_steps: int
    warmup_s: float
    min_steps: int
    min_s: float


@dataclass(frozen=True)
class SpeedProtocol:
    """When a measurement is warm, how long it lasts, and which switches are on.

    Always: evaluation mode, inference mode, the precision of the cell, contiguous memory format, no
    `torch.compile`.

    Attributes:
        name: what the `speed` column of a row begins with.
        warmup_steps_gpu: with `warmup_s_gpu`, the least warm-up on a GPU; `_cpu` likewise.
        min_steps_gpu: with `min_s_gpu`, the least measurement on a GPU; `_cpu` likewise.
        window: steps whose median decides whether the warm-up is over.
        change: relative change of that median from one step to the next that counts as stable.
        max_warmup_s: a warm-up ends after so many seconds, stable or not.
        max_s: a measurement ends after so many seconds, whatever its number of steps.
        max_batch: the throughput batch is the largest power of two up to here that fits.
        noise: relative interquartile range above which a row is marked noisy, and the share by
            which wall time may exceed process time on one thread.
        cudnn_benchmark: let cuDNN try its algorithms.
    """

    name: str = "speed-1"
    warmup_steps_gpu: Count = 10
    warmup_s_gpu: Amount = 2.0
    warmup_steps_cpu: Count = 3
    warmup_s_cpu: Amount = 0.0
    min_steps_gpu: Positive = 50
    min_s_gpu: Amount = 5.0
    min_steps_cpu: Positive = 10
    min_s_cpu: Amount = 10.0
    window: Positive = 10
    change: Amount = 0.02
    max_warmup_s: Amount = 60.0
    max_s: Amount = 60.0
    max_batch: Positive = 32
    noise: Amount = 0.10
    cudnn_benchmark: bool = False

    def pace(self, device: str) -> Pace:
        """The bounds for a device type ("cpu"; any other is an accelerator)."""
        if device == "cpu":
            return Pace(
                self.warmup_steps_cpu, self.warmup_s_cpu, self.min_steps_cpu, self.min_s_cpu
            )
        return Pace(self.warmup_steps_gpu, self.warmup_s_gpu, self.min_steps_gpu, self.min_s_gpu)

    @property
    def is_timed(self) -> bool:
        """Whether anything is timed, so that a cell may not share its device."""
        return self.name != UNTIMED

    def label(self) -> str:
        """What the row says: a built-in name, or the name and what differs from `speed-1`."""
        if SPEEDS.get(self.name) == self:
            return self.name
        standard = SPEEDS["speed-1"]
        own = [f.name for f in fields(self) if f.name != "name"]
        changed = [n for n in own if getattr(self, n) != getattr(standard, n)]
        return f"{self.name} ({', '.join(f'{n}={getattr(self, n)}' for n in changed)})"


def make_speed(name: str, values: Mapping[str, Any], where: str = "bench.toml") -> SpeedProtocol:
    """A speed protocol from a table of settings; what is not set is as in `speed-1`.

    Raises:
        ConfigError: a built-in name, an unknown key or a value of another type.
    """
    if name in SPEEDS:
        raise ConfigError(f"{where}: [speed.{name}] is built in and fixed; choose another name")
    if "tf32" in values:
        raise ConfigError(
            f"{where}: [speed.{name}].tf32 is set for training and speed together: "
            '[run].precision = "tf32", or --precision tf32'
        )
    types = types_of(SpeedProtocol, without=("name",))
    return SpeedProtocol(name, **checked(values, types, where, f"[speed.{name}]"))


def speed_protocol(
    name: str, tables: Mapping[str, Mapping[str, Any]], where: str = "bench.toml"
) -> SpeedProtocol:
    """A speed protocol by name: built in, or a `[speed.NAME]` table.

    Raises:
        ConfigError: an unknown name, or a table that cannot be used.
    """
    if name in tables:
        return make_speed(name, tables[name], where)
    if name not in SPEEDS:
        raise ConfigError(f"unknown speed protocol {name!r}; {nearest(name, [*SPEEDS, *tables])}")
    return SPEEDS[name]


SPEEDS: dict[str, SpeedProtocol] = {
    s.name: s
    for s in (
        SpeedProtocol(),
        # For small presets and tests: it tells slow from fast, and is not for publication.
        SpeedProtocol(
            "brief",
            warmup_steps_gpu=3,
            warmup_s_gpu=0.0,
            warmup_steps_cpu=1,
            min_steps_gpu=10,
            min_s_gpu=0.0,
            min_steps_cpu=5,
            min_s_cpu=0.0,
            max_warmup_s=2.0,
            max_s=3.0,
            max_batch=8,
        ),
        SpeedProtocol(UNTIMED),
    )
}
