"""What a sweep came to, as files that other programs read and people look at: a table of its runs, curves, series.

    <results>/sweeps/<experiment>-<digest>.csv            a line a run: settings, status, final metrics
    <results>/sweeps/<experiment>-<digest>-curves.svg     every run and the mean of each arm
    <results>/sweeps/<experiment>-<digest>-by-<number>.svg    the ends against a number in which arms differ
    and each of these as .png, where the machine has fonts

The digest is of the ids of the runs: the same sweep writes the same files.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.records import files
from experiments.records.rows import Curve, Row, loss_curve
from experiments.records.table import csv_text
from experiments.reports.claim_figures import Picture, learning_curves
from experiments.reports.png import png
from experiments.reports.scales import arm_styles
from experiments.reports.series_figures import series_pictures
from experiments.reports.settings import RATE, apart_by, differing, model_of, norm_of, value_of
from experiments.verdicts.units import heading, unit_of
from experiments.verdicts.wording import principal

ALWAYS = (
    "norm",
    "model.name",
    "data.name",
    "batch_size",
    "updates",
    RATE,
)  # columns, whether runs differ in them or not
SIZE = {"width": 460.0, "plot": 240.0}

Arms = Mapping[str, Sequence[Row]]


def write_sweep(rows: Sequence[Row], results: str | Path) -> list[Path]:
    """Write the files of each experiment of a sweep; where they are."""
    written: dict[Path, str | bytes] = {}
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        ours = [row for row in rows if row["experiment"] == experiment]
        digest = hashlib.sha256(" ".join(sorted(row["run"] for row in ours)).encode()).hexdigest()[:6]
        stem = str(Path(results) / "sweeps" / f"{experiment}-{digest}")
        written[Path(f"{stem}.csv")] = table(ours)
        for picture in pictures(arms_of(ours)):
            svg = picture.drawing.standalone(picture.gist)
            written[Path(f"{stem}-{picture.name}.svg")] = svg
            if (pixels := png(svg)) is not None:
                written[Path(f"{stem}-{picture.name}.png")] = pixels
    for path, content in written.items():
        files.write(path, content, lasting=False)
    return list(written)


def arms_of(rows: Sequence[Row]) -> Arms:
    """Runs that differ in their seeds alone, by what sets them apart from the others."""
    arms: dict[tuple[str, float | None], list[Row]] = {}
    for row in rows:
        arms.setdefault((row["arm"], row["learning_rate"]), []).append(row)
    several = {arm for arm, rate in arms if sum(arm == other for other, _ in arms) > 1}
    full = [f"{arm} {files.setting(RATE, rate)}" if arm in several else arm for arm, rate in arms]
    names = apart_by(full)
    return {names[name]: group for name, group in zip(full, arms.values(), strict=True)}


def table(rows: Sequence[Row]) -> str:
    """The columns are named as options are on the command line, `model` and `data` too."""
    configs = [files.flat(row["config"]) for row in rows]
    keys = [*dict.fromkeys((*ALWAYS, "seed", *differing(configs)))]
    lines = [
        {"run": row["run"], "status": row["status"], **settings(config, keys), **row["final"]}
        for row, config in zip(rows, configs, strict=True)
    ]
    return csv_text(["run", "status", *(key.removesuffix(".name") for key in keys if key != "optim.name")], lines)


def settings(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """Options as on the command line; nothing where a model or a data set has no such option."""
    values = {key: value_of(config, key) for key in keys}
    return {key.removesuffix(".name"): "" if value is None else files.as_typed(value) for key, value in values.items()}


def pictures(arms: Arms) -> Iterator[Picture]:
    every = [row for rows in arms.values() for row in rows]
    measured = {name for row in every for point in row["history"] for name in point}
    if (told := principal("validation", measured)) and any(len(row["history"]) > 1 for row in every):
        metric = f"validation_{told}"
        factor, styles = unit_of(metric).factor, arm_styles(arms, {arm: norm_of(arms[arm], arm) for arm in arms})
        curves = {arm: [scaled(loss_curve(row, metric), factor) for row in rows] for arm, rows in arms.items()}
        yield learning_curves(heading(metric, model_of(every)), curves, styles, "mean", **SIZE)
    yield from series_pictures(arms)


def scaled(curve: Curve, factor: float) -> Curve:
    return curve[0], factor * curve[1]
