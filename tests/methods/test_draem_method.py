"""DRAEM as the harness uses it: training, scores, textures, saved state and bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.plugins.methods.draem import Draem
from bench.plugins.methods.draem.networks import Discrimination, Reconstruction, initialise
from bench.plugins.methods.draem.training import rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SMALL: dict[str, Any] = {
    "recon_width": 4,
    "disc_width": 4,
    "batch": 4,
    "epochs": 2,
    "bank": 8,
    "pool": 5,
}


def pictures(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    """Normalised stripes with a little noise: (count, 3, height, width)."""
    rng = torch.Generator().manual_seed(seed)
    stripes = 0.5 + 0.2 * torch.sin(torch.arange(width) * 0.6)
    unit = stripes + 0.05 * torch.randn(count, 3, height, width, generator=rng)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((unit.clamp(0, 1) * 255).round() / 255 - mean) / std


class Folder:
    """Stands for the pictures of a folder: plain colours."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def pictures(self, indices: list[int], size: tuple[int, int]) -> Tensor:
        self.asked += list(indices)
        return torch.stack([torch.full((3, *size), i / self.count) for i in indices])


@pytest.fixture
def fit(make_images: Any, make_run: Any) -> Callable[..., Draem]:
    def fit(train: Tensor, seed: int = 0, folder: Folder | None = None, **fields: Any) -> Draem:
        run = make_run((train.shape[-2], train.shape[-1]), seed=seed)
        run.auxiliary = lambda field: {"textures": folder}[field]
        method = Draem(**{**SMALL, **fields})
        method.prepare(run)
        method.history = list(method.fit(make_images(train), run))
        return method

    return fit


def maps_of(method: Draem, images: Tensor) -> Tensor:
    with torch.inference_mode():
        maps: Tensor = method.predict(images).maps
    return maps


def test_training_lowers_the_losses(fit: Callable[..., Draem]) -> None:
    history = fit(pictures(8), epochs=4, learning_rate=2e-3).history
    assert len(history) == Draem(**{**SMALL, "epochs": 4}).epochs == 4
    assert set(history[0]) == {"loss", "l2", "ssim", "focal", "lr"}
    assert history[0]["loss"] == pytest.approx(sum(history[0][k] for k in ("l2", "ssim", "focal")))
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_method_is_usable_at_every_yield(make_images: Any, make_run: Any) -> None:
    method, run, test = Draem(**SMALL), make_run(), pictures(2, seed=1)
    method.prepare(run)
    found = [maps_of(method, test) for _ in method.fit(make_images(pictures(6)), run)]
    assert len(found) == 2
    assert all(maps.shape == (2, 64, 64) and maps.isfinite().all() for maps in found)
    assert not torch.equal(found[0], found[1])


def test_seeds_decide_everything(fit: Callable[..., Draem]) -> None:
    test = pictures(2, seed=1)
    one, same, other = (maps_of(fit(pictures(4), seed=s), test) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_map_does_not_depend_on_the_other_images(fit: Callable[..., Draem]) -> None:
    method, test = fit(pictures(4)), pictures(3, seed=1)
    alone = torch.cat([maps_of(method, image[None]) for image in test])
    torch.testing.assert_close(alone, maps_of(method, test), rtol=1e-4, atol=1e-6)


def test_images_need_not_be_square(fit: Callable[..., Draem]) -> None:
    train = pictures(4, 32, 96)
    assert maps_of(fit(train), train).shape == (4, 32, 96)


def test_the_score_is_the_largest_mean_over_a_window(fit: Callable[..., Draem]) -> None:
    """Outside the picture the probability counts as 0."""
    method = fit(pictures(4), pool=3)
    with torch.inference_mode():
        prediction = method.predict(pictures(2, seed=1))
    assert prediction.scores is not None
    for score, one in zip(prediction.scores, prediction.maps, strict=True):
        padded = torch.nn.functional.pad(one, (1, 1, 1, 1))
        means = [padded[y : y + 3, x : x + 3].sum() / 9 for y in range(64) for x in range(64)]
        assert float(score) == pytest.approx(float(max(means)), rel=1e-5)


def test_a_planted_defect_is_found(fit: Callable[..., Draem]) -> None:
    fields = {"disc_width": 8, "epochs": 50, "learning_rate": 2e-3}
    method = fit(pictures(8, 32, 32), anomaly_share=1.0, threshold=0.3, **fields)
    both = pictures(1, 32, 32, seed=1).repeat(2, 1, 1, 1)
    both[1, :, 10:18, 12:20] = 2.0
    with torch.inference_mode():
        prediction = method.predict(both)
    assert prediction.scores is not None
    assert prediction.scores[1] > prediction.scores[0]
    assert prediction.maps[1, 11:17, 13:19].mean() > prediction.maps[1].mean()


@pytest.mark.parametrize("network", [Reconstruction(4), Discrimination(4)])
def test_weights_are_drawn_as_published(network: torch.nn.Module) -> None:
    initialise(network, torch.Generator().manual_seed(0))
    state = network.state_dict()
    norms = {n.rsplit(".", 1)[0] for n in state if n.endswith("running_mean")}
    for name, value in state.items():
        layer, kind = name.rsplit(".", 1)
        if kind == "weight" and value.numel() > 500:
            assert float(value.mean()) == pytest.approx(0, abs=0.004)
            assert float(value.std()) == pytest.approx(0.02, rel=0.15)
        elif kind == "weight" and layer in norms:
            assert float(value.mean()) == pytest.approx(1, abs=0.04)
        elif kind == "bias" and layer in norms:
            assert not value.any()
        elif kind == "bias":
            assert value.any()


def test_the_published_widths_have_the_published_parameters() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (Reconstruction(Draem.recon_width), Discrimination(Draem.disc_width))
        ]
    assert counts == [69_048_579, 28_374_146]


def test_the_rate_drops_after_whole_epochs() -> None:
    found = [rate(1.0, epoch, 7, (0.8, 0.9), 0.2) for epoch in range(7)]
    assert found == pytest.approx([1] * 6 + [0.04])
    paper = [rate(1.0, epoch, 700, (4 / 7, 6 / 7), 0.1) for epoch in (399, 400, 599, 600)]
    assert paper == pytest.approx([1, 0.1, 0.1, 0.01])


def test_textures_of_a_folder_are_used(fit: Callable[..., Draem]) -> None:
    folder = Folder(12)
    method = fit(pictures(6), folder=folder, textures="dtd", anomaly_share=1.0)
    assert len(folder.asked) == 12  # two epochs of six pictures
    assert set(folder.asked) <= set(range(12))
    assert maps_of(method, pictures(1)).isfinite().all()


def test_a_saved_state_predicts_the_same(fit: Callable[..., Draem], make_run: Any) -> None:
    method = fit(pictures(4))
    state = {name: value.clone() for name, value in method.state().items()}
    other = Draem(**SMALL)
    other.prepare(make_run(seed=4))
    other.load_state(state)
    test = pictures(2, seed=1)
    assert torch.equal(maps_of(other, test), maps_of(method, test))
    wider = Draem(**{**SMALL, "disc_width": 6})
    wider.prepare(make_run())
    with pytest.raises(MethodError, match="saved state does not fit discrimination"):
        wider.load_state(state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 0}, "batch = 0 must be above 0"),
        ({"learning_rate": 0.0}, r"learning_rate = 0\.0 must be above 0"),
        ({"anomaly_share": 1.5}, r"anomaly_share = 1\.5 must be from 0 to 1"),
        ({"operations": 11}, "operations = 11 must be from 0 to 10"),
        ({"max_cells": 6}, "max_cells = 6 must be from 0 to 5"),
        ({"drops": (0.5, 1.2)}, "must be shares of the epochs, 0 to 1"),
        ({"pool": 20}, "pool = 20 must be odd"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Draem(**fields)


def test_sides_that_are_no_multiples_of_32_are_refused(fit: Callable[..., Draem]) -> None:
    with pytest.raises(MethodError, match="64 x 72 pixels; both sides must be multiples of 32"):
        fit(pictures(4, 64, 72))


def test_diverged_training_names_its_epoch(fit: Callable[..., Draem]) -> None:
    with pytest.raises(MethodError, match=r"losses are .*nan.* in epoch [12], step \d of 2; lower"):
        fit(pictures(8), learning_rate=1e30)
