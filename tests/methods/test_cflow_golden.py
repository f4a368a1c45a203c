"""CFLOW against arrays computed by the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch

from bench.blocks.position import position_code
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

GOLDEN = Path(__file__).parents[1] / "golden"
Arrays = dict[str, Any]


def load(name: str) -> Arrays:
    with np.load(GOLDEN / f"cflow_{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return load("decoder")


@pytest.fixture(scope="module")
def trained() -> Arrays:
    return load("train")


def config(arrays: Mapping[str, Any], name: str = "cfg") -> dict[str, Any]:
    return dict(json.loads(str(arrays[name])))


def tensors(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    return {
        k[len(prefix) :]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)
    }


def decoder_from(state: Mapping[str, Tensor], channels: int, cfg: Mapping[str, Any]) -> Any:
    generator = torch.Generator().manual_seed(0)
    decoder = make_decoder(channels, cfg["P"], cfg["blocks"], cfg.get("clamp", 1.9), generator)
    decoder.load_state_dict(dict(state))
    return decoder


def assert_close(got: Tensor, want: Any, relative: float) -> None:
    """Largest difference relative to the largest entry of `want`."""
    want = torch.as_tensor(want)
    error = float((got.detach().double() - want.double()).abs().max() / want.double().abs().max())
    assert error <= relative, f"relative error {error:.2e}"


@pytest.mark.parametrize(("kind", "dtype"), [("f32", torch.float32), ("f64", torch.float64)])
@pytest.mark.parametrize("case", ["a", "b"])
def test_decoder_and_gradients_equal_the_published_ones(
    golden: Arrays, case: str, kind: str, dtype: torch.dtype
) -> None:
    cfg = config(golden, f"{case}/cfg")
    decoder = decoder_from(tensors(golden, f"{case}/init/"), cfg["C"], cfg).to(dtype)
    fibers = torch.from_numpy(golden[f"{case}/fibers"]).to(dtype)
    code = torch.from_numpy(golden[f"{case}/condition"]).to(dtype)
    z, log_det = decoder(fibers, [code])
    q = log_likelihood(z, log_det)
    loss = fiber_loss(q)
    loss.mean().backward()
    tight = dtype == torch.float64
    want = {k: golden[f"{case}/{kind}/{k}"] for k in ("z", "log_jac_det", "log_prob_per_dim")}
    assert_close(z, want["z"], 1e-10 if tight else 1e-4)
    assert_close(log_det, want["log_jac_det"], 1e-10 if tight else 1e-4)
    np.testing.assert_allclose(
        q.detach(), want["log_prob_per_dim"], rtol=0, atol=1e-10 if tight else 1e-5
    )
    assert_close(loss, golden[f"{case}/{kind}/loss_per_fiber"], 1e-10 if tight else 1e-5)
    parameters = dict(decoder.named_parameters())
    gradients = tensors(golden, f"{case}/{kind}/grad/")
    assert gradients
    for name, gradient in gradients.items():
        assert_close(parameters[name].grad, gradient, 1e-10 if tight else 1e-4)


@pytest.mark.parametrize("case", ["a", "b"])
def test_reverse_pass_equals_the_published_one(golden: Arrays, case: str) -> None:
    cfg = config(golden, f"{case}/cfg")
    decoder = decoder_from(tensors(golden, f"{case}/init/"), cfg["C"], cfg).double()
    code = torch.from_numpy(golden[f"{case}/condition"]).double()
    z = torch.from_numpy(golden[f"{case}/f64/z"])
    x, log_det = decoder(z, [code], rev=True)
    assert_close(x, golden[f"{case}/f64/inverse_of_z"], 1e-6)
    assert_close(log_det, golden[f"{case}/f64/inverse_log_jac_det"], 1e-6)


@pytest.mark.parametrize("case", ["a", "b"])
def test_fused_decoder_equals_the_published_likelihood(golden: Arrays, case: str) -> None:
    cfg = config(golden, f"{case}/cfg")
    decoder = decoder_from(tensors(golden, f"{case}/init/"), cfg["C"], cfg)
    fibers = torch.from_numpy(golden[f"{case}/fibers"])
    code = torch.from_numpy(golden[f"{case}/condition"])
    fused = FusedDecoder(decoder, code, cfg["clamp"], torch.float32)
    with torch.inference_mode():
        q = fused.log_likelihood(fibers[None])[0]
    np.testing.assert_allclose(q, golden[f"{case}/f32/log_prob_per_dim"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["0", "1"])
def test_position_code_equals_the_published_one(golden: Arrays, case: str) -> None:
    channels, height, width = (int(n) for n in golden[f"posenc/{case}/dhw"])
    code = position_code(channels, height, width)
    np.testing.assert_allclose(code, golden[f"posenc/{case}/value"], rtol=0, atol=2e-6)


def test_fresh_block_starts_with_unit_scale_and_a_rotation(golden: Arrays) -> None:
    generator = torch.Generator().manual_seed(3)
    block = make_decoder(6, 8, 1, 1.9, generator)[0]
    np.testing.assert_allclose(block.global_scale.detach(), golden["fresh/global_scale"], rtol=1e-6)
    turn = rotation(6, generator).double()
    assert (turn @ turn.T - torch.eye(6)).abs().max() < 1e-6
    assert torch.linalg.det(turn).item() == pytest.approx(1, abs=1e-6)


def test_score_maps_from_stored_likelihoods_equal_the_published_ones(golden: Arrays) -> None:
    cfg = config(golden, "aggregate/cfg")
    levels = [torch.from_numpy(golden[f"aggregate/log_prob_per_dim/{i}"]) for i in range(3)]
    maxima = torch.stack([q.max() for q in levels])
    total = probability_map(levels, maxima, tuple(cfg["crp"]))
    maps = total.max() - total
    np.testing.assert_allclose(maps, golden["aggregate/super_mask"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        maps.flatten(1).amax(1), golden["aggregate/image_score"], rtol=0, atol=1e-9
    )


def features_method(golden: Arrays) -> Cflow:
    """A method with aggregation "test" whose images pass straight to the golden decoders."""
    cfg = config(golden, "aggregate/cfg")
    method = Cflow(aggregation="test", condition=cfg["P"], couplings=cfg["blocks"])
    decoders = [
        decoder_from(tensors(golden, f"aggregate/decoder/{i}/"), c, cfg)
        for i, c in enumerate(cfg["C"])
    ]
    features = [torch.from_numpy(golden[f"aggregate/features/{i}"]) for i in range(3)]

    class Lookup(torch.nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            chosen = images[:, 0, 0, 0].long()
            return [x[chosen] for x in features]

    method.encoder = Lookup()
    method._scorer = Scorer(method.encoder, decoders, cfg["P"], 1.9, "float32", 0.02)
    return method


def test_score_maps_from_features_equal_the_published_ones(golden: Arrays) -> None:
    from bench.api import Prediction

    method = features_method(golden)
    height, width = config(golden, "aggregate/cfg")["crp"]
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, height, width)
    with torch.inference_mode():
        raw = torch.cat([method.predict(part).maps for part in torch.split(images, 2)])
    result = method.finish(Prediction(raw))
    np.testing.assert_allclose(result.maps, golden["aggregate/super_mask"], rtol=0, atol=1e-4)
    with torch.inference_mode():
        levels = method.raw(images)
    for i, q in enumerate(levels):
        np.testing.assert_allclose(q, golden[f"aggregate/log_prob_per_dim/{i}"], rtol=0, atol=1e-5)


def golden_resnet(cfg: Mapping[str, Any], keys: list[str]) -> nn.Module:
    """timm's ResNet18 with the weights that the specification draws."""
    net: nn.Module = timm.create_model(
        "resnet18", pretrained=False, features_only=True, out_indices=(2, 3, 4)
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
    net.__dict__["strides"] = [8, 16, 32]
    return net.eval()


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_encoder_equals_the_published_one(padding: str) -> None:
    arrays = load("encoder")
    net = golden_resnet(config(arrays), [str(key) for key in arrays["keys"]])
    if padding == "reflect":
        reflect_padding(net, (64, 64))
    with torch.inference_mode():
        features = net(torch.from_numpy(arrays["image"]))
    for stage, x in zip((2, 3, 4), features, strict=True):
        assert_close(x, arrays[f"{padding}/layer{stage}"], 1e-4)


@pytest.mark.parametrize("case", ["default", "long_loader"])
def test_learning_rates_equal_the_published_ones(case: str) -> None:
    arrays = load("schedule")
    want = arrays[f"{case}/lr"]
    meta_epochs, sub_epochs, loader = want.shape
    schedule = Schedule(2e-4, meta_epochs, 2, 0.1, 1e-3)
    batches = sub_epochs * loader
    got = [[schedule.rate(m, b, batches) for b in range(batches)] for m in range(meta_epochs)]
    np.testing.assert_allclose(np.reshape(got, want.shape), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("steps", "case"), [("own", "set_to_none"), ("all", "zero_fill")])
def test_training_steps_equal_the_published_ones(trained: Arrays, steps: str, case: str) -> None:
    cfg = config(trained)
    decoders = [
        decoder_from(tensors(trained, f"init/{i}/"), c, cfg) for i, c in enumerate(cfg["C"])
    ]
    features = [torch.from_numpy(trained[f"features/{i}"]) for i in range(3)]
    order = iter(range(int(trained["n_perm"])))
    trainer = Trainer(
        decoders,
        cfg["P"],
        cfg["N"],
        steps,
        permute=lambda n: torch.from_numpy(trained[f"perm/{next(order)}"][:n]).long(),
    )
    losses = []
    batches = len(trained["lr_per_batch"]) // 2
    schedule = Schedule(2e-4, cfg["epochs"], 2, 0.1, 1e-3)
    for i, images in enumerate(trained["image_index_per_batch"]):
        rate = schedule.rate(i // batches, i % batches, batches)
        assert rate == pytest.approx(float(trained["lr_per_batch"][i]), abs=1e-12)
        losses.append(trainer.update([x[torch.from_numpy(images).long()] for x in features], rate))
    assert_close(torch.cat(losses), trained[f"{case}/loss_per_step"], 1e-5)
    for level, decoder in enumerate(decoders):
        parameters = dict(decoder.named_parameters())
        for name, want in tensors(trained, f"{case}/final/{level}/").items():
            start = torch.from_numpy(trained[f"init/{level}/{name}"])
            movement = (want - start).abs().max()
            error = (parameters[name].detach() - want).abs().max()
            assert error <= 1e-3 * movement, f"level {level} {name}: {error / movement:.1e}"
