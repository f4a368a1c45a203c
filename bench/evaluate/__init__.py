"""Exact metrics of anomaly maps, and streamed ones with bounds; usable without the harness."""

from __future__ import annotations

from bench.evaluate.binary import auroc, average_precision, f1_max
from bench.evaluate.cells import adaptive_cells
from bench.evaluate.curves import image_curves, pixel_curves
from bench.evaluate.exact import evaluate
from bench.evaluate.large import evaluate_large
from bench.evaluate.pimo import aupimo
from bench.evaluate.pro import aupro
from bench.evaluate.regions import Regions, label_masks, label_regions
from bench.evaluate.result import Evaluation
from bench.evaluate.stream import StreamEvaluator

__all__ = [
    "Evaluation",
    "Regions",
    "StreamEvaluator",
    "adaptive_cells",
    "aupimo",
    "aupro",
    "auroc",
    "average_precision",
    "evaluate",
    "evaluate_large",
    "f1_max",
    "image_curves",
    "label_masks",
    "label_regions",
    "pixel_curves",
]
