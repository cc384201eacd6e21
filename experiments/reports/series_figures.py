"""Results against a number, a line for each norm: the number arms differ in, or the learning rates of a measurement.

An arm named `<stem>_<letter><number>` says which: `batch_b8` is batch norm at batch size 8, `layer_x0.5` layer norm
with something scaled by 0.5. Measurements give the loss at each rate as `loss_at_<rate>`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments.records.rows import Row
from experiments.reports.claim_figures import Picture
from experiments.reports.panel import Panel
from experiments.reports.scales import Scale, arm_styles, fitting, logarithmic
from experiments.verdicts.wording import METRICS, number, tidy

NUMBERED = re.compile(r"(?P<stem>.+)_(?P<letter>b|t|x|g|gain)(?P<number>\d+(\.\d+)?)")
MEANING = {
    "b": "batch size",
    "t": "sequence length",
    "x": "scale factor",
    "g": "groups, or cases of a ghost batch",
    "gain": "initial gain",
}
# Batch norm's statistics at test time: running averages, averages taken anew, those of each mini-batch.
STATISTICS = {"test": "running", "test_reestimated": "anew", "test_batch": "own"}
INCREASE = "test_batch_{}_increase"  # of the last over the second, on the same cases
RATE = "loss_at_"

Points = Mapping[float, list[float]]  # the metric of every seed at each number


def series_pictures(arms: Mapping[str, Sequence[Row]]) -> list[Picture]:
    """The pictures of an experiment, from its evaluation runs; none where no number makes a series."""
    names = {name for rows in arms.values() for row in rows for name in row["final"]}
    metric = next((name for name in METRICS if f"test_{name}" in names), None)
    pictures = [_by_rate(arms)] if any(name.startswith(RATE) for name in names) else []
    if metric is None:
        return pictures
    for letter, stems in sorted(_numbered(arms, f"test_{metric}").items()):
        drawn = _of_letter(arms, letter)
        pictures.append(_picture(f"by-{letter}", f"test {metric}", MEANING[letter], stems, drawn))
        if ways := _batch_statistics(arms, metric, letter):
            title, drawn = f"test {metric}, by statistics", [arm for arm in drawn if arm.startswith("batch")]
            pictures.append(_picture(f"statistics-by-{letter}", title, MEANING[letter], ways, drawn))
    return pictures


def _of_letter(arms: Iterable[str], letter: str) -> list[str]:
    return [arm for arm in arms if (parts := NUMBERED.fullmatch(arm)) and parts["letter"] == letter]


def _numbered(arms: Mapping[str, Sequence[Row]], metric: str) -> dict[str, dict[str, Points]]:
    """A metric by letter, stem and number, of letters with at least two numbers for some stem."""
    found: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for arm, rows in arms.items():
        if parts := NUMBERED.fullmatch(arm):
            values = [_value(row["final"], metric) for row in rows]
            found[parts["letter"]][parts["stem"]][float(parts["number"])] = values
    return {letter: dict(stems) for letter, stems in found.items() if any(len(points) > 1 for points in stems.values())}


def _value(final: Mapping[str, float | None], metric: str) -> float:
    """A metric; batch norm's by own statistics from those taken anew, for it was measured on fewer cases."""
    plain = metric.removeprefix("test_batch_")
    if plain == metric:
        return _or_nan(final.get(metric))
    return _or_nan(final.get(f"test_reestimated_{plain}")) + _or_nan(final.get(INCREASE.format(plain)))


def _batch_statistics(arms: Mapping[str, Sequence[Row]], metric: str, letter: str) -> dict[str, Points]:
    """The same of batch norm with each of its statistics; empty where it was evaluated in one way only."""
    ways = {way: _numbered(arms, f"{split}_{metric}").get(letter, {}) for split, way in STATISTICS.items()}
    found = {f"{stem}, {way}": ways[way][stem] for stem in ways["running"] for way in ways if stem.startswith("batch")}
    measured = not any(np.isnan(values).any() for points in found.values() for values in points.values())
    return found if measured else {}


def _by_rate(arms: Mapping[str, Sequence[Row]]) -> Picture:
    points = {
        arm: {
            float(name.removeprefix(RATE)): [_or_nan(row["final"][name]) for row in rows]
            for name in rows[0]["final"]
            if name.startswith(RATE)
        }
        for arm, rows in arms.items()
    }
    return _picture("by-rate", "validation loss", "learning rate", points, arms)


def _picture(name: str, title: str, place: str, stems: Mapping[str, Points], arms: Iterable[str]) -> Picture:
    title = title.replace("_", " ")
    styles = arm_styles(sorted(stems))
    numbers = sorted({found for points in stems.values() for found in points})
    values = np.array([value for points in stems.values() for seeds in points.values() for value in seeds])
    panel = Panel(title, _scale(numbers), fitting(values), place, legend=styles)
    ends = []
    for stem, points in sorted(stems.items()):
        colour, dashes = styles[stem]
        at = sorted(points)
        means = [float(np.mean(points[found])) for found in at]  # NaN, a gap, where a run diverged
        each = np.array([(found, value) for found in at for value in points[found]])
        panel.dots(each[:, 0], each[:, 1], colour, 2.6, 0.45)
        panel.line(at, means, colour, 1.6, dashes)
        panel.marks("diamond", at, means, colour, 6)
        ends.append(f"{stem} from {number(means[0])} at {tidy(at[0])} to {number(means[-1])} at {tidy(at[-1])}")
    caption = f"{place.capitalize()}: every seed and the mean; a gap where a run diverged"
    return Picture(name, panel.svg(), caption, f"{title} by {place}: {'; '.join(ends)}", tuple(arms))


def _scale(numbers: list[float]) -> Scale:
    """Logarithmic, with the numbers themselves as ticks; linear where one of them is 0."""
    return logarithmic(numbers) if numbers[0] > 0 else fitting(numbers)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
