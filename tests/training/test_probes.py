"""Probes: what they report, and on which side of the claims' bounds each norm falls."""

from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import data
from data import mnist, text
from experiments.training import probes, schema
from experiments.training.probes import dynamics
from experiments.training.probes.parts.histogram import histogram
from experiments.training.probes.properties import residual
from experiments.training.probes.table1 import TABLE_1, TRANSFORMATIONS
from models import language_model, mlp
from models.norms import NORMS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
IMAGES = mnist.Config(source="synthetic", crop=20)
TEXT = text.Config(corpus="synthetic", sequence_length=8, validation_size=600, test_size=600)
LSTM = language_model.Config(cell="lstm", hidden_size=8)
# The experiments of exact claims, small: probe, model, data, batch size
EXACT: dict[str, tuple[str, Any, Any, int]] = {
    "exact_table1": ("table1", mlp.Config(), IMAGES, 32),
    "exact_geometry": ("geometry", mlp.Config(), IMAGES, 32),
    "exact_input_scaling": ("input_scaling", mlp.Config(hidden_sizes=[16, 16]), IMAGES, 32),
    "exact_data_parallel": ("data_parallel", mlp.Config(hidden_sizes=[16, 16]), IMAGES, 32),
    "exact_split_batch": ("split_batch", mlp.Config(hidden_sizes=[16, 16]), IMAGES, 32),
    "exact_mlp": ("properties", mlp.Config(hidden_sizes=[16, 16]), IMAGES, 16),
    "exact_one_case_mlp": ("one_case", mlp.Config(hidden_sizes=[16, 16]), IMAGES, 1),
    "exact_one_case_lstm": ("one_case", LSTM, TEXT, 1),
    "exact_time_steps": ("time_steps", LSTM, TEXT, 4),
}
CLAIMS = [
    claim
    for path in sorted(CONFIGS.glob("claims/[A-Z]*.yaml"))
    for claim in yaml.safe_load(path.read_text())
    if claim["kind"] == "bound" and claim["experiment"] in EXACT
]


def experiment(name: str) -> Any:
    return yaml.safe_load((CONFIGS / "experiment" / f"{name}.yaml").read_text())


def measure(name: str, norm: str) -> dict[str, float]:
    probe, model, source, batch_size = EXACT[name]
    optim = schema.Optim(**experiment(name).get("optim", {}))
    config = schema.Config(norm=norm, model=model, optim=optim, updates=5)
    return probes.load(probe).measure(config, data.load(source, batch_size=batch_size, seed=0))


measured = cache(measure)


def norms_of(name: str) -> tuple[str, ...]:
    """Those that the experiment's probe knows."""
    return probes.load(EXACT[name][0]).norms or tuple(NORMS)


def test_every_exact_experiment_is_here_with_its_probe() -> None:
    found = {path.stem: experiment(path.stem).get("method") for path in CONFIGS.glob("experiment/exact_*.yaml")}
    assert found == {name: probe for name, (probe, *_) in EXACT.items()}


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim["id"] for claim in CLAIMS])
def test_norms_fall_on_the_right_side_of_a_claims_bound(claim: dict[str, Any]) -> None:
    for arm in claim["arms"]:
        norm = experiment(claim["experiment"])["arms"][arm]["norm"]
        value = measured(claim["experiment"], norm)[claim["metric"]]
        assert value <= claim.get("at_most", value) and value >= claim.get("at_least", value), (arm, value)


@pytest.mark.parametrize("name", EXACT)
def test_a_probe_reports_the_metrics_it_declares(name: str) -> None:
    rows = {norm: measured(name, norm) for norm in norms_of(name)}
    declared = probes.load(EXACT[name][0]).metrics
    assert len(set(declared)) == len(declared)
    assert all(set(row) == set(declared) for row in rows.values())
    assert all(isinstance(value, float) and isfinite(value) for row in rows.values() for value in row.values())


@pytest.mark.parametrize("name, norm", [(name, norm) for name in EXACT for norm in norms_of(name)])
def test_a_probe_depends_on_its_seed_alone(name: str, norm: str) -> None:
    torch.manual_seed(7)
    assert measure(name, norm) == measured(name, norm)


def test_every_table_row_has_the_worst_of_its_cells() -> None:
    for norm, cells in TABLE_1.items():
        row = measured("exact_table1", norm)
        changes = [row[name] for name in TRANSFORMATIONS]
        invariant = [change for change, cell in zip(changes, cells, strict=True) if cell]
        other = [change for change, cell in zip(changes, cells, strict=True) if not cell]
        assert row["largest_invariant_change"] == max(invariant, default=0)
        assert row["smallest_other_change"] == min(other, default=0)


def test_the_eps_of_all_models_leaves_table_1_invariant_up_to_its_own_size() -> None:
    """eps beside a variance of order 1 moves outputs by about eps; weight norm has none."""
    worst = {norm: measured("exact_table1", norm)["production_largest_invariant_change"] for norm in TABLE_1}
    assert all(1e-7 < worst[norm] < 1e-3 for norm in ("batch", "layer", "rms"))
    assert worst["weight"] < 1e-12 and worst["none"] == worst["instance"] == 0


def test_batch_norm_fixes_units_and_layer_norm_cases() -> None:
    units, cases = ([f"{kind}_{moment}_deviation" for moment in ("mean", "variance")] for kind in ("unit", "layer"))
    batch, layer = measured("exact_mlp", "batch"), measured("exact_mlp", "layer")
    assert max(batch[name] for name in units) < 1e-2 < min(batch[name] for name in cases)
    assert max(layer[name] for name in cases) < 1e-2 < min(layer[name] for name in units)


def test_the_residual_is_that_of_one_line_a_case() -> None:
    a = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lines = torch.arange(1.0, 6)[:, None] * a - 3
    assert residual(a, lines) < 1e-12
    lines[2, 3] += 1
    assert 0.1 < residual(a, lines) < 1


# Dynamics


def measure_dynamics(monkeypatch: pytest.MonkeyPatch, cell: str, norm: str, steps: int) -> dict[str, float]:
    monkeypatch.setattr(dynamics, "STEPS", steps)
    monkeypatch.setattr(dynamics, "BACK", steps // 2)
    config = schema.Config(norm=norm, seed=0, model=language_model.Config(cell=cell, hidden_size=16))
    source = text.Config(corpus="synthetic", sequence_length=steps, validation_size=600, test_size=600)
    return dynamics.measure(config, data.load(source, batch_size=2, seed=0))


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_dynamics_reports_what_it_declares(monkeypatch: pytest.MonkeyPatch, cell: str, norm: str) -> None:
    row = measure_dynamics(monkeypatch, cell, norm, steps=6)
    assert row.keys() == {*dynamics.METRICS, "histograms"}
    ratios = [row[f"log10_gradient_ratio_x{scale:g}"] for scale in dynamics.SCALES]
    assert row["gradient_ratio_spread"] == max(ratios) - min(ratios) > 0


def test_layer_norm_steadies_gradients_and_states_of_a_tanh_net(monkeypatch: pytest.MonkeyPatch) -> None:
    none, layer = (measure_dynamics(monkeypatch, "tanh", norm, steps=60) for norm in ("none", "layer"))
    for spread in ("gradient_ratio_spread", "state_norm_spread"):
        assert layer[spread] < none[spread] / 2


def test_values_that_are_not_finite_are_in_no_histogram() -> None:
    counts, edges = histogram(torch.tensor([1.0, float("nan"), 2.0, float("inf")]))
    assert (sum(counts), edges[0], edges[-1]) == (2, 1, 2)
    assert sum(histogram(torch.tensor([float("nan")]))[0]) == 0
