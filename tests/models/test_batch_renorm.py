"""Batch renormalisation: between batch norm and what the test does. Ioffe (2017), algorithm 1."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from data import Spec
from models import cnn, mlp
from models.norms import feedforward, recurrent
from models.options import FeedforwardNormConfig
from tests.models.equations import EPS, UNCORRECTED, close, generic, gradients, normal
from tests.models.turns import assert_left_to_the_plain_loop

C = 3
every_shape = pytest.mark.parametrize("shape", [(2, C), (4, C), (2, C, 5, 4)], ids=["2 cases", "4 cases", "maps"])


def make(norm: str = "renorm", *, r_max: float = 3.0, d_max: float = 5.0, renorm_warmup: int = 300) -> Any:
    options: dict[str, Any] = {"r_max": r_max, "d_max": d_max, "renorm_warmup": renorm_warmup}
    return generic(feedforward(norm, C, FeedforwardNormConfig(**options)))


def seen(unit: Any, shape: tuple[int, ...], updates: int = 5) -> Any:
    """A norm that has been trained: its running averages are those of other data than what comes."""
    for _ in range(updates):
        unit(2 * normal(*shape) + 1)
    return unit


def corrected(unit: Any, a: Tensor) -> Tensor:
    """The algorithm, written out; r and d pass no gradient."""
    dims, wide = [d for d in range(a.dim()) if d != 1], (1, C, *[1] * (a.dim() - 2))
    own_mean, own_deviation = a.mean(dims).view(wide), (a.var(dims, correction=0) + EPS).sqrt().view(wide)
    mean, deviation = unit.running_mean.view(wide), (unit.running_variance + EPS).sqrt().view(wide)
    grown = min(1, unit.updates.item() / unit.renorm_warmup)
    r_max, d_max = 1 + grown * (unit.r_max - 1), grown * unit.d_max
    r = (own_deviation / deviation).clamp(1 / r_max, r_max).detach()
    d = ((own_mean - mean) / deviation).clamp(-d_max, d_max).detach()
    return unit.gain.view(wide) * ((a - own_mean) / own_deviation * r + d) + unit.shift.view(wide)


@every_shape
@pytest.mark.parametrize("options", [{}, {"renorm_warmup": 5}, {"r_max": 1.2, "d_max": 0.3, "renorm_warmup": 2}])
def test_values_gradients_and_averages_are_those_of_the_algorithm(shape: tuple[int, ...], options: Any) -> None:
    unit, a = seen(make(**options), shape), normal(*shape).requires_grad_()
    batch = make("batch")
    batch.load_state_dict(unit.state_dict())
    inputs = (a, unit.gain, unit.shift)
    expected = corrected(unit, a)
    out = unit(a)
    assert close(out, expected) and close(gradients(out, *inputs), gradients(expected, *inputs))
    batch(a)  # which keeps its averages in the same way
    assert close(unit.running_mean, batch.running_mean) and close(unit.running_variance, batch.running_variance)


@every_shape
def test_gradients_are_those_of_finite_differences_with_the_corrections_held(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, a = seen(make(renorm_warmup=5), shape), normal(*shape).requires_grad_()
    held = unit.corrections(a, 1)
    monkeypatch.setattr(unit, "corrections", lambda a, groups: held)
    assert torch.autograd.gradcheck(lambda *_: unit(a), (a, unit.gain, unit.shift), atol=1e-6)
    of_held = gradients(unit(a), a)
    monkeypatch.undo()
    fresh = seen(make(renorm_warmup=5), shape)
    fresh.load_state_dict(unit.state_dict())
    assert not close(of_held, gradients(make("batch")(a), a))


@every_shape
def test_without_corrections_it_is_batch_norm(shape: tuple[int, ...]) -> None:
    ours, theirs = seen(make(**UNCORRECTED), shape), make("batch")
    theirs.load_state_dict(ours.state_dict())
    a = normal(*shape).requires_grad_()
    assert close(ours(a), theirs(a), atol=1e-12) and close(gradients(ours(a), a), gradients(theirs(a), a))


def test_it_starts_as_batch_norm() -> None:
    ours, theirs, a = make(renorm_warmup=0), make("batch"), 5 * normal(4, C) + 3
    theirs.load_state_dict(ours.state_dict())
    assert close(ours(a), theirs(a))


@every_shape
def test_within_its_limits_training_gives_what_the_test_does(shape: tuple[int, ...]) -> None:
    """On data that come from one distribution, once the averages know it and the limits have grown: at any batch."""
    unit = make(r_max=100.0, d_max=100.0, renorm_warmup=20)
    for _ in range(60):
        unit(normal(*shape))
    a = normal(*shape)
    tested = deepcopy(unit).eval()(a)
    assert close(unit(a), tested)
    batch = make("batch")
    batch.load_state_dict(unit.state_dict())
    assert (batch(a) - tested).abs().max() > 0.01  # which batch norm does not


@pytest.mark.parametrize("option, value", [("r_max", 1.5), ("d_max", 0.5), ("renorm_warmup", 2)])
def test_each_option_changes_what_comes_after_the_first_update(option: str, value: float) -> None:
    torch.manual_seed(1)
    batches = [normal(2, C), 3 * normal(2, C) + 4]
    changes: dict[str, Any] = {option: value}
    plain, changed = make(), make(**changes)
    changed.load_state_dict(plain.state_dict())
    first, second = ([unit(a) for unit in (plain, changed)] for a in batches)
    assert torch.equal(*first) and not torch.equal(*second)


def test_in_a_recurrent_net_each_step_is_corrected_by_its_own_averages() -> None:
    """At once or step by step; a longer sequence by those of the last step that has some."""
    at_once: Any = recurrent("renorm", C, FeedforwardNormConfig(renorm_warmup=2), steps=3).double()
    for _ in range(4):
        at_once((torch.arange(5)[:, None, None] + 1.0) * (normal(5, 4, C) + 1))
    one_by_one, a = deepcopy(at_once), normal(5, 4, C)
    for t, expected in enumerate(at_once(a)):
        assert close(one_by_one(a[t], t), expected)
        unit = make(renorm_warmup=2)
        at = min(t, 2)
        unit.gain.data, unit.shift.data = one_by_one.gain.data, one_by_one.shift.data
        unit.running_mean, unit.running_variance = (
            part[at : at + 1] for part in (one_by_one.running_mean, one_by_one.running_variance)
        )
        unit.updates = one_by_one.updates[at : at + 1]
        assert close(corrected(unit, a[t]), expected)


@pytest.mark.parametrize("config", [mlp.Config(hidden_sizes=[6]), cnn.Config(depth=2, width=4)], ids=["mlp", "cnn"])
def test_it_is_trained_by_the_plain_loop(config: Any) -> None:
    assert_left_to_the_plain_loop(models.build(config, "renorm", Spec("image", (1, 8, 8), 3), 0))
