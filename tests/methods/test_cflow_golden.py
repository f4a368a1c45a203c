"""CFLOW against arrays computed by the published code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch

from bench.api import Prediction
from bench.blocks.position import position_code
from bench.evaluate import auroc
from bench.evaluate.published import published_values
from bench.plugins.methods.cflow import Cflow, reflect_padding
from bench.plugins.methods.cflow.decoder import (
    fiber_loss,
    log_likelihood,
    make_decoder,
    rotation,
)
from bench.plugins.methods.cflow.schedule import Schedule
from bench.plugins.methods.cflow.scoring import FusedDecoder, Scorer, probability_map
from bench.plugins.methods.cflow.training import Trainer
from tests.golden_files import GoldenFile, golden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

DECODER = golden("cflow_decoder")
ENCODER = golden("cflow_encoder")
SCHEDULE = golden("cflow_schedule")
TRAIN = golden("cflow_train")


def decoder_from(file: GoldenFile, state: str, channels: int, cfg: Mapping[str, Any]) -> Any:
    """A decoder with the state below this name."""
    clamp = cfg.get("clamp", Cflow.clamp)
    decoder = make_decoder(channels, cfg["P"], cfg["blocks"], clamp, torch.Generator())
    decoder.load_state_dict(file.tensors(state, needed=decoder.state_dict()))
    return decoder


def decoder_of(case: str) -> Any:
    cfg = DECODER.cfg(case)
    return decoder_from(DECODER, f"{case}/init", cfg["C"], cfg)


# A case in single or double precision, such as "a/f32".
@pytest.mark.parametrize("part", DECODER.cases("*/*/z"))
def test_decoder_and_gradients_equal_the_published_ones(part: str) -> None:
    case, _ = part.split("/")
    dtype = DECODER.tensor(f"{part}/z").dtype
    loose, tight = (1e-10, 1e-10) if dtype == torch.float64 else (1e-4, 1e-5)
    decoder = decoder_of(case).to(dtype)
    fibers = DECODER.tensor(f"{case}/fibers").to(dtype)
    code = DECODER.tensor(f"{case}/condition").to(dtype)
    z, log_det = decoder(fibers, [code])
    q = log_likelihood(z, log_det)
    loss = fiber_loss(q)
    loss.mean().backward()
    DECODER.check(f"{part}/z", z, relative=loose)
    DECODER.check(f"{part}/log_jac_det", log_det, relative=loose)
    DECODER.check(f"{part}/logp", q * z.shape[1], relative=loose)
    DECODER.check(f"{part}/log_prob_per_dim", q, absolute=tight)
    DECODER.check(f"{part}/loss_per_fiber", loss, relative=tight)
    DECODER.check(f"{part}/loss_mean", loss.mean(), relative=tight)
    parameters = dict(decoder.named_parameters())
    for name in DECODER.below(f"{part}/grad"):
        DECODER.check(f"{part}/grad/{name}", parameters[name].grad, relative=loose)


@pytest.mark.parametrize("part", DECODER.cases("*/*/inverse_of_z"))
def test_reverse_pass_equals_the_published_one(part: str) -> None:
    case, _ = part.split("/")
    z = DECODER.tensor(f"{part}/z")
    decoder = decoder_of(case).to(z.dtype)
    x, log_det = decoder(z, [DECODER.tensor(f"{case}/condition").to(z.dtype)], rev=True)
    relative = 1e-6 if z.dtype == torch.float64 else 1e-4
    DECODER.check(f"{part}/inverse_of_z", x, relative=relative)
    DECODER.check(f"{part}/inverse_log_jac_det", log_det, relative=relative)


@pytest.mark.parametrize("case", DECODER.cases("*/fibers"))
def test_fused_decoder_equals_the_published_likelihood(case: str) -> None:
    fibers, code = DECODER.tensor(f"{case}/fibers"), DECODER.tensor(f"{case}/condition")
    clamp = DECODER.cfg(case).get("clamp", Cflow.clamp)
    fused = FusedDecoder(decoder_of(case), code, clamp, torch.float32)
    with torch.inference_mode():
        q = fused.log_likelihood(fibers[None])[0]
    DECODER.check(f"{case}/f32/log_prob_per_dim", q, absolute=1e-5)


@pytest.mark.parametrize("case", DECODER.cases("posenc/*/value"))
def test_position_code_equals_the_published_one(case: str) -> None:
    channels, height, width = (int(n) for n in DECODER[f"posenc/{case}/dhw"])
    code = position_code(channels, height, width)
    DECODER.check(f"posenc/{case}/value", code, absolute=2e-6)


def test_fresh_block_starts_with_unit_scale_and_a_rotation() -> None:
    channels = DECODER["fresh/global_scale"].shape[-1]
    generator = torch.Generator().manual_seed(3)
    block = make_decoder(channels, Cflow.condition, 1, Cflow.clamp, generator)[0]
    scale = 0.1 * torch.nn.functional.softplus(block.global_scale, beta=0.5)
    DECODER.check("fresh/global_scale", block.global_scale, relative=1e-6)
    DECODER.check("fresh/scale_activation", scale, relative=1e-6)
    turn = rotation(channels, generator).double()
    skew = (turn @ turn.T - torch.eye(channels)).abs().max()
    DECODER.check("fresh/w_perm_orthogonality_error", skew, absolute=1e-6)
    DECODER.check("fresh/w_perm_det", torch.linalg.det(turn), absolute=1e-6)


def test_score_maps_from_stored_likelihoods_equal_the_published_ones() -> None:
    cfg = DECODER.cfg("aggregate")
    levels = DECODER.sequence("aggregate/log_prob_per_dim", len(cfg["C"]))
    maxima = torch.stack([q.max() for q in levels])
    total = probability_map(levels, maxima, tuple(cfg["crp"]))
    maps = total.max() - total
    DECODER.check("aggregate/super_mask", maps, absolute=1e-9)
    DECODER.check("aggregate/image_score", maps.flatten(1).amax(1), absolute=1e-9)


def features_method() -> tuple[Cflow, Tensor]:
    """A method with aggregation "test" whose images pass straight to the golden decoders."""
    cfg = DECODER.cfg("aggregate")
    features = DECODER.sequence("aggregate/features", len(cfg["C"]))
    decoders = [
        decoder_from(DECODER, f"aggregate/decoder/{i}", c, cfg) for i, c in enumerate(cfg["C"])
    ]

    class Lookup(torch.nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            chosen = images[:, 0, 0, 0].long()
            return [x[chosen] for x in features]

    method = Cflow(
        levels=len(features),
        aggregation="test",
        condition=cfg["P"],
        couplings=cfg["blocks"],
        clamp=cfg.get("clamp", Cflow.clamp),
    )
    method.encoder = Lookup()
    # A limit so low that a level is decoded in several chunks.
    method._scorer = Scorer(method.encoder, decoders, cfg["P"], method.clamp, "float32", 0.02)
    count = len(features[0])
    return method, torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 3, *cfg["crp"])


def test_score_maps_from_features_equal_the_published_ones() -> None:
    method, images = features_method()
    with torch.inference_mode():
        raw = torch.cat([method.predict(part).maps for part in torch.split(images, 2)])
        levels = method.raw(images)
    maps = method.finish(Prediction(raw)).maps
    DECODER.check("aggregate/super_mask", maps, absolute=1e-4)
    DECODER.check_all("aggregate/log_prob_per_dim", levels, absolute=1e-5)


def test_areas_of_the_published_maps_equal_the_published_ones() -> None:
    scores, labels = DECODER["aggregate/image_score"], DECODER["aggregate/labels"]
    maps, masks = DECODER["aggregate/super_mask"], DECODER["aggregate/masks"]
    DECODER.check("aggregate/image_auroc", auroc(scores, labels), absolute=1e-12)
    DECODER.check("aggregate/pixel_auroc", auroc(maps.ravel(), masks.ravel()), absolute=1e-12)
    DECODER.check("aggregate/official_aupro_percent", aupro_percent(maps, masks), absolute=1e-9)


@pytest.mark.parametrize("case", DECODER.cases("aupro/*/value_percent"))
def test_the_published_aupro_is_that_of_the_published_code(case: str) -> None:
    found = aupro_percent(DECODER[f"aupro/{case}/super_mask"], DECODER["aupro/masks"])
    DECODER.check(f"aupro/{case}/value_percent", found, absolute=1e-9)


def aupro_percent(maps: Any, masks: Any) -> float:
    regions = [mask.astype(bool) if mask.any() else None for mask in masks]
    value = published_values(list(maps), regions, ["aupro_cflow"])["aupro_cflow"]
    assert value is not None
    return 100 * value


def golden_resnet(cfg: Mapping[str, Any], keys: list[str]) -> nn.Module:
    """timm's ResNet with the weights that the specification draws."""
    net: Any = timm.create_model(
        cfg["arch"], pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
    )
    state = net.state_dict()
    for n, key in enumerate(keys):
        shape = tuple(state[key].shape)
        z = np.random.RandomState(cfg["seed"] + n).standard_normal(shape)
        if len(shape) == 4:
            value = z * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith("running_var"):
            value = 1 + 0.2 * np.abs(z)
        elif key.endswith("weight"):
            value = 1 + 0.1 * z
        else:
            value = 0.1 * z
        state[key] = torch.from_numpy(value.astype(np.float32))
    net.load_state_dict(state)
    net.__dict__["strides"] = net.feature_info.reduction()
    return net.eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_encoder_equals_the_published_one(padding: str) -> None:
    keys = [str(key) for key in ENCODER["keys"]]
    net = golden_resnet(ENCODER.cfg(), keys)
    weights = [net.state_dict()[key].double() for key in keys]
    ENCODER.check("checksum_sum", torch.stack([w.sum() for w in weights]), absolute=1e-6)
    ENCODER.check("checksum_abs", torch.stack([w.abs().sum() for w in weights]), relative=1e-9)
    image = ENCODER.tensor("image")
    if padding == "reflect":
        reflect_padding(net, (image.shape[-2], image.shape[-1]))
    with torch.inference_mode():
        features = net(image)
    layers = ENCODER.names(f"{padding}/layer*")
    if not layers:
        ENCODER.skip(f"{padding}/layer*")
    for stage in layers:
        ENCODER.check(f"{padding}/layer{stage}", features[int(stage) - 1], relative=1e-4)


def schedule_of(cfg: Mapping[str, Any], meta_epochs: int) -> Schedule:
    """The schedule of a file's settings; what it does not name is the published default."""
    peak = cfg.get("lr", Cflow.lr)
    return Schedule(
        peak=peak,
        meta_epochs=meta_epochs,
        warmup_epochs=cfg.get("warm_epochs", Cflow.warmup_epochs),
        warmup_start=cfg["warmup_from"] / peak if "warmup_from" in cfg else Cflow.warmup_start,
        # The published floor is the decay of the steps that the cosine replaces, three times.
        floor=cfg["decay_rate"] ** 3 if "decay_rate" in cfg else Cflow.lr_floor,
    )


@pytest.mark.parametrize("case", SCHEDULE.cases("*/lr"))
def test_learning_rates_equal_the_published_ones(case: str) -> None:
    cfg = SCHEDULE.cfg(case)
    shape = (cfg["meta_epochs"], cfg["sub_epochs"], cfg["batches"])
    schedule = schedule_of(cfg, cfg["meta_epochs"])
    batches = cfg["sub_epochs"] * cfg["batches"]
    found = [
        schedule.rate(meta, batch, batches)
        for meta in range(cfg["meta_epochs"])
        for batch in range(batches)
    ]
    SCHEDULE.check(f"{case}/lr", np.reshape(found, shape), absolute=1e-12)


# What torch does with the gradients of the decoders that stand still -> our name of it.
STEPS = {"set_to_none": "own", "zero_fill": "all"}


@pytest.mark.parametrize("case", TRAIN.cases("*/loss_per_step"))
def test_training_steps_equal_the_published_ones(case: str) -> None:
    cfg = TRAIN.cfg()
    decoders = [decoder_from(TRAIN, f"init/{i}", c, cfg) for i, c in enumerate(cfg["C"])]
    features = TRAIN.sequence("features", len(decoders))
    order = iter(range(int(TRAIN["n_perm"])))
    trainer = Trainer(
        decoders,
        cfg["P"],
        cfg["N"],
        STEPS[case],
        permute=lambda n: TRAIN.tensor(f"perm/{next(order)}")[:n].long(),
    )
    images = TRAIN.tensor("image_index_per_batch").long()
    batches = cfg["sub"] * (cfg["n"] // cfg["bs"])
    schedule = schedule_of(cfg, cfg["epochs"])
    rates, losses = [], []
    for i, chosen in enumerate(images):
        rates.append(schedule.rate(i // batches, i % batches, batches))
        losses.append(trainer.update([x[chosen] for x in features], rates[-1]))
    TRAIN.check("lr_per_batch", rates, absolute=1e-12)
    TRAIN.check(f"{case}/loss_per_step", torch.cat(losses), relative=1e-5)
    for level, decoder in enumerate(decoders):
        parameters = dict(decoder.named_parameters())
        for name in TRAIN.below(f"{case}/final/{level}"):
            # Relative to the movement: most of a parameter is where it started.
            start = TRAIN.tensor(f"init/{level}/{name}")
            moved = parameters[name].detach() - start
            array = f"{case}/final/{level}/{name}"
            wanted = TRAIN.tensor(array) - start
            TRAIN.check(array, moved, wanted=wanted, relative=1e-3)
