"""Random patches for training and tilings for testing, against loops and their promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.api import IMAGENET_MEAN, IMAGENET_STD, MethodError
from bench.blocks.patches import RandomPatch, Tiling, inner_square, random_patches, rotated
from bench.blocks.pixels import unnormalised


def picture(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, height, width), generator=generator) / 255


def normalised(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_pixels_come_back_from_normalisation() -> None:
    pixels = picture(3, 7, 9)
    torch.testing.assert_close(unnormalised(normalised(pixels)), pixels, rtol=0, atol=2e-7)
    found = unnormalised(normalised(torch.stack([pixels * 0, pixels * 0 + 1])))
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@settings(max_examples=30)
@given(
    height=st.integers(8, 24),
    width=st.integers(8, 24),
    patch=st.integers(1, 8),
    data=st.data(),
)
def test_a_tiling_covers_every_pixel_and_joins_what_it_cut(
    height: int, width: int, patch: int, data: Any
) -> None:
    stride = data.draw(st.integers(1, patch))
    tiling = Tiling((height, width), patch, stride)
    assert float(tiling.counts.min()) >= 1
    assert len(set(tiling.origins)) == len(tiling.origins)
    image = picture(2, height, width)
    torch.testing.assert_close(tiling.join(tiling.cut(image)), image)


def test_a_joined_pixel_is_the_mean_over_its_patches() -> None:
    tiling = Tiling((11, 9), 4, 3)
    patches = torch.rand(len(tiling.origins), 1, 4, 4, generator=torch.Generator().manual_seed(1))
    found = tiling.join(patches)
    for y in range(11):
        for x in range(9):
            values = [
                float(patch[0, y - top, x - left])
                for patch, (top, left) in zip(patches, tiling.origins, strict=True)
                if top <= y < top + 4 and left <= x < left + 4
            ]
            assert float(found[0, y, x]) == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_the_last_patch_is_flush_with_the_edge() -> None:
    assert Tiling((10, 8), 8, 8).origins == [(0, 0), (2, 0)]
    assert Tiling((16, 8), 8, 4).origins == [(0, 0), (4, 0), (8, 0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((60, 200), 64, 32), "images of 60x200 pixels are smaller than a patch of 64"),
        (((64, 64), 32, 33), "leaves pixels out between patches of 32"),
        (((64, 64), 32, 0), "choose 1 to 32"),
    ],
)
def test_tilings_that_cannot_be_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Tiling(*arguments)


@pytest.mark.parametrize("angle", [-40.0, -3.0, 0.0, 12.5, 45.0, 90.0, 200.0])
def test_the_inner_square_of_a_turned_image_has_no_black(angle: float) -> None:
    white = torch.ones(3, 60, 60)
    inner = inner_square(rotated(white, angle), angle)
    # The turn is half a pixel off the middle, so that the outermost line may be half black.
    assert float(inner[:, 2:-2, 2:-2].min()) == pytest.approx(1)


def test_quarter_turns_keep_every_pixel() -> None:
    image = picture(3, 30, 30)
    # About (15, 15): the first row or column comes from outside.
    torch.testing.assert_close(rotated(image, 90.0)[:, 1:], image.rot90(1, (1, 2))[:, :-1])


class Script:
    """Draws that are always the same."""

    def __init__(self, share: float, angle: float = 0.0, offset: int = 0) -> None:
        self.values = (share, angle, offset)

    def share(self) -> float:
        return self.values[0]

    def angle(self, limit: float) -> float:
        return self.values[1]

    def offset(self, bound: int) -> int:
        assert 0 <= self.values[2] < bound
        return self.values[2]


def test_a_patch_is_a_crop_and_flips_turn_it() -> None:
    image = picture(3, 20, 24)
    plain = RandomPatch(16).draw(image, Script(0.5, offset=3))
    assert torch.equal(plain, image[:, 3:19, 3:19])
    both = RandomPatch(16, flip_horizontal=0.6, flip_vertical=0.6)
    assert torch.equal(both.draw(image, Script(0.5, offset=3)), plain.flip(-1, -2))


def test_a_turn_that_leaves_less_than_a_patch_is_not_taken() -> None:
    image = picture(3, 20, 20)
    augment = RandomPatch(16, rotate_probability=1.0, rotate_degrees=45.0)
    assert torch.equal(augment.draw(image, Script(0.5, 45.0)), image[:, :16, :16])
    assert not torch.equal(augment.draw(image, Script(0.5, 3.0)), image[:, :16, :16])
    whole = RandomPatch(20, rotate_probability=1.0, rotate_degrees=45.0)
    assert torch.equal(whole.draw(image, Script(0.5, 5.0)), image)


def test_patches_come_in_the_number_and_the_batches_asked_for(make_images: Any) -> None:
    images = make_images(torch.stack([normalised(picture(3, 20, 20, seed)) for seed in range(5)]))
    augment = RandomPatch(16, 0.5, 20.0, 0.5, 0.5)
    batches = list(random_patches(images, augment, 23, 8))
    assert [len(batch) for batch in batches] == [8, 8, 7]
    patches = torch.cat(batches)
    assert patches.shape == (23, 3, 16, 16)
    assert len(torch.unique(patches.flatten(1), dim=0)) == 23  # none comes twice
    again = make_images(images.pixels)
    assert torch.equal(torch.cat(list(random_patches(again, augment, 23, 8))), patches)
    assert [len(batch) for batch in random_patches(images, augment, 3, 8)] == [3]
