"""Every choice that changes a published number and is not the method."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.settings.tables import Positive, checked, types_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Epoch = Literal["last", "oracle", "oracle-per-metric"]
Resample = Literal["nearest", "bilinear", "covered", "enclosed", "gaussian", "touched"]
ImageResample = Literal["nearest", "bilinear", "bicubic", "lanczos", "opencv"]

READING = {"is_reading": True}
"""Of a field that is asked after prediction alone: cells that differ in it share a training."""


@dataclass(frozen=True)
class Protocol:
    """How images become tensors, and maps become numbers.

    Attributes:
        name: how tables call it; not part of a cell's identity.
        resize: (height, width) exactly; an int: the shorter side; "method": the method's own
            `input_size`, to which images are stretched (an int is a square).
        resample: filter of the image resize, antialiased but for "nearest" and "opencv": bilinear
            between the four nearest pixels, as OpenCV does by default.
        crop: side of the centre crop after the resize; the share of regions lost is in the row.
        mask_size: size at which pixels are scored: that of the input after resize and crop, the
            mask's own ("native"), or its shorter side. Maps are brought to it bilinearly.
        mask_resample: "bilinear" is then rounded, as the PyramidFlow code does; "covered" keeps
            the pixels that lie wholly inside a defect, as the PatchCore code does; "enclosed"
            likewise without antialiasing, as the DRAEM code does; "gaussian" is scikit-image's
            antialiased resize, cut at one half, as the DFR code has it; "touched" counts every
            pixel to which an anomalous one adds by bilinear interpolation without antialiasing,
            as the STFPM code does.
        image_score: the method's own image score, or the maximum of the map.
        epoch: which epoch's numbers the row carries. The oracles choose it on the test set.
        published: extra metrics under their published definitions ("aupro_pyramidflow", ...).
        version: of the defaults; one that changes takes the next number with it.
    """

    version: ClassVar[int] = 1

    name: str
    resize: Positive | tuple[Positive, Positive] | Literal["method"] = (256, 256)
    resample: ImageResample = "bilinear"
    crop: Positive | None = None
    mask_size: Literal["input", "native"] | Positive = field(default="input", metadata=READING)
    mask_resample: Resample = field(default="nearest", metadata=READING)
    image_score: Literal["method", "max"] = field(default="method", metadata=READING)
    epoch: Epoch = "last"
    published: tuple[str, ...] = field(default=(), metadata=READING)

    def identity(self) -> dict[str, Any]:
        """Every field but the name, as JSON values."""
        values = asdict(self)
        del values["name"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every field but the name, as JSON values."""
        return cls("").identity()

    def for_training(self) -> Protocol:
        """What a training depends on: fields that are asked after prediction at their defaults."""
        read: dict[str, Any] = {f.name: f.default for f in fields(self) if f.metadata == READING}
        return replace(self, **read)

    @property
    def is_oracle(self) -> bool:
        """Whether the epoch is chosen on the test set."""
        return self.epoch != "last"


def make_protocol(name: str, values: Mapping[str, Any], where: str = "bench.toml") -> Protocol:
    """A protocol from a table of settings.

    Raises:
        ConfigError: unknown key or value; the message names the choices.
    """
    types = types_of(Protocol, without=("name",))
    return Protocol(name, **checked(values, types, where, f"[protocols.{name}]"))


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        # Square resize to 256, no crop, masks by nearest neighbour, last epoch, exact metrics.
        Protocol("standard"),
        # Maps brought to the size of each mask as it lies on disk.
        Protocol("native", mask_size="native"),
        # train.py of gasharper/PyramidFlow at 6977d5a: a square of the method's size (the published
        # reader brings the shorter side there, the same for square images), masks bilinear to 256
        # on their shorter side and rounded, best epoch on the test set for each metric, area to
        # FPR 1.
        Protocol(
            "pyramidflow",
            resize="method",
            mask_size=256,
            mask_resample="bilinear",
            image_score="max",
            epoch="oracle-per-metric",
            published=("aupro_pyramidflow",),
        ),
        # custom_datasets.py and train.py of gudovskiy/cflow-ad at b2ebf9e: Lanczos to the
        # category's size, masks nearest, best epoch on the test set for each metric.
        Protocol(
            "cflow",
            resize="method",
            resample="lanczos",
            image_score="max",
            epoch="oracle-per-metric",
            published=("aupro_cflow",),
        ),
        # datasets/mvtec.py and main.py of xiahaifeng1995/PaDiM at 616004b: 256, centre crop 224.
        Protocol("padim", resize=256, resample="lanczos", crop=224, image_score="max"),
        # data_loader.py of VitjanZ/DRAEM at 2dbf673: OpenCV's resize, masks cut to whole numbers.
        Protocol("draem", resize="method", resample="opencv", mask_resample="enclosed"),
        # Runinho/pytorch-cutpaste at 10d8bf7: Pillow's default filter, image scores alone.
        Protocol("cutpaste", resize="method", resample="bicubic"),
        # patchcore's datasets/mvtec.py at fcaa92f: 256, centre crop 224; masks bilinear, then cut
        # to whole numbers, so that only pixels wholly inside a defect count.
        Protocol("patchcore", resize=256, crop=224, mask_resample="covered"),
        # SPADE-pytorch's datasets/mvtec.py at 077c67b: as PaDiM's, with an image score of its own.
        Protocol("spade", resize=256, resample="lanczos", crop=224),
        # main.py of gdwang08/STFPM at 2598a5e: masks grow at their borders, last epoch's choice by
        # the method itself, overlap axis of the PRO curve stretched, too.
        Protocol("stfpm", mask_resample="touched", image_score="max", published=("aupro_stfpm",)),
        # codes/mvtecad.py of nuclearboy95/Anomaly-Detection-PatchSVDD-PyTorch at 934d623, with the
        # filter that Pillow had by default in its day; every epoch is scored on the test set.
        Protocol("patchsvdd", resample="nearest", image_score="max", epoch="oracle-per-metric"),
        # MVTec.py and anoseg_dfr.py of YoungGod/DFR at f2e2d4e. Its image labels are those of the
        # resized masks; here they are the data set's, which differ only where a mask vanishes.
        Protocol(
            "dfr",
            resize="method",
            resample="nearest",
            mask_resample="gaussian",
            image_score="max",
            published=("aupro_dfr",),
        ),
        # train.py and localization.py of marco-rudolph/cs-flow at 88a13b8: best of the test
        # evaluations; pictures of maps at the size of the image on disk, and no pixel metric.
        Protocol("csflow", resize="method", mask_size="native", epoch="oracle"),
        # train.py of marco-rudolph/differnet at 9bdf026: best of the test evaluations.
        Protocol("differnet", resize="method", epoch="oracle"),
        # plutoyuxie/AutoEncoder-SSIM at 1bd6651: a side for each category, bilinear; its own
        # decision is no score, so that the map's maximum is taken.
        Protocol("ae_ssim", resize="method", image_score="max"),
        # MVTec AD's AnoGAN (CVPR 2019): objects zoomed to 128 pixels, textures cut into patches.
        Protocol("anogan", resize="method"),
        # pankajmishra000/VT-ADL at 20b58e2: 550 x 550, centre crop 512; 13 % of the picture are
        # never scored. Masks grow at their borders: what a defect touches counts.
        Protocol("vtadl", resize=(550, 550), crop=512, mask_resample="touched"),
        # The standard protocol with the best epoch chosen on the test set, to show the difference.
        Protocol("oracle", epoch="oracle"),
    )
}
