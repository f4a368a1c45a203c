"""Where the package keeps what it ships: plugins, settings, paper tables, published numbers."""

from __future__ import annotations

from pathlib import Path


def builtin_root() -> Path:
    """The folder that holds the built-in plugins: the wheel's copy, else the checkout."""
    package = Path(__file__).parents[1]
    carried = package / "builtin"
    return carried if carried.is_dir() else package.parent
