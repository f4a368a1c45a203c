"""The run that a cell offers its method: device, seeds, and weights that are remembered."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.api import Auxiliary, Method, MethodError, Run
from bench.files.tensors import ImageSet
from bench.plan import discovery
from bench.profile.precision import set_precision
from bench.rows.row import OWN, UNRECORDED
from bench.run.auxiliary import PictureFolder
from bench.run.scratch import mapped_zeros
from bench.run.unrecorded import unrecorded, warning
from bench.seeds import seed_of
from bench.settings.precision import FULL, Precision
from bench.weights.loading import fresh_network, load_backbone, state_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from bench.api import Backbone, Sample, Split
    from bench.plan.cells import Cell
    from bench.run.feature_cache import FeatureCache
    from bench.weights.choice import Weights


class CellRun(Run):
    """The run that a cell offers its method; remembers the networks that it handed out.

    Attributes:
        backbones: frozen networks: those that it loaded, and those that the method had recorded.
        identities: of their weights, in the same order; then of frozen parameters that nobody made.
        fresh: networks without weights, to be trained.
    """

    def __init__(
        self,
        cell: Cell,
        device: torch.device,
        image_size: tuple[int, int],
        weights: Weights,
        folders: Mapping[str, Path] | None = None,
        features: FeatureCache | None = None,
    ) -> None:
        """
        Args:
            folders: of auxiliary pictures, by the field that names them.
            features: where backbones read and store what they compute; None: nowhere.
        """
        self.cell = cell
        self.device = device
        self.seed = cell.seed
        self.image_size = image_size
        self.weights = weights
        self.folders = dict(folders or {})
        self.features = features
        self.backbones: list[nn.Module] = []
        self.identities: list[str] = []
        self.fresh: list[nn.Module] = []

    @property
    def scoring_type(self) -> torch.dtype:
        """In which backbones compute while the method predicts."""
        return torch.bfloat16 if self.cell.precision == "bfloat16" else torch.float32

    @property
    def handed_out(self) -> list[nn.Module]:
        """Every network whose weights have an origin."""
        return [*self.backbones, *self.fresh]

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, purpose))

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        if self.cell.pretrained == "none":
            raise MethodError(
                f"{self.cell.method} asks for the backbone {name!r}, but no field called backbone "
                "or stem names it, so its weights would not be part of the cell"
            )
        module, identity = load_backbone(
            name, layers, self.weights, seed=self.seed, device=self.device
        )
        module.scoring = self.scoring_type
        if self.features is not None:
            self.features.serve(module, identity)
        self.backbones.append(module)
        self.identities.append(identity)
        return module

    def network(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        seed = seed_of(self.seed, f"network {len(self.fresh)}")
        network = fresh_network(name, layers, seed=seed, device=self.device)
        self.fresh.append(network)
        return network

    def module(self, network: nn.Module, name: str) -> nn.Module:
        network.eval().requires_grad_(False).to(self.device)
        self.backbones.append(network)
        # The list of weights in a row is separated by commas.
        label = name.replace(",", " ").replace("@", " ")
        self.identities.append(f"{label}{OWN}{state_digest(network.state_dict())}")
        return network

    def note_unrecorded(self, method: Method) -> str:
        """Put frozen parameters that came from nowhere into the row's weights, after `prepare`.

        Returns:
            a warning; empty where there are none.
        """
        found = unrecorded(method, self.handed_out)
        if not found:
            return ""
        self.identities.append(f"{UNRECORDED}{state_digest(found)}")
        return warning(found)

    def auxiliary(self, field: str) -> Auxiliary:
        what = f"{self.cell.method}.{field}"
        if field not in self.folders:
            raise MethodError(
                f"{what} names no folder of pictures; give --set {what}=FOLDER, relative to "
                "[paths].auxiliary, and annotate the field as ImageFolder"
            )
        return PictureFolder(self.folders[field], what, self.device)

    def scratch(self, name: str, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        return mapped_zeros(name, shape, dtype or torch.float32)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto": CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MethodError(
            f"--device {name}: not a device; use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MethodError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise MethodError(f"--device {name}: there are {count} CUDA devices, counted from 0")
    return device


def seed_everything(seed: int, precision: Precision = FULL) -> None:
    """Seed Python, NumPy and torch, each from (seed, its name), and ask for repeatable kernels.

    Args:
        precision: of everything that follows: training, scores and speed.
    """
    random.seed(seed_of(seed, "python"))
    np.random.seed(seed_of(seed, "numpy") % 2**32)  # noqa: NPY002 - FrEIA draws from this one
    torch.manual_seed(seed_of(seed, "torch"))
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    set_precision(precision)


def make_method(cell: Cell) -> Method:
    """The method of a cell, its fields set."""
    method: Method = discovery.make(discovery.describe("methods", cell.method), cell.params)
    return method


def method_size(method: Method) -> tuple[int, int] | None:
    """(height, width) of the method's own `input_size`, for protocols that ask for it."""
    side = method.input_size
    return None if side is None else (side, side)


def image_set(
    cell: Cell,
    method: Method,
    samples: Sequence[Sample],
    purpose: Split,
    device: torch.device,
    **options: int,
) -> ImageSet:
    """Images as the cell's protocol and seed give them to its method.

    Args:
        options: `workers` and `cache_mb` of an `ImageSet`.
    """
    return ImageSet(
        samples,
        cell.protocol,
        method_size=method_size(method),
        device=device,
        seed=seed_of(cell.seed, purpose),
        **options,
    )
