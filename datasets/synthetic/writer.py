"""Writes categories to disk: in several processes, and all of a category or nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import shutil
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count
from PIL import Image

from .listing import clean_path, image_path, mask_path
from .picture import make_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .listing import Settings
    from .noise import Pixels
    from .picture import Key

MANIFEST, PARAMETERS = "manifest.csv", "parameters.json"
MOST_WORKERS = 8
# Starting a process takes as long as a dozen images.
IMAGES_PER_WORKER = 12


@dataclass(frozen=True)
class Entry:
    """One line of the manifest.

    Attributes:
        path: of the image, below the category's folder.
        severity: empty for a good image.
        mask_area: pixels; 0 for a good image.
        pixel_sha256: of the decoded pixels, see `pixel_hash`.
    """

    path: str
    split: str
    label: int
    type: str
    severity: str
    mask_area: int
    pixel_sha256: str


def pixel_hash(pixels: Pixels) -> str:
    """SHA-256 over shape and values: PNG bytes differ between versions of zlib."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def write_image(folder: Path, key: Key, keep_clean: bool) -> Entry:
    """Make one image and write its files below a category's folder."""
    picture = make_picture(key)
    path = PurePosixPath(image_path(key))
    files: dict[str, Pixels] = {str(path): picture.pixels}
    if picture.mask is not None:
        files[mask_path(path)] = picture.mask.astype(np.uint8) * np.uint8(255)
    if picture.clean is not None and keep_clean:
        files[clean_path(path)] = picture.clean
    for name, pixels in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A low level: noise hardly compresses, and a higher one takes longer than the rendering.
        Image.fromarray(pixels).save(target, compress_level=3)
    area = 0 if picture.mask is None else int(picture.mask.sum())
    severity = key.severity or ""
    label = int(picture.mask is not None)
    digest = pixel_hash(picture.pixels)
    return Entry(str(path), key.split, label, key.kind, severity, area, digest)


def _write(task: tuple[Path, Key, bool]) -> Entry:
    return write_image(*task)


def workers_for(images: int) -> int:
    """Processes worth starting: one for each core that we may use, fewer for few images."""
    return max(1, min(int(cpu_count()), MOST_WORKERS, images // IMAGES_PER_WORKER))


def write_categories(
    folder: Path,
    settings: Settings,
    categories: Sequence[str],
    workers: int,
    on_image: Callable[[str], None],
) -> None:
    """Make whole categories below `folder`.

    Each is written to a hidden folder and renamed when it is complete, so that an interrupted run
    leaves nothing that looks finished.

    Args:
        workers: processes; 1 works in this one.
        on_image: called with the category's name after each image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        parts = {
            name: Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder)) for name in categories
        }
        for part in parts.values():
            stack.callback(shutil.rmtree, part, ignore_errors=True)
        keys = {name: settings.keys(name) for name in categories}
        tasks = [(parts[n], key, settings.keep_clean) for n in categories for key in keys[n]]
        entries = _entries(stack, tasks, workers)
        for name in categories:
            done = []
            for _ in keys[name]:
                done.append(next(entries))
                on_image(name)
            _finish(parts[name], folder / name, done, settings, name)


def _entries(
    stack: ExitStack, tasks: Iterable[tuple[Path, Key, bool]], workers: int
) -> Iterator[Entry]:
    """The entries in the order of the tasks."""
    if workers == 1:
        return map(_write, tasks)
    # Spawned, not forked: the caller may hold threads or a device.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        # Ctrl-C is this process's business; the workers end with the pool.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    return pool.map(_write, tasks, chunksize=2)


def _finish(
    part: Path, target: Path, entries: Sequence[Entry], settings: Settings, category: str
) -> None:
    """Write manifest and parameters, then give the folder its name."""
    with (part / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [f.name for f in fields(Entry)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(e) for e in sorted(entries, key=lambda e: e.path))
    text = json.dumps(settings.parameters(category), indent=2) + "\n"
    (part / PARAMETERS).write_text(text, encoding="utf-8")
    part.chmod(0o755)
    try:
        part.rename(target)
    except OSError:
        # Another process was faster and made the same files; ours are thrown away.
        if not (target / PARAMETERS).is_file():
            raise
