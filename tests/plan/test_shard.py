from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import ConfigError
from bench.plan.cells import Cell
from bench.plan.shard import Shard
from bench.settings.protocol import Protocol


def cells(seeds: int) -> list[Cell]:
    protocol = Protocol("standard")
    return [Cell("m", 1, {}, "d", 1, {}, "c", seed, protocol, "none", "f") for seed in range(seeds)]


@pytest.mark.parametrize("count", [1, 3, 16])
def test_every_cell_is_in_one_shard(count: int) -> None:
    shards = [Shard(index, count) for index in range(1, count + 1)]
    for cell in cells(100):
        assert sum(shard.has(cell) for shard in shards) == 1


def test_the_shards_of_a_long_plan_are_of_like_size() -> None:
    sizes = [sum(Shard(i, 4).has(cell) for cell in cells(1000)) for i in (1, 2, 3, 4)]
    assert min(sizes) > 200  # 250 on average, with a standard deviation of 14


def test_a_cell_stays_in_its_shard_when_the_plan_grows() -> None:
    shard = Shard(2, 5)
    before = [cell.id for cell in cells(50) if shard.has(cell)]
    after = [cell.id for cell in cells(500) if shard.has(cell)]
    assert after[: len(before)] == before


def test_cells_that_share_a_training_are_in_one_shard() -> None:
    native = Protocol("native", mask_size="native")
    for cell in cells(50):
        other = replace(cell, protocol=native)
        assert [Shard(i, 16).has(cell) for i in range(1, 17)] == [
            Shard(i, 16).has(other) for i in range(1, 17)
        ]


@pytest.mark.parametrize("text", ["0/3", "4/3", "0/0"])
def test_a_shard_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--shard {text}: there is no such part"):
        Shard.of(text)


@pytest.mark.parametrize("text", ["3", "a/3", "1/2/3", "-1/3", ""])
def test_a_shard_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="as in --shard 3/16"):
        Shard.of(text)
