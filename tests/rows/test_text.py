from __future__ import annotations

import pytest

from bench.rows.text import device, figure, percent, plain
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
    assert figure(1234.5) == "1234"
    assert figure(0.01234) == "0.0123"
    assert figure(None) == ""


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
    assert figure(value) == text


def test_a_device_without_a_name_can_stand_within_a_sentence() -> None:
    assert device(make_row(threads=1)) == "an unnamed device, 1 thread"
