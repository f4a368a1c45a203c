"""Maps made elsewhere: the layout, what the checker finds, and scores against a slow definition."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from bench.api import Sample
from bench.errors import ConfigError, StoreError
from bench.files.map_files import write_map
from bench.files.map_layout import export_maps, find_scores, map_keys
from bench.report.choice.quantities import SCORES
from bench.run.submission import check_maps, maps_digest, score_maps
from bench.settings.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.api import Split
    from bench.run.submission import Submitted

WIDTH, HEIGHT = 20, 16
PROTOCOL = Protocol("native", mask_size="native")


class Parts:
    """Two normal and four anomalous test images of 20 x 16 pixels; one defect has two regions."""

    def __init__(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        self.root = root
        self.truth: list[NDArray[np.uint8]] = []
        for split, defect, count in (("train", "good", 1), ("test", "good", 2), ("test", "dot", 4)):
            folder = root / split / defect
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
                if split == "test":
                    self.truth.append(self.mask(folder / f"{index}.mask", defect, index))

    def mask(self, file: Path, defect: str, index: int) -> NDArray[np.uint8]:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        if defect == "dot":
            mask[2 : 4 + index, 3:7] = 1
            mask[10:13, 12 : 14 + index] = index > 1
            Image.fromarray(mask * 255).save(file, format="PNG")
        return mask

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        images = [*(self.root / split).glob("good/*.png"), *(self.root / split).glob("dot/*.png")]
        images.sort(key=lambda path: (path.parent.name != "good", path.name))
        return [
            Sample(path, int(path.parent.name == "dot"), path.parent.name, masked(path))
            for path in images
        ]


def masked(image: Path) -> Path | None:
    return image.with_suffix(".mask") if image.parent.name == "dot" else None


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def maps(parts: Parts) -> list[NDArray[np.float32]]:
    """A noisy guess at the truth, coarse enough for ties."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(len(parts.truth), HEIGHT, WIDTH))
    return [(t + n).round(1).astype(np.float32) for t, n in zip(parts.truth, noise, strict=True)]


@pytest.fixture
def folder(parts: Parts, maps: list[NDArray[np.float32]], tmp_path: Path) -> Path:
    """A complete submission."""
    for key, values in zip(keys(parts), maps, strict=True):
        write_map(tmp_path / "maps" / "all" / f"{key}.tiff", values)
    return tmp_path / "maps"


def keys(parts: Parts) -> list[str]:
    return map_keys(parts.samples("all", "test"))


def check(folder: Path, parts: Any, **options: Any) -> tuple[Submitted | None, list[str]]:
    options = {"protocol": PROTOCOL, "is_only": True, **options}
    found, problems = check_maps(folder, parts, "all", options.pop("protocol"), **options)
    return found, [str(problem) for problem in problems]


def good(folder: Path, parts: Any, **options: Any) -> Submitted:
    found, problems = check(folder, parts, **options)
    assert problems == []
    assert found is not None
    return found


def slow_aupro(folder: Path, parts: Parts, limit: float = 0.3) -> float:
    """AUPRO as MVTec's script defines it, threshold by threshold, from the files alone."""
    images = [tifffile.imread(folder / "all" / f"{key}.tiff") for key in keys(parts)]
    labelled = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in parts.truth]
    curve = [(0.0, 0.0)]
    for threshold in sorted({float(v) for image in images for v in image.ravel()}, reverse=True):
        overlaps, false, normal = [], 0, 0
        for image, labels in zip(images, labelled, strict=True):
            hit = image >= threshold
            overlaps += [hit[labels == n].mean() for n in range(1, labels.max() + 1)]
            false += int(hit[labels == 0].sum())
            normal += int((labels == 0).sum())
        curve.append((false / normal, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def test_maps_get_the_scores_of_the_slow_definition(parts: Parts, folder: Path) -> None:
    scores = score_maps(good(folder, parts), PROTOCOL)
    assert scores["aupro_30"] == pytest.approx(slow_aupro(folder, parts), abs=1e-6)
    assert scores["aupro_05"] == pytest.approx(slow_aupro(folder, parts, 0.05), abs=1e-6)
    assert scores["n_test"] == 6
    assert scores["regions"] == 6


def test_the_level_of_a_single_category_may_be_left_out(parts: Parts, folder: Path) -> None:
    whole, inner = good(folder, parts), good(folder / "all", parts)
    assert maps_digest([whole]) == maps_digest([inner])
    _, problems = check(folder / "all", parts, is_only=False)
    (problem,) = problems
    assert problem.startswith(f"missing: {folder / 'all' / 'all'}: no maps of category all")
    assert problem.endswith("(6 images), and no scores.csv of it")


@pytest.mark.parametrize("place", ["all/scores.csv", "scores.csv", "of all/scores.csv"])
def test_image_scores_alone_give_the_image_metrics(
    parts: Parts, tmp_path: Path, place: str
) -> None:
    folder, _, name = place.rpartition("/")
    prefix = "all/" if folder == "of all" else ""
    values = [0.1, 0.2, 0.15, 0.6, 0.3, 0.9]
    file = tmp_path / "theirs" / folder.removeprefix("of ").removeprefix("all" if prefix else "")
    file.mkdir(parents=True, exist_ok=True)
    lines = [f"{prefix}{key},{value}" for key, value in zip(keys(parts), values, strict=True)]
    (file / name).write_text("\n".join(["file,score", *lines]))
    for rule in ("method", "max"):
        part = good(tmp_path / "theirs", parts)
        columns = score_maps(part, replace(PROTOCOL, image_score=rule))
        assert columns["image_auroc"] == pytest.approx(7 / 8)
        assert columns["pixel_auroc"] is None
        assert columns["maps"] == "none"
        assert len(maps_digest([part])) == 64


def test_maps_of_one_value_each_are_marked(parts: Parts, tmp_path: Path) -> None:
    for number, key in enumerate(keys(parts)):
        write_map(tmp_path / "theirs" / f"{key}.npy", np.full((8, 10), 0.1 * number, np.float32))
    assert score_maps(good(tmp_path / "theirs", parts), PROTOCOL)["maps"] == "constant"


def test_the_file_format_changes_no_score(
    parts: Parts, maps: list[NDArray[np.float32]], folder: Path, tmp_path: Path
) -> None:
    expected = score_maps(good(folder, parts), PROTOCOL)
    for number, (key, values) in enumerate(zip(keys(parts), maps, strict=True)):
        name = tmp_path / "mixed" / key
        name.parent.mkdir(parents=True, exist_ok=True)
        if number % 3 == 0:
            np.save(name.with_suffix(".NPY"), values)
            name.with_suffix(".NPY.npy").rename(name.with_suffix(".NPY"))
        else:
            kind = np.float64 if number % 3 == 1 else np.float32
            tifffile.imwrite(name.with_suffix(".tif"), values.astype(kind))
    assert score_maps(good(tmp_path / "mixed", parts), PROTOCOL) == expected


def test_maps_beyond_the_budget_are_read_again_for_the_same_scores(
    parts: Parts, folder: Path
) -> None:
    part = good(folder, parts)
    expected, found = score_maps(part, PROTOCOL), score_maps(part, PROTOCOL, budget_mb=0.001)
    assert (expected.pop("evaluator"), found.pop("evaluator")) == ("", "spooled")
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, abs=1e-12) if name in SCORES else value), name


def test_every_problem_is_listed(parts: Parts, folder: Path) -> None:
    base = folder / "all" / "test"
    (base / "good" / "0.tiff").unlink()
    write_map(base / "good" / "7.tiff", np.zeros((HEIGHT, WIDTH)))
    (base / "good" / "notes.txt").write_text("x")
    (base / "good" / ".DS_Store").write_text("x")
    write_map(base / "good" / "1.npy", np.zeros((HEIGHT, WIDTH)))
    np.save(base / "dot" / "0.npy", np.zeros((HEIGHT, WIDTH, 3)))
    (base / "dot" / "0.tiff").unlink()
    write_map(base / "dot" / "1.tiff", np.zeros((WIDTH, HEIGHT)))
    write_map(base / "dot" / "2.tiff", np.full((HEIGHT, WIDTH), np.nan))
    (base / "dot" / "3.tiff").write_bytes(b"II*\0broken")
    found, problems = check(folder, parts)
    assert found is None
    assert sorted(problem.split(":")[0] for problem in problems) == [
        "extra",
        "extra",
        "misshapen",
        "misshapen",
        "missing",
        "not finite",
        "twice",
        "unreadable",
    ]
    text = "\n".join(problems)
    assert "20 x 16 (height x width); expected the shape of the image, 16 x 20" in text
    assert "320 of 320 values" in text


def test_maps_of_another_size_are_brought_to_their_masks_and_counted(
    parts: Parts, maps: list[NDArray[np.float32]], folder: Path, tmp_path: Path
) -> None:
    expected = score_maps(good(folder, parts), PROTOCOL)
    for key, values in zip(keys(parts), maps, strict=True):
        write_map(tmp_path / "double" / f"{key}.npy", np.kron(values, np.ones((2, 2))))
    found = good(tmp_path / "double", parts)
    assert found.resized == 6
    # Bilinear to half the size averages the four equal values.
    scores = score_maps(found, PROTOCOL)
    assert scores["aupro_30"] == pytest.approx(expected["aupro_30"], abs=1e-6)


def test_under_a_crop_only_maps_of_the_crop_are_taken(parts: Parts, folder: Path) -> None:
    cropped = Protocol("cropped", resize=16, crop=12)
    found, problems = check(folder, parts, protocol=cropped)
    assert found is None
    assert len(problems) == 6
    assert "expected 12 x 12" in problems[0]


def test_given_image_scores_count_unless_the_protocol_takes_the_maximum(
    parts: Parts, folder: Path
) -> None:
    maximum = score_maps(good(folder, parts), PROTOCOL)["image_auroc"]
    lines = [f"{key}.tiff,{10 - i if i < 2 else -i}" for i, key in enumerate(keys(parts))]
    (folder / "all" / "scores.csv").write_text("\n".join(["file,score", *lines]))
    found = good(folder, parts)
    assert score_maps(found, PROTOCOL)["image_auroc"] == 0.0
    by_maximum = Protocol("max", mask_size="native", image_score="max")
    assert score_maps(found, by_maximum)["image_auroc"] == maximum


def test_scores_of_several_categories_may_lie_at_the_top(parts: Parts, folder: Path) -> None:
    lines = [f"all/{key},{i}" for i, key in enumerate(keys(parts))]
    (folder / "scores.csv").write_text("\n".join(["file,score", "other/test/x,1", *lines]))
    assert good(folder, parts).scores == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score,file\n", "the first line must be file,score"),
        ("file,score\ntest/good/0,x\n", "line 2: 'x' is not a number"),
        ("file,score\ntest/good/0,nan\n", "line 2: 'nan' is not finite"),
        ("file,score\ntest/good/0,1\ntest/good/0.tiff,1\n", "line 3: .* has a score already"),
        ("file,score\ntest/good/9,1\n", "line 2: the test set has no image"),
        ("file,score\ntest/good/0,1,2\n", "line 2: 3 values"),
        ("file,score\n", "no score of test/dot/3"),
    ],
)
def test_wrong_scores_are_named_by_line(
    parts: Parts, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "scores.csv").write_text(text)
    _, problems = find_scores(tmp_path, tmp_path, "all", keys(parts))
    assert any(re.search(message, str(problem)) for problem in problems)


def test_the_digest_follows_contents_and_scores(parts: Parts, folder: Path) -> None:
    first = maps_digest([good(folder, parts)])
    assert maps_digest([good(folder, parts)]) == first
    write_map(folder / "all" / "test" / "good" / "0.tiff", np.zeros((HEIGHT, WIDTH)))
    assert maps_digest([good(folder, parts)]) != first


def artifacts(folder: Path, parts: Parts, maps: Sequence[NDArray[Any]]) -> Path:
    """What `bench run --save-maps` leaves of a cell."""
    samples = parts.samples("all", "test")
    names = [s.image.relative_to(parts.root).as_posix() for s in samples]
    for name, values in zip(names, maps, strict=True):
        write_map((folder / "maps" / name).with_suffix(".npy"), values)
    np.savez_compressed(
        folder / "scores.npz",
        names=np.array(names),
        scores=np.array([values.max() for values in maps]),
        labels=np.array([s.label for s in samples]),
        defects=np.array([s.defect for s in samples]),
    )
    return folder


def test_exported_maps_are_a_submission_with_the_same_values(
    parts: Parts, maps: list[NDArray[np.float32]], folder: Path, tmp_path: Path
) -> None:
    done = export_maps(artifacts(tmp_path / "cell", parts, maps), "all", tmp_path / "out")
    assert (done.maps, dict(done.sizes), done.rounded) == (6, {(HEIGHT, WIDTH): 6}, 0)
    found = good(tmp_path / "out", parts)
    assert found.scores == [float(values.max()) for values in maps]
    assert score_maps(found, PROTOCOL) == score_maps(good(folder, parts), PROTOCOL)
    for file, values in zip(found.files, maps, strict=True):
        assert tifffile.imread(file).dtype == np.float32
        assert np.array_equal(tifffile.imread(file), values)


def test_an_export_says_what_was_rounded_and_what_is_not_there(
    parts: Parts, maps: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    kept = artifacts(tmp_path / "cell", parts, [values.astype(np.float64) for values in maps])
    assert export_maps(kept, "all", tmp_path / "out").rounded == 6
    assert export_maps(kept, "all", tmp_path / "npy", ".npy").rounded == 0
    with pytest.raises(ConfigError, match="not a name"):
        export_maps(kept, "../all", tmp_path / "out")
    (kept / "maps" / "test" / "good" / "0.npy").unlink()
    with pytest.raises(StoreError, match="--save-maps"):
        export_maps(kept, "all", tmp_path / "out")
    (kept / "scores.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(StoreError, match="damaged"):
        export_maps(kept, "all", tmp_path / "out")
    with pytest.raises(StoreError, match="no maps"):
        export_maps(tmp_path / "nothing", "all", tmp_path / "out")
