"""The evaluator for maps that do not fit in memory: constant memory, every value with its bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import ConfigError, DataError
from bench.evaluate.binary import binary_metrics
from bench.evaluate.cells import COARSE_BITS, Cells, exact_cast, score_dtype
from bench.evaluate.certificate import WEIGHT_BITS, Bounded, Certificate, rounded
from bench.evaluate.inputs import Binarize, Nonfinite, is_tensor, read_set, refuse_nonfinite
from bench.evaluate.pro import LIMITS, check_limits
from bench.evaluate.result import NO_MASK, Evaluation, aupro_key
from bench.evaluate.tally import Tally, region_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.evaluate.inputs import EvaluationSet

__all__ = ["StreamEvaluation", "StreamEvaluator"]

Array = npt.NDArray[Any]

MOST_REGIONS = (1 << (63 - WEIGHT_BITS)) - 1
"""Their weights must fit in 63 bits."""

COUNTS = (
    *("n_test", "n_normal", "n_anomalous", "n_unmasked"),
    *("pixels", "anomalous_pixels", "normal_pixels", "regions"),
)

_BINARY = ("auroc", "ap", "f1max", "f1max_threshold")
_NEEDS_ORDER = ("aupimo", "region_aupro_30_mean", "region_aupro_30_median", "region_aupro_30_worst")
_DIFFERENT = (
    "evaluators with different cells or score types cannot merge; give all workers the same "
    "`cells` and `dtype`"
)


@dataclass(frozen=True)
class StreamEvaluation(Evaluation):
    """What a stream measured, under the names of `evaluate`.

    Attributes:
        intervals: metric -> value and proven interval, of every defined metric. The threshold of
            an F1-max belongs to its value, which is attained there.
    """

    intervals: dict[str, Bounded] = field(default_factory=dict)

    @property
    def bounds(self) -> dict[str, float]:
        """Metric -> largest possible |exact - value|."""
        return {name: interval.bound for name, interval in self.intervals.items()}


@dataclass
class StreamEvaluator:
    """Takes images in any order and batches; evaluators of several workers merge.

    The state does not depend on the order of images or merges, bit for bit. Scores of 8 and 16 bits
    are exact: every score has its own cell. Others are exact wherever a cell has seen one distinct
    score only, and enclosed elsewhere. Image scores are kept, so image metrics are exact.

    Attributes:
        cells: number of uniform cells, a power of two from 2^8 to 2^22, or `adaptive_cells(...)`,
            which all workers must share.
        limits: false-positive rates of the AUPROs, each in (0, 1].
        dtype: type of the scores; None takes that of the first map. Maps of other types are
            accepted where every value of theirs has an exact image.
        nonfinite: "rank" accepts infinite scores; NaN is always refused.
        binarize: rule for masks with grey values, as in `evaluate`.
    """

    cells: int | Cells = 1 << COARSE_BITS
    limits: Sequence[float] = LIMITS
    dtype: npt.DTypeLike | None = None
    nonfinite: Nonfinite = "error"
    binarize: Binarize | None = None
    tally: Tally | None = field(default=None, init=False, repr=False)
    counts: dict[str, int] = field(init=False, repr=False)
    image_scores: list[float] = field(default_factory=list, init=False, repr=False)
    image_labels: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self.limits = check_limits(self.limits)
        if self.nonfinite not in ("error", "rank"):
            raise ConfigError(
                f"nonfinite={self.nonfinite!r} is not known; choose 'error' or 'rank'"
            )
        self.counts = dict.fromkeys(COUNTS, 0)
        if isinstance(self.cells, Cells):
            self.tally = Tally(self.cells)
        elif self.cells not in [1 << bits for bits in range(8, 23)]:
            raise ConfigError(f"cells = {self.cells}; give a power of two from 2^8 to 2^22")
        elif self.dtype is not None:
            self.tally = self._new_tally(np.dtype(self.dtype))

    def update(
        self,
        maps: Any,
        masks: Any,
        labels: Any,
        image_scores: Any = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Count a batch. An error leaves the state as it was.

        Args:
            maps: (n, h, w) array or tensor, or n 2-D ones of any sizes and one type; higher is more
                anomalous. Tensors on an accelerator are copied to the host.
            masks: the same shapes, two values, one of them 0; None for an image (or for all): no
                anomalous pixel. An anomalous image without anomalous pixels leaves the pixel
                metrics, and is counted as "n_unmasked".
            labels: (n,) 0 normal, 1 anomalous, from the data set.
            image_scores: (n,), in every batch or in none: then the image metrics are undefined.
            names: how messages call the images; otherwise by their number in the stream.

        Raises:
            DataError: counts, shapes or types that differ, scores that are not finite, masks that
                are not binary, more than 524,287 regions; the message names the image.
        """
        first = self.counts["n_test"]
        called = names or [f"number {first + i} of the stream" for i in range(len(maps))]
        test = read_set([_host(x) for x in maps], masks, labels, called, self.binarize)
        scores = self._read_image_scores(image_scores, test)
        for name, anomaly_map in test.by_name.items():
            _refuse_nonfinite(name, anomaly_map, self.nonfinite)
        tally = self._fitting(test.maps[0].dtype)
        images = [exact_cast(x, tally.cells.dtype) for x in test.maps]
        regions = test.label()
        _check_regions(self.counts["regions"] + len(regions))
        weights = region_weights(regions.ids, regions.sizes)
        self.tally = tally
        for index in test.scored:
            pixels = slice(regions.offsets[index], regions.offsets[index + 1])
            tally.add(images[index].ravel(), test.masks[index], weights[pixels])
        self._add_counts(test, len(regions), len(regions.ids))
        self.image_scores += scores
        self.image_labels += test.labels.tolist()

    def _read_image_scores(self, image_scores: Any, test: EvaluationSet) -> list[float]:
        scored_before = len(self.image_scores) > 0
        if self.counts["n_test"] and scored_before != (image_scores is not None):
            raise DataError("image_scores were given for some batches only; give them for all")
        if image_scores is None:
            return []
        given = np.asarray(_host(image_scores), dtype=np.float64)
        if given.shape != (len(test.maps),):
            raise DataError(
                f"image_scores have shape {given.shape}; {len(test.maps)} maps need "
                f"({len(test.maps)},)"
            )
        for index, name in enumerate(test.names):
            what = f"the image score of {name}"
            _refuse_nonfinite(what, given[index : index + 1], self.nonfinite)
        return list(given.tolist())

    def _add_counts(self, test: EvaluationSet, regions: int, anomalous_pixels: int) -> None:
        pixels = sum(test.maps[i].size for i in test.scored)
        anomalous = int(test.labels.sum())
        numbers = (
            *(len(test.maps), len(test.maps) - anomalous, anomalous, len(test.unmasked)),
            *(pixels, anomalous_pixels, pixels - anomalous_pixels, regions),
        )
        for key, number in zip(COUNTS, numbers, strict=True):
            self.counts[key] += number

    def _new_tally(self, dtype: np.dtype[Any]) -> Tally:
        assert isinstance(self.cells, int)
        return Tally(Cells(score_dtype(dtype), bits=self.cells.bit_length() - 1))

    def _fitting(self, dtype: np.dtype[Any]) -> Tally:
        """The tally, or a new one for the first type seen."""
        if self.tally is None:
            return self._new_tally(dtype)
        target = self.tally.cells.dtype
        if score_dtype(dtype) != target and not np.can_cast(dtype, target, "safe"):
            raise DataError(f"maps of type {dtype} do not fit cells of {target}; set dtype")
        return self.tally

    def merge(self, other: StreamEvaluator) -> StreamEvaluator:
        """Add the images of another evaluator to this one, and return this one.

        Raises:
            ConfigError: if the cells differ.
            DataError: if together they have too many regions, or one has no image scores.
        """
        tally = self.tally
        if other.tally is not None:
            if tally is None and self.cells == other.cells:
                tally = Tally(other.tally.cells)
            if tally is None or not tally.cells.same(other.tally.cells):
                raise ConfigError(_DIFFERENT)
        _check_regions(self.counts["regions"] + other.counts["regions"])
        both = self.counts["n_test"] and other.counts["n_test"]
        if both and bool(self.image_scores) != bool(other.image_scores):
            raise DataError("one of the evaluators has no image scores; give them for all images")
        if tally is not None and other.tally is not None:
            tally.merge(other.tally)
        self.tally = tally
        for key, value in other.counts.items():
            self.counts[key] += value
        self.image_scores += other.image_scores
        self.image_labels += other.image_labels
        return self

    def result(self) -> StreamEvaluation:
        """All metrics of the images so far, each with its interval.

        AUPIMO and the values of single regions need the order of the scores within an image; they
        are undefined here, with this reason.

        Raises:
            DataError: if there was no image.
        """
        if not self.counts["n_test"]:
            raise DataError("no image was evaluated; call update first")
        found = _Found(dict(self.counts))
        self._image_metrics(found)
        self._pixel_metrics(found)
        found.leave(_NEEDS_ORDER, "a stream keeps no scores of single images; use the exact engine")
        return StreamEvaluation(
            values=found.values,
            undefined=found.undefined,
            published={},
            counts=found.counts,
            warnings=tuple(found.warnings),
            intervals=found.intervals,
        )

    def _image_metrics(self, found: _Found) -> None:
        scores, labels = np.array(self.image_scores), np.array(self.image_labels)
        exact = None
        reason = _one_class("image", self.counts["n_anomalous"], self.counts["n_normal"])
        if not len(scores):
            reason = "no image scores were given; how a map becomes a score is part of the method"
        else:
            exact = binary_metrics(scores, labels, nonfinite=self.nonfinite)
        if exact is None:
            found.leave((f"image_{name}" for name in _BINARY), reason)
            return
        for name, value in zip(_BINARY, (exact.auroc, exact.ap, exact.f1max), strict=False):
            found.enter(f"image_{name}", rounded(value))
        found.values["image_f1max_threshold"] = exact.threshold

    def _pixel_metrics(self, found: _Found) -> None:
        counts = self.counts
        anomalous, normal = counts["anomalous_pixels"], counts["normal_pixels"]
        reason = NO_MASK
        if counts["pixels"]:
            reason = _one_class("pixel", anomalous, normal)
        if reason or self.tally is None:
            names = [f"pixel_{name}" for name in _BINARY]
            found.leave([*names, *map(aupro_key, self.limits)], reason)
            return
        certificate = Certificate(normal, anomalous, counts["regions"], self.limits)
        found.counts["cells_occupied"] = self.tally.certify(certificate)
        found.counts["cells_mixed"] = self.tally.mixed
        if found.counts["cells_occupied"] == 1 and not found.counts["cells_mixed"]:
            found.warnings.append("degenerate: all pixel scores are equal")
        found.enter("pixel_auroc", certificate.auroc())
        found.enter("pixel_ap", certificate.ap())
        found.enter("pixel_f1max", certificate.f1max())
        found.values["pixel_f1max_threshold"] = self.tally.lower_edge(certificate.best.cell)
        for limit in self.limits:
            found.enter(aupro_key(limit), certificate.aupro(limit))


@dataclass
class _Found:
    """Values on their way into a `StreamEvaluation`."""

    counts: dict[str, int]
    values: dict[str, float | None] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    intervals: dict[str, Bounded] = field(default_factory=dict)

    def enter(self, name: str, interval: Bounded) -> None:
        """Note a metric."""
        self.intervals[name] = interval
        self.values[name] = interval.value

    def leave(self, names: Iterable[str], reason: str) -> None:
        """Note metrics that are not defined."""
        for name in names:
            self.values[name] = None
            self.undefined[name] = reason


def _host(value: Any) -> Any:
    return value.detach().cpu() if is_tensor(value) else value


def _refuse_nonfinite(what: str, scores: Array, nonfinite: Nonfinite) -> None:
    """As `refuse_nonfinite`, at the cost of a minimum and a maximum where all is well."""
    if scores.dtype.kind == "f" and not np.isfinite([scores.min(), scores.max()]).all():
        refuse_nonfinite({what: scores}, nonfinite)


def _check_regions(count: int) -> None:
    if count > MOST_REGIONS:
        raise DataError(f"{count} regions; one state holds {MOST_REGIONS}: evaluate in parts")


def _one_class(what: str, anomalous: int, normal: int) -> str:
    """Why a ranking of two classes is undefined; empty where it is not."""
    missing = [n for n, count in (("anomalous", anomalous), ("normal", normal)) if not count]
    return f"no {' and no '.join(missing)} {what} in the test set" if missing else ""
