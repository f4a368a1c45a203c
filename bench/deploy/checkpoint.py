"""A fitted method on disk: safetensors and JSON, no pickle; loaded without any download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import safetensors
import safetensors.torch
import torch
from torch import nn

import bench
from bench.api import Method, MethodError
from bench.blocks.backbone import Backbone, build_backbone
from bench.disk import read_text, replace_file
from bench.errors import StoreError
from bench.files.manifest import file_digest
from bench.plan import discovery
from bench.plan.cells import Cell, check_field
from bench.run.context import CellRun, choose_device, make_method, seed_everything
from bench.run.loading_back import loads_back
from bench.weights.choice import Weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

FORMAT = 1
STATE = "model.safetensors"
CARD = "model.json"
_NO_WEIGHTS = Weights("random")  # never read: a loaded backbone gets its weights from the file


@dataclass(frozen=True)
class TrainFigures:
    """What the fitted method says of its training images: the only scale that needs no defect.

    Attributes:
        images: how many.
        score_max: highest image score.
        map_min: lowest value of the maps; None: the method gives none.
        map_max: highest value of the maps; None: likewise.
    """

    images: int
    score_max: float
    map_min: float | None
    map_max: float | None


@dataclass(frozen=True)
class Model:
    """A fitted method, and what `model.json` says of it.

    Attributes:
        cell: what it was fitted on, and how.
        run: holds the device, the image size and the backbones.
        epochs: trained; the state is that of the last one.
        train: None for a transductive method, whose scores have no scale of their own.
        bits: `Sample.bits` of its training images; new ones are read alike.
        notes: what differs between the saving and the loading code.
    """

    cell: Cell
    method: Method
    run: CellRun
    epochs: int
    train: TrainFigures | None
    notes: tuple[str, ...] = ()
    bits: int = 16


def save_model(folder: Path, model: Model, *, code: str = "", commit: str = "") -> None:
    """Write `model.safetensors`, then `model.json`, each by renaming a finished file.

    Raises:
        StoreError: the folder cannot be written.
        MethodError: a state that is not finite.
    """
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.method.state().items()}
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise MethodError(f"{model.cell.method}: {name} of the fitted state is not finite")
    replace_file(folder / STATE, safetensors.torch.save(state))
    train = model.train
    card = {
        "format": FORMAT,
        "cell": model.cell.to_json(),
        "image_size": list(model.run.image_size),
        "bits": model.bits,
        "epochs": model.epochs,
        "weights": model.run.identities,
        "backbones": [_describe(m) for m in model.run.backbones if isinstance(m, Backbone)],
        "train": vars(train) if train is not None else None,
        "threshold": {
            "value": train.score_max if train is not None else None,
            "meaning": "highest image score of the training images; no anomalous image was used"
            if train is not None
            else "none: the scores of a transductive method depend on the images scored with it",
        },
        "sha256": file_digest(folder / STATE),
        "code": code,
        "commit": commit,
        "bench": bench.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    text = json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n"
    replace_file(folder / CARD, text.encode())


def load_model(folder: Path, device: str = "auto", *, force: bool = False) -> Model:
    """The method that `save_model` wrote, ready to predict; nothing is downloaded or executed.

    Args:
        force: load although the method's version is another one.

    Raises:
        StoreError: no model, one of another program, damaged, or of another version.
        BenchError: the method is not installed, or its fields have changed.
    """
    card = _read_card(folder)
    try:
        cell = Cell.from_json(card["cell"])
        image_size = (int(card["image_size"][0]), int(card["image_size"][1]))
        train = TrainFigures(**card["train"]) if card["train"] is not None else None
        saved, epochs, code = list(card["backbones"]), int(card["epochs"]), str(card["code"])
        bits = int(card.get("bits", 16))  # cards of before have none
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(f"{folder / CARD}: not a model of this program ({error!r})") from error
    notes = _check_method(folder, cell, code, force)
    state = _read_state(folder, str(card.get("sha256")))
    target = choose_device(device)
    seed_everything(cell.seed, cell.precision)
    run = _LoadedRun(cell, target, image_size, folder, saved)
    method = make_method(cell)
    method.prepare(run)
    method.load_state({k: _placed(method, k, v, target) for k, v in state.items()})
    return Model(cell, method, run, epochs, train, notes, bits)


def cannot_load(model: Model, images: Tensor) -> str:
    """Why the saved state would not bring the model back; empty if it would. Nothing is written.

    Args:
        images: (B, 3, H, W) on the run's device, to compare predictions on.
    """
    run = model.run
    saved = [_describe(module) for module in run.backbones if isinstance(module, Backbone)]
    seed_everything(model.cell.seed, model.cell.precision)
    fresh = _LoadedRun(model.cell, run.device, run.image_size, Path("the fitted model"), saved)
    return loads_back(model.method, make_method(model.cell), fresh, images)


class _LoadedRun(CellRun):
    """Hands out the recorded backbones without weights: the saved state brings them."""

    def __init__(
        self,
        cell: Cell,
        device: torch.device,
        image_size: tuple[int, int],
        folder: Path,
        saved: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__(cell, device, image_size, _NO_WEIGHTS)
        self.folder = folder
        self.saved = saved

    def backbone(self, name: str, layers: Sequence[int] | Sequence[str]) -> Backbone:
        index = sum(isinstance(module, Backbone) for module in self.backbones)
        entry = self.saved[index] if index < len(self.saved) else {}
        if (entry.get("name"), entry.get("layers")) != (name, list(layers)):
            raise StoreError(
                f"{self.folder / CARD}: {self.cell.method} asks for backbone {name}, layers "
                f"{list(layers)}, which the model was not fitted with; fit it again"
            )
        with torch.random.fork_rng(devices=[]):
            module = build_backbone(name, layers)
        for key, value in entry["inputs"].items():
            module.register_buffer(key, torch.tensor(value), persistent=False)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and entry["norm_epsilon"] is not None:
                part.eps = entry["norm_epsilon"]
        module.eval().requires_grad_(False).to(self.device)
        module.scoring = self.scoring_type
        self.backbones.append(module)
        return module


def _describe(backbone: Backbone) -> dict[str, Any]:
    """What makes a backbone beside its saved tensors: how inputs are brought to its statistics, and
    the epsilon of its norms, one for all where the weights came from torchvision."""
    kept = backbone.state_dict()
    epsilons = {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)}
    return {
        "name": backbone.name,
        "layers": list(backbone.layers),
        "inputs": {k: v.tolist() for k, v in backbone.named_buffers() if k not in kept},
        # Several: as timm builds it; weights of torchvision would have made them one.
        "norm_epsilon": epsilons.pop() if len(epsilons) == 1 else None,
    }


def _read_card(folder: Path) -> dict[str, Any]:
    file = folder / CARD
    if not file.is_file():
        raise StoreError(f"{folder}: no {CARD} in it; `bench fit --out {folder}` makes a model")
    try:
        card = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{file}: not a model: {error}; fit it again") from error
    found = card.get("format") if isinstance(card, dict) else None
    if found != FORMAT:
        raise StoreError(f"{file}: a model of format {found!r}, this version reads {FORMAT}")
    return cast("dict[str, Any]", card)


def _check_method(folder: Path, cell: Cell, code: str, force: bool) -> tuple[str, ...]:
    """Whether the installed method is the one that was saved; notes on what differs."""
    plugin = discovery.describe("methods", cell.method)
    notes = []
    if plugin.version != cell.method_version:
        text = (
            f"{folder}: fitted by version {cell.method_version} of {cell.method}, installed is "
            f"version {plugin.version}, which computes other numbers"
        )
        if not force:
            raise StoreError(f"{text}; fit it again, or load it all the same by --force")
        notes.append(text)
    elif code and plugin.code() != code:
        notes.append(f"the code of {cell.method} has changed since the model was fitted")
    for key, value in cell.params.items():
        check_field(plugin, key, value, folder / CARD)
    return tuple(notes)


def _read_state(folder: Path, sha256: str) -> dict[str, Tensor]:
    file = folder / STATE
    if not file.is_file():
        raise StoreError(f"{folder}: no {STATE} beside {CARD}; copy it again")
    if file_digest(file) != sha256:
        raise StoreError(f"{file}: damaged, or of another model: its SHA-256 is not that of {CARD}")
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreError(f"{file}: not a safetensors file ({error}); copy it again") from error
    return state


def _placed(method: Method, name: str, value: Tensor, device: torch.device) -> Tensor:
    """On the device of the tensor that `prepare` made under this name, else on the run's."""
    made = vars(method).get(name)
    return value.to(made.device if isinstance(made, torch.Tensor) else device)
