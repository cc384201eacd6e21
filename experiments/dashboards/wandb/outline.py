"""What there is to show of each experiment: its arms, curves and ends, from a table of runs and the claims.

In the table stands every arm, metric, rate and batch size; it is read in a quarter of a second, where to compose the
configurations of all arms takes seconds and Hydra. The claims say which of the many metrics decide something.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.records.rows import Row
from experiments.reports.scales import arm_styles
from experiments.reports.settings import differing
from experiments.verdicts.claims import Registry
from experiments.verdicts.wording import principal


@dataclass(frozen=True)
class Outline:
    """What there is to show of an experiment; metrics without the experiment's name."""

    experiment: str
    colours: Mapping[str, str]  # by arm
    rates: Mapping[str, frozenset[float]]  # by arm
    curves: tuple[str, ...]  # the main metric at each evaluation, the training loss; none of a measurement
    finals: tuple[str, ...]  # the main metric on the test set and what claims decide by
    by_batch: bool  # runs differ in batch size, so equal updates are not equal numbers of cases
    tuned: bool
    claims: tuple[str, ...]


def outlines(rows: Iterable[Row], registry: Registry) -> list[Outline]:
    """Trainings first, then measurements; none of what has neither curves nor a claim."""
    experiments: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        experiments[row["experiment"]].append(row)
    every = [outline_of(name, group, registry) for name, group in sorted(experiments.items())]
    return sorted((outline for outline in every if outline.finals), key=lambda outline: not outline.curves)


def outline_of(experiment: str, rows: Sequence[Row], registry: Registry) -> Outline:
    evaluated = [row for row in rows if row["role"] == "evaluate"]
    at_evaluations = {name for row in evaluated for point in row["history"] for name in point}
    at_the_end = {name for row in evaluated for name in row["final"]}
    main = principal("validation", at_evaluations)
    claims = [claim for claim in registry.family if experiment in {name for name, _ in claim.arms()}]
    wanted = [f"test_{main}", *sorted({claim.metric for claim in claims})]
    norms = {row["arm"]: row["config"]["norm"] for row in rows}
    rates: dict[str, set[float]] = defaultdict(set)
    for row in rows:
        rates[row["arm"]] |= {row["learning_rate"]} - {None}
    return Outline(
        experiment,
        {arm: colour for arm, (colour, _) in arm_styles(sorted(norms), norms).items()},
        {arm: frozenset(tried) for arm, tried in rates.items()},
        (f"validation_{main}", "train_loss") if main else (),
        tuple(dict.fromkeys(name for name in wanted if name in at_the_end)),
        "batch_size" in differing(row["config"] for row in evaluated),
        any(row["role"] == "tune" for row in rows),
        tuple(claim.id for claim in claims),
    )
