"""What a class costs on a CPU and on a GPU: FLOPs counted on one step, hours derived from them.

    python benchmarks/costs.py [--only padim] [--train 209] [--test 83] [--cpu 40] [--gpu 20000]

No training is run. Hours are FLOPs over a rate: of one CPU thread as measured here on a network of
convolutions, or as given; of a GPU as assumed, in float32.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import torch
from counted import COUNTS
from tabulate import tabulate

from bench.blocks.backbone import build_backbone
from bench.profile.flops import count_flops
from bench.rows.provenance import cpu_name
from timing import seconds

if TYPE_CHECKING:
    from meta import Cost

TRAIN, TEST = 209, 83
"""Images of MVTec AD's bottle."""
GPU = 20_000.0
"""GFLOP/s: 30 % of the 67 TFLOP/s that an H100 has in float32 without tensor cores."""
_ROUNDS = 5


def cpu_rate() -> float:
    """GFLOP/s of one thread on ResNet18, eight images of 224 pixels; the fastest of some rounds."""
    torch.set_num_threads(1)
    network = build_backbone("resnet18", (4,)).eval().to(memory_format=torch.channels_last)
    images = torch.rand(8, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        flops = count_flops(lambda: network(images)).total
        least = min(seconds(lambda: network(images)) for _ in range(_ROUNDS))
    return flops / least / 1e9


def line(name: str, cost: Cost, test: int, cpu: float, gpu: float) -> list[str]:
    """One method's row of the table."""
    total = cost.training + test * cost.image
    return [
        name,
        cost.settings,
        _digits(cost.training / 1e15),
        _digits(cost.image / 1e9),
        _duration(total / cpu / 1e9),
        _duration(total / gpu / 1e9),
    ]


def _duration(amount: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if amount >= size:
            return f"{_digits(amount / size)} {unit}"
    return f"{_digits(amount)} s"


def _digits(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{value:.2g}'):g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=list(COUNTS), action="append", help="may be repeated")
    parser.add_argument("--train", type=int, default=TRAIN, help="training images")
    parser.add_argument("--test", type=int, default=TEST, help="test images")
    parser.add_argument("--cpu", type=float, help="GFLOP/s of a CPU thread; measured otherwise")
    parser.add_argument("--gpu", type=float, default=GPU, help="GFLOP/s of a GPU")
    options = parser.parse_args()
    cpu = options.cpu or cpu_rate()
    print(f"{cpu_name()}, torch {torch.__version__}: {cpu:.0f} GFLOP/s of one thread")
    print(f"{options.train} training images, {options.test} test images\n")
    lines = [
        line(name, COUNTS[name](options.train), options.test, cpu, options.gpu)
        for name in options.only or COUNTS
    ]
    head = ["method", "settings", "training, PFLOP", "test image, GFLOP", "CPU thread", "GPU"]
    print(tabulate(lines, head, "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
