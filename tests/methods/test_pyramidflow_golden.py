"""PyramidFlow against values recorded from the published code (section 14 of its description)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from torch import Tensor, nn

from bench.evaluate import auroc
from bench.evaluate.published import published_values
from bench.plugins.methods.pyramidflow import PyramidFlow
from bench.plugins.methods.pyramidflow.flow import FlowShape, PyramidFlowNet
from bench.plugins.methods.pyramidflow.folded import FoldedFlow
from bench.plugins.methods.pyramidflow.loss import anomaly_maps, fourier_loss, pair_differences
from bench.plugins.methods.pyramidflow.pyramid import compose, decompose
from bench.plugins.methods.pyramidflow.stem import BackboneStem, LinearStem
from tests.golden_files import GoldenFile, cases_of, golden

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOWS = [golden("pyramidflow_flow_cvn"), golden("pyramidflow_flow_svn")]
PYRAMID = golden("pyramidflow_pyramid")
SCORE = golden("pyramidflow_score")
STEM = golden("pyramidflow_stem")
TRAIN = golden("pyramidflow_train")

# Names of a block's entries in the published module -> ours.
LEARNED = {
    "affineParams.conv.0.weight": "first",
    "affineParams.conv.2.weight": "last",
    "conv1x1.w_l": "conv.lower",
    "conv1x1.w_u": "conv.upper",
    "conv1x1.w_s": "conv.log_diagonal",
    "conv1x1.s_sign": "conv.sign",
    "conv1x1.w_p": "conv.permutation",
}
MEAN = {"affineParams.norm.running_mean": "norm.running_mean"}
MASKS = ("conv1x1.u_mask", "conv1x1.l_mask", "conv1x1.l_eye")


def ours(name: str) -> str:
    """Our name of an entry of the published module."""
    number, rest = name.removeprefix("nf.moduleslst.").split(".", 1)
    return f"blocks.{number}.{(LEARNED | MEAN)[rest]}"


def make_flow(
    file: GoldenFile, state: str, config: Mapping[str, Any], size: tuple[int, int], updates: int = 1
) -> PyramidFlowNet:
    """A flow with the state below this name."""
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
    fill(flow, file, state, LEARNED)
    return flow.train()


def fill(flow: PyramidFlowNet, file: GoldenFile, state: str, needed: Mapping[str, str]) -> None:
    """Load what stands below this name; `needed` entries must be there for each block."""
    wanted = [f"nf.moduleslst.{i}.{name}" for i in range(len(flow.blocks)) for name in needed]
    entries = file.tensors(state, wanted).items()
    loaded = {ours(k): v for k, v in entries if k.startswith("nf.") and not k.endswith(MASKS)}
    loaded = {k: v.argmax(1) if k.endswith("permutation") else v for k, v in loaded.items()}
    own = flow.state_dict()
    for name in [k for k in loaded if k.endswith("running_mean")]:
        # A fresh published norm has one value for all pixels and channels.
        loaded[name] = loaded[name].expand_as(own[name])
    assert not flow.load_state_dict(loaded, strict=False).unexpected_keys


@pytest.mark.parametrize("part", PYRAMID.cases("*/*/input"))
def test_pyramid_is_that_of_the_published_code(part: str) -> None:
    case, _ = part.split("/")
    bands = decompose(PYRAMID.tensor(f"{part}/input"), int(PYRAMID[f"{case}/num_level"]))
    PYRAMID.check_all(f"{part}/level", bands, absolute=1e-6)
    PYRAMID.check(f"{part}/recomposed", compose(bands), absolute=1e-6)
    composed = compose([band.abs() for band in bands])
    PYRAMID.check(f"{part}/composed_abs", composed, absolute=2e-6)


@dataclass
class Case:
    """One configuration of a flow file."""

    file: GoldenFile
    name: str

    @property
    def config(self) -> dict[str, Any]:
        return self.file.cfg(self.name)

    def get(self, key: str) -> Tensor:
        return self.file.tensor(f"{self.name}/{key}")

    def below(self, key: str) -> list[str]:
        return self.file.below(f"{self.name}/{key}")

    def levels(self, key: str) -> list[Tensor]:
        return self.file.sequence(f"{self.name}/{key}", self.config["num_level"])

    def check(self, key: str, found: Any, **tolerance: float) -> None:
        self.file.check(f"{self.name}/{key}", found, **tolerance)

    def check_levels(self, key: str, found: list[Tensor], **tolerance: float) -> None:
        self.file.check_all(f"{self.name}/{key}", found, **tolerance)

    def flow(self, updates: int = 1) -> PyramidFlowNet:
        size = (self.config["H"], self.config["W"])
        return make_flow(self.file, f"{self.name}/init", self.config, size, updates)

    def fill_means(self, flow: PyramidFlowNet, mode: str) -> None:
        fill(flow, self.file, f"{self.name}/{mode}/running_mean_after_1_step", MEAN)

    def stem(self) -> LinearStem:
        stem = LinearStem(self.config["channel"], torch.Generator())
        stem.load_state_dict({"weight": self.get("init/inconv.weight")})
        return stem

    def pyramid(self, key: str = "img") -> list[Tensor]:
        bands: list[Tensor] = decompose(self.stem()(self.get(key)), self.config["num_level"])
        return bands

    def check_gradients(self, key: str, flow: PyramidFlowNet, relative: float) -> None:
        parameters = dict(flow.named_parameters())
        for name in self.below(f"{key}/grad"):
            self.check(f"{key}/grad/{name}", parameters[ours(name)].grad, relative=relative)
        # Clips in place, so it comes last.
        norm = nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        self.check(f"{key}/grad_norm_total", norm, relative=relative)


@pytest.fixture
def case(file: GoldenFile, name: str) -> Case:
    return Case(file, name)


of_each_flow = pytest.mark.parametrize(("file", "name"), cases_of(FLOWS))


@of_each_flow
def test_latents_and_log_determinants_in_training(case: Case) -> None:
    pyramid = case.pyramid()
    case.check("feat", case.stem()(case.get("img")), absolute=1e-6)
    case.check_levels("pyr_in", pyramid, absolute=1e-6)
    latents = case.flow()(pyramid)
    case.check_levels("savemem_off/train/pyr_out", latents, absolute=1e-5)
    case.check_levels("train/logdet", case.flow().log_determinants(pyramid), absolute=1e-5)
    case.check("train/diff_pixel", pair_differences(latents), relative=2e-6)


@of_each_flow
@pytest.mark.parametrize("mode", ["savemem_off", "savemem_on"])
def test_loss_gradients_and_running_means(case: Case, mode: str) -> None:
    saving = mode == "savemem_on"
    flow = case.flow(updates=3 if saving else 1)
    loss = fourier_loss(pair_differences(flow(case.pyramid(), save_memory=saving)))
    loss.backward()
    case.check(f"{mode}/train/loss", loss, relative=1e-5)
    buffers = dict(flow.named_buffers())
    for name in case.below(f"{mode}/running_mean_after_1_step"):
        key = f"{mode}/running_mean_after_1_step/{name}"
        case.check(key, buffers[ours(name)], absolute=1e-6)
    case.check_gradients(f"{mode}/train", flow, relative=1e-4)


@of_each_flow
@pytest.mark.parametrize("mode", ["savemem_off", "savemem_on"])
def test_latents_in_evaluation(case: Case, mode: str) -> None:
    flow = case.flow()
    case.fill_means(flow, mode)
    pyramid = case.pyramid("img_eval")
    for latents in (flow.eval()(pyramid), FoldedFlow(flow)(pyramid)):
        case.check_levels(f"{mode}/eval/pyr_out", latents, absolute=1e-5)


@of_each_flow
def test_inverse_recovers_pyramid_and_picture(case: Case) -> None:
    flow = case.flow().eval()
    case.fill_means(flow, "savemem_on")
    sums = flow.log_determinants(case.pyramid("img_eval"))
    case.check_levels("savemem_on/eval/logdet", sums, absolute=1e-5)
    # The recorded sums start at zero and go down.
    case.check_levels("savemem_on/eval/inverse_logdet", [-s for s in sums], absolute=2e-5)
    recovered = flow.inverse(case.levels("savemem_on/eval/pyr_out"))
    case.check_levels("savemem_on/eval/inverse_pyr", recovered, absolute=1e-4)
    picture = case.stem().invert(compose(recovered))
    case.check("savemem_on/eval/inverse_img", picture, absolute=1e-4)
    case.check("img_eval", picture, absolute=1e-4)


@of_each_flow
def test_loss_and_gradients_in_float64(case: Case) -> None:
    flow = case.flow().double()
    pyramid = decompose(case.stem().double()(case.get("img").double()), case.config["num_level"])
    latents = flow(pyramid, save_memory=True)
    loss = fourier_loss(pair_differences(latents))
    loss.backward()
    case.check("f64/train/loss", loss, relative=1e-10)
    sums = [torch.stack([z.detach().sum(), z.detach().abs().sum()]) for z in latents]
    case.check_levels("f64/train/pyr_out_sum_abssum", sums, relative=1e-12)
    case.check_gradients("f64/train", flow, relative=1e-9)


class FirstStage(nn.Module):
    """timm's network up to the first stage, with the state of the published stem."""

    TOP = ("conv1", "bn1")

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.net: Any = timm.create_model(
            f"resnet{depth}", pretrained=False, features_only=True, out_indices=(1,)
        )
        info: Any = self.net.feature_info
        self.channels = info.channels()
        self.strides = info.reduction()
        names = {self.published(name): name for name in self.net.state_dict()}
        state = STEM.tensors("init", names)
        self.net.load_state_dict({ours: state[theirs] for theirs, ours in names.items()})

    def published(self, name: str) -> str:
        """The published name of an entry: a plain sequence of convolution, norm, ..., stage 1."""
        head, rest = name.split(".", 1)
        return f"{self.TOP.index(head)}.{rest}" if head in self.TOP else f"4.{rest}"

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.net(images))


def test_stem_adapts_its_batch_norms_as_published() -> None:
    first = FirstStage(STEM.cfg()["resnet"])
    stem = BackboneStem(first, adapt=True)
    images = STEM.tensor("img")
    for mode, key in [(False, "eval_before"), (True, "train"), (False, "eval_after")]:
        STEM.check(f"{key}/feat", stem.train(mode)(images), relative=1e-5)
    for name, value in first.net.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            array = f"after_1_train_forward/{first.published(name)}"
            STEM.check(array, value, absolute=1e-6 if name.endswith("mean") else 1e-5)


def method_of(config: Mapping[str, Any], **fields: Any) -> PyramidFlow:
    return PyramidFlow(
        channels=config["channel"],
        levels=config["num_level"],
        stacks=config["num_stack"],
        kernel=config["ksize"],
        volume_norm=config["vn"],
        **fields,
    )


def fill_method(method: PyramidFlow, file: GoldenFile, state: str) -> None:
    fill(method.flow, file, state, LEARNED)
    method.encoder.load_state_dict({"weight": file.tensor(f"{state}/inconv.weight")})


@pytest.mark.parametrize("saving", [True, False])
@pytest.mark.parametrize("run", TRAIN.cases("*/cfg"))
def test_training_steps_end_where_the_published_ones_do(
    run: str, saving: bool, make_run: Any
) -> None:
    config, images = TRAIN.cfg(run), TRAIN.tensor("imgs")
    same = f"{run}/init_same_as"
    start = str(TRAIN[same]) if same in TRAIN else run
    # What the published engine does follows from its memory saving; ours does not.
    updates = 3 if config["savemem"] else 1
    method = method_of(
        config, batch=config["batch"], save_memory=saving, running_mean_updates=updates
    )
    method.prepare(make_run((images.shape[-2], images.shape[-1])))
    fill_method(method, TRAIN, f"{start}/init")
    method.training_mode(True)
    optimiser = method.optimiser()
    steps = [
        method.step(images[chosen.long()], optimiser, f"step {step}")
        for step, chosen in enumerate(TRAIN.tensor(f"{run}/batch_order"))
    ]
    losses, norms = zip(*steps, strict=True)
    TRAIN.check(f"{run}/loss", losses, relative=1e-5)
    TRAIN.check(f"{run}/grad_norm_before_clip", norms, relative=1e-4)
    final = method.flow.state_dict()
    for name in TRAIN.below(f"{run}/final"):
        if name.startswith("nf.") and not name.endswith(MASKS):
            TRAIN.check(f"{run}/final/{name}", final[ours(name)], absolute=1e-5)


def test_template_maps_and_scores(make_run: Any, make_images: Any) -> None:
    tests = SCORE.tensor("test_images")
    method = method_of(SCORE.cfg())
    method.prepare(make_run((tests.shape[-2], tests.shape[-1])))
    fill(method.flow, SCORE, "state", MEAN)
    fill_method(method, SCORE, "state")
    method.remember(make_images(SCORE.tensor("template_images")))
    maps = method.predict(tests).maps
    SCORE.check_all("template", method.template.levels(), absolute=1e-5)
    SCORE.check_all("test_latent", method.latents(tests), absolute=1e-5)
    SCORE.check("amaps", maps, absolute=1e-5)
    SCORE.check("image_score", maps.flatten(1).max(1).values, absolute=1e-5)


def test_maps_of_stored_latents_are_the_published_ones() -> None:
    levels = SCORE.cfg()["num_level"]
    latents, template = (SCORE.sequence(key, levels) for key in ("test_latent", "template"))
    SCORE.check("amaps", anomaly_maps(latents, template), absolute=1e-5)


def test_areas_of_the_published_maps_equal_the_published_ones() -> None:
    maps, scores = SCORE["amaps"], SCORE["image_score"]
    pixels = SCORE["labels_binarised"]
    SCORE.check("image_auroc", auroc(scores, pixels.any((1, 2))), absolute=1e-12)
    SCORE.check("pixel_auroc", auroc(maps.ravel(), pixels.ravel()), absolute=1e-12)
    SCORE.check("official_aupro_full_range", published_aupro(maps, pixels), absolute=1e-7)


@pytest.mark.parametrize("case", SCORE.cases("aupro/*/value"))
def test_the_published_aupro_is_that_of_the_published_code(case: str) -> None:
    maps, masks = SCORE[f"aupro/{case}/amaps"], SCORE["aupro/masks"]
    found = published_aupro(maps, masks.reshape(maps.shape) > 0)
    SCORE.check(f"aupro/{case}/value", found, absolute=1e-7)


def published_aupro(maps: Any, masks: Any) -> float | None:
    regions = [mask if mask.any() else None for mask in masks]
    return published_values(list(maps), regions, ["aupro_pyramidflow"])["aupro_pyramidflow"]
