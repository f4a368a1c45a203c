"""DFR against arrays computed by the published code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import Sample
from bench.evaluate import evaluate
from bench.files.masks import load_masks
from bench.files.tensors import ImageSet
from bench.plugins.methods.dfr import DFR
from bench.plugins.methods.dfr.autoencoder import Autoencoder, Trainer, energy, latent_dimension
from bench.plugins.methods.dfr.regional import Aggregation, Taps
from bench.settings.protocol import PROTOCOLS
from tests.golden_files import golden

if TYPE_CHECKING:
    from pathlib import Path

    from bench.api import Prediction

GOLDEN = golden("dfr")
TRAINED = GOLDEN.cases("*/batches")
NORM_STATE = ("running_mean", "running_var", "num_batches_tracked")
FRESH = "fresh_init_torch_seed0"


@pytest.fixture(scope="module")
def vgg() -> nn.Sequential:
    """The features of a VGG19 with weights by the file's recipe."""
    layers: list[nn.Module] = []
    width = 3
    for count, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
            width = channels
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential(*layers).requires_grad_(False)
    cfg = GOLDEN.cfg("extractor")
    for number, name in enumerate(cfg["keys"]):
        weight = net.state_dict()[name]
        drawn = np.random.RandomState(cfg["seed"] + number).standard_normal(weight.shape)
        scale = 0.1 if weight.ndim == 1 else np.sqrt(2 / np.prod(weight.shape[1:]))
        weight.copy_(torch.from_numpy((drawn * scale).astype(np.float32)))
    return net


def aggregation(cfg: dict[str, Any]) -> Aggregation:
    size, kernel, stride = (tuple(cfg[key]) for key in ("featmap_size", "kernel", "stride"))
    return Aggregation(size, kernel, stride, cfg.get("upsample", DFR.upsample))


def test_the_weights_are_those_of_the_file(vgg: nn.Sequential) -> None:
    weights = [vgg.state_dict()[name].double() for name in GOLDEN.cfg("extractor")["keys"]]
    sums = torch.stack([torch.stack([w.sum(), w.abs().sum()]) for w in weights])
    GOLDEN.check("extractor/checksum_sum_abs", sums, relative=1e-9)


def test_each_layer_has_the_published_padded_size_and_values(vgg: nn.Sequential) -> None:
    prefix = "extractor/layer_first3channels"
    taps = Taps(vgg, list(GOLDEN.tensors(prefix)), "reflect")
    for name, found in taps(GOLDEN.tensor("extractor/image")).items():
        # Of the layer's largest value: the file holds three of its channels.
        allowed = 1e-5 * float(found.abs().max())
        GOLDEN.check(f"{prefix}/{name}", found[0, :3], absolute=allowed)


def test_regional_features_match(vgg: nn.Sequential) -> None:
    cfg = GOLDEN.cfg("extractor")
    taps = Taps(vgg, cfg["layers"], "reflect")
    found = taps(GOLDEN.tensor("extractor/image"))
    features = aggregation(cfg)([found[name] for name in taps.names])
    GOLDEN.check("extractor/features_every_third_channel", features[:, ::3], relative=1e-5)
    sums = features.double().sum((0, 2, 3))
    GOLDEN.check("extractor/features_sum_by_channel_float64", sums, relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("aggregate/*/cfg"))
def test_stretching_and_averaging_match(case: str) -> None:
    found = aggregation(GOLDEN.cfg(f"aggregate/{case}"))
    maps = list(GOLDEN.tensors("aggregate/maps").values())
    GOLDEN.check(f"aggregate/{case}/features", found(maps), relative=1e-5)


@pytest.mark.parametrize("case", GOLDEN.cases("pca/*/features"))
@pytest.mark.parametrize("parts", [1, 3])
def test_the_latent_dimension_is_that_of_the_components(case: str, parts: int) -> None:
    features = GOLDEN.tensor(f"pca/{case}/features")
    found = latent_dimension(features.chunk(parts), DFR.latent_variance)
    GOLDEN.check(f"pca/{case}/latent_dim", found)
    shares = GOLDEN.tensor(f"pca/{case}/explained_variance_ratio").double().cumsum(0)
    for count, share in enumerate(shares.tolist(), 1):
        assert latent_dimension(features.chunk(parts), share - 1e-4) == count


def test_initial_values_are_drawn_as_published() -> None:
    wanted = GOLDEN.tensors(FRESH)
    latent, channels = len(wanted["encoder.6.weight"]), wanted["encoder.0.weight"].shape[1]
    made = Autoencoder(channels, latent, True, torch.Generator().manual_seed(0))
    assert set(made.state_dict()) == set(wanted)
    for name, value in made.state_dict().items():
        GOLDEN.check(f"{FRESH}/{name}", value)


def autoencoder(case: str, state: str) -> Autoencoder:
    cfg = GOLDEN.cfg(case)
    made = Autoencoder(cfg["channels"], cfg["latent"], cfg["bn"], torch.Generator())
    made.load_state_dict(GOLDEN.tensors(f"{case}/{state}"))
    return made


def trained(case: str, dtype: torch.dtype, *, freeze: bool) -> tuple[Autoencoder, Tensor]:
    """The autoencoder after the recorded batches, and the loss of each."""
    made = autoencoder(case, "init").to(dtype)
    if freeze:
        made.freeze_dead_biases()
    trainer = Trainer(made, GOLDEN.cfg(case)["lr"])
    made.train()
    features = GOLDEN.tensor(f"{case}/train").to(dtype)
    rows = GOLDEN.tensor(f"{case}/batches")
    losses = [trainer.step(features[row[row >= 0]]) for row in rows]
    return made.eval(), torch.stack(losses)


def maps_of(made: Autoencoder, features: Tensor, size: tuple[int, int]) -> Prediction:
    """What the method predicts for images of a size whose features are these."""
    method = DFR()
    method.autoencoder = made
    method.features = lambda images: features
    prediction: Prediction = method.predict(torch.empty(len(features), 3, *size))
    return prediction


@pytest.mark.parametrize("case", TRAINED)
@pytest.mark.parametrize("freeze", [False, True])
def test_training_matches_but_for_what_rounding_moves(case: str, freeze: bool) -> None:
    made, losses = trained(case, torch.float32, freeze=freeze)
    GOLDEN.check(f"{case}/loss_per_step", losses, relative=1e-5)
    other = autoencoder(case, "init")
    other.freeze_dead_biases()
    moved = {name for name, p in other.named_parameters() if not p.requires_grad}
    for name, value in made.state_dict().items():
        if name not in moved and not name.endswith(NORM_STATE):
            GOLDEN.check(f"{case}/final/{name}", value, absolute=1e-5)


@pytest.mark.parametrize("case", TRAINED)
def test_training_in_double_precision_matches_in_everything(case: str) -> None:
    made, losses = trained(case, torch.float64, freeze=False)
    GOLDEN.check(f"{case}/float64/loss_per_step", losses, relative=1e-10)
    for name, value in made.state_dict().items():
        GOLDEN.check(f"{case}/float64/final/{name}", value, absolute=1e-7)
    features = GOLDEN.tensor(f"{case}/test").double()
    found = maps_of(made, features, GOLDEN.cfg(case)["img_size"])
    GOLDEN.check(f"{case}/float64/maps", found.maps, relative=1e-5)


@pytest.mark.parametrize("case", TRAINED)
def test_frozen_biases_change_no_energy_in_double_precision(case: str) -> None:
    test = GOLDEN.tensor(f"{case}/test").double()
    free, frozen = (trained(case, torch.float64, freeze=freeze)[0] for freeze in (False, True))
    with torch.no_grad():
        torch.testing.assert_close(energy(frozen, test), energy(free, test), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", TRAINED)
def test_first_gradients_match(case: str) -> None:
    made = autoencoder(case, "init").train()
    features = GOLDEN.tensor(f"{case}/train")[GOLDEN.tensor(f"{case}/batches")[0]]
    torch.autograd.backward((made(features) - features).square().mean())
    for name in GOLDEN.tensors(f"{case}/grad_step0"):
        # Absolute: of the dead biases both sides have nothing but rounding.
        GOLDEN.check(f"{case}/grad_step0/{name}", made.get_parameter(name).grad, absolute=1e-6)


@pytest.mark.parametrize("case", TRAINED)
def test_code_reconstruction_energy_map_and_score_match(case: str) -> None:
    made = autoencoder(case, "final").eval()
    features = GOLDEN.tensor(f"{case}/test")
    with torch.no_grad():
        code = made.encoder(features)
        GOLDEN.check(f"{case}/latent", code, relative=1e-5)
        GOLDEN.check(f"{case}/reconstruction", made.decoder(code), relative=1e-5)
        GOLDEN.check(f"{case}/energy", energy(made, features), relative=1e-5)
    prediction = maps_of(made, features, GOLDEN.cfg(case)["img_size"])
    GOLDEN.check(f"{case}/maps", prediction.maps, relative=1e-5)
    GOLDEN.check(f"{case}/image_score", prediction.scores, relative=1e-5)


def test_the_published_evaluator_gives_the_printed_numbers() -> None:
    maps = list(GOLDEN["evaluator/scores"])
    masks = [mask > 0.5 for mask in GOLDEN["evaluator/masks"]]
    # Its labels are those of the masks.
    labels = [int(mask.any()) for mask in masks]
    shown = [mask if mask.any() else None for mask in masks]
    scores = [float(one.max()) for one in maps]
    found = evaluate(maps, shown, labels, scores, published=["aupro_dfr"])
    aupro = found.published["aupro_dfr"]
    GOLDEN.check("evaluator/aupro", aupro, absolute=1e-6)
    printed = {
        "seg_pro": aupro,
        "det_auc": found.values["image_auroc"],
        "det_pr": found.values["image_ap"],
        "seg_auc": found.values["pixel_auroc"],
        "seg_pr": found.values["pixel_ap"],
    }
    for name, value in printed.items():
        GOLDEN.check(f"evaluator/printed/{name}", value, absolute=1e-5)


def test_pictures_and_masks_are_read_as_published(tmp_path: Path) -> None:
    raw, mask = GOLDEN["prep/raw"], GOLDEN["prep/raw_mask"]
    side = GOLDEN["prep/mask"].shape[0]
    protocol = replace(PROTOCOLS["dfr"], resize=(side, side))
    Image.fromarray(raw).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    sample = Sample(tmp_path / "picture.png", 1, "cut", tmp_path / "mask.png", mask_rule=">=128")
    images = ImageSet([sample], protocol, method_size=None, device=torch.device("cpu"), seed=0)
    step = side // GOLDEN["prep/image_every8"].shape[1]
    found = next(iter(images.batches(1)))[0]
    GOLDEN.check("prep/image_every8", found[:, ::step, ::step], absolute=1e-5)
    masks = load_masks([sample], protocol, (side, side)).masks
    GOLDEN.check("prep/mask_as_scored", masks[0])
