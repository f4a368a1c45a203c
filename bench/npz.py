"""Reading .npz files that may be damaged. No torch."""

from __future__ import annotations

import zipfile
import zlib

DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(ValueError, KeyError, IndexError, TypeError, AttributeError),
)
"""What NumPy raises for a file that is cut off or changed, or holds other arrays than expected."""
