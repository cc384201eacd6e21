"""RMS, group and instance norm, and layer norm with detached statistics: definitions, limits, undefined cases."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import ModelError, norms
from models.case_norms import DETACH, EPS, LAYER_AXES, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from models.norms import FeedforwardNormConfig, feedforward
from tests.test_norms import by_hand, close, generic, gradients, normal

torch.set_num_threads(1)
N, C, H, W = 5, 8, 3, 2
SHAPES = {"units": (N, C), "steps": (4, N, C), "maps": (N, C, H, W)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def scaled(norm: Any, normalized: Tensor) -> Tensor:
    """Gain and shift of each unit or channel."""
    wide = (-1, 1, 1) if normalized.dim() == 4 else (-1,)
    return norm.gain.view(wide) * normalized + norm.shift.view(wide)


def rows(a: Tensor) -> Tensor:
    """Each case in a row, (cases, units)."""
    return a.flatten(1) if a.dim() == 4 else a.reshape(-1, a.shape[-1])


# RMS norm


@every_shape
def test_rms_norm_is_its_definition(shape: tuple[int, ...]) -> None:
    norm, a = generic(RMSNorm(C)), normal(*shape)
    rms = (rows(a).square().mean(1, keepdim=True) + EPS).sqrt()
    assert close(norm(a), scaled(norm, (rows(a) / rms).view(shape)))


@pytest.mark.parametrize("shape", [(N, C), (4, N, C)], ids=["units", "steps"])
def test_rms_norm_of_vectors_is_that_of_torch_with_a_shift(shape: tuple[int, ...]) -> None:
    norm, a = generic(RMSNorm(C)), normal(*shape).requires_grad_()
    theirs = F.rms_norm(a, (C,), norm.gain, EPS) + norm.shift
    assert close(norm(a), theirs)
    ours = gradients(norm(a), a, norm.gain, norm.shift)
    assert all(close(g, k) for g, k in zip(ours, gradients(theirs, a, norm.gain, norm.shift), strict=True))


@every_shape
def test_rms_norm_is_layer_norm_where_the_mean_is_0_and_keeps_a_mean_elsewhere(shape: tuple[int, ...]) -> None:
    norm, a = RMSNorm(C).double(), normal(*shape)
    centred = (rows(a) - rows(a).mean(1, keepdim=True)).view(shape)
    assert close(norm(centred), LayerNorm(C).double()(centred))
    assert rows(norm(a)).mean(1).abs().min() > 1e-2


# Group norm


@every_shape
def test_one_group_is_layer_norm(shape: tuple[int, ...]) -> None:
    norm, layer, a = generic(GroupNorm(C, groups=1)), LayerNorm(C).double(), normal(*shape)
    layer.load_state_dict({name: value for name, value in norm.state_dict().items() if name != "undefined"})
    assert close(norm(a), layer(a))


def test_a_group_for_each_channel_of_maps_is_instance_norm() -> None:
    norm, instance, a = generic(GroupNorm(C, groups=C)), InstanceNorm(C).double(), normal(N, C, H, W)
    instance.load_state_dict(norm.state_dict())
    assert torch.equal(norm(a), instance(a))


@every_shape
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_each_group_of_each_case_has_mean_0_and_variance_1(shape: tuple[int, ...], groups: int) -> None:
    norm, a = GroupNorm(C, groups=groups).double(), normal(*shape)
    norm.eps = 1e-14
    members = rows(norm(a)).unflatten(1, (groups, -1))
    assert close(members.mean(2), torch.zeros(()).double())
    assert close(members.var(2, unbiased=False), torch.ones(()).double(), atol=1e-9)


@every_shape
def test_group_norm_is_its_definition(shape: tuple[int, ...]) -> None:
    norm, a = generic(GroupNorm(C, groups=2)), normal(*shape)
    normalized = by_hand(rows(a).unflatten(1, (2, -1)), (2,)).view(shape)
    assert close(norm(a), scaled(norm, normalized))


def test_groups_need_not_lie_in_memory_as_they_are_counted() -> None:
    norm, maps, steps = generic(GroupNorm(C, groups=2)), normal(N, C, H, W), normal(4, N, C)
    assert close(norm(maps.to(memory_format=torch.channels_last)), norm(maps))
    assert close(norm(steps.transpose(0, 1)), norm(steps).transpose(0, 1))


@pytest.mark.parametrize("make", [feedforward, lambda *made: norms.recurrent(*made, steps=2)])
def test_groups_that_do_not_divide_are_refused_in_one_line(make: Any) -> None:
    with pytest.raises(ModelError, match=r"^model.groups=3 does not divide the 8 units of a layer$"):
        make("group", 8, FeedforwardNormConfig(groups=3))


# Instance norm


def test_instance_norm_is_that_of_torch() -> None:
    norm, a = generic(InstanceNorm(C)), normal(N, C, H, W)
    assert close(norm(a), scaled(norm, by_hand(a, (2, 3))))
    assert close(norm(a), F.instance_norm(a, weight=norm.gain, bias=norm.shift, eps=EPS))


SINGLE: dict[str, tuple[Any, tuple[int, ...]]] = {
    "instance, units": (InstanceNorm, (N, C)),
    "instance, steps": (InstanceNorm, (4, N, C)),
    "instance, maps of one pixel": (InstanceNorm, (N, C, 1, 1)),
    "instance, one case": (InstanceNorm, (1, C)),
    "as many groups as units": (lambda features: GroupNorm(features, groups=features), (N, C)),
    "as many groups as units, one case": (lambda features: GroupNorm(features, groups=features), (1, C)),
}


@pytest.mark.parametrize("make, shape", SINGLE.values(), ids=SINGLE)
def test_a_single_value_gives_the_shift_passes_no_gradient_and_is_flagged(make: Any, shape: tuple[int, ...]) -> None:
    norm, a = generic(make(C)), normal(*shape).requires_grad_()
    assert norm.eval()(a).isfinite().all() and not norms.undefined(norm)  # only training counts
    out = norm.train()(a)
    assert torch.equal(out, scaled(norm, torch.zeros_like(a)))
    by_input, by_gain, by_shift = gradients(out, a, norm.gain, norm.shift)
    assert not by_input.any() and not by_gain.any() and by_shift.any()
    assert norms.undefined(norm)
    copy = make(C).double()
    copy.load_state_dict(norm.state_dict())
    assert norms.undefined(copy)


@pytest.mark.parametrize("norm", [InstanceNorm(C), GroupNorm(C, groups=4), GroupNorm(C, groups=C)])
def test_several_values_are_defined(norm: Any) -> None:
    norm(torch.randn(1, C, 2, 1))
    assert not norms.undefined(norm)


# What these norms share with layer norm


@pytest.mark.parametrize("norm", ["rms", "group", "instance"])
@pytest.mark.parametrize("shape", [(N, 48), (N, C, 8, 8)], ids=["units", "maps"])
def test_a_case_is_treated_alike_in_any_company_and_at_test_time(norm: str, shape: tuple[int, ...]) -> None:
    unit, a = feedforward(norm, shape[1]), torch.randn(shape)
    out = unit(a)
    assert all(torch.equal(unit(a[i : i + 1])[0], out[i]) for i in range(N))
    assert torch.equal(unit(torch.cat([a[:1], 1e3 * a[1:]]))[0], out[0])
    assert torch.equal(unit.eval()(a), out)


@pytest.mark.parametrize(
    "norm, scaling, recentring, gate_scaling",
    [("layer", True, True, False), ("rms", True, False, False), ("group", True, True, True)],
)
def test_what_each_norm_of_units_is_invariant_to(
    norm: str, scaling: bool, recentring: bool, gate_scaling: bool
) -> None:
    unit, a = generic(feedforward(norm, C)), normal(N, C)
    unit.eps = 1e-14
    one_group = torch.tensor([3.0] * 2 + [1.0] * 6).double()  # of four
    found = [close(unit(changed), unit(a), atol=1e-9) for changed in (3 * a, a + 3, one_group * a)]
    assert found == [scaling, recentring, gate_scaling]


# Layer norm with detached statistics (Xu et al. 2019)

AXES = {"units": None, **{axes: axes for axes in LAYER_AXES}}
every_axes = pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
every_detach = pytest.mark.parametrize("detach", DETACH)


def layer_norm(axes: str | None, detach: str) -> tuple[Any, Tensor, tuple[int, ...]]:
    """A layer norm, sums for it, and the dimensions over which these have their statistics; the same at each call."""
    torch.manual_seed(0)
    options: Any = {"axes": axes, "map_size": (H, W)} if axes else {}
    norm = generic(feedforward("layer", C, FeedforwardNormConfig(detach=detach), **options))
    a = normal(*((N, C, H, W) if axes else (N, C))).requires_grad_()
    return norm, a, (1, 2, 3) if axes in ("channel", "unit") else (1,)


@every_axes
@every_detach
def test_detached_statistics_leave_the_output_as_it_is(axes: str | None, detach: str) -> None:
    (norm, a, _), (attached, _, _) = layer_norm(axes, detach), layer_norm(axes, "none")
    assert close(norm(a), attached(a))
    ours, theirs = (gradients(unit(a), unit.gain, unit.shift) for unit in (norm, attached))
    assert all(close(g, k) for g, k in zip(ours, theirs, strict=True))


@every_axes
@every_detach
def test_the_gradient_loses_the_term_of_each_detached_statistic(axes: str | None, detach: str) -> None:
    norm, a, dims = layer_norm(axes, detach)
    gain = norm.gain if axes in (None, "unit") else norm.gain.view(C, 1, 1)
    normalized = by_hand(a, dims)
    inverse = (a.var(dims, unbiased=False, keepdim=True) + EPS).rsqrt()
    above = gain * torch.linspace(-1, 2, a.numel()).double().view_as(a)  # as `gradients` weighs
    by_mean = 0 if detach in ("mean", "both") else above.mean(dims, keepdim=True)
    by_std = 0 if detach in ("std", "both") else normalized * (above * normalized).mean(dims, keepdim=True)
    (found,) = gradients(norm(a), a)
    assert close(found, inverse * (above - by_mean - by_std))  # both: the gradient of an affine map


@every_axes
@pytest.mark.parametrize(
    "detach, centred, orthogonal",
    [("none", True, True), ("mean", False, True), ("std", True, False), ("both", False, False)],
)
def test_the_mean_centres_the_gradient_and_the_deviation_makes_it_orthogonal(
    axes: str | None, detach: str, centred: bool, orthogonal: bool
) -> None:
    norm, a, dims = layer_norm(axes, detach)
    norm.eps = 1e-14
    (gradient,) = gradients(norm(a), a)
    along = (a - a.mean(dims, keepdim=True)).detach()  # the direction of the normalised input
    sums, products = gradient.sum(dims).abs(), (gradient * along).sum(dims).abs()
    assert sums.max() < 1e-12 if centred else sums.min() > 1e-4
    assert products.max() < 1e-11 if orthogonal else products.min() > 1e-4


@pytest.mark.parametrize("norm", [name for name in norms.NORMS if name != "layer"])
@pytest.mark.parametrize("shape", [(N, C), (N, C, H, W)], ids=["units", "maps"])
def test_detachment_is_layer_norms_alone(norm: str, shape: tuple[int, ...]) -> None:
    a, found = torch.randn(shape, requires_grad=True), []
    for detach in DETACH:
        out = feedforward(norm, C, FeedforwardNormConfig(detach=detach))(a)
        found.append((out, *torch.autograd.grad(out.square().sum(), a)))
    assert all(torch.equal(x, y) for other in found[1:] for x, y in zip(other, found[0], strict=True))
