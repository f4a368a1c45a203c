from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rows.text import device, fixed, percent, plain, three_digits
from tests.row_maker import make_row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([256, 512], "256 x 512"),
        ([1, 2, 3], "[1, 2, 3]"),
        ([2, 3], "[2, 3]"),
        ([True, False], "[true, false]"),
        (["bilinear", "nearest"], '["bilinear", "nearest"]'),
        ("resnet18", "resnet18"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_two_sides_are_a_size_and_other_lists_stay_lists(value: object, text: str) -> None:
    assert plain(value) == text


def test_numbers_are_printed_as_the_field_prints_them() -> None:
    assert percent(0.98765) == "98.8"
    assert three_digits(1234.5) == "1235"
    assert three_digits(0.01234) == "0.0123"
    assert three_digits(None) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (24, "24.0"),
        (33.04, "33.0"),
        (9.999, "10.0"),
        (99.96, "100"),
        (0.2, "0.200"),
        (0.00001, "0.0000100"),
        (-2.0, "-2.00"),
        (0, "0"),
        (5.68434e-14, "0"),
        (-5.68434e-14, "0"),
    ],
)
def test_three_significant_digits_keep_their_zeros(value: float, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8125, "81.3"),
        (0.8135, "81.4"),
        (-0.8125, "-81.3"),
        (0.67849961, "67.8"),
        (0.6785, "67.9"),
        ((0.6783 + 0.6784 + 0.6788) / 3, "67.9"),
        (-0.0001, "0.0"),
        (1.0, "100.0"),
    ],
)
def test_halves_are_rounded_away_from_zero_as_on_paper(value: float, text: str) -> None:
    assert percent(value) == text


@given(st.integers(-(10**6), 10**6))
def test_a_stored_score_is_rounded_as_its_decimals_say(millionths: int) -> None:
    tenths, rest = divmod(abs(millionths), 1000)
    expected = (tenths + (rest >= 500)) / 10
    assert abs(float(percent(millionths / 10**6))) == pytest.approx(expected, abs=1e-12)
    assert not percent(millionths / 10**6).startswith("-0.0")


def test_halves_of_other_numbers_too() -> None:
    assert [three_digits(value) for value in (0.03125, 2.675, 12.25, 1000.5)] == [
        "0.0313",
        "2.68",
        "12.3",
        "1001",
    ]
    assert [fixed(value, 1, sign="+") for value in (0.25, -0.25, 0.0)] == ["+0.3", "-0.3", "+0.0"]


def test_a_device_without_a_name_can_stand_within_a_sentence() -> None:
    assert device(make_row(threads=1)) == "an unnamed device, 1 thread"
