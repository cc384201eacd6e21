"""Probes of trained recurrent nets: how summed inputs vary with the step, what high learning rates do to the state."""

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor

import data
from data import mnist, text
from experiments.training import schema
from experiments.training.measured import metric_names
from experiments.training.probes import stability, step_statistics
from experiments.training.train import evaluate
from experiments.training.training_run import summary
from models import build, language_model, sequence_classifier
from models.recurrence import state_norm_drift

TEXT = text.Config(corpus="synthetic", sequence_length=12, validation_size=900)
ROWS = mnist.Config(source="synthetic", crop=20, layout="rows", validation_size=50)


def configured(cell: str, norm: str = "none", source: Any = TEXT, **changes: Any) -> schema.Config:
    kind = language_model if source is TEXT else sequence_classifier
    model = kind.Config(cell=cell, hidden_size=8)
    return schema.Config(norm=norm, seed=2000, model=model, data=source, **{"updates": 3, "evaluations": 2, **changes})


# Statistics of the steps

STEPS, CASES, UNITS = 30, 4000, 5


def noise(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(STEPS, CASES, UNITS, generator=draw, dtype=torch.float64)


def test_a_mean_that_moves_explains_its_share_of_the_variance() -> None:
    movement = 0.5 * torch.sin(torch.arange(STEPS, dtype=torch.float64))[:, None, None]
    expected = movement.var(unbiased=False) / (movement.var(unbiased=False) + 1)
    shares = step_statistics.mean_movement_share(3 * (noise() + movement) + 7)  # of any scale and mean
    assert shares.shape == (UNITS,) and torch.allclose(shares, expected.expand(UNITS), rtol=0.1)
    assert torch.allclose(step_statistics.mean_movement_share(movement.expand(STEPS, 4, UNITS)), torch.ones(1).double())


def test_where_nothing_moves_the_share_is_zero_however_few_the_cases() -> None:
    """Errors of means would have explained a tenth of the variance."""
    few = noise().view(STEPS, CASES // 10, 10 * UNITS).view(STEPS, 10, -1)
    assert few.mean(1).var(0, unbiased=False).mean() > 0.08
    assert float(step_statistics.mean_movement_share(few).mean()) == pytest.approx(0, abs=0.003)


def test_the_ratio_of_deviations_is_that_of_the_steps_and_not_their_errors() -> None:
    widths = torch.linspace(1, 4, STEPS, dtype=torch.float64)[:, None, None]
    assert torch.allclose(
        step_statistics.deviation_ratio(widths * noise()), torch.full((UNITS,), 4.0).double(), rtol=0.1
    )
    few = noise().view(STEPS, 20, -1)
    naive = few.std(1).max(0).values / few.std(1).min(0).values
    assert naive.log().mean() > 0.5
    assert float(step_statistics.deviation_ratio(few).log().mean()) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("source", [TEXT, ROWS], ids=["text", "rows"])
def test_summed_inputs_are_those_from_which_the_layer_makes_its_states(source: Any, norm: str) -> None:
    config = configured("tanh", norm, source)
    loaded = data.load(source, batch_size=4, seed=0)
    model: Any = build(config.model, norm, loaded.spec, 0).double().eval()
    layer = model.rnn.layers[0]
    with torch.no_grad():
        layer.norm_a.shift.normal_()
        states = [
            layer(x.t() if source is TEXT else x.transpose(0, 1).double())[0] for x, _ in loaded.batches("validation")
        ]
        sums = step_statistics.summed_inputs(model, loaded)
        assert torch.allclose(torch.tanh(layer.norm_a(sums)), torch.cat(states, 1))


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
@pytest.mark.parametrize("source", [TEXT, ROWS], ids=["text", "rows"])
def test_the_statistics_of_every_cell_are_measured(source: Any, cell: str) -> None:
    config = configured(cell, source=source, optim=schema.Optim(learning_rate=0.01))
    row = step_statistics.measure(config, data.load(source, batch_size=4, seed=0))
    histograms = row.pop("histograms")
    assert row.keys() == set(step_statistics.METRICS) and set(histograms) == {"mean_movement_shares"}
    assert -0.1 < row["mean_movement_share"] <= 1 and row["deviation_ratio"] > 0


# Stability


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("source", [TEXT, ROWS], ids=["text", "rows"])
def test_a_training_diverges_where_it_ends_at_chance(source: Any, norm: str) -> None:
    loaded = data.load(source, batch_size=8, seed=0)
    row = stability.measure(configured("lstm", norm, source, optim=schema.Optim("sgd", momentum=0.9)), loaded)
    chance = log(loaded.spec.outputs)
    losses = [row[f"loss_at_{rate:g}"] for rate in stability.RATES]
    assert row.keys() == set(stability.METRICS) and max(losses) <= chance
    assert row["diverged_share"] == losses.count(chance) / len(losses)
    drifts = [row[f"state_norm_drift_at_{rate:g}"] for rate in stability.RATES]
    assert min(drifts) > 0 and row["largest_state_norm_drift"] == max(drifts)
    assert all(0 < row[f"state_norm_at_{rate:g}"] < 1 for rate in stability.RATES)


def test_a_state_driven_into_saturation_has_drifted_from_where_it_was() -> None:
    loaded = data.load(TEXT, batch_size=8, seed=0)
    config = configured("tanh", optim=schema.Optim("adam"), updates=40)
    loss, (before, *lengths) = stability.course(config, loaded, 100.0)
    assert loss > log(loaded.spec.outputs) and before < 0.7
    assert min(lengths) > 0.9 and state_norm_drift(lengths) < 0.05 < state_norm_drift([before, *lengths])


def test_the_drift_is_between_the_longest_and_the_shortest() -> None:
    assert state_norm_drift([0.2, 2.0, 0.02]) == pytest.approx(2)
    assert state_norm_drift([0.3]) == state_norm_drift([0.3, float("nan"), float("inf")]) == 0
    assert state_norm_drift([float("nan")]) != state_norm_drift([float("nan")])  # not a number
    history = [{"update": k, "seconds": 0.0, "train_loss": 1.0, "validation_state_norm": 10.0**-k} for k in range(3)]
    assert summary(history)["state_norm_drift"] == pytest.approx(2)


# In a training run


def test_a_run_measures_the_length_of_the_last_state_where_asked_for() -> None:
    plain = schema.Config(model=language_model.Config(), data=TEXT)
    asked = schema.Config(model=language_model.Config(state_norm=True), data=TEXT)
    more = metric_names(asked) - metric_names(plain)
    assert {"validation_state_norm", "mean_validation_state_norm", "state_norm_drift"} <= more
    assert all("state_norm" in name for name in more) and metric_names(plain) < metric_names(asked)
    loaded = data.load(TEXT, batch_size=4, seed=0)
    found = [evaluate(build(config.model, "layer", loaded.spec, 0), loaded, "validation") for config in (plain, asked)]
    assert 0 < found[1].pop("state_norm") < 1 and found[0] == found[1]
