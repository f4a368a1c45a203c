"""Training images as tensors: parity with the published readers, order, cache, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.api import IMAGENET_MEAN, IMAGENET_STD, Sample
from bench.errors import ConfigError, DataError
from bench.files.tensors import ImageSet, check_samples, fit_maps, load_masks
from bench.settings.protocol import Protocol
from tests.golden_files import GoldenFile, cases_of, golden

if TYPE_CHECKING:
    from pathlib import Path

READERS = [golden(name) for name in ("padim", "cflow_schedule", "pyramidflow_score")]
CPU = torch.device("cpu")


def image_set(samples: list[Sample], protocol: Protocol, **options: Any) -> ImageSet:
    values = {"method_size": None, "device": CPU, "seed": 0} | options
    return ImageSet(samples, protocol, **values)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Seven images of 20 x 16 with noise."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(7):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (16, 20, 3), np.uint8)).save(path)
        found.append(Sample(path, 0, "good"))
    return found


def golden_sample(folder: Path, raw: Any, mask: Any) -> Sample:
    Image.fromarray(raw).save(folder / "x.png")
    Image.fromarray(mask).save(folder / "x_mask.png")
    return Sample(folder / "x.png", 1, "bad", folder / "x_mask.png", mask_rule="auto")


def protocol_of(file: GoldenFile, case: str) -> Protocol:
    """The protocol that reads pictures as the published reader of this file did."""
    if f"{case}/resize_crop" in file:
        resize, crop = map(int, file[f"{case}/resize_crop"])
        return Protocol("x", resize=resize, crop=crop, resample="lanczos")
    if f"{case}/size" in file:
        side = int(file[f"{case}/size"])
        return Protocol("x", resize=(side, side), resample="lanczos")
    return Protocol(
        "x",
        resize=int(file[f"{case}/x_size"]),
        mask_size=int(file[f"{case}/y_size"]),
        mask_resample="bilinear",
    )


@pytest.mark.parametrize(("file", "name"), cases_of(READERS, "prep/*/raw"))
def test_pixels_and_masks_equal_those_of_the_published_readers(
    file: GoldenFile, name: str, tmp_path: Path
) -> None:
    case = f"prep/{name}"
    protocol = protocol_of(file, case)
    sample = golden_sample(tmp_path, file[f"{case}/raw"], file[f"{case}/raw_mask"])
    images = image_set([sample], protocol)
    (batch,) = images.batches(1)
    file.check(f"{case}/image", batch[0], absolute=1e-6)
    (mask,) = load_masks([sample], protocol, images.image_size).masks
    assert mask is not None
    file.check(f"{case}/mask", mask[None])


def test_raw_pixels_are_those_of_the_tensor(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x", resize=(8, 12)))
    (batch,) = images.batches(7)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    shown = (batch[3].permute(1, 2, 0) * std + mean) * 255
    assert images.image_size == (8, 12)
    assert images.raw(3).shape == (8, 12, 3)
    assert torch.allclose(shown, torch.from_numpy(images.raw(3).copy()).float(), atol=1e-3)


def test_opencvs_resize_takes_the_four_nearest_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[::4] = 200  # between the rows that a quarter of the size looks at
    pixels[1::4] = 100
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = image_set([Sample(tmp_path / "x.png", 0, "good")], Protocol("x", (4, 4), "opencv"))
    assert (found.raw(0) == 50).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("cache_mb", [0, 1])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_cache_or_workers(
    samples: list[Sample], cache_mb: int, workers: int, device: str
) -> None:
    def two_epochs(images: ImageSet) -> list[torch.Tensor]:
        def jitter(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return image + torch.rand((), generator=generator)

        batches = [
            batch for _ in range(2) for batch in images.batches(3, shuffle=True, augment=jitter)
        ]
        return [*batches, *images.batches(2)]

    options: dict[str, Any] = {"device": torch.device(device)}
    plain = two_epochs(image_set(samples, Protocol("x"), **options))
    options |= {"workers": workers, "cache_mb": cache_mb}
    other = two_epochs(image_set(samples, Protocol("x"), **options))
    assert {batch.device.type for batch in other} == {device}
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_the_cache_stays_within_its_limit(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x", resize=(500, 500)), cache_mb=2)
    list(images.batches(4))
    assert len(images.cache) == 2


def test_a_file_is_read_once_while_it_is_in_the_cache(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x"))
    first = list(images.batches(7))
    for sample in samples:
        sample.image.unlink()
    assert torch.equal(first[0], next(images.batches(7)))


def test_order_follows_the_seed_and_the_number_of_calls(samples: list[Sample]) -> None:
    def order(images: ImageSet) -> list[float]:
        return [float(image.sum()) for batch in images.batches(2, shuffle=True) for image in batch]

    one, same, other = (image_set(samples, Protocol("x"), seed=seed) for seed in (0, 0, 1))
    epochs = [order(one) for _ in range(3)]
    assert epochs == [order(same) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert order(other) not in epochs


def test_without_shuffle_the_order_is_that_of_the_samples(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x", resize=(16, 20)))
    got = torch.cat(list(images.batches(3)))
    one_by_one = torch.cat(
        [next(image_set([s], images.geometry.protocol).batches(1)) for s in samples]
    )
    assert torch.equal(got, one_by_one)


def test_held_out_images_are_the_others_in_order_and_noted(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x", resize=(16, 20)))
    rest, held = images.hold_out(0.3, "validation")
    whole = torch.cat(list(images.batches(7)))
    parts = [torch.cat(list(part.batches(7))) for part in (rest, held)]
    places = [[int((whole == x).flatten(1).all(1).nonzero()) for x in part] for part in parts]
    assert [len(rest), len(held)] == [4, 3]
    assert sorted(places[0] + places[1]) == list(range(7))
    assert all(place == sorted(place) for place in places)
    assert images.held_out == {samples[index].image for index in places[1]}
    assert images.image_size == rest.image_size == held.image_size


def test_held_out_images_come_back_with_seed_and_purpose(samples: list[Sample]) -> None:
    def held(seed: int, purpose: str) -> list[Path]:
        images = image_set(samples, Protocol("x", resize=(16, 20)), seed=seed)
        return sorted(images.hold_out(0.3, purpose) and images.held_out)

    assert held(0, "validation") == held(0, "validation")
    assert len({tuple(held(seed, "validation")) for seed in range(5)}) > 1
    assert len({tuple(held(0, purpose)) for purpose in "abcde"}) > 1


def test_a_part_is_shuffled_by_its_own_count_of_passes(samples: list[Sample]) -> None:
    one, other = (image_set(samples, Protocol("x", resize=(16, 20))) for _ in range(2))
    list(one.batches(2, shuffle=True))
    first, second = (images.hold_out(0.3, "validation")[0] for images in (one, other))
    for _ in range(2):
        passes = [torch.cat(list(part.batches(2, shuffle=True))) for part in (first, second)]
        assert torch.equal(*passes)


def test_parts_read_no_file_again(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x", resize=(16, 20)))
    list(images.batches(7))
    for sample in samples:
        sample.image.unlink()
    rest, held = images.hold_out(0.3, "validation")
    assert sum(len(x) for part in (rest, held) for x in part.batches(2)) == 7


def test_the_last_batch_is_smaller_or_dropped(samples: list[Sample]) -> None:
    images = image_set(samples, Protocol("x"))
    assert [len(batch) for batch in images.batches(3)] == [3, 3, 1]
    assert [len(batch) for batch in images.batches(3, drop_last=True)] == [3, 3]
    with pytest.raises(DataError, match="7 images are fewer than one batch of 8"):
        images.batches(8, drop_last=True)
    with pytest.raises(ValueError, match="not positive"):
        images.batches(0)


def test_images_of_different_sizes_need_a_fixed_resize_or_a_crop(
    samples: list[Sample], tmp_path: Path
) -> None:
    Image.new("RGB", (20, 30)).save(tmp_path / "tall.png")
    mixed = [*samples, Sample(tmp_path / "tall.png", 0, "good")]
    with pytest.raises(DataError, match=r"tall\.png becomes 8 x 12 .*fixed \(height, width\)"):
        image_set(mixed, Protocol("x", resize=8))
    assert image_set(mixed, Protocol("x", resize=8, crop=8)).image_size == (8, 8)
    assert image_set(mixed, Protocol("x", resize=(8, 9))).image_size == (8, 9)


def test_the_methods_own_size_is_used_or_asked_for(samples: list[Sample]) -> None:
    protocol = Protocol("x", resize="method")
    assert image_set(samples, protocol, method_size=(8, 9)).image_size == (8, 9)
    assert image_set(samples, protocol, method_size=8).image_size == (8, 10)
    with pytest.raises(ConfigError, match=r"this method has none.*'standard'"):
        image_set(samples, protocol)


def test_a_crop_larger_than_the_image_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(ConfigError, match="a crop of 9 is larger than the resized image of 10 x 8"):
        image_set(samples, Protocol("x", resize=8, crop=9))


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match="the split is empty"):
        image_set([], Protocol("x"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_after_the_check_is_named(samples: list[Sample], workers: int) -> None:
    images = image_set(samples, Protocol("x"), workers=workers)
    samples[4].image.write_bytes(samples[4].image.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"4\.png: damaged or truncated"):
        list(images.batches(2))


def test_maps_are_brought_to_the_size_of_each_mask() -> None:
    maps = torch.arange(32.0).reshape(2, 4, 4)
    same, larger = fit_maps(maps, [(4, 4), (8, 6)])
    assert same.data_ptr() == maps.data_ptr()
    assert larger.shape == (8, 6)
    wanted = torch.nn.functional.interpolate(maps[1:, None], (8, 6), mode="bilinear")[0, 0]
    assert torch.equal(larger, wanted)
    with pytest.raises(ValueError, match="2 maps for 1 masks"):
        fit_maps(maps, [(4, 4)])


# --- the check before training -------------------------------------------------------------------


def test_tidy_files_pass_the_check(samples: list[Sample]) -> None:
    assert check_samples(samples) == []


def test_the_check_names_the_first_bad_file_and_counts_the_others(samples: list[Sample]) -> None:
    samples[2].image.write_bytes(b"")
    samples[5].image.write_bytes(b"text")
    with pytest.raises(DataError, match=r"2\.png: the file is empty.*and 1 more"):
        check_samples(samples)


def test_mixed_bit_depths_are_refused(samples: list[Sample]) -> None:
    Image.fromarray(np.zeros((16, 20), np.uint16)).save(samples[1].image)
    with pytest.raises(DataError, match=r"8-bit and 16-bit images in one category: .*0\.png"):
        check_samples(samples)


def test_cmyk_among_other_images_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    Image.new("CMYK", (20, 16)).save(tmp_path / "print.jpg")
    with pytest.raises(DataError, match="CMYK and other images"):
        check_samples([*samples, Sample(tmp_path / "print.jpg", 0, "good")])


def test_formats_that_tell_the_label_are_noted(samples: list[Sample], tmp_path: Path) -> None:
    # Told by content: the name says PNG.
    Image.new("RGB", (20, 16)).save(tmp_path / "bad.png", format="JPEG")
    (note,) = check_samples([*samples, Sample(tmp_path / "bad.png", 1, "bad")])
    assert note == (
        "normal images are PNG, anomalous ones JPEG: the file format gives the label away"
    )
