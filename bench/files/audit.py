"""Everything that can be wrong with the files of a category, found before training."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.errors import DataError, counted
from bench.files.images import ImageInfo, binarise, image_info, mask_values
from bench.files.masks import aspect_differs, marked_normal, softness, wrong_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.api import Sample


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong ("error") or worth knowing ("warning"), as one line."""

    severity: Literal["error", "warning"]
    text: str


@dataclass(frozen=True)
class Audit:
    """What decoding all files of a category showed.

    Attributes:
        findings: errors first, each in the order of the samples.
        pixels: digest of the pixels of every readable image.
    """

    findings: list[Finding]
    pixels: Mapping[Path, str]


def audit(samples: Sequence[Sample], threads: int = 4) -> Audit:
    """Decode every image and mask in full."""
    with ThreadPoolExecutor(threads) as pool:
        images = list(pool.map(_image, samples))
        masks = list(pool.map(_mask, [sample for sample in samples if sample.mask is not None]))
    infos = {
        sample.image: info
        for sample, info in zip(samples, images, strict=True)
        if isinstance(info, ImageInfo)
    }
    findings = [found for found in images if isinstance(found, Finding)]
    findings += (
        _mixtures(samples, infos) + _notes(infos) + _few_bits(samples, infos) + _judge(masks, infos)
    )
    pixels = {path: info.pixels for path, info in infos.items()}
    return Audit(sorted(findings, key=lambda finding: finding.severity), pixels)


def _image(sample: Sample) -> ImageInfo | Finding:
    try:
        return image_info(sample.image, sample.bits)
    except DataError as error:
        return Finding("error", str(error))


@dataclass(frozen=True)
class _Mask:
    """What matters of a decoded mask: size, whether any pixel is anomalous, and its greys."""

    sample: Sample
    size: tuple[int, int]
    is_empty: bool
    nonzero: int
    soft: int
    is_mostly_anomalous: bool


def _mask(sample: Sample) -> _Mask | Finding:
    assert sample.mask is not None
    try:
        values = mask_values(sample.mask, sample.mask_index)
    except DataError as error:
        return Finding("error", str(error))
    mask = binarise(values, sample.mask_rule)
    size = (mask.shape[0], mask.shape[1])
    return _Mask(sample, size, not mask.any(), *softness(values), bool(2 * mask.sum() > mask.size))


def _mixtures(samples: Sequence[Sample], infos: dict[Path, ImageInfo]) -> list[Finding]:
    """Differences between the files of one category that methods would take for defects."""
    if not infos:
        return []
    findings = []
    if len(bits := {info.bits for info in infos.values()}) > 1:
        findings.append(_mixed("8-bit and 16-bit images", infos, lambda i: i.bits == min(bits)))
    modes = {info.mode for info in infos.values()}
    if "CMYK" in modes and len(modes) > 1:
        findings.append(_mixed("CMYK and other images", infos, lambda i: i.mode == "CMYK"))
    formats: dict[int, set[str]] = {0: set(), 1: set()}
    for sample in samples:
        if sample.image in infos:
            formats[sample.label].add(infos[sample.image].format)
    if formats[0] and formats[1] and not formats[0] & formats[1]:
        findings.append(
            Finding(
                "warning",
                f"normal images are {_names(formats[0])}, anomalous ones {_names(formats[1])}: "
                "the file format gives the label away",
            )
        )
    return findings


def _mixed(what: str, infos: dict[Path, ImageInfo], is_one: Callable[[ImageInfo], bool]) -> Finding:
    one = next(path for path, info in infos.items() if is_one(info))
    other = next(path for path, info in infos.items() if not is_one(info))
    return Finding("error", f"{what} in one category: {one} and {other}; convert them to one kind")


def _names(values: set[str]) -> str:
    return " and ".join(sorted(values))


def _notes(infos: dict[Path, ImageInfo]) -> list[Finding]:
    counts = Counter(note for info in infos.values() for note in info.notes)
    first = {note: path for path, info in reversed(infos.items()) for note in info.notes}
    return [
        Finding("warning", f"{counted(count, 'image')} {note}, first {first[note]}")
        for note, count in sorted(counts.items())
    ]


def _few_bits(samples: Sequence[Sample], infos: dict[Path, ImageInfo]) -> list[Finding]:
    """16-bit images that stay below half of their range hold fewer bits: a 12-bit camera's."""
    largest = max((info.largest for info in infos.values()), default=0)
    white = 2 ** max((sample.bits for sample in samples), default=16) - 1
    needed = max(largest.bit_length(), 9)
    if not 0 < largest <= white // 2 or 2**needed > white:
        return []
    text = (
        f"16-bit images reach {largest} of {white}: methods see at most "
        f"{largest * 255 // white + 1} of 256 grey levels; set the option bits of the data set to "
        f"what they hold, as in --set folder.bits={needed}"
    )
    return [Finding("warning", text)]


def _judge(masks: Sequence[_Mask | Finding], infos: dict[Path, ImageInfo]) -> list[Finding]:
    """Findings about masks: unreadable, of another shape, on normal images, empty or soft."""
    findings = [mask for mask in masks if isinstance(mask, Finding)]
    empty: list[_Mask] = []
    resized: list[_Mask] = []
    soft: list[_Mask] = []
    for mask in (m for m in masks if isinstance(m, _Mask)):
        info = infos.get(mask.sample.image)
        if info is not None and aspect_differs(mask.size, info.size):
            findings.append(Finding("error", wrong_size(mask.sample, mask.size, info.size)))
        elif info is not None and mask.size != info.size:
            resized.append(mask)
        if mask.sample.label == 0 and not mask.is_empty:
            findings.append(Finding("error", marked_normal(mask.sample)))
        if mask.sample.label == 1 and mask.is_empty:
            empty.append(mask)
        if mask.soft:
            soft.append(mask)
    findings += _listed(
        empty,
        "mask is empty: its image leaves the pixel metrics",
        "masks are empty: their images leave the pixel metrics",
    )
    findings += _listed(
        resized,
        "mask differs in size from its image and is brought to it",
        "masks differ in size from their image and are brought to it",
    )
    wide = [m for m in masks if isinstance(m, _Mask) and m.is_mostly_anomalous]
    if 2 * len(wide) > sum(isinstance(m, _Mask) and not m.is_empty for m in masks):
        findings += _listed(
            wide,
            "mask covers more than half of its image: is it inverted? 0 is good",
            "masks cover more than half of their image: are they inverted? 0 is good",
        )
    share = sum(m.soft for m in soft) / max(sum(m.nonzero for m in soft), 1)
    return findings + _listed(
        soft,
        f"mask has grey edges ({share:.0%} of its non-zero pixels)",
        f"masks have grey edges ({share:.0%} of their non-zero pixels)",
    )


def _listed(masks: Sequence[_Mask], one: str, several: str) -> list[Finding]:
    if not masks:
        return []
    return [
        Finding("warning", f"{counted(len(masks), one, several)}, first {masks[0].sample.mask}")
    ]
