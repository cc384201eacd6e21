"""Section 5 on one layer and in training: which laws hold to rounding, with which norm, and which do not."""

from functools import cache
from typing import Any

import pytest
import torch

import data
from data import mnist
from experiments.training import probes, schema
from experiments.training.probes import geometry
from experiments.training.probes.parts.layer import generic_layer
from experiments.training.probes.split_batch import gradient
from models import mlp
from models.norms import NORMS

NORMALIZED = ("batch", "layer", "weight", "rms")
# Whose output follows from weights and inputs alone: that of batch renormalisation depends on what came before.
LAWFUL = [norm for norm in NORMS if norm != "renorm"]
every_norm = pytest.mark.parametrize("norm", LAWFUL)
PLAIN_SGD = schema.Optim("sgd", 0.03, momentum=0.0, schedule="constant")


def measure(probe: str, norm: str, *, updates: int = 8, batch_size: int = 32, seed: int = 100) -> dict[str, float]:
    model = mlp.Config(hidden_sizes=[16, 16])
    config = schema.Config(norm=norm, seed=seed, model=model, optim=PLAIN_SGD, updates=updates)
    return probes.load(probe).measure(
        config, data.load(mnist.Config(source="synthetic"), batch_size=batch_size, seed=seed)
    )


@cache
def laws(norm: str) -> dict[str, float]:
    return measure("geometry", norm)


@pytest.mark.parametrize("norm", [*NORMALIZED, "sync_batch", "group"])
def test_gradient_and_metric_of_a_matrix_obey_their_laws(norm: str) -> None:
    for name in ("gradient_law_deviation", "fisher_law_deviation", "gradient_weight_cosine"):
        # Of group norm 2e-9, where the eps of 1e-12 stands beside values that lie close.
        assert laws(norm)[name] < (1e-7 if norm == "group" else 1e-9), name
    assert laws(norm)["largest_norm_decrease"] < 0 < laws(norm)["norm_growth"] - 1


def test_without_a_norm_no_law_holds() -> None:
    """There the Fisher block does not depend on the weights at all: d^2 - 1 at d = 4, 2^2 - 1 for one row."""
    none = laws("none")
    assert none["fisher_law_deviation"] == pytest.approx(15) and none["fisher_row_deviation"] == pytest.approx(3)
    assert min(none["gradient_law_deviation"], none["gradient_weight_cosine"], none["largest_row_cosine"]) > 1e-2


@every_norm
def test_only_batch_and_weight_norm_obey_them_unit_by_unit(norm: str) -> None:
    if norm == "instance":  # undefined for single units
        return
    by_unit = [laws(norm)[name] for name in ("fisher_row_deviation", "largest_row_cosine")]
    assert max(by_unit) < 1e-9 if norm in ("batch", "sync_batch", "weight") else min(by_unit) > 1e-2


@every_norm
def test_the_metric_along_the_gain_is_free_of_the_inputs_scale_where_sums_are_normalised(norm: str) -> None:
    change = laws(norm)["gain_metric_change"]
    assert change == pytest.approx(99) if norm in ("none", "weight") else change < 1e-9


@pytest.mark.parametrize("norm", NORMALIZED)
def test_a_step_lengthens_the_weights_by_pythagoras(norm: str) -> None:
    layer = generic_layer(norm, 25, 16, torch.Generator().manual_seed(0))
    x, target = (torch.randn(8, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (25, 16))
    before, slope = layer.weights.detach().norm() ** 2, geometry.gradient(layer, x, target)
    geometry.descent(layer, [(x, target)], PLAIN_SGD)
    after = layer.weights.detach().norm() ** 2
    assert after == pytest.approx(float(before + (PLAIN_SGD.learning_rate * slope.norm()) ** 2), rel=1e-10)


@every_norm
def test_the_metric_along_the_gains_is_the_derivatives(norm: str) -> None:
    """Against autograd, where there is a gain; it is closed form because without a norm there is none."""
    layer = generic_layer(norm, 25, 16, torch.Generator().manual_seed(0))
    x = torch.randn(8, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if norm == "none":
        assert torch.equal(layer.magnitudes, layer.weights.norm(dim=1))
        return
    gain: Any = layer.norm.gain if norm != "weight" else layer.linear.get_parameter("parametrizations.weight.original0")
    y = layer(x).flatten()
    slopes = torch.autograd.grad(y, gain, torch.eye(len(y), dtype=y.dtype), is_grads_batched=True)[0].flatten(1)
    assert float(geometry.gain_metric(layer, x)) == pytest.approx(float(slopes.square().sum() / y.numel()))


def test_the_fisher_block_is_the_expected_square_of_the_score() -> None:
    """F = E[score score^T] for targets drawn from the model: a Monte Carlo estimate, with layer norm."""
    draw = torch.Generator().manual_seed(0)
    layer = generic_layer("layer", 3, 4, draw)
    x = torch.randn(1, 3, dtype=torch.float64, generator=draw)
    exact = geometry.fisher(layer, x)
    y = layer(x).detach()
    targets = y + torch.randn(1000, 4, dtype=torch.float64, generator=draw)
    scores = torch.stack([geometry.gradient(layer, x, target[None]).flatten() for target in targets])
    assert geometry.distance(scores.t() @ scores / len(scores), exact) < 0.2


def test_every_norm_has_the_same_weights_gains_and_shifts() -> None:
    layers: list[Any] = [generic_layer(norm, 5, 4, torch.Generator().manual_seed(3)) for norm in NORMS]
    for layer in layers[1:]:
        assert torch.equal(layer.weights, layers[0].weights)
        assert torch.equal(layer.norm.shift, layers[0].norm.shift)
        assert torch.equal(layer.magnitudes, layers[1].magnitudes)


# In training


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_normalised_net_learns_alike_from_images_and_from_their_bytes(norm: str) -> None:
    row = measure("input_scaling", norm, updates=30)
    assert row["exact_loss_curve_difference"] < 1e-9
    assert max(row.values()) < 0.1


def test_without_a_norm_bytes_are_another_training() -> None:
    row = measure("input_scaling", "none", updates=30)
    assert row["loss_curve_difference"] > 10 and all(0 < value <= 1e3 for value in row.values())


@every_norm
def test_only_batch_norms_gradient_is_not_the_mean_of_its_parts(norm: str) -> None:
    difference = measure("split_batch", norm)["gradient_difference"]
    assert difference > 0.1 if norm in ("batch", "sync_batch") else difference < 1e-12


def test_parts_of_batches_are_those_of_ghost_batches() -> None:
    """Batch norm with statistics of 4 cases each has the mean gradient of 8 workers with 4 cases each."""
    source = data.load(mnist.Config(source="synthetic"), batch_size=32, seed=0)
    x, y = source.train_batch(0)
    whole: Any = mlp.build(mlp.Config(hidden_sizes=[16, 16], ghost_size=4), "batch", source.spec).double()
    parts: Any = mlp.build(mlp.Config(hidden_sizes=[16, 16]), "batch", source.spec).double()
    parts.load_state_dict(whole.state_dict())
    pairs = zip(x.double().chunk(8), y.chunk(8), strict=True)
    mean = torch.stack([gradient(parts, *pair) for pair in pairs]).mean(0)
    assert geometry.distance(gradient(whole, x.double(), y), mean) < 1e-9
