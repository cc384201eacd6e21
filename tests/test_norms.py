"""Norms against the paper's equations, PyTorch's own modules, Table 1 and the laws of its section 5."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from experiments.probes import table1
from experiments.probes.table1 import TRANSFORMATIONS
from models import norms
from models.batch_norms import MOMENTUM, BatchNorm, StepwiseBatchNorm
from models.case_norms import EPS, LAYER_AXES, LayerNorm
from models.norms import NORMS, FeedforwardNormConfig, feedforward

torch.set_num_threads(1)
C, H, W = 6, 2, 2
CONFIG = FeedforwardNormConfig(groups=2)
SHAPES = {"units": (5, C), "maps": (5, C, H, W)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def generic(norm: Any) -> Any:
    """The norm in float64, its gains and shifts moved away from 1 and 0."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return norm.double()


def normal(*shape: int) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64) + 1


def by_hand(a: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = a.mean(dims, keepdim=True)
    variance = (a - mean).square().mean(dims, keepdim=True)  # biased
    return (a - mean) / (variance + EPS).sqrt()


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * torch.linspace(-1, 2, out.numel()).double().view_as(out)).sum(), inputs)


def close(a: Tensor, b: Tensor, atol: float = 1e-12) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


# Equations 2-4


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (1, 7)], ids=str)
def test_layer_norm_is_equation_3(shape: tuple[int, ...]) -> None:
    norm, theirs, a = generic(LayerNorm(7)), nn.LayerNorm(7).double(), normal(*shape)
    theirs.load_state_dict({"weight": norm.gain, "bias": norm.shift})
    assert close(norm(a), norm.gain * by_hand(a, (-1,)) + norm.shift)
    assert close(norm(a), theirs(a))


@pytest.mark.parametrize(
    "axes, dims, gains",
    [("channel", (1, 2, 3), (C, 1, 1)), ("unit", (1, 2, 3), (C, H, W)), ("pixel", (1,), (C, 1, 1))],
    ids=LAYER_AXES,
)
def test_layer_norm_of_maps_has_the_statistics_and_gains_its_axes_name(
    axes: str, dims: tuple[int, ...], gains: tuple[int, ...]
) -> None:
    norm, a = generic(feedforward("layer", C, axes=axes, map_size=(H, W))), normal(5, C, H, W)
    assert close(norm(a), norm.gain.view(gains) * by_hand(a, dims) + norm.shift.view(gains))


@pytest.mark.parametrize("shape, dims", [((5, C), (0,)), ((5, C, H, W), (0, 2, 3))], ids=SHAPES)
def test_batch_norm_is_equation_2_in_training(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    norm, a, wide = generic(feedforward("batch", C)), normal(*shape), (-1, *[1] * (len(shape) - 2))
    assert close(norm(a), norm.gain.view(wide) * by_hand(a, dims) + norm.shift.view(wide))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_without_a_norm_only_the_shift_is_added(shape: tuple[int, ...]) -> None:
    norm, a = generic(feedforward("none", C)), normal(*shape)
    assert [name for name, _ in norm.named_parameters()] == ["shift"]
    assert torch.equal(norm(a).movedim(1, -1), a.movedim(1, -1) + norm.shift)


def test_layer_norm_of_units_is_batch_norm_of_cases() -> None:
    """One eps, one variance: transposed, the two are the same, and at a spread of sqrt(EPS) they are only if eps is."""
    for scale in (1, EPS**0.5):
        a = scale * normal(6, 6)
        assert close(LayerNorm(6).double()(a), BatchNorm(6).double()(a.t()).t())
    assert all(NORMS[name](4).eps == EPS for name in NORMS)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_large_mean_costs_no_accuracy(norm: str) -> None:
    a = torch.randn(64, 64) + 1e4  # E[a^2] - E[a]^2 would have no digit left in float32
    assert torch.allclose(feedforward(norm, 64)(a).double(), feedforward(norm, 64).double()(a.double()), atol=5e-3)


# Gradients


CHECKED = {
    **{f"{name}-{kind}": (name, {}, shape, {}) for name in NORMS for kind, shape in SHAPES.items()},
    **{f"layer-{axes}": ("layer", {"axes": axes, "map_size": (H, W)}, SHAPES["maps"], {}) for axes in LAYER_AXES[1:]},
    "batch-single": ("batch", {}, (1, C), {}),
    "step": ("stepwise", {}, (5, C), {"step": 1}),
    "sequence": ("stepwise", {}, (2, 5, C), {}),
    "sequence-masked": ("stepwise", {}, (2, 5, C), {"mask": torch.tensor([[1, 1, 1, 0, 1], [0, 1, 0, 1, 0]]).bool()}),
}


@pytest.mark.parametrize("name, options, shape, call", CHECKED.values(), ids=CHECKED)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_are_those_of_finite_differences(
    name: str, options: Any, shape: tuple[int, ...], call: Any, training: bool
) -> None:
    norm = StepwiseBatchNorm(C, steps=2) if name == "stepwise" else feedforward(name, C, CONFIG, **options)
    generic(norm).train(training)
    names, parameters = zip(*norm.named_parameters(), strict=True)

    def function(a: Tensor, *values: Tensor) -> Tensor:
        out = functional_call(norm, dict(zip(names, values, strict=True)), (a,), call)
        assert isinstance(out, Tensor)
        return out

    assert torch.autograd.gradcheck(function, (normal(*shape).requires_grad_(), *parameters), fast_mode=True)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("factor", [2.0, 10.0, 0.1])
def test_gradients_obey_the_laws_of_section_5(norm: str, factor: float) -> None:
    unit, weights, x = generic(feedforward(norm, 12)), normal(12, 20).requires_grad_(), normal(16, 20)
    unit.eps = 1e-12
    (gradient,) = gradients(torch.tanh(unit(x @ weights.t())), weights)
    scaled = (factor * weights).detach().requires_grad_()
    (gradient_scaled,) = gradients(torch.tanh(unit(x @ scaled.t())), scaled)
    assert torch.allclose(gradient_scaled, gradient / factor, rtol=1e-9)
    rows = (gradient * weights).sum(1) / (gradient.norm(dim=1) * weights.norm(dim=1))
    if norm == "batch":  # each unit's gradient is orthogonal to its weights
        assert rows.abs().max() < 1e-9
    else:  # the gradient is orthogonal to the matrix, and no common vector added to all rows matters
        assert (gradient * weights).sum().abs() < 1e-9 * gradient.norm() * weights.norm()
        assert gradient.sum(0).abs().max() < 1e-9 * gradient.abs().max()
        assert rows.abs().max() > 1e-2


# Table 1 of the paper, each row in the order of TRANSFORMATIONS, and a control

ROWS = {
    "batch": "yes no yes yes yes no",
    "weight": "yes no yes no no no",
    "layer": "yes yes no yes no yes",
    "rms": "yes no no yes no yes",  # Zhang and Sennrich 2019
    "none": "no no no no no no",
}
CELLS = [(row, *cell) for row, cells in ROWS.items() for cell in zip(TRANSFORMATIONS, cells.split(), strict=True)]


@cache
def table(norm: str, seed: int) -> dict[str, float]:
    return table1.measure(SimpleNamespace(norm=norm, seed=seed), None)


@pytest.mark.parametrize("row, transformation, invariant", CELLS)
def test_table_1(row: str, transformation: str, invariant: str) -> None:
    changes = [table(row, seed)[transformation] for seed in range(10)]
    assert max(changes) < 1e-9 if invariant == "yes" else min(changes) > 0.1


# Running averages


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_is_that_of_torch_in_training_and_evaluation(shape: tuple[int, ...]) -> None:
    """Their momentum=None, a plain mean over the updates, is our warm-up; their running variance is unbiased too."""
    ours = generic(feedforward("batch", C))
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(C, momentum=None).double()
    theirs.load_state_dict({"weight": ours.gain, "bias": ours.shift}, strict=False)
    for _ in range(3):
        a = normal(*shape).requires_grad_()
        assert close(ours.train()(a), theirs.train()(a))
        mine = gradients(ours(a.detach()), ours.gain, ours.shift) + gradients(ours(a), a)
        yours = gradients(theirs(a.detach()), theirs.weight, theirs.bias) + gradients(theirs(a), a)
        assert all(close(g, k) for g, k in zip(mine, yours, strict=True))
        assert close(ours.running_mean[0], theirs.running_mean)
        assert close(ours.running_variance[0], theirs.running_var)
        assert close(ours.eval()(a), theirs.eval()(a))


def test_after_the_warm_up_averages_move_by_momentum() -> None:
    norm = BatchNorm(C).double()
    for _ in range(round(1 / MOMENTUM)):
        norm(normal(5, C))
    mean, variance, a = norm.running_mean.clone(), norm.running_variance.clone(), normal(5, C)
    norm(a)
    assert close(norm.running_mean[0], (1 - MOMENTUM) * mean[0] + MOMENTUM * a.mean(0))
    assert close(norm.running_variance[0], (1 - MOMENTUM) * variance[0] + MOMENTUM * a.var(0, unbiased=True))


def test_evaluation_moves_no_average() -> None:
    norm = BatchNorm(C).eval()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    norm(torch.randn(5, C))
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())


# One value per channel: a single case

SINGLE = {
    "units": (BatchNorm(C), (1, C), {}),
    "maps of one pixel": (BatchNorm(C), (1, C, 1, 1), {}),
    "a step": (StepwiseBatchNorm(C, steps=2), (1, C), {"step": 0}),
    "a sequence": (StepwiseBatchNorm(C, steps=2), (2, 1, C), {}),
    "a masked step": (StepwiseBatchNorm(C, steps=2), (1, C), {"step": 0, "mask": torch.tensor([True])}),
}


@pytest.mark.parametrize("norm, shape, call", SINGLE.values(), ids=SINGLE)
def test_batch_norm_of_one_case_is_its_shift_and_passes_no_gradient(norm: Any, shape: Any, call: Any) -> None:
    generic(norm)
    assert not norms.undefined(norm)
    a = normal(*shape).requires_grad_()
    out = norm(a, **call)
    assert torch.equal(out.view(-1, C), norm.shift.expand(out.numel() // C, C))
    by_input, by_gain, by_shift = gradients(out, a, norm.gain, norm.shift)
    assert not by_input.any() and not by_gain.any() and by_shift.any()
    if "step" in call:
        norm.flush()
    assert norms.undefined(norm)
    copy = type(norm)(C, steps=len(norm.running_mean)).double()
    copy.load_state_dict(norm.state_dict())
    assert norms.undefined(copy)
    assert all(buffer.isfinite().all() for buffer in norm.buffers())
    assert close(norm.running_mean[0], a.detach().view(-1, C)[0])
    assert norm.running_variance[0].max() < 1e-12  # nothing else can be said of one value
    assert norm.eval()(normal(*shape), **call).isfinite().all()


def test_one_map_of_several_pixels_or_two_cases_are_defined() -> None:
    norm = BatchNorm(C)
    norm(torch.randn(1, C, 2, 1))
    norm(torch.randn(2, C))
    norm.eval()(torch.randn(1, C))
    assert not norms.undefined(norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equal_inputs_give_finite_outputs_and_gradients(norm: str, shape: tuple[int, ...]) -> None:
    a = torch.full(shape, 3.0, requires_grad=True)
    out = feedforward(norm, C, CONFIG)(a)
    out.square().sum().backward()
    assert out.isfinite().all() and a.grad is not None and a.grad.isfinite().all()


# Layer norm knows no other case and no test time


@pytest.mark.parametrize("axes", [None, *LAYER_AXES])
def test_layer_norm_treats_a_case_alike_in_any_company_and_at_test_time(axes: str | None) -> None:
    features, shape = (C, (5, C, 8, 8)) if axes else (50, (5, 50))
    norm = feedforward("layer", features, **({"axes": axes, "map_size": (8, 8)} if axes else {}))
    a = torch.randn(shape)
    out = norm(a)
    assert all(torch.equal(norm(a[i : i + 1])[0], out[i]) for i in range(5))
    assert torch.equal(norm(torch.cat([a[:1], 1e3 * a[1:]]))[0], out[0])
    assert torch.equal(norm.eval()(a), out)
    assert not list(norm.buffers())


# What models rely on


@pytest.mark.parametrize("make", [feedforward, lambda norm, n: norms.recurrent(norm, n, steps=2)])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_start_at_constants_and_draw_no_random_numbers(make: Any, norm: str) -> None:
    before = torch.get_rng_state()
    made = make(norm, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert not made.shift.any()
    gain = 0.1 if isinstance(made, StepwiseBatchNorm) else 1
    assert made.gain is None if norm in ("none", "weight") else torch.equal(made.gain, torch.full((4,), gain))


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(KeyError, match="bach"):
        feedforward("bach", 4)
    with pytest.raises(KeyError, match="bach"):
        norms.recurrent("bach", 4, steps=2)
