"""What stands beside numbers so that nobody is misled: marks of methods, notes on the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import PluginError
from bench.plan import discovery
from bench.rows.row import DEGENERATE, NOT_FINITE, OWN, UNRECORDED
from bench.rows.settings import precision_of
from bench.settings.precision import FULL

if TYPE_CHECKING:
    from collections.abc import Collection

    from bench.rows.row import Row

MEANINGS = {
    "†": "epoch chosen on the test set",
    "‡": "transductive: an image's score depends on the other test images",
    "§": "random encoder weights: for tests, never beside published numbers",
    "△": "holds a frozen network of the method's own: its weights are not those of the harness",
    "▲": "holds frozen parameters that came from nowhere: what it was trained on cannot be told",
    "◇": "without the auxiliary pictures that the method is published with: its fall-back",
    "◊": "submitted: maps made elsewhere, evaluated here; nothing else of it was measured",
    "○": "image level: gives no maps, and its own image scores count whatever the protocol takes",
    "●": "maps are constant within every image: pixel metrics only repeat the image scores",
    "≡": "degenerate: all pixel scores are equal",
    "∞": "a figure of training was not finite, as a loss of NaN",
    "¶": "not timed by speed-1: figures are rough",
    "≈": "less than float32: TF32, or encoders in bfloat16 while scoring; see column precision",
    "!": "leak: test images are training images too; never best",
}
"""Every mark beside a method's name."""

_SUSPECT = {DEGENERATE: "≡", NOT_FINITE: "∞"}

NOISY = "*"
"""Beside a time that comes from noisy rows alone, or the name of a method whose times do."""

NOISY_MEANING = (
    "step times spread by more than 10 %, or steps or training waited as long for a processor: "
    "speed is uncertain"
)

NAMED = {"oracle": "†", "transductive": "‡"}
"""Marks that the file of a table can give to its published rows."""

ROUGH = "¶"
"""Says nothing about scores, memory and sizes."""

OF_SCORES = "†‡○●≡∞!"
"""Say something about scores alone."""


def caution(dataset: str) -> list[str]:
    """Why scores on a data set do not compare with published ones, if its plugin says so."""
    if dataset not in discovery.sources("datasets"):
        return []
    try:
        text = discovery.describe("datasets", dataset).constants.get("caution")
    except PluginError:
        return []  # `bench list` says what is wrong with it
    return [text] if text else []


def marks(row: Row) -> dict[str, str]:
    """Marks that stand beside a method's name, with their meaning."""
    found = []
    if row.epochs is not None and row.last_epoch:
        found.append("†")
    if row.transductive:
        found.append("‡")
    if row.pretrained == "random":
        found.append("§")
    if OWN in row.weights:
        found.append("△")
    if UNRECORDED in row.weights:
        found.append("▲")
    if row.auxiliary.endswith("=none") or "=none, " in row.auxiliary:
        found.append("◇")
    if row.kind == "submitted":
        found.append("◊")
    if row.maps:
        found.append({"none": "○", "constant": "●"}[row.maps])
    found += [_SUSPECT[text] for text in row.suspect if text in _SUSPECT]
    if row.speed and row.speed.split(" ")[0] != "speed-1":
        found.append("¶")
    if precision_of(row) != FULL:
        found.append("≈")
    if row.n_leaked:
        found.append("!")
    return {mark: MEANINGS[mark] for mark in found}


def says_nothing(protocol: str) -> str:
    """Of a protocol that measures costs alone."""
    return f"scores of protocol {protocol} say nothing"


def data_notes(rows: Collection[Row]) -> list[str]:
    """What is odd about the images of a category: no mask, in training too, defects that vanish."""
    leaked = {(r.category, r.n_leaked) for r in rows if r.n_leaked}
    lines = [
        f"{category}: LEAK: {count} test images are training images too"
        for category, count in sorted(leaked)
    ]
    return [*_unmasked(rows), *lines, *_lost(rows)]


def mask_notes(rows: Collection[Row]) -> list[str]:
    """What of it concerns the pixel metrics alone."""
    return [*_unmasked(rows), *_lost(rows)]


def _unmasked(rows: Collection[Row]) -> list[str]:
    unmasked = {(r.category, r.n_unmasked) for r in rows if r.n_unmasked}
    return [
        f"{category}: {count} anomalous images without a usable mask: in the image metrics, "
        "not in the pixel metrics"
        for category, count in sorted(unmasked)
    ]


def _lost(rows: Collection[Row]) -> list[str]:
    lost = {(r.category, r.regions_lost, r.regions) for r in rows if r.regions_lost}
    return [
        f"{category}: {gone} defect regions vanish in the resize or crop, {left} are scored"
        for category, gone, left in sorted(lost)
    ]
