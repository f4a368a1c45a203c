"""Weights of a backbone: where they come from, what is refused, and their identity."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import timm
import torch

from bench.api import MethodError
from bench.weights.choice import Weights
from bench.weights.loading import load_backbone, read_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CPU = torch.device("cpu")
NAME = "test_resnet"  # tiny, and of ResNet's shape


def load(
    weights: Weights, name: str = NAME, layers: tuple[int, ...] = (1, 2), seed: int = 0
) -> Any:
    return load_backbone(name, layers, weights, seed=seed, device=CPU)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return dict(timm.create_model(NAME).state_dict())


@pytest.fixture
def file(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_random_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first, identity = load(Weights("random"), seed=3)
    torch.manual_seed(2)
    again, same = load(Weights("random"), seed=3)
    other, different = load(Weights("random"), seed=4)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(first(images)[1], again(images)[1])
    assert not torch.equal(first(images)[1], other(images)[1])
    assert identity == same
    assert identity != different
    assert identity.startswith(f"{NAME}[random:3]@")


def test_the_callers_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    load(Weights("random"))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_identity_does_not_depend_on_the_layers(file: Path) -> None:
    assert load(Weights("random"), layers=(1,))[1] == load(Weights("random"), layers=(2, 3))[1]
    shallow = load(Weights("file", file), layers=(1,))[1]
    assert shallow == load(Weights("file", file), layers=(3,))[1]


def test_residual_branches_of_a_random_network_are_on() -> None:
    backbone, _ = load(Weights("random"), "resnet18")
    norms = [v for k, v in backbone.state_dict().items() if k.endswith("bn2.weight")]
    assert norms
    assert all(bool(v.all()) for v in norms)


def test_a_backbone_is_frozen_and_in_evaluation_mode() -> None:
    backbone, _ = load(Weights("random"))
    assert not backbone.training
    assert not any(p.requires_grad for p in backbone.parameters())


def test_formats_of_one_state_have_one_identity(
    tmp_path: Path, file: Path, state: dict[str, Tensor]
) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    from_tensors, first = load(Weights("file", file))
    from_torch, second = load(Weights("file", tmp_path / "w.pth"))
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(from_tensors(images)[1], from_torch(images)[1])
    assert first == second
    assert first.startswith(f"{NAME}.r160_in1k@")


def test_one_changed_number_changes_the_identity(
    tmp_path: Path, file: Path, state: dict[str, Tensor]
) -> None:
    changed = {k: v.clone() for k, v in state.items()}
    changed["conv1.0.weight"][0, 0, 0, 0] += 1
    safetensors.torch.save_file(changed, tmp_path / "c.safetensors")
    assert load(Weights("file", file))[1] != load(Weights("file", tmp_path / "c.safetensors"))[1]


def test_a_classifier_of_any_size_is_ignored(
    tmp_path: Path, file: Path, state: dict[str, Tensor]
) -> None:
    changed = {**state, "fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)}
    safetensors.torch.save_file(changed, tmp_path / "c.safetensors")
    assert load(Weights("file", file))[1] == load(Weights("file", tmp_path / "c.safetensors"))[1]


def test_half_precision_is_read_as_float32(tmp_path: Path, state: dict[str, Tensor]) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    safetensors.torch.save_file(half, tmp_path / "h.safetensors")
    backbone, _ = load(Weights("file", tmp_path / "h.safetensors"))
    assert backbone(torch.randn(1, 3, 32, 32))[0].dtype == torch.float32


def test_the_folder_of_weights_comes_before_a_download(file: Path) -> None:
    file.rename(file.with_name(f"{NAME}.r160_in1k.safetensors"))
    _, identity = load(Weights("pretrained", folder=file.parent))
    assert identity.startswith(f"{NAME}.r160_in1k@")


def test_layers_that_are_not_used_may_be_missing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    early = {k: v for k, v in state.items() if not k.startswith("layer4")}
    safetensors.torch.save_file(early, tmp_path / "early.safetensors")
    load(Weights("file", tmp_path / "early.safetensors"), layers=(1, 2))
    with pytest.raises(MethodError, match=r"tensors are missing, first layer4"):
        load(Weights("file", tmp_path / "early.safetensors"), layers=(4,))


def test_another_architecture_is_named(file: Path) -> None:
    with pytest.raises(MethodError, match=r"not weights of resnet18: .* unknown to it, first"):
        load(Weights("file", file), name="resnet18")


def test_another_shape_is_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    wide = {**state, "layer1.0.conv1.weight": torch.zeros(64, 3, 3, 3)}
    safetensors.torch.save_file(wide, tmp_path / "w.safetensors")
    with pytest.raises(MethodError, match=r"layer1\.0\.conv1\.weight \(64, 3, 3, 3\), expected"):
        load(Weights("file", tmp_path / "w.safetensors"))


class Payload:
    """Would write a file if it were unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (type(self.target).touch, (self.target,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_pickle_that_is_no_state_dict_is_refused_and_not_run(suffix: str, tmp_path: Path) -> None:
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol=2))
    with pytest.raises(MethodError, match="bad"):
        read_tensors(bad)
    torch.save({"conv1.weight": Payload(tmp_path / "ran")}, bad)
    with pytest.raises(MethodError, match="bad"):
        read_tensors(bad)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(suffix: str, tmp_path: Path, file: Path) -> None:
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(MethodError, match="cut"):
        read_tensors(cut)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(MethodError, match="holds no state dict"):
        read_tensors(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(MethodError, match="'epoch' is not a tensor"):
        read_tensors(tmp_path / "epoch.pth")
    with pytest.raises(MethodError, match="does not exist"):
        read_tensors(tmp_path / "none.pth")


def test_offline_says_the_ways_out_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MethodError) as caught:
        load(Weights("pretrained"))
    message = str(caught.value)
    assert "\n" not in message
    for way in ("--weights FILE", "[paths].weights", "--random-weights"):
        assert way in message


def test_a_network_without_published_weights_says_so() -> None:
    with pytest.raises(MethodError, match="timm has no pretrained weights for mobilenetv2_035"):
        load(Weights("pretrained"), name="mobilenetv2_035")
