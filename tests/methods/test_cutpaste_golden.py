"""CutPaste against arrays of the two re-implementations that the specification names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from bench.api import IMAGENET_MEAN, IMAGENET_STD
from bench.plugins.methods.cutpaste.augment import (
    Jitter,
    Shapes,
    change_colours,
    cut_paste,
    scar,
)
from bench.plugins.methods.cutpaste.density import (
    fit_gauss,
    gauss_score,
    kernel_score,
    ledoit_wolf,
    on_sphere,
)
from bench.plugins.methods.cutpaste.localise import (
    enlarge,
    gaussian_window,
    grad_cam,
    patches,
    spread,
)
from bench.plugins.methods.cutpaste.network import Classifier, Trainer, rate
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLDEN = golden("cutpaste")
PLAIN = Shapes((0.02, 0.15), 0.3, (2, 16), (10, 25), 45, 0)


class Replay:
    """Draws that were recorded, in their order; checks that each lies between its bounds."""

    def __init__(self, draws: Sequence[float], jitters: Sequence[Sequence[float]]) -> None:
        self.draws = iter(draws)
        self.jitters = iter(jitters)

    def uniform(self, low: float, high: float) -> float:
        value = float(next(self.draws))
        assert low - 1e-6 <= value <= high + 1e-6
        return value

    def jitter(self, _: float) -> Jitter | None:
        row = next(self.jitters, None)
        if row is None:
            return None
        return Jitter([int(v) for v in row[:4]], [float(v) for v in row[4:7]], float(row[7]))


def replay(case: str) -> Any:
    draws = GOLDEN[f"{case}/draws"].tolist()
    aspect = GOLDEN[f"{case}/log_aspect_draw"].tolist()
    return Replay([*draws[:1], *aspect, *draws[1:]], GOLDEN[f"{case}/jitter"].tolist())


def picture(index: int) -> Image.Image:
    pictures = GOLDEN["augment/picture"]
    return Image.fromarray(pictures[index % len(pictures)])


@pytest.mark.parametrize("case", GOLDEN.cases("augment/*/*/image"))
def test_altered_pictures_are_exact(case: str) -> None:
    kind, number = case.split("/")
    alter = scar if kind.startswith("scar") else cut_paste
    found = alter(picture(int(number)), PLAIN, replay(f"augment/{case}"))
    GOLDEN.check(f"augment/{case}/image", np.asarray(found))


def test_both_kinds_of_one_picture_are_drawn_one_after_the_other() -> None:
    draws = replay("augment/3way")
    GOLDEN.check("augment/3way/cutpaste", np.asarray(cut_paste(picture(0), PLAIN, draws)))
    GOLDEN.check("augment/3way/scar", np.asarray(scar(picture(0), PLAIN, draws)))
    assert next(draws.draws, None) is None


def test_the_change_of_colours_of_a_whole_picture_is_exact() -> None:
    draws: Any = Replay([], GOLDEN["augment/jitter_whole/params"].tolist())
    found = change_colours(picture(1), draws.jitter(0.1))
    GOLDEN.check("augment/jitter_whole/image", np.asarray(found))


class Encoder(nn.Module):
    """timm's ResNet18 or the stand-in of the golden files: a list with the last feature map."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> list[Tensor]:
        found = self.net(images)
        return found if isinstance(found, list) else [found]


class StandIn(nn.Module):
    """Two strided convolutions with batch norm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 512, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(512)

    def before_the_last_relu(self, images: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(images)).relu()
        found: Tensor = self.bn2(self.conv2(hidden))
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.before_the_last_relu(images).relu()


def recipe(network: nn.Module, seed: int, names: dict[str, str]) -> None:
    """Fill a network by the recipe of the golden files; `names`: ours by theirs."""
    state = network.state_dict()
    for n, theirs in enumerate(sorted(names)):
        ours = state[names[theirs]]
        z = np.random.RandomState(seed + n).standard_normal(tuple(ours.shape))
        if theirs.endswith("running_var"):
            z = 1 + 0.2 * np.abs(z)
        elif theirs.endswith("running_mean"):
            z = 0.1 * z
        elif z.ndim > 1:
            z = z * np.sqrt(2 / np.prod(z.shape[1:]))
        else:
            z = 1 + 0.1 * z if theirs.endswith("weight") else 0.1 * z
        ours.copy_(torch.from_numpy(z))


def names_of(network: nn.Module, encoder: str) -> dict[str, str]:
    """Our name of each tensor by that of the implementation, whose encoder is called `encoder`."""
    ours = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    return {k.replace("encoder.net.", f"{encoder}."): k for k in ours}


@pytest.fixture
def resnet() -> Classifier:
    cfg = GOLDEN.cfg()
    net = timm.create_model("resnet18", features_only=True, out_indices=(4,))
    hidden = (*[512] * cfg["head_layer"], 128)
    network = Classifier(Encoder(net), 512, hidden, GOLDEN["net/eval_logits"].shape[1])
    names = names_of(network, "resnet18")
    assert sorted(names) == cfg["names"]
    recipe(network, cfg["net_seed"], names)
    return network


def test_embeddings_and_logits_match_in_both_modes(resnet: Classifier) -> None:
    with torch.no_grad():
        for mode in ("eval", "train"):
            logits, embedding = resnet.train(mode == "train")(GOLDEN.tensor("net/image"))
            GOLDEN.check(f"net/{mode}_embedding", embedding, relative=1e-5)
            # Normalised by a small batch, which magnifies how kernels of other CPUs round.
            allowed = 1e-5 if mode == "eval" else 1e-4
            GOLDEN.check(f"net/{mode}_logits", logits, relative=allowed)


@pytest.mark.parametrize("case", GOLDEN.cases("*/input_uint8"))
def test_training_matches_step_by_step(case: str) -> None:
    cfg = GOLDEN.cfg()[case]
    hidden = (*[512] * cfg["head_layer"], 128)
    network = Classifier(Encoder(StandIn()), 512, hidden, cfg["classes"])
    names = names_of(network, "resnet18")
    recipe(network, cfg["net_seed"], names)
    trainer = Trainer(
        network.train(),
        steps=cfg["steps"],
        lr=cfg["lr"],
        momentum=cfg["momentum"],
        weight_decay=cfg["weight_decay"],
        freeze=cfg["freeze"],
    )
    labels = torch.arange(cfg["classes"]).repeat_interleave(cfg["batch"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    inputs = (GOLDEN.tensor(f"{case}/input_uint8").float() / 255 - mean) / std
    figures = [trainer.step(batch, labels) for batch in inputs]
    for name in ("loss", "accuracy"):
        GOLDEN.check(f"{case}/{name}", [float(f[name]) for f in figures], relative=1e-5)
    after = [rate(cfg["lr"], step + 1, cfg["steps"]) for step in range(len(inputs))]
    GOLDEN.check(f"{case}/lr_after_step", after, absolute=1e-12)
    state = network.state_dict()
    for theirs, ours in names.items():
        prefix, found = f"{case}/final/{theirs}", state[ours].double()
        if prefix in GOLDEN:
            GOLDEN.check(prefix, found, relative=1e-4)
            continue
        # Of a large tensor about 300 entries, and two sums of all.
        every = found.flatten()[:: max(1, found.numel() // 300)]
        GOLDEN.check(f"{prefix}/every", every, relative=1e-4)
        GOLDEN.check(f"{prefix}/sums", [found.sum(), found.abs().sum()], relative=1e-4)


@pytest.mark.parametrize("case", GOLDEN.cases("schedule/*"))
def test_the_rate_of_each_step_matches(case: str) -> None:
    name = f"schedule/{case}"
    peak, steps = float(GOLDEN[name][0]), len(GOLDEN[name])
    GOLDEN.check(name, [rate(peak, step, steps) for step in range(steps)], absolute=1e-12)


@pytest.mark.parametrize("case", GOLDEN.cases("density/*/train"))
def test_densities_match(case: str) -> None:
    prefix = f"density/{case}"
    train, test = (on_sphere(GOLDEN.tensor(f"{prefix}/{part}")) for part in ("train", "test"))
    covariance, shrinkage = ledoit_wolf(train.double())
    GOLDEN.check(f"{prefix}/shrinkage", shrinkage, absolute=1e-6)
    GOLDEN.check(f"{prefix}/covariance", covariance, relative=1e-5)
    mean, precision = fit_gauss(train)
    GOLDEN.check(f"{prefix}/mean", mean, relative=1e-5)
    GOLDEN.check(f"{prefix}/precision", precision, relative=1e-5)
    GOLDEN.check(f"{prefix}/distance", gauss_score(test, mean, precision), relative=1e-5)
    GOLDEN.check(f"{prefix}/kde_score", kernel_score(test, train, 1.0), relative=1e-5)


KERNELS = [int(k.removeprefix("gauss_kernel")) for k in GOLDEN.names("localise/*") if "kernel" in k]


@pytest.mark.parametrize("side", KERNELS)
def test_weights_of_a_patchs_pixels_match(side: int) -> None:
    GOLDEN.check(f"localise/gauss_kernel{side}", gaussian_window(side), absolute=1e-12)


@pytest.mark.parametrize("name", [k for k in GOLDEN.names("localise/*") if "upsampled" in k])
def test_scores_spread_over_pixels_match_but_for_the_published_bias(name: str) -> None:
    (source,) = (k for k in GOLDEN.names("localise/*") if k.startswith("scores"))
    scores = GOLDEN.tensor(f"localise/{source}")[:, 0].double()
    wanted = GOLDEN.tensor(f"localise/{name}")[:, 0].double()
    side = max(KERNELS)
    stride = (wanted.shape[-1] - side) // (scores.shape[-1] - 1)
    found = spread(scores, gaussian_window(side), stride)
    bias = (wanted - found).mean()
    GOLDEN.check(f"localise/{name}", found + bias, wanted=wanted, relative=1e-6)


def test_patches_are_squares_of_the_picture() -> None:
    (name,) = (k for k in GOLDEN.names("localise/*") if k.startswith("image"))
    found = patches(GOLDEN.tensor(f"localise/{name}"), 32, 4).flatten(0, 2).double().sum((1, 2, 3))
    GOLDEN.check("localise/patches_correct_sums", found, relative=1e-5)
    wrong = GOLDEN.tensor("localise/patches_published_sums")
    assert float((found - wrong).abs().max()) > 1  # theirs mix positions of the whole picture


def test_grad_cam_matches() -> None:
    """Theirs has a head without biases, and looks at a layer before its ReLU."""
    cfg = GOLDEN.cfg()["gradcam"]
    images, dims = GOLDEN.tensor("gradcam/image"), cfg["dims"]
    encoder = StandIn()
    layers: list[nn.Module] = []
    for inside, outside in zip((512, *dims), dims[:-1], strict=False):
        layers += [nn.Linear(inside, outside, bias=False), nn.BatchNorm1d(outside), nn.ReLU()]
    head = nn.Sequential(*layers, nn.Linear(dims[-2], dims[-1]))
    out = nn.Linear(dims[-1], GOLDEN["gradcam/logits"].shape[1])
    network = nn.ModuleDict({"encoder": encoder, "head": head, "out": out}).eval()
    names = {k: k for k in network.state_dict() if not k.endswith("num_batches_tracked")}
    recipe(network, cfg["net_seed"], names)
    activations = encoder.before_the_last_relu(images).detach().requires_grad_(True)
    logits = out(head(functional.relu(activations).mean((2, 3))))
    GOLDEN.check("gradcam/logits", logits, relative=1e-5)
    chosen = logits.argmax(1)
    GOLDEN.check("gradcam/class", chosen)
    (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), activations)
    maps = grad_cam(activations.detach(), gradients)
    GOLDEN.check("gradcam/map", maps[:, None], relative=1e-5)
    size = (images.shape[-2], images.shape[-1])
    GOLDEN.check("gradcam/map_upsampled", enlarge(maps, size)[:, None], relative=1e-5)
