"""Images of equal pixels, whatever their encoding: in both splits, or under two labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.files.images import image_info

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.api import Sample


def pixel_digests(samples: Sequence[Sample], threads: int = 4) -> dict[Path, str]:
    """`ImageInfo.pixels` of each image.

    Raises:
        DataError: a file that cannot be read.
    """
    bits = {sample.image: sample.bits for sample in samples}
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(image_info, bits, bits.values())
        return {path: info.pixels for path, info in zip(bits, found, strict=True)}


def find_leaks(
    train: Sequence[Sample], test: Sequence[Sample], pixels: Mapping[Path, str]
) -> list[tuple[Path, Path]]:
    """Pairs (training image, test image) of equal pixels, in test order.

    Args:
        pixels: digests, as `pixel_digests` gives them; images without one are left out.
    """
    known: dict[str, Path] = {}
    for sample in train:
        if sample.image in pixels:
            known.setdefault(pixels[sample.image], sample.image)
    found = ((known.get(pixels.get(sample.image, "")), sample.image) for sample in test)
    return [(twin, image) for twin, image in found if twin is not None]


def find_contradictions(
    samples: Sequence[Sample], pixels: Mapping[Path, str]
) -> list[tuple[Sample, Sample]]:
    """Pairs of equal pixels under two labels or defect types, each image beside its first twin."""
    first: dict[str, Sample] = {}
    found = []
    for sample in samples:
        if sample.image not in pixels:
            continue
        other = first.setdefault(pixels[sample.image], sample)
        if (other.label, other.defect) != (sample.label, sample.defect):
            found.append((other, sample))
    return found


def contradiction(pairs: Sequence[tuple[Sample, Sample]]) -> str:
    """What a user reads about them: the first pair, and how many there are."""
    one, other = pairs[0]
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    return (
        f"{one.image} and {other.image} hold the same pixels, filed as {one.defect} and as "
        f"{other.defect}{more}; remove one of them"
    )
