"""Speed protocols: the published one is fixed, others say what they changed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.errors import ConfigError
from bench.settings.speed import SPEEDS, Pace, make_speed, speed_protocol


def test_speed_1_has_the_published_bounds() -> None:
    speed = SPEEDS["speed-1"]
    assert speed.pace("cuda") == Pace(10, 2.0, 50, 5.0)
    assert speed.pace("cpu") == Pace(3, 0.0, 10, 10.0)
    assert (speed.window, speed.change, speed.max_warmup_s, speed.max_s) == (10, 0.02, 60, 60)
    assert (speed.max_batch, speed.noise) == (32, 0.10)
    assert not speed.cudnn_benchmark


def test_built_in_protocols_are_called_by_their_names() -> None:
    assert [s.label() for s in SPEEDS.values()] == ["speed-1", "brief", "none"]
    assert [s.is_timed for s in SPEEDS.values()] == [True, True, False]


def test_a_protocol_of_ones_own_names_what_it_changed() -> None:
    speed = make_speed("mine", {"cudnn_benchmark": True, "max_batch": 64, "max_s": 60.0})
    assert speed.label() == "mine (max_batch=64, cudnn_benchmark=True)"


def test_an_unknown_key_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"\[speed\.mine\]\.max_bach; did you mean 'max_batch'"):
        make_speed("mine", {"max_bach": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cudnn_benchmark", 1),
        ("max_batch", 0),
        ("max_batch", 2.5),
        ("max_s", "long"),
        ("min_steps_cpu", True),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"\[speed\.mine\]\.{key} = "):
        make_speed("mine", {key: value})


def test_tf32_is_no_matter_of_speed_alone() -> None:
    with pytest.raises(ConfigError, match=r'\[run\]\.precision = "tf32"'):
        make_speed("mine", {"tf32": True})


def test_a_built_in_protocol_cannot_be_changed() -> None:
    with pytest.raises(ConfigError, match="built in and fixed"):
        speed_protocol("speed-1", {"speed-1": {"max_s": 1.0}})


def test_an_unknown_protocol_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="unknown speed protocol 'breif'; did you mean 'brief'"):
        speed_protocol("breif", {"mine": {}})


def test_a_table_makes_a_protocol() -> None:
    assert speed_protocol("mine", {"mine": {"max_batch": 4}}).max_batch == 4


def test_reading_speed_settings_imports_no_torch() -> None:
    code = "import sys, bench.settings.speed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
