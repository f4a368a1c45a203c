"""`bench data verify`: what lies on disk, against what was published and what can go wrong."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import DataError, counted
from bench.files.audit import Finding, audit
from bench.files.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES, is_litter, mask_files
from bench.files.images import image_size
from bench.files.manifest import SPLITS, find_shared_groups
from bench.files.twins import contradiction, find_contradictions, find_leaks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.api import Dataset, Sample

FEW_IMAGES = 5
"""Fewer training images are worth a warning."""


_LACKING = {"good": "no image metric", "anomalous": "no image metric and no pixel metric"}
"""What cannot be computed without the test images of a kind."""


@dataclass
class Report:
    """What was found in a data set.

    Attributes:
        counts: images of each category on disk: "train", "good", "anomalous", "unmasked".
        findings: what is wrong or odd, with the category in front.
        shapes: sizes of the images of each category, most frequent first, for one line each.
    """

    name: str
    root: Path
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing would stop a run or make its numbers incomparable."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def lines(self) -> list[str]:
        """The report as lines to print."""
        lines = [f"{self.name} in {self.root}"]
        for category, counts in self.counts.items():
            lines.append(
                f"  {category}: {counts['train']} train, {counts['good']} good and "
                f"{counts['anomalous']} anomalous test images, {counts['unmasked']} of these "
                f"without a mask; {self.shapes[category]}"
            )
        lines += [f"{f.severity}: {f.text}" for f in self.findings]
        errors = sum(f.severity == "error" for f in self.findings)
        warnings = counted(len(self.findings) - errors, "warning")
        lines.append(f"{counted(errors, 'error')}, {warnings}")
        return lines

    def add(self, severity: str, text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding("error" if severity == "error" else "warning", text))


def verify(dataset: Dataset, name: str) -> Report:
    """Check counts, files, masks and splits of every category; lists all findings, raises none."""
    report = Report(name, dataset.root)
    try:
        categories = list(dataset.categories())
    except DataError as error:
        report.add("error", str(error))
        return report
    expected = dataset.expected()
    for category in expected:
        if category not in categories:
            report.add("error", f"{category}: not on disk")
    _check_surplus(dataset, name, expected, report)
    used: set[Path] = set()
    seen: dict[str, tuple[str, Path]] = {}
    for category in categories:
        samples = _samples(dataset, category, report)
        if samples is None:
            continue
        pixels = _check_category(category, samples, expected.get(category, {}), report)
        _check_other_categories(category, pixels, seen, report)
        for sample in (s for split in samples.values() for s in split):
            used |= {sample.image, *(mask_files(sample.mask) if sample.mask else ())}
    if used:
        _check_unused(used, report)
    return report


def _check_surplus(
    dataset: Dataset, name: str, expected: Mapping[str, object], report: Report
) -> None:
    """Folders with training images that are no category of a published data set."""
    root = dataset.root.expanduser()
    for folder in sorted(root.iterdir()) if expected else ():
        if folder.name not in expected and (folder / "train").is_dir():
            report.add(
                "warning",
                f"{folder} is no category of {name}; own images are run as data set folder, and "
                f"checked by: bench data verify folder --data-root {shlex.quote(str(folder))}",
            )


def _samples(dataset: Dataset, category: str, report: Report) -> dict[str, Sequence[Sample]] | None:
    """The samples of both splits; None, and a finding for each, where one cannot be listed."""
    found: dict[str, Sequence[Sample]] = {}
    for split in SPLITS:
        try:
            found[split] = dataset.samples(category, split)
        except DataError as error:
            report.add("error", f"{category}: {error}")
    return found if len(found) == len(SPLITS) else None


def _check_category(
    category: str,
    samples: Mapping[str, Sequence[Sample]],
    expected: Mapping[str, int],
    report: Report,
) -> Mapping[Path, str]:
    """Note what is wrong with a category.

    Returns:
        digests of the pixels of its images.
    """
    train, test = samples["train"], samples["test"]
    everything = [*train, *test]
    counts = {
        "train": len(train),
        "good": sum(s.label == 0 for s in test),
        "anomalous": sum(s.label == 1 for s in test),
        "unmasked": sum(s.label == 1 and s.mask is None for s in test),
    }
    report.counts[category] = counts
    report.shapes[category] = _shapes(everything)
    for key, count in expected.items():
        if counts[key] != count:
            report.add("error", f"{category}: {counts[key]} {key} images, published {count}")
    if len(train) < FEW_IMAGES:
        report.add("warning", f"{category}: only {counted(len(train), 'training image')}")
    for key in ("good", "anomalous"):
        if counts[key] == 0:
            report.add("warning", f"{category}: no {key} test image, so {_LACKING[key]}")
    found = audit(everything)
    for finding in found.findings:
        report.add(finding.severity, f"{category}: {finding.text}")
    _check_split(category, train, test, found.pixels, report)
    return found.pixels


def _check_split(
    category: str,
    train: Sequence[Sample],
    test: Sequence[Sample],
    pixels: Mapping[Path, str],
    report: Report,
) -> None:
    """Leaks: one content, or one physical part, on both sides; one content under two labels."""
    leaks = find_leaks(train, test, pixels)
    if leaks:
        report.add(
            "error",
            f"{category}: {counted(len(leaks), 'test image')} in the training images too, first "
            f"{leaks[0][1]} = {leaks[0][0]}",
        )
    if pairs := find_contradictions(test, pixels):
        report.add("error", f"{category}: {contradiction(pairs)}")
    for group in find_shared_groups(train, test):
        report.add("error", f"{category}: images of the part {group} are in train and in test")


def _check_other_categories(
    category: str, pixels: Mapping[Path, str], seen: dict[str, tuple[str, Path]], report: Report
) -> None:
    """Images that an earlier category holds too; `seen` gets those of this one."""
    twins = [(path, *seen[digest]) for path, digest in pixels.items() if digest in seen]
    if twins:
        path, other, twin = twins[0]
        report.add(
            "warning",
            f"{category}: {counted(len(twins), 'image')} of other categories too, first {path} = "
            f"{twin} of {other}",
        )
    for path, digest in pixels.items():
        seen.setdefault(digest, (category, path))


def _shapes(samples: Sequence[Sample]) -> str:
    """The most frequent size and how many there are, as width x height."""
    sizes: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        try:
            sizes[image_size(sample.image)] += 1
        except DataError:
            continue  # the audit names it
    if not sizes:
        return "no readable image"
    (height, width), _ = sizes.most_common(1)[0]
    rest = f" and {counted(len(sizes) - 1, 'other size')}" if len(sizes) > 1 else ""
    return f"{width} x {height}{rest}"


def _check_unused(used: set[Path], report: Report) -> None:
    """Files that no sample names, in the folder that holds all samples.

    A file beside an image and of its name is taken for a mask that the data set does not use.
    """
    known = {(path.parent.resolve(), path.stem) for path in used}
    unused: list[Path] = []
    unread: Counter[str] = Counter()
    litter = 0
    for folder, folders, names in os.walk(os.path.commonpath([path.parent for path in used])):
        litter += sum(map(is_litter, [*names, *folders]))
        folders[:] = sorted(name for name in folders if not is_litter(name))
        paths = [Path(folder) / name for name in sorted(names) if not is_litter(name)]
        unused += [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES]
        unread.update(p.suffix.lower() for p in paths if p.suffix.lower() in UNREAD_SUFFIXES)
    unused = [path for path in unused if (path.parent.resolve(), path.stem) not in known]
    if unused:
        count = counted(len(unused), "image is", "images are")
        report.add("warning", f"{count} not part of any split, first {unused[0]}")
    if unread:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items()))
        text = f"images of formats that are not read: {counts}; known: "
        report.add("warning", text + ", ".join(sorted(IMAGE_SUFFIXES)))
    if litter:
        report.add(
            "warning",
            f"{counted(litter, 'hidden or system file is', 'hidden or system files are')} ignored",
        )
