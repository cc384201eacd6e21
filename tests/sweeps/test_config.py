"""Every experiment composes, every claim finds its arms, and bad input ends in one line before any training."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache, partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import data
from data import mnist, recall, text
from experiments.records.files import flat
from experiments.sweeps import compose as compose_module
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.options import register
from experiments.sweeps.preflight import declared
from experiments.training import checks, schema
from experiments.training.schema import Config, ConfigError
from experiments.verdicts.claims import ClaimError, check_against
from experiments.verdicts.claims_file import load_claims

EXPERIMENTS = sorted(path.stem for path in (schema.CONFIGS / "experiment").glob("*.yaml"))
SCALES = sorted(path.stem for path in (schema.CONFIGS / "scale").glob("*.yaml"))
# Of scales that ask some claims alone, the experiments that are run.
SOME = {scale: sorted({name for name, _ in load_claims().at(scale).arms()}) for scale in load_claims().only}


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield


@cache
def compose(experiment: str, *overrides: str) -> Config:
    return compose_module.compose_config(experiment, overrides)


@cache
def arms_at(scale: str) -> dict[Name, Config]:
    GlobalHydra.instance().clear()
    return compose_module.compose_arms([f"scale={scale}"], SOME.get(scale, ()))


@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_composes_at_every_scale(scale: str) -> None:
    if scale not in SOME:  # what is run without an experiment has no arms
        custom = compose("custom", f"scale={scale}")
        assert (custom.experiment, custom.scale) == ("custom", scale)
    lengths: dict[str, set[int]] = {}
    for (experiment, arm), config in arms_at(scale).items():
        assert (config.experiment, config.arm, config.scale) == (experiment, arm, scale)
        lengths.setdefault(experiment, set()).add(0 if config.training_cases else config.updates)
        assert config.training_cases or "updates" not in flat(config.arms[arm])
    assert lengths.keys() == {*SOME.get(scale, EXPERIMENTS)} - {"custom"}
    assert all(len(updates) == 1 for updates in lengths.values()), lengths


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_arms_are_what_the_command_line_would_make_of_their_values(experiment: str) -> None:
    by_hydra = {arm: compose(experiment, *overrides(values)) for arm, values in compose(experiment).arms.items()}
    assert {arm: arms_at("laptop")[experiment, arm] for arm in by_hydra} == by_hydra


def overrides(values: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in flat(values).items()]


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_claim_compares_differs_only_in_what_its_arms_say(scale: str) -> None:
    for claim in load_claims().at(scale).claims:
        if claim.id in (
            "A1-mlp-small-batch",
        ):  # a difference of differences: updates go with the batch, for both norms
            continue
        configs = [arms_at(scale)[arm] for arm in claim.arms()]
        own = {key for config, (_, arm) in zip(configs, claim.arms(), strict=True) for key in flat(config.arms[arm])}
        first, *others = [shared(config, own) for config in configs]
        assert all(other == first for other in others), claim.id
        for config in configs[1:]:
            assert config.updates == configs[0].updates or config.training_cases, claim.id


def shared(config: Config, own: set[str]) -> tuple[Any, ...]:
    """All that arms of one claim must have in common: the values that make them apart, and further test splits."""
    model = {key: value for key, value in vars(config.model).items() if f"model.{key}" not in own}
    source = {key: value for key, value in vars(config.data).items() if f"data.{key}" not in own}
    for key in ("test_length", "test_lengths", "test_distances", "repeated_lengths"):
        source.pop(key, None)
    optim = {key: value for key, value in vars(config.optim).items() if f"optim.{key}" not in own}
    return model, source, optim, config.tuning


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_learning_rates_are_spaced_by_three_and_tuned_on_seeds_of_their_own(experiment: str) -> None:
    config = compose(experiment)
    rates = config.tuning.learning_rates
    assert all(2.9 < after / before < 3.4 for before, after in pairwise(rates))
    assert not set(config.tuning.seeds) & set(range(config.seeds))
    assert len(rates) != 1


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_says_its_command_its_cost_and_what_to_expect(experiment: str) -> None:
    header = (schema.CONFIGS / "experiment" / f"{experiment}.yaml").read_text()
    if experiment != "custom":
        assert f"layernorm run -m experiment={experiment}" in header
        assert "Cost:" in header and "Expected:" in header


def test_the_paper_scale_has_the_papers_sizes() -> None:
    config = compose("mlp_batch4", "scale=paper")
    assert config.model.hidden_sizes == [1000, 1000] and config.updates == 60 * 55_000 // 4


def test_the_command_line_wins_over_the_papers_sizes() -> None:
    config = compose("mlp_batch4", "scale=paper", "updates=7", "model.hidden_sizes=[5]")
    assert (config.model.hidden_sizes, config.updates, config.evaluations) == ([5], 7, 60)
    GlobalHydra.instance().clear()
    arms = compose_module.compose_arms(["scale=paper", "updates=7", "training_cases=0"])
    assert {config.updates for config in arms.values() if not config.training_cases} == {7}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_evening_is_longer_than_the_laptop_and_else_the_same(experiment: str) -> None:
    """Runs that are no longer are the laptop's own."""
    for name in compose(experiment).arms:
        short, long = (arms_at(scale)[experiment, name] for scale in ("laptop", "evening"))
        cut = replace(long, updates=short.updates, training_cases=short.training_cases, evaluations=short.evaluations)
        assert schema.scientific(cut) == schema.scientific(short)
        if long.updates != short.updates:
            assert long.updates >= 7 * short.updates and long.evaluations % 8 == 0
            assert set(long.tuning.learning_rates) >= set(short.tuning.learning_rates)


@pytest.mark.parametrize("scale", ["laptop", "evening"])
def test_a_replication_shares_no_run_and_no_rate_with_the_original(scale: str) -> None:
    GlobalHydra.instance().clear()
    again = composed_arms([f"scale={scale}", "first_seed=100"])
    for name, config in again.items():
        first, second = (Arm(found, found.evaluation_seeds) for found in (arms_at(scale)[name], config))
        seeds = {seed for arm in (first, second) for seed in (*arm.seeds, *arm.config.tuning.every_seed)}
        assert len(seeds) == 2 * (config.seeds + len(config.tuning.every_seed))
        assert len(second.grid) == len(first.grid) and second.seeds[0] == 100
        assert not first.grid or first.choice_file != second.choice_file


def test_the_first_seed_is_no_science_and_survives_its_record() -> None:
    original, again = compose("lm_lstm"), compose("lm_lstm", "first_seed=100")
    assert schema.scientific(original) == schema.scientific(again)
    assert checks.from_plain(asdict(again)) == again


def test_every_scale_that_is_named_somewhere_exists_and_asks_what_has_sizes_there() -> None:
    sizes = {
        name: set(yaml.safe_load((schema.CONFIGS / "experiment" / f"{name}.yaml").read_text()).get("sizes", ()))
        for name in EXPERIMENTS
    }
    registry = load_claims()
    assert set().union(*sizes.values(), registry.only) <= {*SCALES}
    for scale in registry.only:
        asked = [claim for claim in registry.at(scale).claims if not claim.asked_at]
        assert {name for claim in asked for name, _ in claim.arms()} == {n for n in EXPERIMENTS if scale in sizes[n]}


@pytest.mark.parametrize(("scale", "factor"), [("width2", 2), ("width4", 4)])
def test_wider_nets_differ_from_those_of_another_scale_in_their_width_alone(scale: str, factor: int) -> None:
    for name in load_claims().at(scale).arms():
        wide = arms_at(scale)[name]
        narrow = next(
            found for found in (arms_at("laptop")[name], arms_at("evening")[name]) if found.updates == wide.updates
        )
        before, after = (flat(asdict(config.model)) for config in (narrow, wide))
        changed = {key for key in before if before[key] != after[key]}
        assert changed <= {"hidden_size", "hidden_sizes", "width", "input_scale"}, name
        for key in changed - {"input_scale"}:
            values = [found if isinstance(found, list) else [found] for found in (before[key], after[key])]
            assert [factor * value for value in values[0]] == values[1]
        if before.get("input_scale", 1) != 1:  # inputs of unit size, where initial weights are of size 1 / sqrt(width)
            assert after["input_scale"] == pytest.approx(after["hidden_size"] ** 0.5, rel=0.01)
        assert asdict(wide.optim) == asdict(narrow.optim) and asdict(wide.data) == asdict(narrow.data)
        assert wide.evaluations == narrow.evaluations


def test_what_only_claims_need_is_not_part_of_a_run() -> None:
    config = compose("mlp_batch4")
    assert (config.sizes, config.deviations) == ({}, "")


@pytest.mark.parametrize(
    ("experiment", "setting", "values"),
    [
        ("custom", ("data.layout=rows", "data.permuted=true"), "data: {layout: rows, permuted: true}"),
        ("custom", ("model.hidden_sizes=[64,32]",), "model: {hidden_sizes: [64, 32]}"),
        ("lm_gru", ("model.gain=null", "model.recurrent_scale=4"), "model: {gain: null, recurrent_scale: 4}"),
        ("lm_gru", ("model.gain=1",), "model: {gain: 1}"),
        ("custom", ("optim.learning_rate=1e-2",), "optim: {learning_rate: 0.01}"),
    ],
)
def test_a_run_is_an_arms_if_its_whole_configuration_is(experiment: str, setting: tuple[str, ...], values: str) -> None:
    chosen = partial(compose, experiment, *setting, f"+arms.mine={{norm: layer, {values}}}")
    assert chosen("norm=layer").arm == "mine"
    assert chosen("norm=layer", "seed=3", "optim.learning_rate=0.5").arm == "mine"
    assert chosen("norm=layer", "updates=7").arm == "mine updates=7"
    assert chosen("norm=rms").arm not in ("mine", "layer")


def test_an_arm_keeps_its_name_whatever_a_command_line_makes_of_it() -> None:
    """Claims rest on arms by name: no other configuration can take one."""

    def name(*overrides: str) -> str:
        return compose_module.compose_config("mlp_batches", overrides).arm

    batch, layer = (("norm=batch", "batch_size=4"), ("norm=layer", "batch_size=4"))
    assert name(*batch, "arms.layer_b4={norm: batch, batch_size: 4}") == name(*batch) == "batch_b4"
    assert name(*layer, "~arms.layer_b4") == name(*layer) == "layer_b4"


def test_a_run_that_is_no_arm_is_named_by_what_differs(tmp_path: Path) -> None:
    def name(*overrides: str) -> str:
        return compose_module.compose_config("lm_gru", overrides).arm

    assert name("norm=layer") == "layer" and name("norm=rms") == "rms"
    assert name("norm=layer", "batch_size=8", "updates=40") == "layer batch_size=8 updates=40"
    for content in ("to be " * 500, "or not " * 500):  # of one name, but two texts
        (tmp_path / "mine.txt").write_text(content)
        digest = sha256(content.encode()).hexdigest()[:6]
        assert name("norm=layer", f"data.path={tmp_path}/mine.txt") == f"layer data.path=mine.txt@{digest}"
    rows = compose("custom", "norm=layer", "data.layout=rows", "data.permuted=true", "model.hidden_sizes=[8,9]")
    assert rows.arm == "layer model.hidden_sizes=[8,9] data.layout=rows data.permuted=true"
    other = compose("custom", "norm=layer", "model=cnn", "model.padding=circular")
    assert other.arm == "layer model=cnn model.padding=circular"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{norm: foo}", "custom: arms.mine: norm=foo: choose one of none, layer, rms"),
        ("{nrm: layer}", "custom: arms.mine.nrm: Key 'nrm' not in 'Config'; did you mean norm"),
        ("{model: {gane: 1}}", "custom: arms.mine.model.gane: Key 'gane' not in 'MLPConfig'; did you mean model.gain"),
        ("{batch_size: abc}", "custom: arms.mine.batch_size: Value 'abc' of type 'str' could not be converted to Int"),
        ("{model: cnn}", "custom: arms.mine: cnn is no mapping of keys to values, such as {norm: layer}"),
    ],
)
def test_a_mistaken_arm_is_told_in_one_line(values: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_module.arm_configs(compose_module.load(["experiment=custom", f"+arms.mine={values}"]))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_declared_claims_find_their_arms_and_metrics() -> None:
    check_against(load_claims(), *declared(arms_of(*EXPERIMENTS)))


def arms_of(*experiments: str, **changes: Any) -> dict[Name, Config]:
    return {
        (name, arm): replace(compose(name, *overrides(values)), **changes)
        for name in experiments
        for arm, values in compose(name).arms.items()
    }


@pytest.mark.parametrize(
    "options",
    [
        mnist.Config(layout="rows", test_lengths=[14, 30], repeated_lengths=[40, 30]),
        recall.Config(test_distances=[60]),
        text.Config(test_length=80),
    ],
)
def test_the_names_of_test_splits_are_known_before_the_data(options: Any) -> None:
    synthetic = {"mnist": {"source": "synthetic"}, "text": {"corpus": "synthetic"}}
    source = data.load(replace(options, **synthetic.get(options.name, {})), batch_size=4, seed=0)
    assert source.test_splits == data.test_splits(options)


def test_a_tuned_claim_on_a_grid_of_one_rate_is_refused() -> None:
    registry = load_claims().select(["B5-gap-worse"])
    arms = arms_of("cnn_gap", tuning=schema.Tuning(learning_rates=[0.1]))
    with pytest.raises(ClaimError, match="tries 1 learning rates; a tuned claim needs at least 3"):
        check_against(registry, *declared(arms))


def test_an_override_of_what_the_arms_differ_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"norm=\.\.\.: the arms of .* differ in it"):
        GlobalHydra.instance().clear()  # compose_arms brings its own
        compose_module.compose_arms(["norm=layer"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["norm=foo"], "norm=foo: choose one of none, layer, rms, group, instance, batch, renorm, sync_batch, weight"),
        (["batch_size=-3"], "batch_size=-3: must be at least 1"),
        (["optim.learning_rate=nan"], "optim.learning_rate=nan: must be at least 0"),
        (["optim.schedule=step"], "optim.schedule=step: choose one of linear, cosine, constant"),
        (["model=cnn", "model.head=avg"], "model.head=avg: choose one of flatten, gap"),
        (["model=cnn", "model.padding=mirror"], "model.padding=mirror: choose one of zeros, circular"),
        (["model.detach=var"], "model.detach=var: choose one of none, mean, std, both"),
        (["model.ghost_size=-1"], "model.ghost_size=-1: must be at least 0"),
        (["seed=-1"], "seed=-1: must be at least 0"),
        (["model=language_model", "model.variant=pre"], "model.variant=pre: choose one of paper, inner_bias, carried"),
    ],
)
def test_values_no_run_can_have_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        compose("custom", *overrides)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "experiments.run", "tracking=none", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=mlp"], "Key 'modle' not in 'Config'; did you mean model? valid keys: method, norm"),
        (["model=transformer"], "model=transformer: choose one of cnn, draw"),
        (["results=/proc/nowhere", "data.source=synthetic"], "cannot write to /proc/nowhere"),
    ],
)
def test_the_command_line_tells_mistakes_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = command("results=" + str(tmp_path), *arguments)
    assert done.returncode != 0 and message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("result.json"))
