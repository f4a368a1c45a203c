"""DRAEM's synthetic anomalies: by their definition, their distribution, and the textures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from bench.plugins.methods.draem import operations as ops
from bench.plugins.methods.draem.colours import SPACES
from bench.plugins.methods.draem.perlin import perlin, rotate
from bench.plugins.methods.draem.procedural import ProceduralTextures
from bench.plugins.methods.draem.synthesis import Samples, Settings, Synthesis, as_bytes

SIDE = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bank() -> ProceduralTextures:
    return ProceduralTextures(16, (SIDE, SIDE), seeded())


def samples(bank: ProceduralTextures, count: int = 100, seed: int = 0, **fields: Any) -> Samples:
    pixels = torch.randint(256, (count, 3, SIDE, SIDE), generator=seeded(7), dtype=torch.uint8)
    return Synthesis(bank, Settings(**fields), seeded(seed))(pixels)


def perlin_by_loops(uniform: Tensor, height: int, width: int) -> Tensor:
    """Corner by corner, pixel by pixel."""
    rows, columns = uniform.shape[0] - 1, uniform.shape[1] - 1
    result = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            v, u = y * rows / height, x * columns / width
            row, column = int(v), int(u)
            corners = []
            for a in (0, 1):
                for b in (0, 1):
                    angle = 2 * math.pi * float(uniform[row + a, column + b])
                    corners.append(
                        math.cos(angle) * (v - row - a) + math.sin(angle) * (u - column - b)
                    )
            t, s = (6 * z**5 - 15 * z**4 + 10 * z**3 for z in (v - row, u - column))
            top = corners[0] + s * (corners[1] - corners[0])
            bottom = corners[2] + s * (corners[3] - corners[2])
            result[y, x] = math.sqrt(2) * (top + t * (bottom - top))
    return result


@pytest.mark.parametrize("cells", [(1, 1), (2, 4), (8, 2)])
def test_noise_equals_the_slow_definition(cells: tuple[int, int]) -> None:
    uniform = torch.rand(cells[0] + 1, cells[1] + 1, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(
        perlin(uniform, (16, 24)), perlin_by_loops(uniform, 16, 24), rtol=0, atol=1e-12
    )


def test_noise_is_zero_at_the_corners_of_its_cells_and_bounded() -> None:
    noise = perlin(torch.rand(9, 9, generator=seeded()), (SIDE, SIDE))
    assert noise[::8, ::8].abs().max() < 1e-6
    assert noise.abs().max() <= 1
    with pytest.raises(ValueError, match="3 cells do not divide 64 pixels"):
        perlin(torch.rand(4, 4), (SIDE, SIDE))


@pytest.mark.parametrize("size", [(20, 20), (16, 30)])
@pytest.mark.parametrize("degrees", [0.0, 33.0, -80.0, 90.0])
def test_rotation_equals_scipys(size: tuple[int, int], degrees: float) -> None:
    image = torch.rand(size, generator=seeded())
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = (np.array(size) - 1) / 2
    wanted = ndimage.affine_transform(
        np.pad(image.numpy(), 30), matrix, 30 + centre - matrix @ centre, size, order=1
    )
    found = rotate(image[None, None], torch.tensor([degrees]))[0, 0]
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


def test_images_are_turned_one_by_one() -> None:
    images = torch.rand(3, 2, 16, 16, generator=seeded())
    degrees = torch.tensor([10.0, -50.0, 0.0])
    together = rotate(images, degrees)
    for i in range(3):
        torch.testing.assert_close(rotate(images[i : i + 1], degrees[i : i + 1])[0], together[i])
    torch.testing.assert_close(together[2], images[2])


def test_pictures_change_inside_the_mask_alone(bank: ProceduralTextures) -> None:
    found = samples(bank)
    outside = (found.mask == 0).expand_as(found.pictures)
    assert torch.equal(found.altered[outside], found.pictures[outside])
    assert set(found.mask.unique().tolist()) == {0.0, 1.0}
    assert found.altered.min() >= 0
    assert found.altered.max() <= 1
    changed = (found.altered != found.pictures).any(1, keepdim=True)
    assert (changed & (found.mask > 0)).sum() > 0.9 * found.mask.sum()


def test_shares_hold(bank: ProceduralTextures) -> None:
    found = samples(bank, count=400)
    pixels = torch.randint(256, (400, 3, SIDE, SIDE), generator=seeded(7), dtype=torch.uint8)
    is_turned = (found.pictures * 255 - pixels).abs().flatten(1).amax(1) > 0.5
    assert float(is_turned.float().mean()) == pytest.approx(0.3, abs=0.07)
    assert float(found.mask.flatten(1).any(1).float().mean()) == pytest.approx(0.48, abs=0.07)
    assert not samples(bank, anomaly_share=0.0).mask.any()
    still = samples(bank, rotate_share=0.0)
    torch.testing.assert_close(still.pictures * 255, pixels[:100].float())


def test_masks_have_the_distribution_of_the_published_draws(bank: ProceduralTextures) -> None:
    """Noise by its definition, turned by SciPy, one sample after the other."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        rows, columns = 2 ** rng.integers(0, 6, 2)
        uniform = torch.from_numpy(rng.random((rows + 1, columns + 1)))
        noise = perlin(uniform, (SIDE, SIDE)).numpy()
        turned = ndimage.rotate(noise, rng.uniform(-90, 90), reshape=False, order=1)
        shares.append((turned > 0.5).mean())
    ours = samples(bank, count=400, anomaly_share=1.0).mask.mean((1, 2, 3)).numpy()
    assert ours.mean() == pytest.approx(np.mean(shares), abs=0.01)
    assert np.quantile(ours, 0.9) == pytest.approx(np.quantile(shares, 0.9), abs=0.03)
    assert (ours == 0).mean() == pytest.approx(np.mean(np.array(shares) == 0), abs=0.05)


def test_opacity_lies_between_its_bounds(bank: ProceduralTextures) -> None:
    """With beta_max 0 the texture covers the picture: both batches have the same textures."""
    fields: dict[str, Any] = {"anomaly_share": 1.0, "rotate_share": 0.0}
    opaque, sheer = samples(bank, beta_max=0.0, **fields), samples(bank, beta_max=0.8, **fields)
    assert torch.equal(opaque.mask, sheer.mask)
    betas = []
    for picture, full, part, mask in zip(
        opaque.pictures, opaque.altered, sheer.altered, opaque.mask, strict=True
    ):
        inside = (mask > 0).expand_as(picture)
        if inside.any():
            step = (full - picture)[inside]
            betas.append(1 - float((step * (part - picture)[inside]).sum() / (step**2).sum()))
    assert min(betas) >= -1e-5
    assert max(betas) <= 0.8 + 1e-5
    assert np.mean(betas) == pytest.approx(0.4, abs=0.08)


def test_equal_generators_give_equal_samples(bank: ProceduralTextures) -> None:
    one, same, other = (samples(bank, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.altered, same.altered)
    assert not torch.equal(one.altered, other.altered)


def test_bytes_are_those_before_normalisation() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    unit = pixels / 255
    images = (unit - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(as_bytes(images, mean, std), pixels)


def picture(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("number", range(len(ops.OPERATIONS)))
def test_an_operation_keeps_the_picture_and_gives_another_of_its_kind(number: int) -> None:
    generator = seeded(number)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    before = picture()
    kept = before.copy()
    found = [ops.OPERATIONS[number](before, draw) for _ in range(8)]
    assert np.array_equal(before, kept)
    assert all(f.dtype == np.uint8 and f.shape == before.shape for f in found)
    assert any(not np.array_equal(f, before) for f in found)


def test_whole_numbers_are_drawn_evenly_up_to_both_ends() -> None:
    values = [
        ops._whole(lambda low, high, u=u: low + (high - low) * u, -2, 2)
        for u in (0.0, 0.19, 0.21, 0.5, 0.79, 0.81, 0.999999)
    ]
    assert values == [-2, -2, -1, 0, 1, 2, 2]


@pytest.mark.parametrize("space", SPACES)
def test_colour_spaces_lead_back_to_the_picture(space: str) -> None:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, -1)
    forward, back, lightness = SPACES[space]
    converted = forward(grid)
    errors = np.abs(back(converted).astype(int) - grid)
    assert errors.mean() < 2
    assert np.quantile(errors, 0.99) <= 10  # a space of 8 bits has fewer colours
    grey = np.repeat(levels[None], 3, 0)
    assert (np.diff(forward(grey)[lightness].astype(int)) > 0).all()


def test_hue_agrees_with_pillows() -> None:
    pixels = picture(3)
    theirs = np.asarray(Image.fromarray(pixels).convert("HSV")).astype(float)
    ours = SPACES["HSV"][0](pixels.transpose(2, 0, 1))
    turn = np.abs(ours[0] / 180 - theirs[..., 0] / 255)
    assert np.minimum(turn, 1 - turn).max() < 0.01
    assert np.abs(ours[1] - theirs[..., 1]).max() <= 1


def test_textures_are_the_same_for_the_same_generator_and_fill_their_range() -> None:
    one, same, other = (ProceduralTextures(8, (32, 48), seeded(s)).pixels for s in (0, 0, 1))
    assert one.shape == (8, 32, 48, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.min() < 20
    assert one.max() > 235
    # Each of the four kinds has several colours.
    assert all(len(np.unique(t.reshape(-1, 3), axis=0)) > 1 for t in one)


def test_procedural_1_stays_what_it_is(bank: ProceduralTextures) -> None:
    """Another mean is another set of textures: then give it a new name and bump the version."""
    means = bank.pixels[:4].mean((1, 2, 3))
    np.testing.assert_allclose(means, PROCEDURAL_1, rtol=0, atol=0.5)


PROCEDURAL_1 = (126.7, 125.4, 67.5, 95.9)
"""Mean level of the first texture of each kind, seed 0, 64 pixels."""
