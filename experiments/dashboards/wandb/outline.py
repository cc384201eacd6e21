"""What there is to show of each experiment: its arms, curves and ends, from a table of runs and the claims.

In the table stands every arm, metric, rate and batch size; it is read in a quarter of a second, where to compose the
configurations of all arms takes seconds and Hydra. The claims say which of the many metrics decide something.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.dashboards.wandb.run import identifier
from experiments.records.rows import Row
from experiments.reports.scales import arm_styles
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.wording import METRICS


@dataclass(frozen=True)
class Outline:
    """What there is to show of an experiment; metrics without the experiment's name."""

    experiment: str
    colours: Mapping[str, str]  # by arm
    rates: Mapping[str, frozenset[float]]  # by arm
    curves: tuple[str, ...]  # the main metric at each evaluation, the training loss; none of a measurement
    finals: tuple[str, ...]  # the main metric on the test set and what claims decide by
    by_batch: bool  # arms differ in batch size, so equal updates are not equal numbers of cases
    trials: Mapping[str, str]  # the arm of each tuning run, by its id in wandb
    claims: tuple[Claim, ...]


def outlines(rows: Iterable[Row], registry: Registry) -> list[Outline]:
    """Trainings first, then measurements; none of what has neither curves nor a claim."""
    experiments: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        experiments[row["experiment"]].append(row)
    found = [_outline(name, group, registry) for name, group in sorted(experiments.items())]
    return sorted((outline for outline in found if outline.finals), key=lambda outline: not outline.curves)


def _outline(experiment: str, rows: Sequence[Row], registry: Registry) -> Outline:
    evaluated = [row for row in rows if row["role"] == "evaluate"]
    logged = {name for row in evaluated for point in row["history"] for name in point}
    ended = {name for row in evaluated for name in row["final"]}
    main = next((name for name in METRICS if f"validation_{name}" in logged), None)
    claims = tuple(claim for claim in registry.family if experiment in {name for name, _ in claim.arms()})
    wanted = [f"test_{main}", *sorted({claim.metric for claim in claims})]
    norms = {row["arm"]: row["config"]["norm"] for row in rows}
    return Outline(
        experiment,
        {arm: colour for arm, (colour, _) in arm_styles(sorted(norms), norms).items()},
        _rates(rows),
        (f"validation_{main}", "train_loss") if main else (),
        tuple(dict.fromkeys(name for name in wanted if name in ended)),
        len({row["config"]["batch_size"] for row in evaluated}) > 1,
        {identifier(dict(row)): row["arm"] for row in rows if row["role"] == "tune"},
        claims,
    )


def _rates(rows: Iterable[Row]) -> dict[str, frozenset[float]]:
    rates: dict[str, set[float]] = defaultdict(set)
    for row in rows:
        rates[row["arm"]] |= {row["learning_rate"]} - {None}
    return {arm: frozenset(found) for arm, found in rates.items()}
