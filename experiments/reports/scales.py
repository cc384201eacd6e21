"""How every figure looks: colours and dashes of the arms, the scales of the axes and their ticks."""

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.records.rows import Floats
from experiments.verdicts.wording import tidy

Dashes = tuple[float, ...]  # lengths of dashes and gaps, in widths of the line; none for a whole line
Styles = Mapping[str, tuple[str, Dashes]]  # colour and dashes by arm
Numbers = Sequence[float] | Floats

HUES = {  # the first three are those of Okabe and Ito: the colour-blind can tell them apart
    "none": "#6b6b6b",
    "batch": "#d55e00",
    "layer": "#0072b2",
    "rms": "#009e73",
    "group": "#cc79a7",
    "instance": "#7b3fa0",
    "weight": "#8c6d1f",
    "renorm": "#c2185b",
}
WHITE, BLACK = "#ffffff", "#000000"
OTHERS = ("#222222", "#56b4e9", "#b59f00", "#a0522d")
DASHES: tuple[Dashes, ...] = ((), (4, 1.5), (1, 1), (5, 1, 1, 1))
ALARM, SIZE = "#b00020", "#0b5d1e"  # bounds and divergence; estimate and interval
INK, FRAME, BAND = "#222222", "#555555", "#e9e9e9"  # text; axes; the margin


def arm_styles(labels: Iterable[str], norms: Mapping[str, str] | None = None, shade: str = WHITE) -> Styles:
    """Colour and dashes of each label: one hue for a norm on every figure, shades and dashes for its arms.

    A label not in `norms` is taken as the name of one. Shades go towards a colour, on white lighter or darker.
    """
    styles: dict[str, tuple[str, Dashes]] = {}
    hues: list[str] = []
    for label in labels:
        other = OTHERS[sum(hue in OTHERS for hue in hues) % len(OTHERS)]
        hue = HUES.get((norms or {}).get(label, label), other)
        again = hues.count(hue)
        hues.append(hue)
        styles[label] = _mixed(hue, shade, 0.2 * ((again + again // 4) % 4)), DASHES[again % 4]
    return styles


def _mixed(colour: str, other: str, share: float) -> str:
    pairs = zip(*([int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in (colour, other)), strict=True)
    return "#" + "".join(f"{round(mine + (theirs - mine) * share):02x}" for mine, theirs in pairs)


def legible(colour: str, contrast: float = 3.0) -> str:
    """The colour, or as much darker as it takes to stand out from white (WCAG 2.2, 1.4.11)."""
    while 1.05 / (luminance(colour) + 0.05) < contrast:
        colour = _mixed(colour, BLACK, 0.05)
    return colour


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels)
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def on_dark(colour: str) -> str:
    """The counterpart of a colour on a dark ground: dark becomes light, what fades into white into black."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    lightness = 1 - 0.86 * lightness if saturation < 0.1 else min(0.72, max(0.55, 1 - 0.8 * lightness))
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, saturation))


# ---------------------------------------------------------------------------------------------------- scales


@dataclass(frozen=True)
class Scale:
    """An axis: from which value to which, logarithmic or not, and what its ticks are called."""

    low: float
    high: float
    log: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)

    def __call__(self, values: Numbers) -> Floats:
        """Where values lie between the ends, 0 and 1; NaN for what is not finite or has no logarithm."""
        given, ends = np.asarray(values, dtype=float), np.array([self.low, self.high])
        if self.log:
            given, ends = np.log(np.where(given > 0, given, np.nan)), np.log(ends)
        return np.asarray((np.where(np.isfinite(given), given, np.nan) - ends[0]) / (ends[1] - ends[0]))


def fitting(values: Numbers, most: int = 5, factor: float = 10) -> Scale:
    """A scale around all finite values: logarithmic where they span more than this factor, else linear."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low > 0 and wide(finite, factor):
        room = (high / low) ** 0.05
        return Scale(low / room, high * room, True, named(thin(decades(low, high), most + 1)))
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return linear(low - room, high + room, most)


def linear(low: float, high: float, most: int = 5) -> Scale:
    """A scale with ticks at round numbers, at most so many steps; at least two, if that takes more."""
    ticks: list[float] = []
    for step in reversed(_steps((high - low) / most)):
        ticks = [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        if len(ticks) > 1:
            break
    return Scale(low, high, ticks=named(float(f"{tick:.12g}") for tick in ticks))


def _steps(least: float) -> list[float]:
    """Round numbers around `least`, the last of them the first that is not below it."""
    power = math.floor(math.log10(least))
    steps = [float(f"{step}e{power + k}") for k in (-1, 0, 1) for step in (1, 2, 2.5, 5)]
    return steps[: 1 + next(place for place, step in enumerate(steps) if step >= least * (1 - 1e-9))]


def logarithmic(places: Sequence[float], most: int = 6) -> Scale:
    """A scale with ticks at these places."""
    return Scale(min(places) / 1.5, max(places) * 1.5, True, named(thin(sorted(places), most)))


def named(places: Iterable[float]) -> dict[float, str]:
    return {float(place): tidy(float(place)) for place in places}


def wide(positive: Floats, factor: float = 10) -> bool:
    return bool(positive.max() > factor * positive.min())


def decades(low: float, high: float) -> list[float]:
    """At most six round numbers for a logarithmic axis."""
    width = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 5, 7) if width < 1 else (1, 2, 5) if width < 2 else (1, 3) if width < 3 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    places = (float(f"{step}e{power}") for power in powers for step in steps)
    return thin([place for place in places if low <= place <= high], 6)


def thin(values: list[float], most: int) -> list[float]:
    return values[:: math.ceil(len(values) / most)] if values else []
