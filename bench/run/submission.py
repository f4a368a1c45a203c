"""Anomaly maps made elsewhere: checked as a whole, evaluated under a protocol, kept as rows."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.errors import DataError
from bench.evaluate import evaluate
from bench.evaluate.large import evaluate_large
from bench.evaluate.lazy import Lazy
from bench.evaluate.result import VERSION
from bench.files.geometry import Geometry, Size
from bench.files.images import image_size
from bench.files.manifest import file_digest
from bench.files.map_files import read_map
from bench.files.map_layout import (
    SCORES,
    Problem,
    find_base,
    find_maps,
    find_scored,
    find_scores,
    map_keys,
)
from bench.files.masks import aspect_differs
from bench.files.tensors import checked, fit_maps, load_masks
from bench.files.twins import (
    contradiction,
    find_contradictions,
    find_leaks,
    pixel_digests,
)
from bench.rows.row import Row, map_kind, stored
from bench.rows.row_values import SPOOLED
from bench.run.scoring import suspicions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.api import Dataset, Sample
    from bench.files.masks import Mask, MaskSet
    from bench.plan.cells import Cell
    from bench.settings.protocol import Protocol

KIND = "submitted"

MB = 10**6


@dataclass(frozen=True)
class Submitted:
    """The maps of one category, checked.

    Attributes:
        samples: the test images.
        files: the map of each; none: there are image scores alone.
        masks: ground truth at the size at which the protocol scores pixels.
        scores: given image scores; None: the maxima of the maps.
        resized: maps that have another size than their mask.
        digests: SHA-256 of the map files.
        leaked: test images that are training images too.
    """

    category: str
    samples: Sequence[Sample]
    files: Sequence[Path]
    masks: MaskSet
    scores: Sequence[float] | None
    resized: int
    digests: Sequence[str]
    leaked: int

    @property
    def map_bytes(self) -> int:
        """Of all maps at the sizes of their masks, in single precision."""
        shapes = self.masks.masks.shapes
        return 4 * sum(height * width for height, width in filter(None, shapes))


def check_maps(
    folder: Path, dataset: Dataset, category: str, protocol: Protocol, *, is_only: bool
) -> tuple[Submitted | None, list[Problem]]:
    """Everything that is wrong with the maps of a category, or the maps.

    Args:
        folder: of the submission.
        is_only: the submission is of this category alone.

    Raises:
        DataError: the data set itself is unusable, or the protocol cannot score maps.
    """
    samples = list(dataset.samples(category, "test"))
    keys = map_keys(samples)
    base = find_base(folder, category, is_only)
    has_maps = base is not None
    base = base or find_scored(folder, category, is_only)
    if base is None:
        text = f"{folder / category}: no maps of category {category} ({len(keys)} images)"
        return None, [Problem("missing", f"{text}, and no {SCORES} of it")]
    pixels = checked(samples).pixels
    if pairs := find_contradictions(samples, pixels):
        raise DataError(contradiction(pairs))
    masks = load_masks(samples, protocol, _input_size(samples, protocol))
    found, problems = find_maps(base, keys) if has_maps else ({}, [])
    scores, wrong = find_scores(folder, base, category, keys)
    problems += wrong
    resized = 0
    for key, sample, mask in zip(keys, samples, masks.masks, strict=True):
        if key not in found:
            continue
        problem, differs = _judge(found[key], sample, mask, protocol)
        problems += [problem] if problem else []
        resized += differs
    if problems:
        return None, problems
    files = [found[key] for key in keys] if has_maps else []
    digests = {key: file_digest(file) for key, file in found.items()}
    train = list(dataset.samples(category, "train"))
    return Submitted(
        category=category,
        samples=samples,
        files=files,
        masks=masks,
        scores=[scores[key] for key in keys] if scores else None,
        resized=resized,
        digests=[f"{category}/{key} {digests[key]}" for key in keys if key in digests],
        leaked=len(find_leaks(train, samples, {**pixel_digests(train), **pixels})),
    ), []


def maps_digest(parts: Sequence[Submitted]) -> str:
    """SHA-256 over names and contents of all maps and given scores: what makes a submission."""
    lines = sorted(line for part in parts for line in part.digests)
    lines += [f"{p.category} {list(p.scores)!r}" for p in parts if p.scores is not None]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def score_maps(part: Submitted, protocol: Protocol, budget_mb: float = math.inf) -> dict[str, Any]:
    """The score columns of a row, by the rules of `bench run`.

    Maps of another size than their mask are brought to it bilinearly. The image score is the
    maximum of that map, unless scores were given and the protocol leaves them to the method.
    Without maps the scores given count under any protocol.

    Args:
        budget_mb: MB of maps up to which they are held in memory; above, they are read again.
    """
    maps = _maps(part) if part.files else None
    own = part.scores if maps is None or protocol.image_score == "method" else None
    scores = np.array([m.max() for m in maps or ()] if own is None else own)
    labels = [sample.label for sample in part.samples]
    names = [str(file) for file in part.files or (s.image for s in part.samples)]
    is_large = maps is not None and part.map_bytes > budget_mb * MB
    if maps is not None and is_large:
        masks, published = part.masks.masks, protocol.published
        evaluation = evaluate_large(
            maps, masks, labels, scores, names=names, published=published, room_mb=budget_mb
        )
    else:
        evaluation = evaluate(
            None if maps is None else list(maps),
            None if maps is None else part.masks.masks,
            labels,
            scores,
            names=names,
            published=protocol.published,
        )
    return {
        **stored(evaluation.values),
        "published": evaluation.published,
        "undefined": evaluation.undefined,
        "maps": map_kind(None if maps is None else map(read_map, part.files)),
        "evaluator": SPOOLED if is_large else "",
        "evaluator_version": VERSION,
        "suspect": suspicions(evaluation),
        "n_test": len(labels),
        "n_anomalous": sum(labels),
        "n_unmasked": len(part.masks.unmasked),
        "n_leaked": part.leaked,
        "regions": evaluation.counts.get("regions", part.masks.regions),
        "regions_lost": part.masks.regions_lost,
    }


def _maps(part: Submitted) -> Lazy[NDArray[Any]]:
    """The maps at the sizes of their masks, all of one type; each is read when it is asked for."""

    def fitted(index: int) -> NDArray[Any]:
        return _fitted(read_map(part.files[index]), part.masks.masks.shapes[index])

    # A file may hold fewer digits than the others; the widest type holds all of them.
    count = len(part.files)
    widest = np.result_type(*{fitted(index).dtype for index in range(count)})
    return Lazy(lambda index: fitted(index).astype(widest, copy=False), count)


def make_row(
    cell: Cell, scores: Mapping[str, Any], environment: Mapping[str, str], **provenance: str
) -> Row:
    """The row of one category; it has no complexity, and nobody knows how its maps were made.

    Args:
        provenance: columns that say where the row is made.
    """
    return Row.of(
        cell,
        environment,
        **scores,
        **provenance,
        precision="",
        kind=KIND,
        weights="unknown",
        code="",
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _input_size(samples: Sequence[Sample], protocol: Protocol) -> Size:
    """(height, width) at which the protocol scores pixels; of no use unless it is the input's."""
    geometry = Geometry(protocol)
    if protocol.mask_size != "input":
        return image_size(samples[0].image)
    sizes = {geometry.cropped(image_size(sample.image)): sample.image for sample in samples}
    if len(sizes) > 1:
        (a, one), (b, other) = list(sizes.items())[:2]
        raise DataError(
            f"{one} becomes {a[1]} x {a[0]} and {other} {b[1]} x {b[0]} under protocol "
            f"{protocol.name!r}; use one that resizes to a fixed (height, width), or 'native'"
        )
    return next(iter(sizes))


def _judge(
    file: Path, sample: Sample, mask: Mask | None, protocol: Protocol
) -> tuple[Problem | None, bool]:
    """What is wrong with a map, and whether it must be resized to its mask."""
    try:
        values = read_map(file)
    except DataError as error:
        return Problem("unreadable", str(error)), False
    if values.ndim != 2 or not values.size:
        shape = " x ".join(map(str, values.shape)) or "a single value"
        return Problem("misshapen", f"{file}: {shape}; expected height x width"), False
    size = (values.shape[0], values.shape[1])
    expected = image_size(sample.image)
    scored = mask.shape if mask is not None else expected
    if protocol.crop is not None and mask is not None and size != scored:
        text = f"expected {_text(scored)}: protocol {protocol.name!r} scores a crop of the image"
        return Problem("misshapen", f"{file}: {_text(size)}; {text}"), False
    if size[0] != size[1] and aspect_differs(size, expected) and aspect_differs(size, scored):
        text = f"expected the shape of the image, {_text(expected)}, or a square"
        return Problem("misshapen", f"{file}: {_text(size)}; {text}"), False
    if not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        return Problem("not finite", f"{file}: {count} of {values.size} values"), False
    return None, mask is not None and size != scored


def _text(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} (height x width)"


def _fitted(values: NDArray[Any], size: Size | None) -> NDArray[Any]:
    """The map at the size of its mask; untouched where there is none."""
    if size is None or values.shape == size:
        return values
    exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
    tensor = torch.from_numpy(values.astype(np.float32 if exact else np.float64))
    return fit_maps(tensor[None], [size])[0].numpy()
