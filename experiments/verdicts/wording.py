"""Numbers for people: the same few forms in verdicts, tables and figures, and of the same metrics."""

import math
import re
from collections.abc import Container, Sequence

METRICS = ("bits_per_character", "loss", "error")  # what is shown of an experiment: the first that it measures


def principal(split: str, measured: Container[str]) -> str | None:
    """Of what was measured on a split the metric that is told first: `loss` of validation_loss; None without one."""
    return next((name for name in METRICS if f"{split}_{name}" in measured), None)


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: `digits` significant, plain from 0.001 to 100000, else 1.2e-5; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"


def by_number(text: str) -> list[tuple[float, str]]:
    """For sorting: batch_b2, batch_b8, batch_b32; x0.25, x0.5, x1."""
    return [
        (float(part), "") if part[:1].isdecimal() else (0.0, part)
        for part in re.split(r"(\d+(?:\.\d+)?)", text)
        if part
    ]


def tidy(value: float | None) -> str:
    """A declared number as it was written: 0.02, 1e-9."""
    return "-" if value is None else re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), f"{value:g}")


def span(interval: Sequence[float | None] | None) -> str:
    """An interval for people, empty where there is none."""
    finite = interval is not None and all(end is not None and not math.isnan(end) for end in interval)
    return f" [{number(interval[0])}, {number(interval[1])}]" if interval is not None and finite else ""
