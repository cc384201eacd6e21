"""`-m` on the command line: Hydra lists the jobs; all cores of this machine run them, or a cluster.

hydra/launcher=sweep, the default, or hydra/launcher=slurm with the options of `experiments.sweeps.slurm.Options`.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.sweeps.audience import unheard
from experiments.sweeps.slurm import Options

if TYPE_CHECKING:  # Hydra reads this file at every start, also for --help
    from experiments.sweeps.audience import Audience
    from experiments.training.schema import Config

    Hear = Callable[[Mapping[str, Any]], None]


@dataclass
class LauncherConfig:
    _target_: str = "hydra_plugins.sweep_launcher.SweepLauncher"


@dataclass
class SlurmConfig(Options):
    _target_: str = "hydra_plugins.sweep_launcher.SlurmLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="sweep", node=LauncherConfig)
ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmConfig)


class Sweeper(BasicSweeper):
    """Hydra's own, but that it does not compose every job beforehand only to see that it can be composed."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        pass


class SweepLauncher(Launcher):
    """Runs side by side on this machine."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from experiments.sweeps.compose import Jobs
        from experiments.sweeps.failure import SweepError

        jobs = Jobs(lambda overrides: self.context.config_loader.load_sweep_config(self.config, overrides))
        configs = jobs.configs(job_overrides)
        line = line_for_each(configs)
        try:
            self.run_arms(configs, lambda record: line(record) if record["role"] == "evaluate" else None)
        except SweepError:  # the other runs are there
            tell(configs, line)
            raise
        tell(configs, line)
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def run_arms(self, configs: "Sequence[Config]", hear: "Hear" = unheard) -> None:
        """Run them before the eyes of whoever gave the command: in the terminal and, unless refused, in wandb."""
        from experiments.dashboards import progress
        from experiments.dashboards.wandb.process import mirroring
        from experiments.sweeps.audience import Audience

        with mirroring(configs[0].tracking, configs[0].results) as show:
            self.run_before(Audience(show, progress.display, progress.tasks, hear), configs)

    def at_once(self, missing: int, config: "Config") -> int:
        """How many of the missing runs of a sweep are done at a time."""
        from experiments.sweeps.sweep import cores

        return config.n_jobs or cores(config)

    def run_before(self, audience: "Audience", configs: "Sequence[Config]") -> None:
        from experiments.sweeps import arms

        arms.run_arms(configs, n_jobs=configs[0].n_jobs, audience=audience)


def line_for_each(configs: "Sequence[Config]") -> "Hear":
    """Gives what prints a line of a run that is done, once, with what sets it apart."""
    from experiments.reports.settings import apart_by
    from experiments.training.measured import outcome_line

    told, names = set[str](), apart_by({config.arm for config in configs})

    def line(record: Mapping[str, Any]) -> None:
        if (text := outcome_line(record)) not in told:
            told.add(text)
            name = names.get(record["group"], "")
            print(*(text, *([name] if name != record["config"]["norm"] else [])), sep="  ", flush=True)

    return line


def tell(configs: "Sequence[Config]", line: "Hear") -> None:
    """A line for each run that is done and was not seen to end, then one for each arm, and where their files are."""
    from experiments.dashboards.sparklines import tell_arms
    from experiments.reports.sweep_files import write_sweep
    from experiments.sweeps.arms import read_arms
    from experiments.sweeps.collect import to_row

    arms = read_arms(configs)
    runs = [(arm, run.kept) for arm in arms for run in arm.evaluations if run.kept]
    for _, record in runs:
        line(record)
    tell_arms([arm.outcome() for arm in arms])
    rows = [to_row(record, *arm.name, "evaluate", arm.config.scale) for arm, record in runs]
    for path in write_sweep(rows, configs[0].results):
        print(path, file=sys.stderr)


class SlurmLauncher(SweepLauncher):
    """Runs in an array of tasks on a cluster."""

    def __init__(self, **options: Any) -> None:
        plain: Any = OmegaConf.to_container(OmegaConf.create(options))
        self.options = Options(**plain)

    def at_once(self, missing: int, config: "Config") -> int:
        from experiments.sweeps.cluster import shares

        return math.prod(shares(missing, config.n_jobs, self.options))

    def run_before(self, audience: "Audience", configs: "Sequence[Config]") -> None:
        from experiments.sweeps import cluster

        cluster.run_arms(configs, self.options, audience)
