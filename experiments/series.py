"""Arms that differ in a number: their test results against it, a line for each norm.

An arm named `<stem>_<letter><number>` says which: `batch_b8` is batch norm at batch size 8, `layer_x0.5` layer norm
with something scaled by 0.5.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.evidence import Row
from experiments.figures import Picture
from experiments.panel import Panel
from experiments.plotting import Scale, arm_styles, fitting, logarithmic
from experiments.wording import number, tidy

NUMBERED = re.compile(r"(?P<stem>.+)_(?P<letter>b|t|x|g|gain)(?P<number>\d+(\.\d+)?)")
MEANING = {
    "b": "batch size",
    "t": "sequence length",
    "x": "scale factor",
    "g": "groups, or cases of a ghost batch",
    "gain": "initial gain",
}
METRICS = ("test_bits_per_character", "test_loss", "test_error")

Points = Mapping[float, list[float]]  # the metric of every seed at each number


def series_pictures(arms: Mapping[str, Sequence[Row]]) -> list[Picture]:
    """A picture for each letter with at least two numbers for some stem, from an experiment's evaluation runs."""
    finals = [row["final"] for rows in arms.values() for row in rows]
    metric = next((name for name in METRICS if any(name in final for final in finals)), None)
    if metric is None:
        return []
    found: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for arm, rows in arms.items():
        if parts := NUMBERED.fullmatch(arm):
            values = [_or_nan(row["final"].get(metric)) for row in rows]
            found[parts["letter"]][parts["stem"]][float(parts["number"])] = values
    several = {letter: stems for letter, stems in found.items() if any(len(points) > 1 for points in stems.values())}
    return [_picture(metric, letter, stems) for letter, stems in sorted(several.items())]


def _picture(metric: str, letter: str, stems: Mapping[str, Points]) -> Picture:
    styles = arm_styles(sorted(stems))
    numbers = sorted({place for points in stems.values() for place in points})
    values = np.array([value for points in stems.values() for seeds in points.values() for value in seeds])
    panel = Panel(metric.replace("_", " "), _scale(numbers), fitting(values), MEANING[letter], legend=styles)
    ends = []
    for stem, points in sorted(stems.items()):
        colour, dashes = styles[stem]
        places = sorted(points)
        means = [float(np.mean(points[place])) for place in places]  # NaN, a gap, where a run diverged
        each = np.array([(place, value) for place in places for value in points[place]])
        panel.dots(each[:, 0], each[:, 1], colour, 2.6, 0.45)
        panel.line(places, means, colour, 1.6, dashes)
        panel.marks("diamond", places, means, colour, 6)
        ends.append(f"{stem} from {number(means[0])} at {tidy(places[0])} to {number(means[-1])} at {tidy(places[-1])}")
    caption = f"{MEANING[letter].capitalize()}: every seed and the mean; a gap where a run diverged"
    return Picture(f"by-{letter}", panel.svg(), caption, f"{metric} by {MEANING[letter]}: {'; '.join(ends)}")


def _scale(numbers: list[float]) -> Scale:
    """Logarithmic, with the numbers themselves as ticks; linear where one of them is 0."""
    return logarithmic(numbers) if numbers[0] > 0 else fitting(numbers)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
