"""Features that a later cell reads are those that it would have computed, bit for bit."""

from __future__ import annotations

import copy
import io
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from typer.testing import CliRunner

from bench.blocks.backbone import Backbone, build_backbone
from bench.cli import app
from bench.files.tensors import WHOLE
from bench.plan.request import Request
from bench.profile.mode import prediction_mode
from bench.report.choice import summary
from bench.report.choice.groups import TIMED_ALIKE, groups
from bench.rows.row import COLUMNS, Row, columns
from bench.rows.store import ResultStore
from bench.run.driver import run_request
from bench.run.feature_cache import FeatureCache, open_cache
from bench.settings.config import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PIXELS = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
CPU = torch.device("cpu")


class Rounding(nn.Module):
    """Maps whose last bits depend on the size of the batch, and on the image's place in it."""

    def __init__(self, by_batch: bool = True, by_place: bool = True) -> None:
        super().__init__()
        self.by_batch, self.by_place = by_batch, by_place

    def forward(self, images: Tensor) -> list[Tensor]:
        factor = torch.ones(len(images), 1, 1, 1)
        if self.by_batch:
            factor = factor + 1e-6 * len(images)
        if self.by_place:
            factor = factor + 1e-6 * torch.arange(len(images)).view(-1, 1, 1, 1)
        return [images[:, :, ::4, ::4] * factor]


def whole(images: Tensor) -> Tensor:
    """As they come from the loader."""
    images = images.clone()
    setattr(images, WHOLE, True)
    return images


@pytest.fixture
def cache(tmp_path: Path) -> Callable[[], FeatureCache]:
    """A cell's cache; each call is another cell, in the same folder."""

    def make() -> FeatureCache:
        made = open_cache(tmp_path, 100.0, CPU, pytest.fail)
        assert made is not None
        return made

    return make


def served(cache: FeatureCache, net: nn.Module | None = None, identity: str = "a") -> Backbone:
    """A frozen network that the cache serves."""
    if net is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = build_backbone("test_resnet", (1, 2))
    else:
        backbone = Backbone("rounding", net, (0,))
    backbone.eval().requires_grad_(False)
    cache.serve(backbone, identity)
    return backbone


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    """In values and in layout."""
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


@pytest.mark.parametrize("size", [1, 4])
def test_a_later_cell_reads_what_it_would_have_computed(cache: Any, size: int) -> None:
    first, second = cache(), cache()
    images = whole(PIXELS[:size])
    wanted = served(first)(images)
    backbone = served(second)
    assert_same(backbone(images), wanted)
    assert_same(wanted, backbone.compute(images))
    assert (first.images_read, first.images_computed) == (0, size)
    assert (second.images_read, second.images_computed) == (size, 0)


def test_one_missing_layer_or_image_has_the_batch_computed(cache: Any) -> None:
    served(cache())(whole(PIXELS[:2]))
    other = cache()
    assert_same(served(other)(whole(PIXELS[1:3])), served(cache()).compute(PIXELS[1:3]))
    assert (other.images_read, other.images_computed) == (0, 2)
    backbone = build_backbone("test_resnet", (1, 2, 3)).eval().requires_grad_(False)
    backbone.net.load_state_dict(served(cache()).net.state_dict(), strict=False)
    other.serve(backbone, "a")
    assert_same(backbone(whole(PIXELS[:2])), backbone.compute(PIXELS[:2]))
    assert (other.images_read, other.images_computed) == (0, 4)
    third = cache()
    served(third)(whole(PIXELS[:2]))
    assert third.images_read == 2, "fewer layers than were stored"


@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize("by_place", [False, True])
def test_bits_that_depend_on_the_batch_are_those_of_the_same_batch(
    cache: Any, by_batch: bool, by_place: bool
) -> None:
    images = PIXELS[:4]
    for batches in ([images[:2], images[2:]], [images], [images.flip(0)], [images[:1]]):
        backbone = served(cache(), Rounding(by_batch, by_place))
        for batch in batches:
            assert_same(backbone(whole(batch)), backbone.compute(batch))
    last = cache()
    served(last, Rounding(by_batch, by_place))(whole(images[[2, 0, 1, 3]]))
    assert last.images_read == (0 if by_place else 4)


@pytest.mark.parametrize("size", [64, 128])
def test_a_real_network_reads_its_own_bits_whatever_the_batch(cache: Any, size: int) -> None:
    images = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(2))
    made = []
    for split in ([5], [1, 4], [2, 3]):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            backbone = build_backbone("resnet18", (1, 2, 3)).eval().requires_grad_(False)
        made.append(cache())
        made[-1].serve(backbone, "a")
        for batch in torch.split(images, split):
            assert_same(backbone(whole(batch)), backbone.compute(batch))
    assert made[0].images_computed == 5


def test_other_weights_another_padding_and_another_identity_are_other_entries(cache: Any) -> None:
    images = whole(PIXELS)
    served(cache())(images)
    reflecting, trained, other = (served(cache()) for _ in range(3))
    first = next(m for m in reflecting.modules() if isinstance(m, nn.Conv2d) and any(m.padding))
    first.padding_mode = "reflect"
    with torch.no_grad():
        next(trained.parameters()).mul_(1.001)
    fresh = cache()
    fresh.serve(other, "b")
    for backbone in (reflecting, trained, other):
        assert_same(backbone(images), backbone.compute(images))
    assert (fresh.images_read, fresh.images_computed) == (0, len(images))


def test_weights_that_change_after_the_first_use_are_noticed(cache: Any) -> None:
    images = whole(PIXELS)
    backbone = served(cache())
    before = backbone(images)
    with torch.no_grad():
        next(backbone.parameters()).mul_(1.001)
    assert not torch.equal(backbone(images)[0], before[0])
    assert_same(backbone(images), backbone.compute(images))


def test_autocast_and_inference_mode_have_entries_of_their_own_or_the_same_bits(cache: Any) -> None:
    images = whole(PIXELS)
    backbone = served(cache())
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert_same(backbone(images), backbone.compute(images))
        with torch.inference_mode():
            assert_same(backbone(images), backbone.compute(images))
        assert_same(backbone(images), backbone.compute(images))


def test_only_what_a_frozen_network_makes_of_whole_images_is_stored(
    cache: Any, tmp_path: Path
) -> None:
    images = whole(PIXELS)
    trained, unfrozen, hooked, copied = (served(cache()) for _ in range(4))
    next(m for m in trained.modules() if isinstance(m, nn.BatchNorm2d)).train()
    next(unfrozen.parameters()).requires_grad_(True)
    seen: list[int] = []
    hooked.net.conv1.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr]
    plain = served(cache())
    for turned in (images.flip(-1), images[:2], images.clone(), PIXELS):
        plain(turned)
    plain(whole(PIXELS).requires_grad_())
    for backbone in (trained, unfrozen, hooked, copy.deepcopy(copied)):
        backbone(images)
        backbone(images)
    assert len(seen) == 2
    assert not (tmp_path / "features").exists()


def test_a_closed_cache_lets_networks_compute(cache: Any) -> None:
    images = whole(PIXELS)
    closed = cache()
    backbone = served(closed)
    backbone(images)
    closed.close()
    seen: list[int] = []
    backbone.net.conv1.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr]
    backbone(images)
    assert len(seen) == 1


def test_what_is_read_while_a_method_predicts_is_no_training(cache: Any) -> None:
    made = cache()

    class Holder:
        needs_gradients = False
        backbone = served(made)

        def modules(self) -> Iterator[nn.Module]:
            yield self.backbone

    holder = Holder()
    with prediction_mode(holder):  # type: ignore[arg-type]
        holder.backbone(whole(PIXELS))
    assert not made.in_training
    holder.backbone(whole(PIXELS))
    assert made.in_training


def test_there_is_no_cache_without_a_folder_or_on_a_gpu(tmp_path: Path) -> None:
    told: list[str] = []
    assert open_cache(None, 100.0, CPU, told.append) is None
    assert open_cache(tmp_path, 0.0, CPU, told.append) is None
    assert open_cache(tmp_path, 100.0, torch.device("cuda:1"), told.append) is None
    assert told == ["feature cache: for CPUs alone; cuda:1 computes every feature"]


SETTINGS = """
[run]
speed = "once"
protocol = "tiny"
device = "cpu"
weights = "random"
executor = "in-process"
[protocols.tiny]
resize = [64, 64]
[datasets.synthetic]
size = 64
train = 6
good = 3
bad = 4
[methods.padim]
backbone = "test_resnet"
layers = [1, 2]
dimensions = 20
batch = 4
[methods.patchcore]
backbone = "test_resnet"
layers = [1, 2]
neighbourhood = "mean"
batch = 4
"""

DIFFERS = (*columns("cost"), "features", "noisy", "steps", "started", "command", "flops_uncounted")
"""Columns in which two runs of a cell need not agree."""


@dataclass
class Ran:
    """A cell: its row, its maps by name, what was printed, and how many images networks saw."""

    row: Row
    maps: dict[str, np.ndarray[Any, Any]]
    printed: str
    seen: int


def run_cell_of(project: Path, method: str, results: str, cache_mb: float) -> Ran:
    seen: list[int] = []
    compute = Backbone.compute

    def counted(backbone: Backbone, images: Tensor) -> list[Tensor]:
        seen.append(len(images))
        return compute(backbone, images)

    settings = load_settings(project)
    paths = replace(settings.paths, results=project / results)
    run = replace(settings.run, feature_cache_mb=cache_mb)
    settings = replace(settings, paths=paths, run=run)
    text = io.StringIO()
    request = Request([method], ["synthetic"], ["weave"], save_maps=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "compute", counted)
        patch.setenv("BENCH_PROJECT", str(project))
        (row,) = run_request(settings, request, Console(file=text, width=500)).rows
    folder = project / results / "artifacts" / row.cell / "maps"
    maps = {str(f.relative_to(folder)): np.load(f) for f in sorted(folder.rglob("*.npy"))}
    return Ran(row, maps, text.getvalue(), sum(seen))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """PaDiM, then PatchCore, each with a cache and without; PaDiM where there can be none."""
    project = tmp_path_factory.mktemp("project")
    (project / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    found = {}
    for method in ("padim", "patchcore"):
        found[method] = run_cell_of(project, method, "without", 0)
        found[f"{method} cached"] = run_cell_of(project, method, "with", 100)
    shutil.rmtree(project / ".cache/features")
    (project / ".cache/features").write_text("no folder", encoding="utf-8")
    found["padim without room"] = run_cell_of(project, "padim", "full", 100)
    return found


@pytest.mark.parametrize("name", ["padim cached", "patchcore cached", "padim without room"])
def test_rows_and_maps_are_the_same_with_and_without(ran: dict[str, Ran], name: str) -> None:
    plain, cached = ran[name.split()[0]], ran[name]
    for column in COLUMNS.keys() - set(DIFFERS):
        assert cached.row.key(column) == plain.row.key(column), column
    assert cached.maps.keys() == plain.maps.keys()
    assert len(cached.maps) == 7
    for file, values in cached.maps.items():
        assert np.array_equal(values, plain.maps[file]), file


def test_the_second_method_computes_no_image_that_the_first_did(ran: dict[str, Ran]) -> None:
    saved = ran["patchcore"].seen - ran["patchcore cached"].seen
    looked = 2  # the fixed picture, in training and in scoring; batches of 4 and 2, 7 noted
    assert saved == 6 + 7 - looked


def test_costs_that_hang_on_training_are_empty_and_inference_is_timed(ran: dict[str, Ran]) -> None:
    plain, row = ran["patchcore"].row, ran["patchcore cached"].row
    assert (plain.features, row.features) == ("", "cached")
    for name in columns("cost"):
        filled = getattr(plain, name) is not None and not name.startswith(("fit_", "infer_"))
        assert (getattr(row, name) is not None) == filled, name
    assert row.gflops == plain.gflops
    reason = "n/a: features came from a cache, or went into it"
    remarks = [summary.table(groups([one], TIMED_ALIKE)[0]).remarks for one in (row, plain)]
    assert f"weave: infer MB, fit MB and fit s {reason}" in remarks[0]
    assert not any(reason in text for text in remarks[1])


def test_the_option_makes_the_folder_beside_what_else_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("BENCH_PROJECT", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "elsewhere"))
    options = ["run", "-m", "padim", "-c", "weave", "--feature-cache", "100"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    (row,) = ResultStore(tmp_path / "results").rows()
    assert (row.features, row.fit_s) == ("cached", None)
    assert list((tmp_path / "elsewhere/features").glob("*/*.features"))
    refused = CliRunner().invoke(app, [*options[:-1], "-1"])
    assert refused.exit_code == 2


def test_a_cache_without_room_costs_one_line_and_no_row(ran: dict[str, Ran]) -> None:
    printed = ran["padim without room"].printed
    assert printed.count("feature cache: ") == 1
    assert "this cell stores no more, and its row is the same" in printed
