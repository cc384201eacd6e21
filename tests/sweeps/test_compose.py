"""The jobs of a sweep are composed quickly, and to what Hydra would make of each in full."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig

from experiments.sweeps.compose import Jobs
from experiments.sweeps.options import register
from experiments.training import schema
from experiments.training.schema import ConfigError

loaded: list[list[str]] = []


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register()
    loaded.clear()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield


def load(overrides: list[str]) -> DictConfig:
    loaded.append(overrides)
    return compose("run", ["tracking=none", *overrides], return_hydra_config=True)


JOBS = [
    ["experiment=lm_lstm", "norm=layer", "seed=3"],
    ["experiment=lm_lstm", "norm=layer", "seed=4"],
    ["experiment=lm_lstm", "norm=none", "seed=4", "optim.learning_rate=0.03"],
    ["experiment=lm_lstm", "norm=none", "seed=4", "optim.learning_rate=null", "model.cell=gru"],
    ["experiment=mlp_batch4", "scale=paper", "model.hidden_sizes=[16,8]"],
    ["model=cnn", "data=cifar10", "data.source=synthetic", "results='some where'"],
    ["experiment=lm_lstm", "tuning={learning_rates:[0.1,0.3,1.0]}", "seed=7"],
    ["experiment=lm_lstm", "+arms.mine={norm: rms}"],
]


def test_jobs_are_what_composing_each_in_full_makes_of_them() -> None:
    jobs = Jobs(load)
    assert jobs.configs(JOBS) == [jobs.in_full(overrides) for overrides in JOBS]


def test_what_differs_in_values_alone_is_composed_once() -> None:
    jobs = Jobs(load)
    sweep = [["experiment=lm_lstm", f"norm={norm}", f"seed={seed}"] for norm in ("none", "layer") for seed in range(50)]
    configs = jobs.configs(sweep)
    assert len({(config.norm, config.seed) for config in configs}) == 100
    assert len(loaded) == 2  # the groups, and the experiment


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("seed=-1", ConfigError),
        ("seed=1.5", HydraException),
        ("seed=true", HydraException),
        ("norm=foo", ConfigError),
        ("optim.momentun=0.5", HydraException),
        ("optim.momentum=high", HydraException),
        ("model.hidden_sizes=3", HydraException),
        ("experiment=foo", HydraException),
    ],
)
def test_a_wrong_job_is_refused_as_it_is_in_full(override: str, error: type[Exception]) -> None:
    jobs = Jobs(load)
    with pytest.raises(error) as in_full:
        jobs.in_full([override])
    with pytest.raises(error) as quick:
        jobs.config([override])
    assert str(quick.value) == str(in_full.value)
