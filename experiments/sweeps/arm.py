"""An arm of an experiment: the runs that tune its learning rate, the rate, and the runs at its seeds.

Tune, then choose, then evaluate: whoever runs, counts, waits for or reads an arm's runs asks here.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from experiments.records import files, tuning
from experiments.training import schema
from experiments.training.identity import Run
from experiments.training.schema import Config, ConfigError

Name = tuple[str, str]  # experiment and arm, as a claim names them


@dataclass(frozen=True)
class Outcome:
    """The records of an arm's evaluation, of so many that were asked for."""

    experiment: str
    arm: str
    asked: int
    runs: Sequence[dict[str, Any]]


class Arm:
    """A configuration, whose learning rate may be open, and the seeds it is evaluated on.

    `trials` are the runs that choose the rate, none where it is given: at first those in the middle of the grid, more
    as their results come (`tuning.next_trials`). The runs of its evaluation have no identity before the rate is known:
    until then `evaluations` is empty.
    """

    def __init__(self, config: Config, seeds: Iterable[int]) -> None:
        self.config, self.seeds = config, list(dict.fromkeys(seeds))
        self.grid = tuning_trials(config)
        self.trials: list[Run] = []
        self.evaluations: list[Run] = []
        self.tuned: dict[Path, dict[str, Any]] = {}  # records of trials that are done
        self.climb()
        if not self.grid:
            self.evaluate_at(config.optim.learning_rate)

    @property
    def name(self) -> Name:
        return self.config.experiment, self.config.arm

    @property
    def runs(self) -> list[Run]:
        return self.trials + self.evaluations

    # ---------------------------------------------------------------------------------------------------- running

    def ready(self) -> list[Run]:
        """What can be run before anything else is done."""
        return self.trials or self.evaluations

    def after(self, trial: Run, record: dict[str, Any]) -> list[Run]:
        """Take note of a trial that is done; what it makes possible.

        After the last one of those begun these are further trials or, once the rate is chosen and kept, the evaluation.
        """
        self.tuned[trial.folder.path] = record
        if self.evaluations or len(self.tuned) < len({run.folder.path for run in self.trials}):
            return []
        if further := self.climb():
            return further
        choice = tuning.choose(map(tuning_row, self.tuned.values()))
        tuning.write_choice(self.choice_file, choice, {"arm": self.config.arm})
        self.evaluate_at(choice.learning_rate)
        return self.evaluations

    def climb(self) -> list[Run]:
        """Begin the trials that those which are done ask for; none once the rate can be chosen."""
        if not self.grid:
            return []
        losses, how = tuning.tuning_losses(map(tuning_row, self.tuned.values())), self.config.tuning
        wanted = tuning.next_trials(how.learning_rates, how.seeds, how.further_seeds, losses)
        further = [Run(tuning_config(self.config, trial)) for trial in wanted]
        self.trials += further
        return further

    # ---------------------------------------------------------------------------------------------------- reading

    def look(self) -> None:
        """See what has been done since the last look."""
        for run in self.trials:  # which grow meanwhile
            run.look()
            if run.kept and run is self.trials[-1] and all(trial.kept for trial in self.trials):
                self.tuned = {trial.folder.path: trial.kept for trial in self.trials if trial.kept}
                self.climb()
        if not self.evaluations and (rate := self.chosen_rate()) is not None:
            self.evaluate_at(rate)
        for run in self.evaluations:
            run.look()

    def chosen_rate(self) -> float | None:
        """By the trials where all are there, else as it was kept when it was chosen; None before all are done."""
        records = [run.kept for run in self.trials if run.kept]
        if len(records) == len(self.trials):
            return tuning.choose(map(tuning_row, records)).learning_rate
        kept = None if self.config.rerun_changed else tuning.read_choice(self.choice_file)
        return kept.learning_rate if kept else None

    def counts(self) -> Counter[str]:
        """How many of its runs are in each state."""
        unnamed = len(self.seeds) - len(self.evaluations)
        return Counter(run.state for run in self.runs) + Counter(missing=unnamed)

    def outcome(self) -> Outcome:
        """Of what was done when last looked."""
        return Outcome(*self.name, len(self.seeds), [run.kept for run in self.evaluations if run.kept])

    def at_seed(self, seed: int) -> Config:
        return schema.at(self.config, seed, self.config.optim.learning_rate)

    def evaluate_at(self, learning_rate: float | None) -> None:
        self.evaluations = [Run(schema.at(self.config, seed, learning_rate)) for seed in self.seeds]

    @property
    def choice_file(self) -> Path:
        """Where the rate is kept once it is chosen: named by all that the choice depends on."""
        grid = "".join(sorted(Run(tuning_config(self.config, trial)).id for trial in self.grid))
        name = f"{self.config.norm}-{hashlib.sha256(grid.encode()).hexdigest()[:10]}.json"
        return Path(self.config.results) / "rates" / self.config.experiment / name


def tuning_trials(config: Config) -> list[tuning.Trial]:
    """The rates and seeds that may choose an arm's learning rate; none if the configuration names one."""
    if config.method != "train" or config.optim.learning_rate is not None:
        return []
    if not config.tuning.learning_rates:
        raise ConfigError("optim.learning_rate is null and tuning.learning_rates empty: give a rate or a grid of rates")
    return list(product(config.tuning.learning_rates, config.tuning.every_seed))


def tuning_config(config: Config, trial: tuning.Trial) -> Config:
    rate, seed = trial
    return schema.at(dataclasses.replace(config, evaluations=1), seed, rate)  # the loss at the end is what counts


def tuning_row(record: dict[str, Any]) -> dict[str, Any]:
    config = record["config"]
    return {**record, "role": "tune", "learning_rate": config["optim"]["learning_rate"], "seed": config["seed"]}


def arms_of(configs: Sequence[Config]) -> list[Arm]:
    """Configurations as arms: those that differ in nothing but their seed are one."""
    found: dict[str, list[Config]] = {}
    for config in configs:
        alike = schema.at(config, 0, config.optim.learning_rate)  # tuned or given, a rate tells arms apart
        found.setdefault(config.experiment + files.identity(schema.scientific(alike)), []).append(config)
    return [Arm(group[0], [config.seed for config in group]) for group in found.values()]


class Plan:
    """The runs of several arms: which can be started first, and which become possible as others end."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = arms
        self.waiting: dict[Path, list[Arm]] = {}  # for each trial; arms may share some
        self.done: dict[Path, dict[str, Any]] = {}  # records of trials
        for arm in arms:
            self.wait(arm, arm.trials)

    @property
    def total(self) -> int:
        """How many runs there are, as far as is known: an arm may come to want more trials."""
        trials = {trial.folder.path for arm in self.arms for trial in arm.trials}
        return len(trials) + sum(len(arm.seeds) for arm in self.arms)

    def first(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.ready()]

    def wait(self, arm: Arm, trials: Iterable[Run]) -> None:
        for path in {trial.folder.path for trial in trials}:
            self.waiting.setdefault(path, []).append(arm)

    def after(self, run: Run, record: dict[str, Any]) -> list[Run]:
        found: list[Run] = []
        for arm in self.waiting.pop(run.folder.path, []):
            self.done[run.folder.path] = record
            further = arm.after(run, record)
            found += further
            if not arm.evaluations:
                self.wait(arm, further)
                for trial in further:  # another arm may have had it done
                    if (known := self.done.get(trial.folder.path)) is not None:
                        found += self.after(trial, known)
        return found
