"""Numbers for people."""

import math

import pytest

from experiments.verdicts.wording import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0662, "0.0662"),
        (4.8361, "4.84"),
        (-0.1, "-0.100"),
        (12345.6, "12346"),
        (0.0, "0"),
        (None, "-"),
        (1.23e-05, "1.23e-5"),
        (25000000.0, "2.50e7"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "-"),
    ],
)
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert number(value) == text
