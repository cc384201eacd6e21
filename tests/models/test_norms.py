"""Norms of feed-forward layers: one table of properties, each asked of every norm that is registered."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.training.probes import table1
from experiments.training.probes.table1 import TABLE_1, TRANSFORMATIONS
from experiments.training.schema import Config
from models import ModelError, options
from models.batch_norms import MOMENTUM
from models.norms import NORMS, feedforward, recurrent, undefined
from models.options import DETACH, LAYER_AXES, FeedforwardNormConfig
from tests.models.equations import (
    EPS,
    GROUPS,
    NORMALIZED,
    OF_A_BATCH,
    OF_A_CASE,
    UNCORRECTED,
    close,
    generic,
    gradients,
    grouped,
    normal,
    over,
    scaled,
)

N, C, H, W = 5, 8, 3, 2
UNITS, MAPS, STEPS = (N, C), (N, C, H, W), (4, N, C)
every_norm = pytest.mark.parametrize("norm", NORMS)
every_shape = pytest.mark.parametrize("shape", [UNITS, MAPS], ids=["units", "maps"])


def make(norm: str, features: int = C, *, axes: str = "channel", **options: Any) -> Any:
    config = FeedforwardNormConfig(**{"groups": GROUPS, **UNCORRECTED, **options})
    return feedforward(norm, features, config, axes=axes, map_size=(H, W))


# What a norm computes: itself, its limits, other axes


def over_pixels(a: Tensor) -> Tensor:
    return over(a, 1)


def ghosts(size: int, a: Tensor) -> Tensor:
    """Every `size` successive cases as if they were the whole mini-batch."""
    return torch.cat([NORMALIZED["batch"](ghost) for ghost in a.split(size)])


def by_unbiased_variance(a: Tensor) -> Tensor:
    over = [0, *range(2, a.dim())]
    return (a - a.mean(over, True)) / (a.var(over, correction=1, keepdim=True) + EPS).sqrt()


COMPUTED: dict[str, tuple[str, dict[str, Any], Any, tuple[int, ...]]] = {
    **{f"{norm}, {len(shape)}d": (norm, {}, NORMALIZED[norm], shape) for norm in NORMS for shape in (UNITS, MAPS)},
    **{f"{norm}, steps": (norm, {}, NORMALIZED[norm], STEPS) for norm in NORMS if norm not in OF_A_BATCH},
    "layer, a gain per unit": ("layer", {"axes": "unit"}, NORMALIZED["layer"], MAPS),
    "layer, of each pixel": ("layer", {"axes": "pixel"}, over_pixels, MAPS),
    "one group is layer norm, units": ("group", {"groups": 1}, NORMALIZED["layer"], UNITS),
    "one group is layer norm, maps": ("group", {"groups": 1}, NORMALIZED["layer"], MAPS),
    "a group of each channel is instance norm": ("group", {"groups": C}, NORMALIZED["instance"], MAPS),
    "unbiased, units": ("batch", {"unbiased": True}, by_unbiased_variance, UNITS),
    "unbiased, maps": ("batch", {"unbiased": True}, by_unbiased_variance, MAPS),
    "four groups": ("group", {"groups": 4}, lambda a: grouped(a, 4), UNITS),
    **{
        f"ghost batches of {size}, {len(shape)}d": ("batch", {"ghost_size": size}, partial(ghosts, size), shape)
        for size, shape in [*product((2, 3, 6, 12), ((12, C), (12, C, H, W))), (1, (12, C, H, W))]
    },
}


@pytest.mark.parametrize("norm, options, equation, shape", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("spread", [1, EPS**0.5], ids=["", "eps counts"])
def test_values_and_gradients_are_those_of_the_equation(
    norm: str, options: Any, equation: Any, shape: tuple[int, ...], spread: float
) -> None:
    """In training. Batch norm's is equation 2, layer norm's 3; without a norm only the shift is added."""
    unit, a = generic(make(norm, **options)), (spread * normal(*shape) + spread).requires_grad_()
    expected = scaled(unit, equation(a))
    inputs = (a, *unit.parameters())
    others = [a.detach().transpose(0, 1).contiguous().transpose(0, 1)]
    others += [a.detach().contiguous(memory_format=torch.channels_last)] if a.dim() == 4 else []
    assert close(unit(a), expected)
    assert close(gradients(unit(a), *inputs), gradients(expected, *inputs), atol=1e-9)
    assert all(close(unit(other), expected) for other in others)  # however it lies in memory
    assert undefined(unit) == (norm == "instance" and len(shape) < 4)


@pytest.mark.parametrize("norm, options", [*((norm, {}) for norm in NORMS), ("batch", {"ghost_size": N})])
@every_shape
def test_in_evaluation_a_case_is_treated_alike_in_any_company(norm: str, options: Any, shape: tuple[int, ...]) -> None:
    unit = generic(make(norm, **options))
    for _ in range(2):
        unit(normal(*shape))
    a, before = normal(*shape).requires_grad_(), {name: buffer.clone() for name, buffer in unit.named_buffers()}
    trained: Any = None if norm in OF_A_BATCH else unit(a)
    out = unit.eval()(a)
    for case in range(N):
        assert close(unit(a[case : case + 1])[0], out[case])
    assert close(unit(torch.cat([a[:1], 1e3 * a[1:]]))[0], out[0])
    assert all(torch.equal(buffer, before[name]) for name, buffer in unit.named_buffers())
    if norm in OF_A_BATCH:
        mean, variance = (part.view(-1, *[1] * (len(shape) - 2)) for part in (unit.running_mean, unit.running_variance))
        expected, inputs = scaled(unit, (a - mean) / (variance + EPS).sqrt()), (a, *unit.parameters())
        assert close(out, expected) and close(gradients(out, *inputs), gradients(expected, *inputs))
    else:  # there is no test time
        assert torch.equal(trained, out) and not hasattr(unit, "running_mean")


@every_norm
def test_a_large_mean_costs_no_accuracy(norm: str) -> None:
    a = torch.randn(64, 64) + 1e4  # E[a^2] - E[a]^2 would have no digit left in float32
    assert close(make(norm, 64)(a).double(), make(norm, 64).double()(a.double()), atol=5e-3)


@every_norm
@every_shape
def test_equal_inputs_give_finite_outputs_and_gradients(norm: str, shape: tuple[int, ...]) -> None:
    a = torch.full(shape, 3.0, requires_grad=True)
    out = make(norm)(a)
    out.square().sum().backward()
    assert out.isfinite().all() and a.grad is not None and a.grad.isfinite().all()


# A single value has no spread

STEPWISE: list[dict[str, Any]] = [{"step": 0}, {"step": 0, "mask": torch.tensor([True])}]
SINGLE: list[tuple[str, dict[str, Any], tuple[int, ...], dict[str, Any]]] = [  # norm, options, shape, what else it gets
    *product(OF_A_BATCH, [{}], [(1, C), (1, C, 1, 1), (2, 1, C)], [{}]),
    *product(OF_A_BATCH, [{}], [(1, C)], STEPWISE),
    *product(["batch"], [{"ghost_size": 1}], [UNITS, (1, C), (N, C, 1, 1)], [{}]),
    *product(["instance", "group"], [{"groups": C}], [UNITS, (1, C), STEPS, (N, C, 1, 1)], [{}]),
]


@pytest.mark.parametrize("name, options, shape, call", SINGLE, ids=str)
def test_a_single_value_gives_the_shift_passes_no_gradient_and_is_flagged(
    name: str, options: Any, shape: Any, call: Any
) -> None:
    def new() -> Any:
        over_time = name in OF_A_BATCH and (call or len(shape) == 3)
        return recurrent(name, C, steps=2) if over_time else make(name, **options)

    norm, a = generic(new()), normal(*shape).requires_grad_()
    assert norm.eval()(normal(*shape), **call).isfinite().all() and not undefined(norm)  # only training counts
    out = norm.train()(a, **call)
    assert torch.equal(out, scaled(norm, torch.zeros_like(a)))
    by_input, by_gain, by_shift = gradients(out, a, norm.gain, norm.shift)
    assert not by_input.any() and not by_gain.any() and by_shift.any()
    if "step" in call:
        norm.flush()
    copy = new().double()
    copy.load_state_dict(norm.state_dict())
    assert undefined(norm) and undefined(copy)
    assert norm.eval()(normal(*shape), **call).isfinite().all()
    if hasattr(norm, "running_mean"):  # of one value its own mean is all that can be said
        values = a.detach() if len(shape) == 3 else a.detach().view(-1, C).mean(0, keepdim=True)
        assert close(norm.running_mean[: len(values)], values.view(-1, C))
        assert norm.running_variance[: len(values)].max() < 1e-12


DEFINED: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    *product(NORMS, [{}], [(1, C, 2, 1)]),
    *product([norm for norm in NORMS if norm != "instance"], [{}], [(2, C)]),
    ("group", {"groups": C}, (1, C, 2, 1)),
    ("batch", {"ghost_size": 1}, (N, C, 2, 1)),
]


@pytest.mark.parametrize("norm, options, shape", DEFINED, ids=str)
def test_several_values_are_defined(norm: str, options: Any, shape: tuple[int, ...]) -> None:
    unit = make(norm, **options)
    unit(torch.randn(shape))
    unit.eval()(torch.randn(1, *shape[1:]))
    assert not undefined(unit)


# Running averages


@pytest.mark.parametrize("norm", OF_A_BATCH)
@every_shape
def test_running_averages_are_those_of_torch(norm: str, shape: tuple[int, ...]) -> None:
    """Their momentum=None, a plain mean over the updates, is our warm-up; their running variance is unbiased too."""
    ours, theirs = generic(make(norm)), (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(C, momentum=None)
    theirs.double().load_state_dict({"weight": ours.gain, "bias": ours.shift}, strict=False)
    for _ in range(3):
        a = normal(*shape)
        assert close(ours.train()(a), theirs.train()(a))
        assert close(ours.running_mean[0], theirs.running_mean) and close(ours.running_variance[0], theirs.running_var)
        assert close(ours.eval()(a), theirs.eval()(a))


@pytest.mark.parametrize("norm", OF_A_BATCH)
def test_after_the_warm_up_averages_move_by_momentum(norm: str) -> None:
    unit = make(norm).double()
    for _ in range(round(1 / MOMENTUM)):
        unit(normal(*UNITS))
    mean, variance, a = unit.running_mean.clone(), unit.running_variance.clone(), normal(*UNITS)
    unit(a)
    assert close(unit.running_mean[0], (1 - MOMENTUM) * mean[0] + MOMENTUM * a.mean(0))
    assert close(unit.running_variance[0], (1 - MOMENTUM) * variance[0] + MOMENTUM * a.var(0, unbiased=True))


def test_the_running_variance_is_unbiased_whatever_training_divides_by() -> None:
    units, a = [make("batch", unbiased=unbiased).double() for unbiased in (False, True)], normal(*UNITS)
    for unit in units:
        unit(a)
    assert all(close(unit.running_variance[0], a.var(0)) for unit in units)


@every_shape
@pytest.mark.parametrize("size", [4, 12])
def test_running_averages_take_the_mean_over_ghost_batches_once_an_update(shape: tuple[int, ...], size: int) -> None:
    unit, batches = make("batch", ghost_size=size).double(), [normal(12, *shape[1:]) for _ in range(2)]
    for a in batches:
        unit(a)
    ghosts = [ghost.transpose(0, 1).flatten(1) for a in batches for ghost in a.split(size)]
    assert unit.updates.tolist() == [2]
    assert close(unit.running_mean[0], torch.stack([ghost.mean(1) for ghost in ghosts]).mean(0))
    assert close(unit.running_variance[0], torch.stack([ghost.var(1) for ghost in ghosts]).mean(0))  # unbiased


# The paper's Table 1; its section 5 is in tests/training/test_probes_geometry.py


@pytest.mark.parametrize("norm", TABLE_1)
def test_table_1(norm: str) -> None:
    """Every norm's row, as its class has it; of one value instance norm is constant."""
    no_data: Any = None
    rows = [table1.measure(Config(norm=norm, seed=seed), no_data) for seed in range(10)]
    for transformation, invariant in zip(TRANSFORMATIONS, TABLE_1[norm], strict=True):
        changes = [row[transformation] for row in rows]
        # Of group norm 2e-9, where the eps of 1e-12 stands beside three values that lie close; of others 5e-12.
        assert max(changes) < 1e-7 if invariant else min(changes) > 0.1, transformation


# Layer norm with detached statistics (Xu et al. 2019)


@pytest.mark.parametrize("axes", [None, *LAYER_AXES])
@pytest.mark.parametrize("detach", DETACH)
def test_a_detached_statistic_keeps_the_output_and_takes_its_term_from_the_gradient(
    axes: str | None, detach: str
) -> None:
    """The mean's term centres the gradient, the deviation's makes it orthogonal to the normalised input."""
    norm = generic(make("layer", axes=axes or "channel", detach=detach))
    a = normal(*(MAPS if axes else UNITS)).requires_grad_()
    dims = (1, 2, 3) if axes in ("channel", "unit") else (1,)
    expected, inverse = scaled(norm, over(a, *dims)), (a.var(dims, unbiased=False, keepdim=True) + EPS).rsqrt()
    assert close(norm(a), expected)
    assert close(gradients(norm(a), norm.gain, norm.shift), gradients(expected, norm.gain, norm.shift))
    normalized = over(a, *dims).detach().requires_grad_()
    (above,) = gradients(scaled(norm, normalized), normalized)
    without_mean, without_std = detach in ("mean", "both"), detach in ("std", "both")
    by_mean = 0 if without_mean else above.mean(dims, keepdim=True)
    by_std = 0 if without_std else normalized * (above * normalized).mean(dims, keepdim=True)
    (found,) = gradients(norm(a), a)
    assert close(found, inverse * (above - by_mean - by_std))  # both: the gradient of an affine map
    norm.eps = 1e-14
    (found,) = gradients(norm(a), a)
    sums, products = found.sum(dims).abs(), (found * normalized).sum(dims).abs()
    assert sums.min() > 1e-4 if without_mean else sums.max() < 1e-11
    assert products.min() > 1e-4 if without_std else products.max() < 1e-11


# Options, and what models rely on

OPTIONS: dict[str, tuple[str, tuple[Any, ...]]] = {  # the norm that has it, and values
    "detach": ("layer", DETACH),
    "groups": ("group", (1, 2, 4)),
    "ghost_size": ("batch", (0, 1, 5)),
    "unbiased": ("batch", (False, True)),
}
# Those of renorm, which act from the second update on, are in test_batch_renorm.py.


@every_norm
@every_shape
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_one_norms_alone(norm: str, shape: tuple[int, ...], option: str) -> None:
    a, found = torch.randn(shape, requires_grad=True), []
    for value in OPTIONS[option][1]:
        out = make(norm, **{option: value})(a)
        found.append((out, *torch.autograd.grad(out.square().sum(), a)))
    same = [torch.equal(x, y) for other in found[1:] for x, y in zip(other, found[0], strict=True)]
    assert all(same) == (norm != OPTIONS[option][0])


@pytest.mark.parametrize("new", [make, lambda norm, n, **options: recurrent(norm, n, steps=2)])
@every_norm
def test_norms_start_at_constants_and_draw_no_random_numbers(new: Any, norm: str) -> None:
    before = torch.get_rng_state()
    made = new(norm, 4)
    assert torch.equal(torch.get_rng_state(), before)
    gain = 0.1 if norm in OF_A_BATCH and new is not make else 1
    assert not made.shift.any()
    assert (made.gain is not None) == (norm in OF_A_BATCH + OF_A_CASE)
    assert made.gain is None or torch.equal(made.gain, torch.full((4,), gain))


@pytest.mark.parametrize("new", [feedforward, lambda *made: recurrent(*made, steps=2)])
def test_what_is_no_norm_or_does_not_divide_is_refused(new: Any) -> None:
    with pytest.raises(KeyError, match="bach"):
        new("bach", 4)
    with pytest.raises(ModelError, match=r"^model.groups=3 does not divide the 8 units of a layer$"):
        new("group", 8, FeedforwardNormConfig(groups=3))


@pytest.mark.parametrize("cases, size", [(12, 5), (12, 24), (1, 4)])
def test_ghost_batches_that_do_not_divide_are_refused_in_one_line(cases: int, size: int) -> None:
    with pytest.raises(ModelError, match=rf"^model.ghost_size={size} does not divide a mini-batch of {cases} cases$"):
        make("batch", ghost_size=size)(torch.randn(cases, C))


def test_every_norm_is_declared_and_takes_its_own_options() -> None:
    assert tuple(NORMS) == options.NORMS
    for name, norm in NORMS.items():
        own = {option: getattr(options.NormConfig(), option) for option in options.own_options(name)}
        assert norm.chosen(options.NormConfig()) == own
        feedforward(name, 4)
