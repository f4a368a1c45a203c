"""The memory layout in which a device convolves fastest."""

from __future__ import annotations

import torch


def fast_layout(device: torch.device) -> torch.memory_format:
    """Channels last on a CPU, where oneDNN is up to twice as fast; contiguous elsewhere.

    Without tensor cores cuDNN's kernels are at home in the contiguous layout. Not measured on a GPU
    yet: `benchmarks/layout.py --device cuda` does, and `make gpu` with it.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format
