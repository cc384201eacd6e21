"""evidence/<experiment>.html: every run behind the report, with its configuration, results and learning curve.

A page needs nothing else, neither a network nor a script. Figures and tables of report.html lead to its arms, an arm
leads back to the claims that rest on it, and the id of a run is its anchor.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from markupsafe import Markup

from experiments.records.files import flat
from experiments.records.rows import Curve, Row, Runs, loss_curve
from experiments.records.tuning import best_learning_rate
from experiments.reports import sentences, tables
from experiments.reports.page import environment
from experiments.reports.scales import Scale, arm_styles, fitting, on_dark
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import Verdict
from experiments.verdicts.wording import by_number, number, tidy

ROLES = {"evaluate": "Evaluation runs", "tune": "Tuning runs"}
RATE = "optim.learning_rate"
# Of a model, what the experiment's own file states.
STATED = ("name", "hidden_size", "hidden_sizes", "layers", "depth", "width", "embedding_size", "recurrent_scale")
SPENT = ("cpu_seconds", "wall_seconds", "seconds_per_update")  # times that are no measurement
WIDTH, HEIGHT = 110.0, 22.0  # of a curve, in pixels

Settings = Mapping[str, Any]  # a configuration, flat: `model.hidden_size` and the like


def run_pages(registry: Registry, runs: Runs, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The page of each experiment, by the name of its file."""
    template, claims = environment().get_template("runs.html.jinja"), claims_of(registry, verdicts)
    pages = {}
    for experiment in sorted({experiment for experiment, _, _ in runs}):
        own = {key: rows for key, rows in runs.items() if key[0] == experiment}
        pages[f"{experiment}.html"] = template.render(_page(experiment, registry, own, claims))
    return pages


def claims_of(registry: Registry, verdicts: Iterable[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """What came of the claims that rest on each arm."""
    arms = {claim.id: claim.arms() for claim in registry.family}
    found: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        for arm in dict.fromkeys(arms[verdict.id]):
            found.setdefault(arm, []).append(verdict)
    return found


def _page(
    experiment: str, registry: Registry, runs: Runs, claims: Mapping[tuple[str, str], list[Verdict]]
) -> dict[str, Any]:
    names = sorted({arm for _, arm, _ in runs}, key=by_number)
    groups = {
        arm: {role: runs[experiment, arm, role] for role in ROLES if (experiment, arm, role) in runs} for arm in names
    }
    settings = {arm: settings_of(groups[arm]) for arm in names}
    changed, styles = differing(list(settings.values())), arm_styles(names)
    losses = [loss for row in chain(*runs.values()) for loss in _curve(row)[1] if np.isfinite(loss)]
    scale = fitting(losses, factor=4)
    arms = [
        {
            "name": arm,
            "colours": (styles[arm][0], on_dark(styles[arm][0])),
            "own": [f"{key}={plain(settings[arm][key])}" for key in changed if key in settings[arm]],
            "command": command_of(experiment, settings[arm], changed, groups[arm]),
            **_results(arm, groups[arm], scale, claims.get((experiment, arm), [])),
        }
        for arm in names
    ]
    return {
        "experiment": experiment,
        "facts": sentences.facts(registry, runs),
        "synthetic": sentences.is_synthetic(runs),
        "shared": shared(settings, changed),
        "curves": _told(losses, scale),
        "arms": arms,
    }


def _results(arm: str, groups: Mapping[str, Sequence[Row]], scale: Scale, claims: Sequence[Verdict]) -> dict[str, Any]:
    claimed = [verdict.metric for verdict in claims]
    return {
        "claims": claims,
        "tables": [table_of(arm, role, rows, scale, claimed) for role, rows in groups.items()],
    }


# ------------------------------------------------------------------------------------------------ configurations


def settings_of(groups: Mapping[str, Sequence[Row]]) -> Settings:
    """What the runs of an arm have in common, with a learning rate, last, only where none was tuned.

    Empty where rows carry no configuration.
    """
    first = next(iter(groups.values()))[0]
    found = {key: value for key, value in flat(first.get("config", {})).items() if key != "seed"}
    rate = found.pop(RATE, None)
    return found | ({} if rate is None or "tune" in groups else {RATE: rate})


def differing(arms: Sequence[Settings]) -> list[str]:
    """The settings that are not the same in all arms, and the norm, which arms are about."""
    keys = dict.fromkeys(key for settings in arms for key in settings)
    return [key for key in keys if key == "norm" or any(_other(settings, arms[0], key) for settings in arms)]


def _other(one: Settings, other: Settings, key: str) -> bool:
    return (key in one) != (key in other) or one.get(key) != other.get(key)


def shared(arms: Mapping[str, Settings], changed: Sequence[str]) -> dict[str, list[str]]:
    """The settings all arms share, by part; without those that do nothing."""
    norms = {str(settings.get("norm")) for settings in arms.values()}
    parts: dict[str, list[str]] = {}
    for key, value in next(iter(arms.values())).items():
        part, _, name = key.rpartition(".")
        if key not in changed and value not in sentences.IDLE and sentences.concerns(name, norms):
            parts.setdefault(part or "run", []).append(f"{name}={plain(value)}")
    return parts


def command_of(experiment: str, settings: Settings, changed: Sequence[str], groups: Mapping[str, Sequence[Row]]) -> str:
    """The command that runs an arm, its tuning included; empty where rows carry no configuration.

    Names the model's options too, but for its sizes: no matter which of these the experiment leaves open.
    """
    rows = groups.get("evaluate")
    if not rows or not settings:
        return ""
    named = [key for key, value in settings.items() if key in changed or _choice(key, value, str(settings["norm"]))]
    scale = [] if rows[0]["scale"] == "laptop" else [f"scale={rows[0]['scale']}"]
    words = [f"experiment={experiment}", *scale, *(f"{key}={plain(settings[key])}" for key in named)]
    seeds = sorted(row["seed"] for row in rows)
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    words.append(f"seed=range({seeds[0]},{seeds[-1] + 1})" if whole else f"seed={','.join(map(str, seeds))}")
    return " ".join(["python -m experiments.run -m", *map(shlex.quote, words)])


def _choice(key: str, value: Any, norm: str) -> bool:
    part, _, name = key.rpartition(".")
    return part == "model" and name not in STATED and value not in sentences.IDLE and sentences.concerns(name, [norm])


def plain(value: Any) -> str:
    """As on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


# ---------------------------------------------------------------------------------------------------------- runs


def table_of(arm: str, role: str, rows: Sequence[Row], scale: Scale, claimed: Iterable[str]) -> dict[str, Any]:
    """A line for each run; `claimed` are the metrics of claims."""
    names = metrics(rows, role, claimed)
    chosen = best_learning_rate(rows)[0] if role == "tune" else None
    curves = {row["run"]: curve_of(row, scale) for row in rows}
    return {
        "anchor": f"{arm}-{role}",
        "title": f"{len(rows)} {ROLES[role].lower()}",
        "chosen": tidy(chosen) if chosen else "",
        "metrics": [name.replace("_", " ") for name in names],
        "curves": any(curves.values()),
        "runs": [
            {
                "id": row["run"],
                "seed": row["seed"],
                "rate": tidy(row["learning_rate"]),
                "chosen": chosen is not None and row["learning_rate"] == chosen,
                "status": row["status"],
                "values": [number(_value(row, name), 4) for name in names],
                "seconds": number(row["timing"].get("wall_seconds"), 3),
                "curve": curves[row["run"]],
            }
            for row in rows
        ],
    }


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
