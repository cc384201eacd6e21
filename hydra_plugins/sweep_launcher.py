"""`-m` on the command line: Hydra lists the jobs; all cores of this machine run them, or a cluster.

hydra/launcher=sweep, the default, or hydra/launcher=slurm with the options of `experiments.sweeps.slurm.Options`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.sweeps.slurm import Options

if TYPE_CHECKING:  # Hydra reads this file at every start, also for --help
    from experiments.sweeps.audience import Audience
    from experiments.training.schema import Config


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
        try:
            self.run_arms(configs)
        except SweepError:  # the other runs are there
            tell(configs)
            raise
        tell(configs)
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]

    def run_arms(self, configs: "Sequence[Config]") -> None:
        """Run them before the eyes of whoever gave the command: in the terminal and, unless refused, in wandb."""
        from experiments.dashboards import progress
        from experiments.dashboards.wandb.process import mirroring
        from experiments.sweeps.audience import Audience

        with mirroring(configs[0].tracking, configs[0].results) as show:
            self.run_before(Audience(show, progress.display, progress.tasks), configs)

    def run_before(self, audience: "Audience", configs: "Sequence[Config]") -> None:
        from experiments.sweeps import arms

        arms.run_arms(configs, n_jobs=configs[0].n_jobs, audience=audience)


def tell(configs: "Sequence[Config]") -> None:
    """A line for each run that is done, then one for each arm."""
    from experiments.dashboards.sparklines import tell_arms
    from experiments.sweeps.arms import read_arms
    from experiments.training.measured import outcome_line

    outcomes = [arm.outcome() for arm in read_arms(configs)]
    for outcome in outcomes:
        for record in outcome.runs:
            print(outcome_line(record))
    tell_arms(outcomes)


class SlurmLauncher(SweepLauncher):
    """Runs in an array of tasks on a cluster."""

    def __init__(self, **options: Any) -> None:
        plain: Any = OmegaConf.to_container(OmegaConf.create(options))
        self.options = Options(**plain)

    def run_before(self, audience: "Audience", configs: "Sequence[Config]") -> None:
        from experiments.sweeps import cluster

        cluster.run_arms(configs, self.options, audience)
