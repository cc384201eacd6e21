"""`-m` on the command line: Hydra composes the jobs, our sweep runs them side by side (hydra/launcher=sweep)."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LauncherConfig:
    _target_: str = "hydra_plugins.sweep_launcher.SweepLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="sweep", node=LauncherConfig)


class SweepLauncher(Launcher):
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from experiments import reproduce, schema
        from experiments.run import outcome_line

        configs = []
        for overrides in job_overrides:
            composed = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            choices = composed.hydra.runtime.choices
            configs.append(schema.to_config(composed, choices["experiment"], choices["scale"]))
        try:
            reproduce.run_arms(configs, workers=configs[0].workers)
        finally:  # also where some failed
            for config in configs:
                for record in reproduce.read_arm(config, [config.seed])[1]:
                    print(outcome_line(record))
        return [JobReturn(overrides=list(o), status=JobStatus.COMPLETED) for o in job_overrides]
