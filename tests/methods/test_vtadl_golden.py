"""VT-ADL against arrays of the authors' released code, whose weights are drawn by a rule."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from bench.blocks.ssim import Window, ssim_map
from bench.plugins.methods.vtadl import VtAdl
from bench.plugins.methods.vtadl.autoencoder import Capsule, Decoder, squash
from bench.plugins.methods.vtadl.mixture import Mixture
from bench.plugins.methods.vtadl.transformer import Layer, VisionTransformer
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

GOLDEN = golden("vtadl")
VECTOR = 8  # numbers of a capsule's inputs
# The rule's factors for the decoder's convolutions, in their order.
FACTORS = (4, 9, 25, 4, 1, 1)
OURS = (
    (r"^vt\.", "transformer."),
    (r"^decoder\.decoder2\.", "decoder.layers."),
    (r"^decoder2\.", "layers."),
    (r"^Digcap\.W$", "capsule.weight"),
    (r"^sigma_sq\.", "log_variance."),
    (r"(^|\.)cls_token$", r"\1class_token"),
    (r"(^|\.)pos_embedding$", r"\1positions"),
    (r"(^|\.)patch_to_embedding\.", r"\1embed."),
    (r"(^|\.)transformer\.layers\.(\d)", r"\1layers.\2"),
    (r"\.0\.fn\.norm\.", ".norm1."),
    (r"\.1\.fn\.norm\.", ".norm2."),
    (r"\.0\.fn\.fn\.to_qkv\.", ".attention.qkv."),
    (r"\.0\.fn\.fn\.to_out\.0\.", ".attention.out."),
    (r"\.1\.fn\.fn\.net\.", ".mlp."),
    (r"^layers\.(\d+)\.(norm|attention|mlp)", r"\1.\2"),
)
"""From the code's names to ours, one after another."""


def our_name(theirs: str, network: nn.Module) -> str:
    name = theirs
    for pattern, replacement in OURS[:-1]:
        name = re.sub(pattern, replacement, name)
    known = network.state_dict()
    # A transformer alone is a sequence of layers here.
    return name if name in known else re.sub(*OURS[-1], name)


def their_shape(tensor: Tensor, theirs: str) -> tuple[int, ...]:
    if theirs.endswith("Digcap.W"):
        return (1, tensor.shape[1] // VECTOR, tensor.shape[0], VECTOR)
    return tuple(tensor.shape)


def to_theirs(tensor: Tensor, theirs: str) -> Tensor:
    """Our parameter in the code's layout: the capsule's W is (1, inputs, outputs, vector)."""
    if not theirs.endswith("Digcap.W"):
        return tensor
    return tensor.view(tensor.shape[0], -1, VECTOR).permute(1, 0, 2)[None]


def to_ours(tensor: Tensor, theirs: str) -> Tensor:
    return tensor[0].permute(1, 0, 2).flatten(1) if theirs.endswith("Digcap.W") else tensor


def by_rule(name: str, shape: tuple[int, ...], seed: int, convolution: int) -> Any:
    """The n-th state of a module (seed + n), float32."""
    z = np.random.RandomState(seed).standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        z = 1 + 0.2 * np.abs(z)
    elif last in ("running_mean", "bias"):
        z = 0.1 * z
    elif last == "W":
        z = z * GOLDEN.json("weight_rule")["W_scale"]
    elif last == "weight" and len(shape) == 1:
        z = 1 + 0.1 * z
    elif last == "weight" and len(shape) == 4:
        z = z * math.sqrt(2 * FACTORS[convolution] / (shape[0] * shape[2] ** 2))
    elif last == "weight":
        z = z / math.sqrt(shape[1])
    return z.astype(np.float32)


@torch.no_grad()
def fill(network: nn.Module, case: str, seed: int) -> None:
    """Give a module the file's state, and compare its sums."""
    names = [str(name) for name in GOLDEN[f"{case}/names"]]
    state = network.state_dict()
    convolutions = sorted(
        (n for n in names if n.endswith("weight") and state[our_name(n, network)].ndim == 4),
        key=lambda n: int(n.split(".")[-2]),
    )
    sums, sizes = [], []
    for number, name in enumerate(names):
        tensor = state[our_name(name, network)]
        place = convolutions.index(name) if name in convolutions else 0
        value = by_rule(name, their_shape(tensor, name), seed + number, place)
        sums.append(value.sum(dtype=np.float64))
        sizes.append(np.abs(value).sum(dtype=np.float64))
        tensor.copy_(to_ours(torch.from_numpy(value), name))
    GOLDEN.check(f"{case}/checksum_sum", sums, absolute=1e-6 * max(sizes))
    GOLDEN.check(f"{case}/checksum_abs", sizes, relative=1e-9)


@torch.no_grad()
def test_the_transformer_matches() -> None:
    cfg = GOLDEN.cfg("transformer")
    layers = torch.nn.Sequential(
        *(Layer(cfg["dim"], cfg["heads"], cfg["mlp"]) for _ in range(cfg["depth"]))
    )
    fill(layers, "transformer", cfg["weight_seed"])
    x = GOLDEN.tensor("transformer/x")
    first: Any = layers[0]
    GOLDEN.check("transformer/first_attention_of_x", first.attention(x), absolute=1e-5)
    y = layers(x)
    GOLDEN.check("transformer/y", y, absolute=1e-5)
    GOLDEN.check("transformer/y_with_all_true_mask", y, absolute=1e-5)


@torch.no_grad()
def test_patches_and_tokens_match() -> None:
    cfg = GOLDEN.cfg("vit")
    sizes = (cfg[name] for name in ("image", "patch", "dim", "depth", "heads", "mlp"))
    network = VisionTransformer(*sizes)
    fill(network, "vit", cfg["weight_seed"])
    images = GOLDEN.tensor("vit/image")
    GOLDEN.check("vit/patches", network.patches(images))
    GOLDEN.check("vit/tokens", network(images), absolute=1e-5)


def routed(u: Tensor, weight: Tensor, rounds: int = 3) -> tuple[Tensor, Tensor]:
    """Dynamic routing between capsules (arXiv:1710.09829, procedure 1), and the longest output.

    Args:
        u: (B, inputs, vector).
        weight: (outputs, inputs, numbers, vector).
    """
    votes = torch.einsum("ojnv,bjv->bojn", weight, u)
    logits = torch.zeros(votes.shape[:3])
    for _ in range(rounds):
        coefficients = logits.softmax(1)
        sums = (coefficients[..., None] * votes).sum(2)
        outputs = torch.stack([squash(part) for part in sums])
        logits = logits + torch.einsum("bojn,bon->boj", votes, outputs)
    longest = outputs.norm(dim=2).argmax(1)
    return outputs, outputs[torch.arange(len(u)), longest][:, None]


@pytest.mark.parametrize("case", GOLDEN.cases("capsule/*/W"))
def test_one_capsule_is_a_linear_map_and_a_squash(case: str) -> None:
    weight, u = GOLDEN.tensor(f"capsule/{case}/W"), GOLDEN.tensor(f"capsule/{case}/u")
    outputs, selected = routed(u, weight)
    GOLDEN.check(f"capsule/{case}/outputs", outputs, absolute=1e-5)
    GOLDEN.check(f"capsule/{case}/selected", selected, absolute=1e-5)
    if len(weight) == 1:
        capsule = Capsule(u[0].numel())
        capsule.weight = torch.nn.Parameter(to_ours(weight, "Digcap.W"))
        found = capsule(u).detach()
        GOLDEN.check(f"capsule/{case}/outputs", found[:, None], absolute=1e-5)


def test_the_mixture_network_matches() -> None:
    cfg = GOLDEN.cfg("mdn")
    mixture = Mixture(cfg["dim"], cfg["gaussians"])
    theirs = {name: our_name(name, mixture) for name in GOLDEN.tensors("mdn/weight")}
    mixture.load_state_dict(
        {ours: GOLDEN.tensor(f"mdn/weight/{name}") for name, ours in theirs.items()}
    )
    v = GOLDEN.tensor("mdn/v").requires_grad_()
    weights, mu, s = mixture.components(v.detach().flatten(0, 1))
    shape = v.shape[:2]
    GOLDEN.check("mdn/pi", weights.exp().view(*shape, -1), absolute=1e-5)
    GOLDEN.check("mdn/mu", mu.view(*shape, *mu.shape[1:]), absolute=1e-5)
    GOLDEN.check("mdn/log_variance", s.view(*shape, *s.shape[1:]), absolute=1e-5)
    scores = mixture.scores(v, VtAdl.likelihood)
    GOLDEN.check("mdn/score_per_token", scores, relative=1e-5)
    loss = scores.sum(1).mean()
    loss.backward()
    GOLDEN.check("mdn/loss", loss, relative=1e-5)
    GOLDEN.check("mdn/grad_v", v.grad, relative=1e-5)
    parameters = dict(mixture.named_parameters())
    for name, ours in theirs.items():
        GOLDEN.check(f"mdn/grad/{name}", parameters[ours].grad, relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("ssim/*/a"))
def test_the_similarity_matches(case: str) -> None:
    a, b = GOLDEN.tensor(f"ssim/{case}/a"), GOLDEN.tensor(f"ssim/{case}/b").requires_grad_()
    value = ssim_map(a, b, Window(border="zeros")).mean()
    value.backward()  # type: ignore[no-untyped-call]
    GOLDEN.check(f"ssim/{case}/value", value, absolute=1e-5)
    GOLDEN.check(f"ssim/{case}/grad_b", b.grad, relative=1e-5)


@torch.no_grad()
def test_the_decoder_matches() -> None:
    decoder = Decoder(VtAdl.width)
    fill(decoder, "decoder", GOLDEN.cfg("decoder")["weight_seed"])
    found = decoder.eval()(GOLDEN.tensor("decoder/z").flatten(1))
    for step in GOLDEN.names("decoder/eval_output_every_*"):
        every = slice(None, None, int(step))
        array = f"decoder/eval_output_every_{step}"
        GOLDEN.check(array, found[..., every, every], absolute=1e-5)
    total = found.abs().double().sum()
    GOLDEN.check("decoder/eval_output_abs_sum", total, relative=1e-5)
    GOLDEN.check("decoder/eval_output_sum", found.double().sum(), absolute=1e-5 * float(total))


def test_maps_match() -> None:
    scores = GOLDEN.tensor("map/token_scores")
    method = VtAdl(patch=512 // math.isqrt(scores.shape[1]))
    maps = method.maps(scores)
    for step in GOLDEN.names("map/smoothed_every_*"):
        every = slice(None, None, int(step))
        GOLDEN.check(f"map/smoothed_every_{step}", maps[:, every, every], relative=1e-5)
    for corner in GOLDEN.names("map/smoothed_corner_*"):
        height, width = (int(n) for n in corner.split("x"))
        GOLDEN.check(f"map/smoothed_corner_{corner}", maps[:, :height, :width], relative=1e-5)
    GOLDEN.check("map/max", maps.amax((1, 2)), relative=1e-5)


class Trained:
    """The released code's steps on the file's full-width model."""

    def __init__(self, make_run: Callable[..., Any]) -> None:
        cfg = GOLDEN.cfg("model")
        fields = ("patch", "dim", "depth", "heads", "mlp", "gaussians", "lr", "weight_decay")
        self.method = VtAdl(**{name: cfg[name] for name in fields})
        self.method.prepare(make_run((cfg["image"], cfg["image"])))
        fill(self.method.autoencoder, "model", cfg["weight_seed"])
        fill(self.method.mixture, "model_mdn", cfg["mdn_weight_seed"])
        small = GOLDEN.tensor("model/image_uint8").float() / 255
        times = cfg["image"] // small.shape[-1]
        self.pixels = small.repeat_interleave(times, 2).repeat_interleave(times, 3)
        self.seed = int(re.findall(r"\d+", GOLDEN.json("model/noise_rule")["seed_of_step"])[0])
        self.losses: list[Tensor] = []
        self.first: dict[str, Tensor] = {}
        self.train(cfg["noise_sd"])

    def train(self, deviation: float) -> None:
        method = self.method
        method.autoencoder.train()
        optimizer = method.optimizer()
        for step, index in enumerate(GOLDEN.tensor("model/batches")):
            shape = (len(index), (512 // method.patch) ** 2, method.dim)
            drawn = np.random.RandomState(self.seed + step)
            noise = torch.from_numpy((deviation * drawn.standard_normal(shape)).astype(np.float32))
            if step == 0:
                self.look(self.pixels[index], noise)
            self.losses.append(method.update(optimizer, self.pixels[index], noise))
        method.autoencoder.eval()

    @torch.no_grad()
    def look(self, pixels: Tensor, noise: Tensor) -> None:
        """The first step's tokens and reconstruction; running statistics stay as they are."""
        network = self.method.autoencoder
        before = {name: value.clone() for name, value in network.state_dict().items()}
        tokens = network.transformer(pixels) + noise
        self.first = {"tokens": tokens, "recon": network.decode(tokens)}
        network.load_state_dict(before)


@pytest.fixture(scope="module")
def trained() -> dict[str, Trained]:
    return {}


@pytest.fixture
def model(trained: dict[str, Trained], make_run: Any) -> Trained:
    if "model" not in trained:
        trained["model"] = Trained(make_run)
    return trained["model"]


def test_training_steps_match(model: Trained) -> None:
    for name in GOLDEN.names("model/step0/tokens_first*"):
        found = model.first["tokens"][:, : int(name)]
        GOLDEN.check(f"model/step0/tokens_first{name}", found, relative=1e-5)
    for step in GOLDEN.names("model/step0/recon_every_*"):
        every = slice(None, None, int(step))
        found = model.first["recon"][..., every, every]
        GOLDEN.check(f"model/step0/recon_every_{step}", found, absolute=1e-4)
    losses = torch.stack(model.losses)
    GOLDEN.check("model/losses_mse_negssim_mdn_total", losses, relative=1e-4)
    wanted = GOLDEN.tensor("model/losses_mse_negssim_mdn_total")
    assert bool(((losses - wanted).abs() <= 1e-4 * wanted.abs()).all())
    networks = {"model": model.method.autoencoder, "model_mdn": model.method.mixture}
    for case, network in networks.items():
        check_final(case, network)


def check_final(case: str, network: nn.Module) -> None:
    state: Mapping[str, Tensor] = network.state_dict()
    names = [str(name) for name in GOLDEN[f"{case}/names"]]
    finals = [to_theirs(state[our_name(name, network)], name).double() for name in names]
    sizes = [float(value.abs().sum()) for value in finals]
    GOLDEN.check(f"{case}/final_abs", sizes, relative=1e-5)
    # A sum of both signs: within as much as the sum of sizes may be off.
    sums = [float(value.sum()) for value in finals]
    GOLDEN.check(f"{case}/final_sum", sums, absolute=1e-5 * max(sizes))
    for name, value in zip(names, finals, strict=True):
        flat = value.flatten()
        samples = flat[:: max(1, len(flat) // 64)]
        GOLDEN.check(f"{case}/final_sample/{name}", samples, absolute=2e-4)


@torch.no_grad()
def test_scores_of_the_trained_model_match(model: Trained) -> None:
    method, pixels = model.method, model.pixels
    tokens = method.autoencoder.transformer(pixels)
    scores = method.mixture.scores(tokens, method.likelihood)
    # After a training: Adam's first steps turn on the signs of gradients near zero, which kernels
    # of other CPUs round otherwise (3e-7 where the file was made, 5e-5 elsewhere).
    GOLDEN.check("score/token_scores", scores, relative=1e-4)
    found = method.autoencoder.decode(tokens)
    for step in GOLDEN.names("score/recon_every_*"):
        every = slice(None, None, int(step))
        GOLDEN.check(f"score/recon_every_{step}", found[..., every, every], absolute=1e-2)
    maps, image = method.maps(scores), method.image_scores(scores, pixels, found)
    columns = GOLDEN.tensor("score/mse_ssim_maxtoken_imagescore")
    GOLDEN.check("score/image score", image, wanted=columns[:, 3], relative=1e-4)
    GOLDEN.check("score/largest token", scores.amax(1), wanted=columns[:, 2], relative=1e-4)

    masks = np.zeros(maps.shape, bool)
    for number, top, bottom, left, right in GOLDEN["score/mask_boxes_image_y0_y1_x0_x1"]:
        masks[number, top:bottom, left:right] = True
    pixel_auroc = roc_auc_score(masks.ravel(), maps.numpy().ravel())
    GOLDEN.check("score/official_pro_which_is_pixel_auroc", pixel_auroc, absolute=1e-4)
    labels = GOLDEN["score/is_anomalous"]
    GOLDEN.check("score/image_auroc", roc_auc_score(labels, image.numpy()), absolute=1e-6)
    precision, recall, _ = precision_recall_curve(labels, image.numpy())
    GOLDEN.check("score/image_pr_auc", auc(recall, precision), absolute=1e-6)
