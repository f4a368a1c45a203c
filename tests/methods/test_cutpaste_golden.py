"""CutPaste against arrays of the two re-implementations that the specification names."""

from __future__ import annotations

import json
from pathlib import Path
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

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "cutpaste.npz")
CFG = json.loads(str(GOLDEN["cfg"]))
PLAIN = Shapes((0.02, 0.15), 0.3, (2, 16), (10, 25), 45, 0)


def tensor(name: str) -> Tensor:
    return torch.from_numpy(np.array(GOLDEN[name]))


def cases(prefix: str) -> list[str]:
    """Names of the cases "prefix/<n>" in the file."""
    depth = prefix.count("/") + 2
    found = {"/".join(k.split("/")[:depth]) for k in GOLDEN.files if k.startswith(f"{prefix}/")}
    return sorted(found)


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
    return Replay([*draws[:1], *aspect, *draws[1:]], GOLDEN[f"{case}/jitter"])


def picture(index: int) -> Image.Image:
    pictures = GOLDEN["augment/picture"]
    return Image.fromarray(pictures[index % len(pictures)])


@pytest.mark.parametrize(
    "case",
    [
        c
        for kind in ("cutpaste", "scar")
        for how in ("plain", "jitter")
        for c in cases(f"augment/{kind}_{how}")
    ],
)
def test_altered_pictures_are_exact(case: str) -> None:
    alter = scar if "/scar_" in case else cut_paste
    found = alter(picture(int(case.rsplit("/", 1)[1])), PLAIN, replay(case))
    assert np.array_equal(np.asarray(found), GOLDEN[f"{case}/image"])


def test_both_kinds_of_one_picture_are_drawn_one_after_the_other() -> None:
    draws = replay("augment/3way")
    assert np.array_equal(
        np.asarray(cut_paste(picture(0), PLAIN, draws)), GOLDEN["augment/3way/cutpaste"]
    )
    assert np.array_equal(np.asarray(scar(picture(0), PLAIN, draws)), GOLDEN["augment/3way/scar"])
    assert next(draws.draws, None) is None


def test_the_change_of_colours_of_a_whole_picture_is_exact() -> None:
    draws: Any = Replay([], GOLDEN["augment/jitter_whole/params"])
    found = change_colours(picture(1), draws.jitter(0.1))
    assert np.array_equal(np.asarray(found), GOLDEN["augment/jitter_whole/image"])


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
    net = timm.create_model("resnet18", features_only=True, out_indices=(4,))
    hidden = (*[512] * CFG["head_layer"], 128)
    network = Classifier(Encoder(net), 512, hidden, GOLDEN["net/eval_logits"].shape[1])
    names = names_of(network, "resnet18")
    assert sorted(names) == CFG["names"]
    recipe(network, CFG["net_seed"], names)
    return network


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_embeddings_and_logits_match_in_both_modes(resnet: Classifier) -> None:
    with torch.no_grad():
        for mode in ("eval", "train"):
            logits, embedding = resnet.train(mode == "train")(tensor("net/image"))
            assert relative(embedding, tensor(f"net/{mode}_embedding")) < 1e-5
            assert relative(logits, tensor(f"net/{mode}_logits")) < 1e-5


@pytest.mark.parametrize("case", [k.split("/")[0] for k in GOLDEN.files if "input_uint8" in k])
def test_training_matches_step_by_step(case: str) -> None:
    cfg = CFG[case]
    network = Classifier(Encoder(StandIn()), 512, (*[512] * cfg["head_layer"], 128), cfg["classes"])
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
    for step, pixels in enumerate(tensor(f"{case}/input_uint8")):
        figures = trainer.step((pixels.float() / 255 - mean) / std, labels)
        assert float(figures["loss"]) == pytest.approx(GOLDEN[f"{case}/loss"][step], rel=1e-5)
        assert float(figures["accuracy"]) == pytest.approx(GOLDEN[f"{case}/accuracy"][step])
        after = rate(cfg["lr"], step + 1, cfg["steps"])
        assert after == pytest.approx(GOLDEN[f"{case}/lr_after_step"][step], abs=1e-12)
    state = network.state_dict()
    for theirs, ours in names.items():
        prefix, found = f"{case}/final/{theirs}", state[ours].double()
        if prefix in GOLDEN.files:
            assert relative(found, tensor(prefix).double()) < 1e-4
            continue
        every = found.flatten()[:: max(1, found.numel() // 300)]
        assert relative(every, tensor(f"{prefix}/every").double()) < 1e-4
        sums = torch.stack([found.sum(), found.abs().sum()])
        assert relative(sums, tensor(f"{prefix}/sums")) < 1e-4


@pytest.mark.parametrize("case", cases("schedule"))
def test_the_rate_of_each_step_matches(case: str) -> None:
    wanted = GOLDEN[case]
    found = [rate(wanted[0], step, len(wanted)) for step in range(len(wanted))]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", cases("density"))
def test_densities_match(case: str) -> None:
    train, test = on_sphere(tensor(f"{case}/train")), on_sphere(tensor(f"{case}/test"))
    covariance, shrinkage = ledoit_wolf(train.double())
    assert shrinkage == pytest.approx(float(GOLDEN[f"{case}/shrinkage"]), abs=1e-6)
    assert relative(covariance, tensor(f"{case}/covariance").double()) < 1e-5
    mean, precision = fit_gauss(train)
    assert relative(mean, tensor(f"{case}/mean").double()) < 1e-5
    assert relative(precision, tensor(f"{case}/precision").double()) < 1e-5
    assert relative(gauss_score(test, mean, precision), tensor(f"{case}/distance").double()) < 1e-5
    assert relative(kernel_score(test, train, 1.0), tensor(f"{case}/kde_score")) < 1e-5


@pytest.mark.parametrize("case", [k for k in GOLDEN.files if "/gauss_kernel" in k])
def test_weights_of_a_patchs_pixels_match(case: str) -> None:
    wanted = tensor(case)
    torch.testing.assert_close(gaussian_window(len(wanted)), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "size", [k.removeprefix("localise/scores") for k in GOLDEN.files if "/scores" in k]
)
def test_scores_spread_over_pixels_match_but_for_the_published_bias(size: str) -> None:
    scores = tensor(f"localise/scores{size}")[:, 0]
    (name,) = (k for k in GOLDEN.files if k.startswith("localise/upsampled"))
    wanted = tensor(name)[:, 0].double()
    side = 32
    stride = (wanted.shape[-1] - side) // (scores.shape[-1] - 1)
    found = spread(scores.double(), gaussian_window(side), stride)
    bias = (wanted - found).mean()
    assert relative(found + bias, wanted) < 1e-6


def test_patches_are_squares_of_the_picture() -> None:
    (name,) = (k for k in GOLDEN.files if k.startswith("localise/image"))
    found = patches(tensor(name), 32, 4).flatten(0, 2).double().sum((1, 2, 3))
    torch.testing.assert_close(found, tensor("localise/patches_correct_sums"), rtol=1e-5, atol=1e-3)
    wrong = tensor("localise/patches_published_sums")
    assert float((found - wrong).abs().max()) > 1  # theirs mix positions of the whole picture


def test_grad_cam_matches() -> None:
    """Theirs has a head without biases and a layer before the ReLU."""
    cfg = CFG["gradcam"]
    images = tensor("gradcam/image")
    encoder = StandIn()
    dims = cfg["dims"]
    layers: list[nn.Module] = []
    for inside, outside in zip((512, *dims), dims[:-1], strict=False):
        layers += [nn.Linear(inside, outside, bias=False), nn.BatchNorm1d(outside), nn.ReLU()]
    head = nn.Sequential(*layers, nn.Linear(dims[-2], dims[-1]))
    network = nn.ModuleDict(
        {
            "encoder": encoder,
            "head": head,
            "out": nn.Linear(dims[-1], GOLDEN["gradcam/logits"].shape[1]),
        }
    ).eval()
    names = {k: k for k in network.state_dict() if not k.endswith("num_batches_tracked")}
    recipe(network, cfg["net_seed"], names)
    activations = encoder.before_the_last_relu(images).detach().requires_grad_(True)
    logits = network["out"](head(functional.relu(activations).mean((2, 3))))
    assert relative(logits.detach(), tensor("gradcam/logits")) < 1e-5
    chosen = logits.argmax(1)
    assert torch.equal(chosen, tensor("gradcam/class"))
    (gradients,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), activations)
    maps = grad_cam(activations.detach(), gradients)
    assert relative(maps, tensor("gradcam/map")[:, 0]) < 1e-5
    size = (images.shape[-2], images.shape[-1])
    assert relative(enlarge(maps, size), tensor("gradcam/map_upsampled")[:, 0]) < 1e-5
