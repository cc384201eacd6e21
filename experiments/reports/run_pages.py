"""evidence/<experiment>.html: every run behind the report, with its configuration, results and learning curve.

A page needs nothing else, neither a network nor a script. Figures and tables of report.html lead to its arms, an arm
leads back to the claims that rest on it, and the id of a run is its anchor.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.records.arm_rows import ArmRows, Runs
from experiments.records.commands import override, run_command
from experiments.records.files import as_typed
from experiments.records.rows import Curve, Row, loss_curve
from experiments.records.table import Origin
from experiments.reports import sentences, tables
from experiments.reports.page import environment
from experiments.reports.scales import Scale, arm_styles, fitting, on_dark
from experiments.reports.settings import RATE, Settings, differing, model_of, norm_of, settings_of
from experiments.verdicts.claims import Registry
from experiments.verdicts.units import heading, unit_of
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.wording import by_number, number, tidy

ROLES = {"evaluate": "Evaluation runs", "tune": "Tuning runs"}
# Of a model, what the experiment's own file states.
STATED = ("name", "hidden_size", "hidden_sizes", "layers", "depth", "width", "embedding_size", "recurrent_scale")
SPENT = ("cpu_seconds", "wall_seconds", "seconds_per_update")  # times that are no measurement, of older records too
BUSY = 0.8  # the least share of a run's wall time, spent on a core, of which no shared core need be suspected
WIDTH, HEIGHT = 110.0, 22.0  # of a curve, in pixels


def run_pages(registry: Registry, runs: Runs, verdicts: Sequence[Verdict], origin: Origin) -> dict[str, str]:
    """The page of each experiment, by the name of its file."""
    template, claims = environment().get_template("runs.html.jinja"), claims_of(registry, verdicts)
    experiments: dict[str, Runs] = {}
    for (experiment, arm), rows in runs.items():
        experiments.setdefault(experiment, Runs())[experiment, arm] = rows
    return {
        f"{name}.html": template.render(_page(name, registry, own, claims, origin))
        for name, own in sorted(experiments.items())
    }


def claims_of(registry: Registry, verdicts: Iterable[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """What came of the claims that rest on each arm."""
    arms = {claim.id: claim.arms() for claim in registry.family}
    found: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        for arm in dict.fromkeys(arms[verdict.id]):
            found.setdefault(arm, []).append(verdict)
    return found


def _page(
    experiment: str, registry: Registry, runs: Runs, claims: Mapping[tuple[str, str], list[Verdict]], origin: Origin
) -> dict[str, Any]:
    arms = {name: runs[experiment, name] for name in sorted((arm for _, arm in runs), key=by_number)}
    settings = {name: _settings(arm) for name, arm in arms.items()}
    changed, styles = differing(settings.values()), arm_styles(arms, {n: norm_of(a.every, n) for n, a in arms.items()})
    losses = [loss for row in runs.rows() for loss in _curve(row)[1] if np.isfinite(loss)]
    scale = fitting(losses, factor=4)
    told = [
        {
            "name": name,
            "colours": (styles[name][0], on_dark(styles[name][0])),
            "own": [f"{key}={as_typed(settings[name][key])}" for key in changed if key in settings[name]],
            "command": command_of(experiment, settings[name], changed, arm, origin.own.get("CONFIGS")),
            **_results(name, arm, scale, claims.get((experiment, name), [])),
        }
        for name, arm in arms.items()
    ]
    return {
        "title": sentences.opening(origin)["title"],
        "experiment": experiment,
        "facts": sentences.facts(registry, runs),
        "synthetic": sentences.is_synthetic(runs),
        "shared": shared(settings, changed),
        "curves": _told(losses, scale),
        "arms": told,
        "crowded": BUSY if any(_crowded(row) for row in runs.rows()) else None,
    }


def _results(name: str, arm: ArmRows, scale: Scale, claims: Sequence[Verdict]) -> dict[str, Any]:
    claimed = [verdict.metric for verdict in claims]
    return {"claims": claims, "tables": [table_of(name, role, arm, scale, claimed) for role in ROLES if arm.of(role)]}


# ------------------------------------------------------------------------------------------------ configurations


def _settings(arm: ArmRows) -> Settings:
    """What the runs of an arm have in common, with a learning rate, last, only where none was tuned."""
    found, first = settings_of(arm.every), arm.every[0]
    rate = first.get("config", {}).get("optim", {}).get("learning_rate")
    return found | ({} if rate is None or arm.tuning else {RATE: rate})


def shared(arms: Mapping[str, Settings], changed: Sequence[str]) -> dict[str, list[str]]:
    """The settings all arms share, by part; without those that do nothing."""
    norms = {str(settings.get("norm")) for settings in arms.values()}
    parts: dict[str, list[str]] = {}
    for key, value in next(iter(arms.values())).items():
        part, _, name = key.rpartition(".")
        if key not in changed and value not in sentences.IDLE and sentences.concerns(name, norms):
            parts.setdefault(part or "run", []).append(f"{name}={as_typed(value)}")
    return parts


def command_of(
    experiment: str, settings: Settings, changed: Sequence[str], arm: ArmRows, configs: str | None = None
) -> str:
    """The command that runs an arm, its tuning included; empty where rows carry no configuration.

    `configs` is the folder of the user's experiments.

    Names the model's options too, but for its sizes: no matter which of these the experiment leaves open.
    """
    rows = arm.evaluations
    if not rows or not settings:
        return ""
    named = [key for key, value in settings.items() if key in changed or _choice(key, value, str(settings["norm"]))]
    seeds = sorted(row["seed"] for row in rows)
    scale = [] if rows[0]["scale"] == "laptop" else [f"scale={rows[0]['scale']}"]
    study = [f"first_seed={seeds[0]}"] if seeds[0] and arm.tuning else []
    words = [f"experiment={experiment}", *scale, *study, *(override(key, settings[key]) for key in named)]
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    words.append(f"seed=range({seeds[0]},{seeds[-1] + 1})" if whole else f"seed={','.join(map(str, seeds))}")
    return run_command([*(["--config-dir", configs] if configs else []), *words], sweep=True)


def _choice(key: str, value: Any, norm: str) -> bool:
    part, _, name = key.rpartition(".")
    return part == "model" and name not in STATED and value not in sentences.IDLE and sentences.concerns(name, [norm])


# ---------------------------------------------------------------------------------------------------------- runs


def table_of(name: str, role: str, arm: ArmRows, scale: Scale, claimed: Iterable[str]) -> dict[str, Any]:
    """A line for each run; `claimed` are the metrics of claims."""
    rows = arm.of(role)
    columns = metrics(rows, role, claimed)
    chosen = arm.choice.learning_rate if role == "tune" else None
    curves = {row["run"]: curve_of(row, scale) for row in rows}
    return {
        "anchor": f"{name}-{role}",
        "title": f"{len(rows)} {ROLES[role].lower()}",
        "chosen": tidy(chosen) if chosen else "",
        "metrics": [heading(name, model_of(rows)) for name in columns],
        "curves": any(curves.values()),
        "runs": [
            {
                "id": row["run"],
                "seed": row["seed"],
                "rate": tidy(row["learning_rate"]),
                "chosen": chosen is not None and row["learning_rate"] == chosen,
                "status": row["status"],
                "values": [number(unit_of(column).shown(_value(row, column)), 4) for column in columns],
                "seconds": _seconds(row),
                "curve": curves[row["run"]],
            }
            for row in rows
        ],
    }


def _seconds(row: Row) -> str:
    """CPU seconds, with their share of the wall time where a core may have been shared."""
    share = f" ({100 * _busy_share(row):.0f} %)" if _crowded(row) else ""
    return f"{number(row['timing'].get('cpu_seconds'), 3)}{share}"


def _crowded(row: Row) -> bool:
    return _busy_share(row) < BUSY


def _busy_share(row: Row) -> float:
    """CPU seconds for each wall second of a run, NaN where that was not measured."""
    wall, cpu = row["timing"].get("wall_seconds"), row["timing"].get("cpu_seconds")
    return cpu / wall if cpu and wall else math.nan


def metrics(rows: Sequence[Row], role: str, claimed: Iterable[str]) -> list[str]:
    """Of what was measured: all of a probe, the principal metrics of a training run and those claims are about."""
    known = list(dict.fromkeys(name for row in rows for name in (*row["final"], *row["timing"])))
    measured = [name for name in known if name not in SPENT]
    if role == "tune":
        return sorted(name for name in measured if name.startswith("validation_"))
    if not any(row["history"] for row in rows):
        return sorted(measured, key=by_number)
    principal = ["validation_loss", *tables.SHOWN]
    if any(row["final"].get("test_batch_loss_increase") for row in rows):
        principal += tables.STATISTICS
    return [name for name in dict.fromkeys([*principal, *claimed]) if name in known]


def _value(row: Row, name: str) -> float | None:
    value: float | None = row["final"].get(name, row["timing"].get(name))
    return value


def _curve(row: Row) -> Curve:
    """The learning curve of a run; empty where it was evaluated once, at its end."""
    updates, losses = loss_curve(row)
    return (updates, losses) if updates.size > 1 else (updates[:0], losses[:0])


def _told(losses: Sequence[float], scale: Scale) -> str:
    """Between what losses the curves are drawn."""
    if not losses:
        return ""
    ends = f"from {number(min(losses))} to {number(max(losses))}"
    return f"All learning curves share one {'logarithmic ' if scale.log else ''}scale, validation losses {ends}."


def curve_of(row: Row, scale: Scale) -> Markup:
    """The validation losses of a run as a small drawing, with gaps where they are not finite; empty of a single one."""
    updates, losses = _curve(row)
    if not updates.size:
        return Markup("")
    across, up = WIDTH * updates / updates[-1], HEIGHT * (1 - scale(losses))
    path, pen = "", "M"
    for x, y in zip(across.tolist(), up.tolist(), strict=True):
        path, pen = (path, "M") if np.isnan(y) else (f"{path}{pen}{x:.0f} {y:.1f}", "L")
    told = f"validation loss from {number(losses[0])} to {number(losses[-1])}"
    drawn = (
        f'<svg class="curve" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{told}"><path d="{path}"/></svg>'
    )
    return Markup(drawn)
