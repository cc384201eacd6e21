"""`-m` on the command line: Hydra lists the jobs, our sweep runs them side by side (hydra/launcher=sweep)."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConfig:
    _target_: str = "hydra_plugins.sweep_launcher.SweepLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="sweep", node=LauncherConfig)


class Sweeper(BasicSweeper):
    """Hydra's own, but that it does not compose every job beforehand only to see that it can be composed."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        pass


class SweepLauncher(Launcher):
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from experiments.arms import read_arm, run_arms
        from experiments.compose import Jobs
        from experiments.run import outcome_line

        jobs = Jobs(lambda overrides: self.context.config_loader.load_sweep_config(self.config, overrides))
        configs = jobs.configs(job_overrides)
        try:
            run_arms(configs, n_jobs=configs[0].n_jobs)
        finally:  # also where some failed
            for config in configs:
                for record in read_arm(config, [config.seed])[1]:
                    print(outcome_line(record))
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
