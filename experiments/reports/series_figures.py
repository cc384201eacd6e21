"""Results against a number, a line for each norm: the number arms differ in, or the learning rates of a measurement.

Which number that is say the configurations of the arms (settings.py). Measurements give the loss at each rate as
`loss_at_<rate>`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.records.rows import Row
from experiments.reports.claim_figures import Picture, draw_points
from experiments.reports.scales import Scale, arm_styles, fitting, logarithmic
from experiments.reports.settings import lines, norm_of, numbers, settings_of, short
from experiments.reports.svg import Panel
from experiments.verdicts.units import heading, unit_of
from experiments.verdicts.wording import number, principal, tidy

MEANING = {
    "ghost_size": "cases of a ghost batch",
    "recurrent_scale": "factor on the first recurrent weights",
    "input_scale": "factor on the first weights of the inputs",
    "forget_bias": "initial bias of the forget gate",
    "clip_norm": "largest norm of the gradient",
    "gain": "initial gain",
    "ranks": "processes that share a batch",
    "step_pixels": "pixels a time step reads",
}
# Batch norm's statistics at test time: running averages, averages taken anew, those of each mini-batch.
STATISTICS = {"test": "running", "test_reestimated": "anew", "test_batch": "own"}
INCREASE = "test_batch_{}_increase"  # of the last over the second, on the same cases
RATE = "loss_at_"

Points = Mapping[float, list[float]]  # the metric of every seed at each number
Arms = Mapping[str, Sequence[Row]]  # the evaluation runs of each


def series_pictures(arms: Arms) -> list[Picture]:
    """The pictures of an experiment, from its evaluation runs; none where no number makes a series."""
    names = {name for rows in arms.values() for row in rows for name in row["final"]}
    metric = principal("test", names)
    pictures = [_by_rate(arms)] if any(name.startswith(RATE) for name in names) else []
    if metric is None:
        return pictures
    settings = {arm: settings_of(rows) for arm, rows in arms.items()}
    for key in numbers(settings):
        found, name = lines(settings, key), key.rpartition(".")[2]
        place = MEANING.get(name, short(key))
        points = _points(arms, found, f"test_{metric}")
        pictures.append(_picture(f"by-{name}", f"test_{metric}", place, arms, points))
        batch = {label: at for label, at in found.items() if norm_of(arms[next(iter(at.values()))], "") == "batch"}
        if ways := _batch_statistics(arms, batch, metric):
            pictures.append(_picture(f"statistics-by-{name}", f"test_{metric}", place, arms, ways))
    return pictures


Lines = Mapping[str, Mapping[float, str]]  # arms by number, by the name of a line
Results = dict[str, tuple[list[str], Points]]  # arms and results of a line


def _points(arms: Arms, found: Lines, metric: str) -> Results:
    return {
        label: (
            list(at.values()),
            {place: [_value(row["final"], metric) for row in arms[arm]] for place, arm in at.items()},
        )
        for label, at in found.items()
    }


def _value(final: Mapping[str, float | None], metric: str) -> float:
    """A metric; batch norm's by own statistics from those taken anew, for it was measured on fewer cases."""
    plain = metric.removeprefix("test_batch_")
    if plain == metric:
        return _or_nan(final.get(metric))
    return _or_nan(final.get(f"test_reestimated_{plain}")) + _or_nan(final.get(INCREASE.format(plain)))


def _batch_statistics(arms: Arms, batch: Lines, metric: str) -> Results:
    """The same of batch norm with each of its statistics; empty where it was evaluated in one way only."""
    ways = {way: _points(arms, batch, f"{split}_{metric}") for split, way in STATISTICS.items()}
    found = {f"{label}, {way}": ways[way][label] for label in batch for way in ways}
    measured = not any(np.isnan(values).any() for _, points in found.values() for values in points.values())
    return found if measured else {}


def _by_rate(arms: Arms) -> Picture:
    found: Results = {}
    for arm, rows in sorted(arms.items()):
        names = [name for name in rows[0]["final"] if name.startswith(RATE)]
        losses = {float(name.removeprefix(RATE)): [_or_nan(row["final"][name]) for row in rows] for name in names}
        found[arm] = [arm], dict(sorted(losses.items()))
    return _picture("by-rate", "validation_loss", "learning rate", arms, found)


def _picture(name: str, metric: str, place: str, arms: Arms, found: Results) -> Picture:
    factor, title = unit_of(metric).factor, heading(metric)
    title += ", by statistics" if name.startswith("statistics") else ""
    styles = arm_styles(found, {label: norm_of(arms[names[0]], names[0]) for label, (names, _) in found.items()})
    places = sorted({at for _, points in found.values() for at in points})
    values = factor * np.array([value for _, points in found.values() for seeds in points.values() for value in seeds])
    panel = Panel(title, _scale(places), fitting(values), place, legend=styles)
    ends = []
    for label, (_, points) in found.items():
        points = {at: [factor * value for value in seeds] for at, seeds in points.items()}
        means = draw_points(panel, points, styles[label], 2.6, 1.6)
        panel.marks("diamond", list(means), list(means.values()), styles[label][0], 6)
        first, last = min(means), max(means)
        ends.append(f"{label} from {number(means[first])} at {tidy(first)} to {number(means[last])} at {tidy(last)}")
    caption = f"{place.capitalize()}: every seed and the mean; a gap where a run diverged"
    drawn = tuple(dict.fromkeys(arm for names, _ in found.values() for arm in names))
    return Picture(name, panel.drawing(), caption, f"{title} by {place}: {'; '.join(ends)}", drawn)


def _scale(places: list[float]) -> Scale:
    """Logarithmic, with the numbers themselves as ticks; linear where one of them is 0."""
    return logarithmic(places) if places[0] > 0 else fitting(places)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
