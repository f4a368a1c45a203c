"""Exact metrics of anomaly maps; usable without the rest of the harness."""

from __future__ import annotations

from bench.evaluate.binary import auroc, average_precision, f1_max
from bench.evaluate.exact import evaluate
from bench.evaluate.pimo import aupimo
from bench.evaluate.pro import aupro
from bench.evaluate.regions import Regions, label_masks, label_regions
from bench.evaluate.result import Evaluation

__all__ = [
    "Evaluation",
    "Regions",
    "aupimo",
    "aupro",
    "auroc",
    "average_precision",
    "evaluate",
    "f1_max",
    "label_masks",
    "label_regions",
]
