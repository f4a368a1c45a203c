"""PyramidFlow against values recorded from the published code (section 14 of its description)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from bench.plugins.methods.pyramidflow import PyramidFlow
from bench.plugins.methods.pyramidflow.flow import FlowShape, PyramidFlowNet
from bench.plugins.methods.pyramidflow.folded import FoldedFlow
from bench.plugins.methods.pyramidflow.loss import anomaly_maps, fourier_loss, pair_differences
from bench.plugins.methods.pyramidflow.pyramid import compose, decompose
from bench.plugins.methods.pyramidflow.stem import BackboneStem, LinearStem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {
    "affineParams.conv.0.weight": "first",
    "affineParams.conv.2.weight": "last",
    "affineParams.norm.running_mean": "norm.running_mean",
    "conv1x1.w_l": "conv.lower",
    "conv1x1.w_u": "conv.upper",
    "conv1x1.w_s": "conv.log_diagonal",
    "conv1x1.s_sign": "conv.sign",
    "conv1x1.w_p": "conv.permutation",
}


def golden(name: str) -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / f"pyramidflow_{name}.npz") as file:
        return {key: file[key] for key in file.files}


def under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    """The entries below a prefix, without it."""
    return {
        key[len(prefix) :]: torch.from_numpy(np.asarray(value))
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


def ours(name: str) -> str:
    """Our name of a parameter of the published module."""
    number, rest = name.removeprefix("nf.moduleslst.").split(".", 1)
    return f"blocks.{number}.{NAMES[rest]}"


def make_flow(
    config: Mapping[str, Any], size: tuple[int, int], init: Mapping[str, Tensor], updates: int = 1
) -> PyramidFlowNet:
    shape = FlowShape(
        channels=config["channel"],
        levels=config["num_level"],
        stacks=config["num_stack"],
        kernel=config["ksize"],
        norm=config["vn"],
        size=size,
        updates=updates,
    )
    flow = PyramidFlowNet(shape, torch.Generator())
    fill(flow, init)
    return flow.train()


def fill(flow: PyramidFlowNet, init: Mapping[str, Tensor]) -> None:
    state = {ours(k): v for k, v in init.items() if k.startswith("nf.")}
    state = {k: v.argmax(1) if k.endswith("permutation") else v for k, v in state.items()}
    assert not flow.load_state_dict(state, strict=False).unexpected_keys


def _levels(arrays: Mapping[str, NDArray[Any]], prefix: str) -> list[Tensor]:
    found = under(arrays, prefix)
    return [found[str(i)] for i in range(len(found))]


def close(actual: list[Tensor] | Tensor, wanted: list[Tensor] | Tensor, atol: float) -> None:
    torch.testing.assert_close(actual, wanted, atol=atol, rtol=0)


def close_to_largest(actual: Tensor, wanted: Tensor, share: float) -> None:
    close(actual, wanted.to(actual.dtype), atol=share * float(wanted.abs().max()))


PYRAMIDS = [(case, "f32") for case in "abcd"] + [("a", "f64"), ("b", "f64")]


@pytest.mark.parametrize(("case", "precision"), PYRAMIDS)
def test_pyramid_is_that_of_the_published_code(case: str, precision: str) -> None:
    arrays = golden("pyramid")
    part = {k.removeprefix(f"{case}/{precision}/"): v for k, v in arrays.items()}
    image = torch.from_numpy(part["input"])
    bands = decompose(image, int(arrays[f"{case}/num_level"]))
    close(bands, _levels(part, "level/"), atol=1e-6)
    close(compose(bands), torch.from_numpy(part["recomposed"]), atol=1e-6)
    absolute = compose([band.abs() for band in bands])
    close(absolute, torch.from_numpy(part["composed_abs"]), atol=2e-6)


@dataclass
class Case:
    """One configuration of a flow file."""

    arrays: dict[str, NDArray[Any]]
    name: str

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(str(self.arrays[f"{self.name}/cfg"]))  # type: ignore[no-any-return]

    def get(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[f"{self.name}/{key}"]))

    def under(self, key: str) -> dict[str, Tensor]:
        return under(self.arrays, f"{self.name}/{key}")

    def levels(self, key: str) -> list[Tensor]:
        return _levels(self.arrays, f"{self.name}/{key}/")

    def flow(self, updates: int = 1) -> PyramidFlowNet:
        size = (self.config["H"], self.config["W"])
        return make_flow(self.config, size, self.under("init/"), updates)

    def stem(self) -> LinearStem:
        stem = LinearStem(self.config["channel"], torch.Generator())
        stem.load_state_dict({"weight": self.get("init/inconv.weight")})
        return stem

    def pyramid(self, key: str = "img") -> list[Tensor]:
        bands: list[Tensor] = decompose(self.stem()(self.get(key)), self.config["num_level"])
        return bands


CASES = [("flow_cvn", "a"), ("flow_cvn", "b"), ("flow_svn", "a"), ("flow_svn", "b")]


@pytest.fixture(params=CASES, ids=["-".join(c) for c in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    file, name = request.param
    return Case(golden(file), name)


def test_latents_and_log_determinants_in_training(case: Case) -> None:
    pyramid = case.pyramid()
    close(case.stem()(case.get("img")), case.get("feat"), atol=1e-6)
    close(pyramid, case.levels("pyr_in"), atol=1e-6)
    latents = case.flow()(pyramid)
    close(latents, case.levels("savemem_off/train/pyr_out"), atol=1e-5)
    close(case.flow().log_determinants(pyramid), case.levels("train/logdet"), atol=1e-5)
    close_to_largest(pair_differences(latents), case.get("train/diff_pixel"), 2e-6)


@pytest.mark.parametrize("mode", ["savemem_off", "savemem_on"])
def test_loss_gradients_and_running_means(case: Case, mode: str) -> None:
    saving = mode == "savemem_on"
    flow = case.flow(updates=3 if saving else 1)
    loss = fourier_loss(pair_differences(flow(case.pyramid(), save_memory=saving)))
    loss.backward()
    assert loss.item() == pytest.approx(case.get(f"{mode}/train/loss").item(), rel=1e-5)
    parameters = dict(flow.named_parameters())
    for name, wanted in case.under(f"{mode}/train/grad/").items():
        grad = parameters[ours(name)].grad
        assert grad is not None
        close_to_largest(grad, wanted, 1e-4)
    norm = nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
    assert norm.item() == pytest.approx(case.get(f"{mode}/train/grad_norm_total").item(), rel=1e-4)
    buffers = dict(flow.named_buffers())
    for name, wanted in case.under(f"{mode}/running_mean_after_1_step/").items():
        close(buffers[ours(name)], wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["savemem_off", "savemem_on"])
def test_latents_in_evaluation(case: Case, mode: str) -> None:
    flow = case.flow()
    fill(flow, case.under(f"{mode}/running_mean_after_1_step/"))
    pyramid = case.pyramid("img_eval")
    for latents in (flow.eval()(pyramid), FoldedFlow(flow)(pyramid)):
        close(latents, case.levels(f"{mode}/eval/pyr_out"), atol=1e-5)


def test_inverse_recovers_pyramid_and_picture(case: Case) -> None:
    flow = case.flow().eval()
    fill(flow, case.under("savemem_on/running_mean_after_1_step/"))
    sums = flow.log_determinants(case.pyramid("img_eval"))
    close(sums, case.levels("savemem_on/eval/logdet"), atol=1e-5)
    # The recorded sums start at zero and go down.
    close([-s for s in sums], case.levels("savemem_on/eval/inverse_logdet"), atol=2e-5)
    recovered = flow.inverse(case.levels("savemem_on/eval/pyr_out"))
    close(recovered, case.levels("savemem_on/eval/inverse_pyr"), atol=1e-4)
    picture = case.stem().invert(compose(recovered))
    close(picture, case.get("savemem_on/eval/inverse_img"), atol=1e-4)
    close(picture, case.get("img_eval"), atol=1e-4)


def test_loss_and_gradients_in_float64(case: Case) -> None:
    flow = case.flow().double()
    stem = case.stem().double()
    pyramid = decompose(stem(case.get("img").double()), case.config["num_level"])
    latents = flow(pyramid, save_memory=True)
    loss = fourier_loss(pair_differences(latents))
    loss.backward()
    assert loss.item() == pytest.approx(case.get("f64/train/loss").item(), rel=1e-10)
    for level, wanted in enumerate(case.levels("f64/train/pyr_out_sum_abssum")):
        z = latents[level].detach()
        close(torch.stack([z.sum(), z.abs().sum()]), wanted, atol=1e-9)
    parameters = dict(flow.named_parameters())
    for name, wanted in case.under("f64/train/grad/").items():
        grad = parameters[ours(name)].grad
        assert grad is not None
        close_to_largest(grad, wanted, 1e-9)
    norm = nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
    assert norm.item() == pytest.approx(case.get("f64/train/grad_norm_total").item(), rel=1e-9)


def test_stem_adapts_its_batch_norms_as_published() -> None:
    arrays = golden("stem")
    net = timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1,))
    top = {"0": "conv1", "1": "bn1"}
    state = {}
    for name, value in under(arrays, "init/").items():
        head, rest = name.split(".", 1)
        state[f"{top[head]}.{rest}" if head in top else f"layer1.{rest}"] = value
    net.load_state_dict(state)
    stem = BackboneStem(_FirstStage(net), adapt=True)
    images = torch.from_numpy(arrays["img"])
    for mode, key in [(False, "eval_before"), (True, "train"), (False, "eval_after")]:
        close(stem.train(mode)(images), torch.from_numpy(arrays[f"{key}/feat"]), atol=1e-5)
    after = under(arrays, "after_1_train_forward/")
    close(net.state_dict()["bn1.running_mean"], after["1.running_mean"], atol=1e-6)
    close(net.state_dict()["layer1.1.bn2.running_var"], after["4.1.bn2.running_var"], atol=1e-5)


class _FirstStage(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.channels, self.strides = net, [64], [4]

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.net(images))


RUNS = ["cvn_savemem_on", "cvn_savemem_off", "svn_savemem_on", "svn_savemem_off"]


@pytest.mark.parametrize("saving", [True, False])
@pytest.mark.parametrize("run", RUNS)
def test_five_training_steps_end_where_the_published_ones_do(
    run: str, saving: bool, make_run: Any
) -> None:
    arrays = golden("train")
    config = json.loads(str(arrays[f"{run}/cfg"]))
    start = str(arrays.get(f"{run}/init_same_as", np.asarray(run)))
    images = torch.from_numpy(arrays["imgs"])
    method = PyramidFlow(
        channels=config["channel"],
        levels=config["num_level"],
        stacks=config["num_stack"],
        kernel=config["ksize"],
        volume_norm=config["vn"],
        save_memory=saving,
        # What the published engine does follows from its memory saving; ours does not.
        running_mean_updates=3 if config["savemem"] else 1,
    )
    method.prepare(make_run((32, 32)))
    init = under(arrays, f"{start}/init/")
    fill(method.flow, init)
    method.encoder.load_state_dict({"weight": init["inconv.weight"]})
    method.training_mode(True)
    optimiser = method.optimiser()
    for step, batch in enumerate(arrays[f"{run}/batch_order"]):
        loss, norm = method.step(images[torch.from_numpy(batch)], optimiser, step)
        assert loss == pytest.approx(float(arrays[f"{run}/loss"][step]), rel=1e-5)
        assert norm == pytest.approx(float(arrays[f"{run}/grad_norm_before_clip"][step]), rel=1e-4)
    final = method.flow.state_dict()
    for name, wanted in under(arrays, f"{run}/final/nf.").items():
        close(final[ours(f"nf.{name}")], wanted, atol=1e-5)


def test_template_maps_and_scores(make_run: Any, make_images: Any) -> None:
    arrays = golden("score")
    config = json.loads(str(arrays["cfg"]))
    method = PyramidFlow(
        channels=config["channel"],
        levels=config["num_level"],
        stacks=config["num_stack"],
        kernel=config["ksize"],
        volume_norm=config["vn"],
    )
    method.prepare(make_run((32, 32)))
    state = under(arrays, "state/")
    fill(method.flow, state)
    method.encoder.load_state_dict({"weight": state["inconv.weight"]})
    method.remember(make_images(torch.from_numpy(arrays["template_images"])))
    tests = torch.from_numpy(arrays["test_images"])
    prediction = method.predict(tests)
    close(method.template.levels(), _levels(arrays, "template/"), atol=1e-5)
    close(method.latents(tests), _levels(arrays, "test_latent/"), atol=1e-5)
    close(prediction.maps, torch.from_numpy(arrays["amaps"]), atol=1e-5)
    wanted = torch.from_numpy(arrays["image_score"])
    close(prediction.maps.flatten(1).max(1).values, wanted, atol=1e-5)
    close(
        anomaly_maps(_levels(arrays, "test_latent/"), _levels(arrays, "template/")),
        torch.from_numpy(arrays["amaps"]),
        atol=1e-5,
    )
