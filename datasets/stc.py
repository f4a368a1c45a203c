"""ShanghaiTech Campus: frames of fixed cameras, one category for each scene that has test videos.

Training videos are normal and come as .avi: decode each into `training/frames/SS_NNN/` first. Test
videos come as frames, with one array of labels and one of pixel masks each. All test frames of a
scene are scored together. People are recognisable in the frames: treat them as personal data.

Layout: training/frames/SS_NNN/NUMBER.jpg, testing/frames/SS_NNNN/NUMBER.jpg,
testing/test_frame_mask/SS_NNNN.npy (T,), testing/test_pixel_mask/SS_NNNN.npy (T, height, width);
SS is the scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bench.api import ConfigError, DataError, Dataset, Sample, Split, nearest
from bench.layout import absent, listing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SCENES = tuple(f"{number:02}" for number in range(1, 13))
"""Scene 13 has training videos and no test video."""

_COUNTS = {
    "01": (11894, 4884),
    "02": (1155, 662),
    "03": (4090, 1212),
    "04": (4761, 1874),
    "05": (4160, 1016),
    "06": (1470, 702),
    "07": (3368, 886),
    "08": (3708, 1992),
    "09": (361, 84),
    "10": (2213, 1539),
    "11": (337, 141),
    "12": (3274, 2334),
}
"""Test frames and anomalous ones among them, counted from the published label arrays."""


@dataclass
class STC(Dataset):
    """ShanghaiTech Campus, by scene.

    Attributes:
        root: holds training/ and testing/.
        every: of the training frames of each video, every so-manieth; papers took samples, by
            rules of their own.
    """

    root: Path
    every: int = 1

    paper: ClassVar[str] = (
        "Liu, Luo, Lian, Gao: Future Frame Prediction for Anomaly Detection - A New Baseline, "
        "CVPR 2018"
    )
    licence: ClassVar[str] = "see the project page; people are recognisable, treat as personal data"
    source: ClassVar[str] = "https://svip-lab.github.io/dataset/campus_dataset.html"
    caution: ClassVar[str] = (
        "Scores on stc compare only where the training frames are the same: they are decoded by "
        "the user, and papers took samples of them by rules of their own"
    )
    shows_people: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"stc: every = {self.every}; 1 takes all training frames")

    def categories(self) -> Sequence[str]:
        self._part("testing", "frames")
        return list(SCENES)

    def samples(self, category: str, split: Split) -> Sequence[Sample]:
        if category not in SCENES:
            raise DataError(f"stc: no category {category!r}; {nearest(category, SCENES)}")
        if split == "train":
            return self._train(category)
        return [s for video in self._videos("testing", category) for s in self._test(video)]

    def expected(self) -> Mapping[str, Mapping[str, int]]:
        return {
            scene: {"good": frames - anomalous, "anomalous": anomalous}
            for scene, (frames, anomalous) in _COUNTS.items()
        }

    def _train(self, category: str) -> list[Sample]:
        return [
            Sample(frame, 0, "good", group=video.name)
            for video in self._videos("training", category)
            for frame in self._frames(video)[:: self.every]
        ]

    def _test(self, video: Path) -> list[Sample]:
        """The frames of a video with their labels; masks for the anomalous ones."""
        frames = self._frames(video)
        labels = _load(self._part("testing", "test_frame_mask") / f"{video.name}.npy")
        file = self._part("testing", "test_pixel_mask") / f"{video.name}.npy"
        masks = _load(file)
        counts = (len(frames), len(labels), len(masks))
        if labels.ndim != 1 or masks.ndim != 3 or len(set(counts)) != 1:
            raise DataError(
                f"{video}: {counts[0]} frames, frame labels of shape {labels.shape} and pixel "
                f"masks of shape {masks.shape}; one label and one mask for each frame are expected"
            )
        return [
            Sample(frame, 1, "anomaly", mask=file, group=video.name, mask_index=index)
            if label
            else Sample(frame, 0, "good", group=video.name)
            for index, (frame, label) in enumerate(zip(frames, labels != 0, strict=True))
        ]

    def _videos(self, part: str, category: str) -> list[Path]:
        """The folders of a scene's videos; never those of a scene whose number begins alike."""
        folder = self._part(part, "frames")
        found = [f for f in listing(folder, self.root).folders if f.name.startswith(f"{category}_")]
        if not found:
            videos = folder.parent / "videos"
            hint = f"; decode the videos of {videos} into it" if part == "training" else ""
            raise DataError(f"{folder}: no video of scene {category}{hint}")
        return sorted(found)

    def _frames(self, video: Path) -> list[Path]:
        """In the order of their numbers, by which masks are indexed: 999.jpg before 1000.jpg."""
        images = listing(video, self.root).images
        odd = [image for image in images if not image.stem.isdecimal()]
        if odd or not images:
            what = f"{odd[0].name} is no frame number" if odd else "no frame in it"
            raise DataError(f"{video}: {what}; frames are called by their numbers, as in 0042.jpg")
        return sorted(images, key=lambda image: int(image.stem))

    def _part(self, part: str, kind: str) -> Path:
        folder = self.root / part / kind
        if not self.root.is_dir():
            raise absent(self)
        if not folder.is_dir():
            raise DataError(f"{self.root}: no folder {part}/{kind}; not ShanghaiTech Campus")
        return folder


def _load(file: Path) -> NDArray[np.uint8]:
    """An array, mapped: the masks of a scene are larger than memory."""
    try:
        array: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    return array
