"""What lies beside a row: image scores, curves, losses, panels, and maps if asked for."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.evaluate.curves import image_curves, pixel_curves, save_curves
from bench.rows.panels import SHARED, Panel, save_panels, select, shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.run.scoring import CellTest, Epochs


def history_text(history: Sequence[Mapping[str, float]]) -> str:
    """The figures of every epoch as JSON; null for what is not finite, which JSON cannot say."""
    finite = [{k: v if math.isfinite(v) else None for k, v in f.items()} for f in history]
    return json.dumps(finite, allow_nan=False)


def write_images(file: Path, test: CellTest, epochs: Epochs) -> None:
    """A line for each test image: its score, the maximum of its map, and its AUPIMO."""
    shown = epochs.shown
    columns: dict[str, Sequence[object]] = {
        "image": test.names,
        "defect": [sample.defect for sample in test.samples],
        "label": test.labels,
        "score": epochs.image_scores.tolist(),
    }
    if shown.maps is not None:
        columns["map_max"] = [float(one.max()) for one in shown.maps]
        columns["aupimo"] = shown.evaluation.detail.get("aupimo", [None] * len(test.names))
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def save_artifacts(
    folder: Path,
    test: CellTest,
    epochs: Epochs,
    history: Sequence[Mapping[str, float]],
    save_maps: bool = False,
) -> None:
    """Write scores.npz, images.csv, curves.npz, history.json, panels.npz; `save_maps`: the maps.

    They are of the epoch whose numbers the row carries; where each metric has its own, image scores
    are those of the image AUROC, and maps those of the pixel AUROC.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown, scores = epochs.shown, epochs.image_scores.numpy()
    np.savez_compressed(
        folder / "scores.npz",
        names=np.array(test.names),
        scores=scores,
        labels=np.array(test.labels),
        defects=np.array([s.defect for s in test.samples]),
    )
    write_images(folder / "images.csv", test, epochs)
    maps = shown.maps
    curves = image_curves(scores, test.labels)
    if maps is not None and not test.is_large:  # a curve of pixels takes the memory of all maps
        curves = pixel_curves(maps, test.masks.masks, test.labels) | curves
    save_curves(folder / "curves.npz", curves)
    (folder / "history.json").write_text(history_text(history), encoding="utf-8")
    beside = shown.scores.numpy()
    reasons = dict(select(beside, np.array(test.labels)))
    for index in shared([sample.defect for sample in test.samples]):
        reasons.setdefault(index, SHARED)
    panels = [
        Panel(
            name=test.names[index],
            image=test.images.raw(index),
            mask=test.masks.masks[index],
            map=None if maps is None else maps[index],
            score=float(beside[index]),
            label=test.labels[index],
            defect=test.samples[index].defect,
            reason=reason,
            epoch=shown.epoch,
        )
        for index, reason in reasons.items()
    ]
    save_panels(folder / "panels.npz", panels, shown.evaluation.values["pixel_f1max_threshold"])
    if save_maps and maps is not None:
        for name, anomaly_map in zip(test.names, maps, strict=True):
            target = folder / "maps" / Path(name).with_suffix(".npy")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.save(target, anomaly_map)
