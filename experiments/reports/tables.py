"""Tables: the verdicts for a terminal and for pages, and the arms behind one verdict.

What report.md and report.html both show is made once, as columns of cells by their heading.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from experiments.records.arm_rows import Runs
from experiments.records.printable import printable
from experiments.records.rows import Row
from experiments.reports.settings import model_of
from experiments.verdicts.claims import PAPER, SAID_BY, Claim, Sentence
from experiments.verdicts.evidence import evaluations, metric_value, updates_to
from experiments.verdicts.stats import paired_interval
from experiments.verdicts.units import UPDATES, Unit, as_factor, heading, told, unit_of
from experiments.verdicts.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    INCOMPLETE,
    INCONCLUSIVE,
    SUPPORTED,
    Verdict,
)
from experiments.verdicts.wording import by_number, number, tidy

Columns = Mapping[str, Sequence[str]]
Places = Mapping[str, str]  # of the sentences of paper and notes, by their ids

SYMBOLS = {SUPPORTED: "✔", CONTRADICTED: "✘", EQUIVALENT: "≈", INCONCLUSIVE: "?", INCOMPLETE: "…"}
_TERMINAL = {
    SUPPORTED: "green",
    CONTRADICTED: "red",
    EQUIVALENT: "cyan",
    INCONCLUSIVE: "yellow",
    INCOMPLETE: "dim",
}


def verdict_table(verdicts: Iterable[Verdict]) -> Table:
    """The verdicts for a terminal; without one, rich prints the same as plain text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("claim", "said by", "verdict", "estimate [95 %]"):
        table.add_column(header, overflow="fold")
    table.add_column("seeds alike", justify="right")
    for verdict in verdicts:
        outcome = Text(outcome_text(verdict), style=_TERMINAL[verdict.verdict])
        table.add_row(verdict.id, said_text(verdict), outcome, Text(estimate_text(verdict)), alike(verdict))
    return table


def terminal_table(columns: Columns, title: str = "") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=not table.columns)  # the first says what a row is about
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def markdown_table(verdicts: Sequence[Verdict], places: Places, report: str = "") -> str:
    """The verdicts for report.md, and for other pages given the path of the report their links lead to."""
    columns = {
        "claim": [f"[{v.id}]({report}#{anchor(v)})" for v in verdicts],
        "said by": [said_where(v, places) for v in verdicts],
        "statement": [v.statement for v in verdicts],
        "verdict": [outcome_text(v) for v in verdicts],
        "estimate [95 %]": [estimate_text(v) for v in verdicts],
        "seeds alike": [alike(v) for v in verdicts],
    }
    return markdown(columns)


def sentence_table(said: Sequence[tuple[Sentence, Sequence[Verdict]]]) -> str:
    """What the paper and the notes say, each with the verdicts on it or why there is none."""
    columns = {
        "said in": [f"{sentence.id}, {sentence.place}" for sentence, _ in said],
        "words": [sentence.words for sentence, _ in said],
        "claims": [
            " ".join(f"{SYMBOLS[v.verdict]} [{v.id}](#{anchor(v)})" for v in verdicts)
            or sentence.untested
            or "not among these claims"
            for sentence, verdicts in said
        ],
    }
    return markdown(columns)


def outcome_text(verdict: Verdict) -> str:
    return f"{SYMBOLS[verdict.verdict]} {verdict.verdict}"


def anchor(verdict: Verdict) -> str:
    """Of its heading in report.md, as GitHub makes it."""
    return verdict.id.lower().replace(".", "")


def said_text(verdict: Verdict) -> str:
    """Who says it and where: `paper 6.6`, `note A2.4`, `suite`."""
    return " ".join(dict.fromkeys((verdict.said_by, verdict.source)))


def said_where(verdict: Verdict, places: Places) -> str:
    """Who says it and where, for those who do not know the names of sentences: `paper, section 3.1`."""
    place = places.get(verdict.source, "")
    return f"paper, {place}" if verdict.said_by == PAPER and place else place or verdict.said_by


def alike(verdict: Verdict) -> str:
    """On how many seeds the difference has the sign of the estimate, or where it is equivalent lies within the margin.

    Of a bound, how many runs keep it; nothing where runs diverged, for records do not tell by which sign.
    """
    if verdict.kind == "bound":
        return f"{verdict.kept} of {len(verdict.runs)}" if verdict.kept is not None else "-"
    if verdict.estimate is None or not verdict.differences or not verdict.finite:
        return "-"
    d = np.array(verdict.differences, dtype=float)
    same = abs(d) < verdict.margin if verdict.verdict == EQUIVALENT else d * verdict.estimate > 0
    return f"{int(same.sum())} of {d.size}"


def counts_columns(verdicts: Sequence[Verdict]) -> Columns:
    """How many claims came to each verdict, by who says them; what holds by construction apart from what is tested."""
    kinds = {False: "tested", True: "identities"}
    groups = [(someone, exact) for exact in kinds for someone in SAID_BY]
    found = {group: [v.verdict for v in verdicts if (v.said_by, v.kind == "bound") == group] for group in groups}
    found = {group: of_group for group, of_group in found.items() if of_group}
    columns = {"said by": [f"{someone}, {kinds[exact]}" for someone, exact in found] + ["all"]}
    for name, symbol in SYMBOLS.items():
        counted = [of_group.count(name) for of_group in found.values()]
        columns[f"{symbol} {name}"] = [str(count or "") for count in counted] + [str(sum(counted))]
    return {heading: cells for heading, cells in columns.items() if cells[-1] != "0"}


def markdown(columns: Columns) -> str:
    lines = [_row(columns), "|---" * len(columns) + "|", *map(_row, zip(*columns.values(), strict=True))]
    return "\n".join(lines)


def arm_columns(claim: Claim, verdict: Verdict, runs: Runs) -> Columns:
    """What each arm of a claim came to, one row per arm; columns without content are left out."""
    columns: dict[str, list[str]] = {"arm": [f"`{label}`" for label in claim.labels]}
    stats = [verdict.arms[label] for label in claim.labels]
    unit = UPDATES if claim.target is not None else unit_of(claim.metric)
    columns[f"mean ± sd{unit.name and ', ' + unit.name}"] = [_mean_sd(arm, unit) for arm in stats]
    if claim.kind != "bound":
        columns["95 % interval of the mean"] = [_mean_interval(claim, label, runs, unit) for label in claim.labels]
    columns["median"] = [number(unit.shown(arm["median"]), 4) for arm in stats]
    columns["learning rate"] = [tidy(arm["learning_rate"]) for arm in stats]
    columns["diverged"] = [str(arm["diverged"]) for arm in stats]
    columns["undefined"] = [str(arm["undefined"]) for arm in stats]
    columns |= _to_controls_level(claim, runs)
    return {name: cells for name, cells in columns.items() if any(cell not in ("-", "0") for cell in cells)}


def _mean_interval(claim: Claim, label: str, runs: Runs, unit: Unit) -> str:
    """Student's t for the mean of one arm; the comparison rests on the paired differences, which vary less."""
    values = np.array([metric_value(row, claim) for row in evaluations(claim, label, runs)])
    if values.size < 2 or not np.isfinite(values).all():
        return "-"
    low, high = paired_interval(unit.factor * values)
    return f"{number(low, 4)} to {number(high, 4)}"


def step_time_columns(arms: Mapping[str, Sequence[Row]]) -> Columns:
    """Milliseconds of an update and their ratio to `none`, a row for each arm and a column for each norm."""
    first = next(iter(arms.values()))[0]["timing"]
    norms = [name.removeprefix("milliseconds_") for name in sorted(first) if name.startswith("milliseconds_")]
    norms.sort(key=lambda norm: norm != "none")
    columns = {"recurrent layer": [f"`{arm}`" for arm in arms], "runs": [str(len(rows)) for rows in arms.values()]}
    for norm in norms:
        times = [_middle(rows, f"milliseconds_{norm}") for rows in arms.values()]
        ratios = ["" if norm == "none" else f" (× {_middle(rows, f'{norm}_over_none')})" for rows in arms.values()]
        columns[norm] = [time + ratio for time, ratio in zip(times, ratios, strict=True)]
    return columns


def _middle(rows: Sequence[Row], name: str) -> str:
    return number(float(np.median([row["timing"][name] for row in rows])), 3)


SHOWN = ("mean_train_loss", "mean_validation_loss", "test_loss", "test_error", "test_bits_per_character")
# Of batch norm: averages taken anew, and what each mini-batch's own statistics add to that.
STATISTICS = ("test_reestimated_loss", "test_batch_loss_increase")


def experiment_columns(arms: Mapping[str, Sequence[Row]]) -> Columns:
    """The final metrics of all arms of an experiment, one row per arm."""
    every = [row for rows in arms.values() for row in rows]
    finals, model = [row["final"] for row in every], model_of(every)
    shown = [name for name in SHOWN if any(name in final for final in finals)]
    if any(final.get("test_batch_loss_increase") for final in finals):
        shown += STATISTICS
    return {
        "arm": [f"`{arm}`" for arm in arms],
        "learning rate": [tidy(rows[0]["learning_rate"]) for rows in arms.values()],
        "runs": [str(len(rows)) for rows in arms.values()],
        "status": [", ".join(sorted({str(row["status"]) for row in rows})) for rows in arms.values()],
        **{heading(name, model): [_spread_of(name, rows) for rows in arms.values()] for name in shown},
    }


def measurement_columns(arms: Mapping[str, Sequence[Row]]) -> Columns:
    """What an experiment without test metrics measured, one row per metric and a column per arm."""
    names = sorted({name for rows in arms.values() for name in rows[0]["final"]}, key=by_number)
    columns = {f"`{arm}`": [_spread_of(name, rows) for name in names] for arm, rows in arms.items()}
    return {"metric": [f"`{name}`" for name in names], "unit": [unit_of(name).name for name in names], **columns}


def _spread_of(name: str, rows: Sequence[Row]) -> str:
    if not all(name in row["final"] for row in rows):
        return "-"
    return _spread([unit_of(name).shown(row["final"][name]) for row in rows])


def _spread(values: Sequence[float | None]) -> str:
    finite = np.array([value for value in values if value is not None])
    if len(finite) < len(values):
        return f"{len(values) - len(finite)} not finite"
    return f"{number(float(finite.mean()), 4)} ± {number(float(finite.std(ddof=1)) if len(finite) > 1 else None, 2)}"


def _to_controls_level(claim: Claim, runs: Runs) -> dict[str, list[str]]:
    """When each arm's validation loss is down to the control's final one, in updates and in CPU seconds of training.

    The control is the arm that is subtracted. Medians over the seeds; the factor is the share of what the control took
    to its end. Seeds on which it diverged have nothing to reach; an arm that never gets there counts as infinity.
    """
    control = claim.control
    if control is None:
        return {}
    ends = {row["seed"]: row["history"][-1] for row in evaluations(claim, control, runs) if row["history"]}
    ends = {seed: end for seed, end in ends.items() if end.get("validation_loss") is not None}
    return {
        f"{unit} to {control}'s final validation loss": [
            _reached([row for row in evaluations(claim, label, runs) if row["seed"] in ends], ends, axis)
            for label in claim.labels
        ]
        for axis, unit in (("update", "updates"), ("cpu_seconds", "CPU seconds"))
    }


def _reached(rows: Sequence[Row], ends: Mapping[int, Row], axis: str) -> str:
    """The median over runs of when they came to the ends of their seeds, and its share of those."""
    if not rows or any(point.get(axis) is None for row in rows for point in (*row["history"], ends[row["seed"]])):
        return "-"  # older records have no CPU time
    goals = [ends[row["seed"]] for row in rows]
    reached = [
        updates_to(goal["validation_loss"], "validation_loss", row["history"], axis)
        for row, goal in zip(rows, goals, strict=True)
    ]
    middle, whole = float(np.median(reached)), float(np.median([goal[axis] for goal in goals]))
    return f"{number(middle)} ({middle / whole:.2f}×)" if math.isfinite(middle) else "never"


def _mean_sd(arm: Mapping[str, Any], unit: Unit) -> str:
    return "-" if arm["mean"] is None else f"{number(unit.shown(arm['mean']), 4)} ± {number(unit.shown(arm['sd']), 2)}"


def estimate_text(verdict: Verdict) -> str:
    """Effect and interval; a factor where logarithms were compared, the worst value for a bound."""
    if verdict.verdict == INCOMPLETE:
        return "-"
    if verdict.estimate is None:  # JSON knows no infinity
        return "not finite"
    if verdict.kind == "bound":
        return f"worst {number(verdict.estimate)}"
    if verdict.ratio is not None:
        return as_factor(verdict.estimate, verdict.interval)
    return told(verdict.estimate, verdict.metric, verdict.interval)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(tagless(printable(cell)).replace("|", "\\|") for cell in cells) + " |"


def tagless(markdown: str) -> str:
    """Markdown in which nothing is HTML."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)
