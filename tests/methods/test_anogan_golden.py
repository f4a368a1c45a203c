"""AnoGAN and f-AnoGAN against arrays of three implementations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.plugins.methods.anogan import dcgan, plain, residual
from bench.plugins.methods.anogan.search import Search
from bench.plugins.methods.anogan.wasserstein import (
    Trainer,
    distances,
    gradient_penalty,
    update_encoder,
)
from tests.golden_files import golden

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

GOLDEN = golden("anogan")
OFFICIAL = golden("fanogan_official")
# llien's networks, which the file does not describe beside their sizes.
SLOPE, FIRST_NORM = 0.01, True
# As published, without evaluation mode, images of a batch see each other.
SEARCHES = {case: GOLDEN.cfg(f"search/{case}") for case in GOLDEN.names("search/*/cfg")}
INDEPENDENT = [case for case, cfg in SEARCHES.items() if cfg["mode"] == "eval"]
SHORTEST = sorted(INDEPENDENT, key=lambda case: SEARCHES[case]["steps"])[:1]


def states(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics, in the order of the network."""
    state = network.state_dict()
    return {name: value for name, value in state.items() if "num_batches" not in name}


@pytest.fixture
def networks() -> dict[str, nn.Module]:
    """llien's generator and discriminator with the file's initial state."""
    cfg = GOLDEN.cfg("dcgan")
    generator = dcgan.Generator(cfg["size"], cfg["channels"], cfg["latent"], cfg["ngf"])
    discriminator = dcgan.Discriminator(
        cfg["size"], cfg["channels"], cfg["ndf"], SLOPE, first_norm=FIRST_NORM
    )
    found: dict[str, nn.Module] = {"G": generator, "D": discriminator}
    for name, network in found.items():
        arrays = {
            key: GOLDEN.tensor(f"dcgan/init/{name}/{i:02d}")
            for i, key in enumerate(states(network))
        }
        assert len(arrays) == len(cfg[f"{name}_names"])
        network.load_state_dict(arrays, strict=False)
    return found


@pytest.mark.parametrize("mode", ["train", "eval"])
@torch.no_grad()
def test_dcgan_matches_in_both_modes(mode: str, networks: Any) -> None:
    generator, discriminator = (networks[n].train(mode == "train") for n in "GD")
    GOLDEN.check(f"dcgan/{mode}_mode/G_of_z", generator(GOLDEN.tensor("dcgan/z")), absolute=1e-5)
    images = GOLDEN.tensor("dcgan/images")[: len(GOLDEN[f"dcgan/{mode}_mode/D_logit"])]
    before = {name: value.clone() for name, value in states(discriminator).items()}
    GOLDEN.check(f"dcgan/{mode}_mode/D_logit", discriminator(images), absolute=1e-5)
    discriminator.load_state_dict(before, strict=False)
    GOLDEN.check(f"dcgan/{mode}_mode/D_features", discriminator.features(images), absolute=1e-5)


def check_states(
    prefix: str, network: nn.Module, start: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    """Within 5 % of the largest movement of the training."""
    wanted = {ours: GOLDEN.tensor(f"{prefix}/{theirs}") for ours, theirs in names.items()}
    movement = max(float((wanted[name] - start[name]).abs().max()) for name in wanted)
    found = states(network)
    for ours, theirs in names.items():
        GOLDEN.check(f"{prefix}/{theirs}", found[ours], absolute=0.05 * movement)


def test_an_epoch_of_dcgan_matches(networks: Any) -> None:
    cfg = GOLDEN.cfg("dcgan/train")
    start = {n: {k: v.clone() for k, v in states(networks[n]).items()} for n in "GD"}
    generator, discriminator = (networks[n].train() for n in "GD")
    betas = (cfg["betas"][0], cfg["betas"][1])
    trainer = dcgan.Trainer(generator, discriminator, cfg["lr_G"], cfg["lr_D"], betas)
    images = GOLDEN.tensor("dcgan/images")
    steps = [GOLDEN.tensor(f"dcgan/train/{name}") for name in ("batches", "z_D", "z_G")]
    losses = [trainer.update(images[i], z_d, z_g) for i, z_d, z_g in zip(*steps, strict=True)]
    GOLDEN.check("dcgan/train/loss_real_fake_gen", torch.stack(losses), absolute=1e-4)
    # llien draws preview images in training mode, which moves the running statistics.
    generator(GOLDEN.tensor("dcgan/train/preview_z"))
    for name in "GD":
        numbered = {key: f"{i:02d}" for i, key in enumerate(start[name])}
        check_states(f"dcgan/train/final/{name}", networks[name], start[name], numbered)


@pytest.mark.parametrize("case", GOLDEN.cases("search/*/cfg"))
def test_searches_match(case: str, networks: Any) -> None:
    cfg = GOLDEN.cfg(f"search/{case}")
    for network in networks.values():
        network.train(cfg["mode"] == "train").requires_grad_(False)
    search = Search(
        networks["G"],
        networks["D"].features,
        cfg["weight_lambda"],
        cfg["lr"],
        (cfg["betas"][0], cfg["betas"][1]),
    )
    start = GOLDEN.tensor("dcgan/z")
    images = GOLDEN.tensor("dcgan/images")[: len(start)]
    path = list(search.steps(images, start, cfg["steps"]))
    sums = [float(found.score.double().sum()) for found in path[:-1]]
    GOLDEN.check(f"search/{case}/loss_sum_per_step", sums, relative=1e-4)
    marks = torch.stack([path[step].z for step in (1, 2, 10) if step < len(path)])
    GOLDEN.check(f"search/{case}/z_after_1_2_10", marks, relative=1e-3)
    last = path[-1]
    GOLDEN.check(f"search/{case}/z", last.z, relative=1e-3)
    GOLDEN.check(f"search/{case}/generated", last.generated, relative=1e-3)
    GOLDEN.check(f"search/{case}/score", last.score, relative=1e-5)
    difference = images - last.generated
    residual_sum = difference.abs().flatten(1).sum(1)
    GOLDEN.check(f"search/{case}/residual", residual_sum, relative=1e-5)
    GOLDEN.check(f"search/{case}/abs_map", difference.abs().sum(1), relative=1e-3)
    GOLDEN.check(f"search/{case}/square_map", difference.square().sum(1), relative=1e-3)


@pytest.mark.parametrize("case", SHORTEST or GOLDEN.cases("search/*/cfg"))
def test_a_search_alone_ends_where_it_ends_in_a_batch(case: str, networks: Any) -> None:
    cfg = GOLDEN.cfg(f"search/{case}")
    for network in networks.values():
        network.eval().requires_grad_(False)
    search = Search(networks["G"], networks["D"].features, cfg["weight_lambda"], cfg["lr"])
    start, images = GOLDEN.tensor("dcgan/z"), GOLDEN.tensor("dcgan/images")
    last = len(start) - 1
    alone = search.run(images[last : last + 1], start[last:], cfg["steps"])
    wanted = GOLDEN.tensor(f"search/{case}/z")[last:]
    GOLDEN.check(f"search/{case}/z, alone", alone.z, wanted=wanted, relative=1e-3)


@pytest.fixture
def plain_networks() -> dict[str, Any]:
    """A03ki's networks with the file's initial state, in training mode."""
    cfg = GOLDEN.cfg("fanogan")
    sizes = (cfg["size"], cfg["channels"])
    first, _, *rest = cfg["widths_G"]
    dropout = plain.ChannelDropout(cfg["dropout"], torch.Generator())
    found = {
        "G": plain.Generator(*sizes, cfg["latent"], (first, *rest)),
        "D": plain.Critic(*sizes, cfg["widths_D_E"], 1, dropout=dropout),
        "E": plain.Critic(*sizes, cfg["widths_D_E"], cfg["latent"], dropout=dropout, bounded=True),
    }
    for name, network in found.items():
        arrays = GOLDEN.tensors(f"fanogan/init/{name}")
        assert set(arrays) == set(states(network))
        network.load_state_dict(arrays, strict=False)
        network.train()
    return found


def test_the_gradient_penalty_matches(plain_networks: Any) -> None:
    images, alpha = GOLDEN.tensor("fanogan/images"), GOLDEN.tensor("fanogan/penalty/alpha")
    critic = plain_networks["D"]
    real, fake = images[: len(alpha)], images[len(alpha) : 2 * len(alpha)]
    value = gradient_penalty(critic, real, fake, alpha)
    value.backward()
    GOLDEN.check("fanogan/penalty/value", value, absolute=1e-5)
    GOLDEN.check("fanogan/penalty/grad_first_conv", critic.model[0].weight.grad, relative=1e-5)


@pytest.fixture
def trained(plain_networks: Any) -> dict[str, Any]:
    """After the published loop of the GAN; the losses that it prints under "losses"."""
    cfg = GOLDEN.cfg("fanogan")
    betas = (cfg["betas"][0], cfg["betas"][1])
    trainer = Trainer(
        plain_networks["G"], plain_networks["D"], cfg["lr"], cfg["lr"], betas, cfg["lambda_gp"]
    )
    images, losses = GOLDEN.tensor("fanogan/images"), []
    steps = [GOLDEN.tensor(f"fanogan/wgan/{name}") for name in ("batches", "z", "alpha")]
    for number, (index, z, alpha) in enumerate(zip(*steps, strict=True)):
        critic = trainer.update_critic(images[index], z, alpha)
        if number % cfg["n_critic"] == 0:
            losses.append([float(critic), float(trainer.update_generator(z))])
    return {**plain_networks, "losses": losses}


def test_the_wasserstein_gan_trains_as_published(trained: Any) -> None:
    printed = re.findall(
        r"\[D loss: (.*?)\] \[G loss: (.*?)\]", str(GOLDEN["fanogan/wgan/printed"])
    )
    wanted = [[float(a), float(b)] for a, b in printed]
    GOLDEN.check("fanogan/wgan/printed", trained["losses"], wanted=wanted, absolute=1e-5)
    for name in "GD":
        start = GOLDEN.tensors(f"fanogan/init/{name}")
        names = {key: key for key in start}
        check_states(f"fanogan/wgan/final/{name}", trained[name], start, names)


def test_the_encoder_trains_and_scores_as_published(trained: Any) -> None:
    cfg = GOLDEN.cfg("fanogan")
    generator, critic, encoder = trained["G"].eval(), trained["D"].eval(), trained["E"]
    for network, name in ((generator, "G"), (critic, "D")):
        network.load_state_dict(GOLDEN.tensors(f"fanogan/wgan/final/{name}"), strict=False)
    optimizer = torch.optim.Adam(encoder.parameters(), cfg["lr"], tuple(cfg["betas"]))
    images, losses = GOLDEN.tensor("fanogan/images"), []
    for number, index in enumerate(GOLDEN.tensor("fanogan/wgan/batches")):
        if number == 0:
            # The first batch's images are generated before the step, and after it looked at once
            # more in training mode: the running statistics follow.
            with torch.no_grad():
                before = {k: v.clone() for k, v in states(encoder).items()}
                shown = generator(encoder(images[index]))
                encoder.load_state_dict(before, strict=False)
        arguments = (encoder, generator, critic.features, optimizer, images[index], cfg["kappa"])
        losses.append(update_encoder(*arguments))
        if number == 0:
            encoder(shown)
    GOLDEN.check("fanogan/encoder/loss_image_feature", torch.stack(losses), relative=1e-5)
    start = GOLDEN.tensors("fanogan/init/E")
    check_states("fanogan/encoder/final/E", encoder, start, {key: key for key in start})

    encoder.load_state_dict(GOLDEN.tensors("fanogan/encoder/final/E"), strict=False)
    encoder.eval()
    with torch.no_grad():
        z = encoder(images)
        found = generator(z)
        pixels, match = distances(images, found, critic.features)
        again = (z - encoder(found)).square().mean(1)
        GOLDEN.check("fanogan/test/z", z, absolute=1e-5)
        GOLDEN.check("fanogan/test/recon", found, absolute=1e-5)
        GOLDEN.check("fanogan/test/features", critic.features(images), absolute=1e-5)
    three = torch.stack([pixels, match, again], 1)
    GOLDEN.check("fanogan/test/img_distance_feature_distance_z_distance", three, absolute=1e-5)
    GOLDEN.check("fanogan/test/score", pixels + cfg["kappa"] * match, absolute=1e-5)


class OfficialWeights:
    """Gives one network the weights of the official graph; TensorFlow's axes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def array(self, name: str) -> Tensor:
        return OFFICIAL.tensor(f"official/weights/{self.name}/{self.name}.{name}")

    def layer(self, layer: nn.Conv2d, name: str) -> None:
        prefix = f"{name}/{self.name}.{name}"
        layer.weight.copy_(self.array(f"{prefix}.Filters").permute(3, 2, 0, 1))
        if layer.bias is not None:
            layer.bias.copy_(self.array(f"{prefix}.Biases"))

    def linear(self, layer: nn.Linear, name: str) -> None:
        layer.weight.copy_(self.array(f"{name}/{self.name}.{name}.W").T)
        layer.bias.copy_(self.array(f"{name}/{self.name}.{name}.b"))

    def norm(self, norm: residual.Norm, name: str) -> None:
        inner: Any = norm.inner
        if isinstance(inner, torch.nn.GroupNorm):
            inner.weight.copy_(self.array(f"{name}.scale").flatten())
            inner.bias.copy_(self.array(f"{name}.offset").flatten())
            return
        theirs = ("gamma", "beta", "moving_mean", "moving_variance")
        ours = (inner.weight, inner.bias, inner.running_mean, inner.running_var)
        for tensor, part in zip(ours, theirs, strict=True):
            tensor.copy_(self.array(f"{name}/{part}"))

    def block(self, block: residual.Block, number: int) -> None:
        self.norm(block.norm1, f"Res{number}.BN1")
        self.norm(block.norm2, f"Res{number}.BN2")
        self.layer(block.conv1, f"Res{number}.Conv1")
        self.layer(block.conv2, f"Res{number}.Conv2")
        self.layer(block.shortcut, f"Res{number}.Shortcut")

    @torch.no_grad()
    def load(self, network: Any) -> Any:
        is_generator = isinstance(network, residual.Generator)
        blocks = network.blocks if is_generator else network.features
        number = 0
        for module in blocks:
            if isinstance(module, residual.Block):
                number += 1
                self.block(module, number)
        if is_generator:
            self.linear(network.first, "Input")
            self.norm(network.norm, "OutputN")
            self.layer(network.last, "Output")
        else:
            self.layer(network.features[0], "Input")
            self.linear(network.last, "Output")
        return network.eval()


def test_the_official_networks_match() -> None:
    cfg = OFFICIAL.cfg("official")
    sizes = (cfg["size"], cfg["channels"])
    generator = OfficialWeights("Generator").load(
        residual.Generator(*sizes, cfg["latent"], cfg["dim"])
    )
    critic = OfficialWeights("Discriminator").load(
        residual.Critic(*sizes, cfg["dim"], 1, layer_norm=True)
    )
    encoder = OfficialWeights("Encoder").load(
        residual.Critic(*sizes, cfg["dim"], cfg["latent"], layer_norm=False)
    )
    x, z, alpha = (OFFICIAL.tensor(f"official/{name}") for name in ("x", "z", "alpha"))
    with torch.no_grad():
        found = generator(encoder(x))
        pixels, match = distances(x, found, critic.features)
        again = (encoder(x) - encoder(found)).square().mean(1)
        values = {
            "z_of_x": encoder(x),
            "recon": found,
            "D_features_of_x": critic.features(x),
            "D_value_of_x": critic(x)[:, 0],
            "D_features_of_recon": critic.features(found),
            "z_of_recon": encoder(found),
            "G_of_z": (fake := generator(z)),
            "img_mse": pixels,
            "feature_mse": match,
            "z_mse": again,
            "encoder_loss": (pixels + cfg["kappa"] * match).mean(),
            "G_of_z_training": generator.train()(z),
        }
    # The share is that of the generated image here.
    penalty = gradient_penalty(critic, fake, x, alpha.view(-1, 1, 1, 1))
    for name, value in {**values, "gradient_penalty": penalty}.items():
        OFFICIAL.check(f"official/{name}", value, relative=2e-5)
    OFFICIAL.check("official/score_kappa_1", pixels + match, relative=2e-5)
