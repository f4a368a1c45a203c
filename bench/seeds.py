"""Seeds of independent random streams, from what each is drawn for."""

from __future__ import annotations

import hashlib


def seed_of(*parts: object) -> int:
    """A 63-bit seed from SHA-256 of the parts: a seed, a purpose, and numbers where it has some."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
