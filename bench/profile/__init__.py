"""What a method costs: speed, memory, parameters, FLOPs and stored state, as docs/speed.md says."""

from __future__ import annotations

from bench.profile.clock import Clock, CudaClock, clock_of
from bench.profile.fit import FitMeter
from bench.profile.inference import profile
from bench.profile.memory import Memory, memory_of
from bench.settings.speed import SPEEDS, SpeedProtocol, speed_protocol

__all__ = [
    "SPEEDS",
    "Clock",
    "CudaClock",
    "FitMeter",
    "Memory",
    "SpeedProtocol",
    "clock_of",
    "memory_of",
    "profile",
    "speed_protocol",
]
