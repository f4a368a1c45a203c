from __future__ import annotations

import pytest

from bench.report.words import plain


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
