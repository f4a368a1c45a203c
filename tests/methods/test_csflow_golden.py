"""CS-Flow against arrays computed by the published code."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.plugins.methods.csflow import CSFlow, combined
from bench.plugins.methods.csflow.encoder import features_of, set_padding
from bench.plugins.methods.csflow.flow import (
    CrossScaleFlow,
    channel_means,
    flow_loss,
    image_scores,
    permutations,
)
from tests.golden_files import golden

if TYPE_CHECKING:
    from bench.plugins.methods.csflow.encoder import PaddingRule

GOLDEN = golden("csflow")
FLOWS = GOLDEN.cases("*/f32/loss")
TRAINED = GOLDEN.cases("*/order")
PRECISIONS = {"f32": torch.float32, "f64": torch.float64}


def our_name(published: str) -> tuple[str, int | None]:
    """Our name of a published parameter, and its place in it where it is one of three gains."""
    found = re.fullmatch(
        r"module_list\.(\d+)\.(s[12])\.([a-z]+(?:_[a-z]+)?)(\d+)(_[01])?(\.\w+)?", published
    )
    assert found is not None, published
    number, network, kind, digits, layer, rest = found.groups()
    block = (int(number) - 4) // 2
    # The chain of a block: three rearrangements, the coupling by N2 (s2), the coupling by N1.
    at = 5 * block + {"s2": 3, "s1": 4}[network]
    prefix = f"blocks.{at}.network"
    if kind == "gamma":
        return f"{prefix}.gain", int(digits)
    if kind == "conv_scale":
        part = f"{'first' if layer == '_0' else 'second'}.{digits}"
    else:  # up_conv10, up_conv21, down_conv01, down_conv12
        part = f"{kind.split('_')[0]}.{min(map(int, digits))}"
    return f"{prefix}.{part}{rest}", None


def renamed(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published parameters, or their gradients, under our names."""
    state: dict[str, Tensor] = {}
    gains: dict[str, dict[int, Tensor]] = {}
    for name, value in arrays.items():
        ours, place = our_name(name)
        if place is None:
            state[ours] = value
        else:
            gains.setdefault(ours, {})[place] = value
    for name, values in gains.items():
        state[name] = torch.cat([values[place] for place in sorted(values)])
    return state


def make_flow(case: str, dtype: torch.dtype = torch.float32) -> CrossScaleFlow:
    cfg = GOLDEN.cfg(case)
    flow = CrossScaleFlow(cfg["n_feat"], cfg["internal"], cfg["kernel_sizes"], cfg["clamp"])
    flow.load_state_dict(renamed(GOLDEN.tensors(f"{case}/init")))
    return flow.to(dtype)


@pytest.mark.parametrize("case", GOLDEN.cases("*/perm"))
def test_channels_are_rearranged_as_published(case: str) -> None:
    cfg = GOLDEN.cfg(case)
    found = [torch.stack(permutations(k, cfg["n_feat"])) for k in range(cfg["blocks"])]
    GOLDEN.check(f"{case}/perm", torch.stack(found))


@pytest.mark.parametrize("case", FLOWS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("save_memory", [False, True])
def test_latents_loss_score_and_gradients_match(
    case: str, precision: str, save_memory: bool
) -> None:
    dtype = PRECISIONS[precision]
    flow = make_flow(case, dtype)
    latents, log_dets = flow(
        [x.to(dtype) for x in GOLDEN.sequence(f"{case}/x")], save_memory=save_memory
    )
    prefix = f"{case}/{precision}"
    GOLDEN.check_all(f"{prefix}/z", [z.detach() for z in latents], relative=1e-5)
    GOLDEN.check_all(f"{prefix}/log_jac_det", [d.detach() for d in log_dets], relative=1e-5)
    means = channel_means([z.detach() for z in latents])
    GOLDEN.check_all(f"{prefix}/map", means, relative=1e-5)
    GOLDEN.check(f"{prefix}/score", image_scores(means), relative=1e-5)
    loss = flow_loss(latents, log_dets)
    GOLDEN.check(f"{prefix}/loss", loss.detach(), relative=1e-5)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(flow.parameters(), torch.inf)
    GOLDEN.check(f"{prefix}/grad_norm", norm, relative=1e-4)
    if GOLDEN.names(f"{prefix}/grad/*"):
        for name, wanted in renamed(GOLDEN.tensors(f"{prefix}/grad")).items():
            found = flow.get_parameter(name).grad
            GOLDEN.check(f"{prefix}/grad, {name}", found, wanted=wanted, relative=1e-4)


@pytest.mark.parametrize("case", FLOWS)
def test_the_inverse_returns_the_features(case: str) -> None:
    flow = make_flow(case, torch.float64)
    features = [x.double() for x in GOLDEN.sequence(f"{case}/x")]
    with torch.no_grad():
        recovered = flow.inverse(flow(features)[0])
    torch.testing.assert_close(recovered, features, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", FLOWS)
def test_maps_at_the_pictures_size_match(case: str) -> None:
    means = GOLDEN.sequence(f"{case}/f32/map")
    size = tuple(GOLDEN.cfg(case)["map_size_out"])
    finest = functional.interpolate(means[0][:, None], size, mode="bilinear")[:, 0]
    GOLDEN.check(f"{case}/upsampled_scale_0", finest, relative=1e-5)
    for how in ("mean", "product"):
        found = combined(means, size, how)
        GOLDEN.check(f"{case}/variant/{how}_of_three", found, relative=1e-5)


@pytest.mark.parametrize("case", TRAINED)
@pytest.mark.parametrize("save_memory", [False, True])
def test_training_matches(case: str, save_memory: bool) -> None:
    cfg = GOLDEN.cfg(case)
    method = CSFlow(
        lr=cfg["lr"],
        eps=cfg["eps"],
        weight_decay=cfg["weight_decay"],
        clip=cfg["max_grad_norm"],
        save_memory=save_memory,
    )
    method.flow = make_flow(case)
    optimiser = method.optimiser()
    train = [x.float() for x in GOLDEN.sequence(f"{case}/train")]
    test = [x.float() for x in GOLDEN.sequence(f"{case}/test")]
    losses, norms, scores = [], [], []
    for epoch, order in enumerate(GOLDEN.tensor(f"{case}/order"), 1):
        for rows in order.split(cfg["batch"]):
            loss, norm, _ = method.step([x[rows] for x in train], optimiser)
            losses.append(loss)
            norms.append(norm)
        if epoch % cfg["sub_epochs"] == 0:
            with torch.no_grad():
                scores.append(image_scores(channel_means(method.flow(test)[0])))
    GOLDEN.check(f"{case}/loss_per_step", torch.stack(losses), relative=1e-5)
    GOLDEN.check(f"{case}/grad_norm_per_step", torch.stack(norms), relative=1e-5)
    GOLDEN.check(f"{case}/test_score_per_meta_epoch", torch.stack(scores), relative=1e-5)
    for name, wanted in renamed(GOLDEN.tensors(f"{case}/final")).items():
        found = method.flow.get_parameter(name).detach()
        GOLDEN.check(f"{case}/final, {name}", found, wanted=wanted, relative=1e-5)


@cache
def encoder_weights() -> dict[str, Tensor]:
    """Weights by the file's recipe."""
    cfg = GOLDEN.cfg("encoder")
    with torch.device("meta"):
        shapes = {
            k: v.shape for k, v in timm.create_model("tf_efficientnet_b5").state_dict().items()
        }
    state: dict[str, Tensor] = {}
    for number, name in enumerate(map(str, GOLDEN["encoder/keys"])):
        shape = shapes[name]
        drawn = np.random.RandomState(cfg["seed"] + number).standard_normal(shape)
        if name.endswith("running_var"):
            value = 1 + 0.2 * np.abs(drawn)
        elif len(shape) == 4:
            value = drawn * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("weight"):
            value = 1 + 0.1 * drawn
        else:
            value = 0.1 * drawn
        state[name] = torch.from_numpy(value.astype(np.float32))
    return state


def encoder(rule: PaddingRule) -> Any:
    """timm's EfficientNet-B5 to its sixth stage, padded by a rule."""
    with torch.device("meta"):
        net = timm.create_model("tf_efficientnet_b5")
        body = nn.Sequential()
        for name in ("conv_stem", "bn1"):
            body.add_module(name, net.get_submodule(name))
        body.add_module("blocks", nn.Sequential(*list(net.get_submodule("blocks").children())[:6]))
    body = body.to_empty(device="cpu").eval().requires_grad_(False)
    counters = {k: v for k, v in body.state_dict().items() if k.endswith("num_batches_tracked")}
    body.load_state_dict(encoder_weights() | counters)
    set_padding(body, rule)
    return lambda images: [body(images)]


def test_the_encoders_weights_are_those_of_the_file() -> None:
    weights = [value.double() for value in encoder_weights().values()]
    GOLDEN.check("encoder/checksum_sum", torch.stack([w.sum() for w in weights]), relative=1e-9)
    sums = torch.stack([w.abs().sum() for w in weights])
    GOLDEN.check("encoder/checksum_abs", sums, relative=1e-9)


@pytest.mark.parametrize("rule", ["0.7.1", "0.7.0", "0.6.3"])
def test_features_match_under_the_padding_of_each_release(rule: PaddingRule) -> None:
    cfg = GOLDEN.cfg("encoder")
    drawn = np.random.RandomState(cfg["image_seed"]).standard_normal((1, 3, *cfg["img"]))
    images = torch.from_numpy(drawn.astype(np.float32))
    with torch.no_grad():
        found = features_of(encoder(rule), images)
    prefix = "features" if rule == cfg["efficientnet_pytorch"] else f"package_{rule}"
    for scale in map(int, GOLDEN.names(f"encoder/{prefix}/*")):
        GOLDEN.check(f"encoder/{prefix}/{scale}", found[scale], relative=1e-4)
