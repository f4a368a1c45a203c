"""Whether a gallery shows what it would show if it were drawn again: then it is left as it is."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from bench.rows import panels

_DRAWING = (Path(__file__).with_name("gallery.py"), Path(panels.__file__))


def digest_of(panel_file: Path, *texts: str) -> str:
    """Of everything that a picture depends on: its panels, its texts and the code that draws."""
    found = hashlib.sha256(_code())
    for part in (panel_file.read_bytes(), *(text.encode() for text in texts)):
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()


@cache
def _code() -> bytes:
    libraries = [f"{name} {version(name)}".encode() for name in ("matplotlib", "pillow")]
    return b"\0".join([*libraries, *(file.read_bytes() for file in _DRAWING)])


def drawn_before(picture: Path, digest: str) -> tuple[int, int] | None:
    """Width and height of a WebP that `render` made with this digest; None: there is none."""
    try:
        with Image.open(picture) as image:
            return image.size if image.info.get("xmp") == digest.encode() else None
    except OSError:
        return None
