"""Audits remembered: files that did not change since the last look are not decoded again."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bench.disk import replace_file
from bench.errors import DataError, StoreError
from bench.files import audit, images, masks
from bench.files.audit import Audit, Finding
from bench.files.folders import mask_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.api import Sample

_DECODING = (audit, images, masks)


def audited(samples: Sequence[Sample], folder: Path | None) -> Audit:
    """`audit.audit`, or what it found of the same files before.

    Files are the same where path, size and time of the last change are, as for `Digests`; what is
    said of them (label, mask, bits) and the code that looks count too. An audit with errors is not
    kept: the files are about to be mended.

    Args:
        folder: that remembers audits; None: remember nothing. One that cannot be written costs a
            warning among the findings, since it only saves time.
    """
    key = None if folder is None else _key(samples)
    if folder is None or key is None:
        return audit.audit(samples)
    file = folder / "audits" / f"{key}.json"
    known = _read(file, samples)
    return known if known is not None else _remember(audit.audit(samples), file, samples)


def _key(samples: Sequence[Sample]) -> str | None:
    """64 hex digits; None where a file is not there: an audit says so."""
    found = hashlib.sha256(_code())
    try:
        for sample in samples:
            said = (sample.label, sample.bits, sample.mask_rule, sample.mask_index)
            files = [(str(f), (s := f.stat()).st_size, s.st_mtime_ns) for f in _files(sample)]
            found.update(repr((said, files)).encode())
    except (OSError, DataError):
        return None
    return found.hexdigest()


def _files(sample: Sample) -> Iterator[Path]:
    yield sample.image.absolute()
    if sample.mask is not None:
        yield from mask_files(sample.mask.absolute())


@cache
def _code() -> bytes:
    sources = [Path(str(module.__file__)).read_bytes() for module in _DECODING]
    return b"\0".join([version("pillow").encode(), *sources])


def _read(file: Path, samples: Sequence[Sample]) -> Audit | None:
    """None where it is absent or damaged: then the files are looked at again."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        findings = [Finding("warning", str(text)) for text in content["warnings"]]
        pixels = {s.image: str(d) for s, d in zip(samples, content["pixels"], strict=True)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Audit(findings, pixels)


def _remember(found: Audit, file: Path, samples: Sequence[Sample]) -> Audit:
    if any(finding.severity == "error" for finding in found.findings):
        return found
    content = {
        "warnings": [finding.text for finding in found.findings],
        "pixels": [found.pixels[sample.image] for sample in samples],
    }
    try:
        replace_file(file, json.dumps(content).encode(), durable=False)
    except StoreError as error:
        text = f"the audit of the files is not remembered: {error}"
        return Audit([*found.findings, Finding("warning", text)], found.pixels)
    return found
