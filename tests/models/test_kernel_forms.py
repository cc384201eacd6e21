"""Natively as in the reference: the forms of the layer-normalised LSTM, and detached statistics in every cell.

What holds of all native layers is asked of the plain ones in test_kernels.py.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import kernels
from models.case_norms import GroupNorm, LayerNorm
from models.kernels import KernelError
from models.lstm_variants import FORMS
from models.options import DETACH, VARIANTS
from models.rnn import CELLS
from tests.models.calls import (
    EXACT,
    Call,
    assert_gradients_are_those_of_finite_differences,
    assert_native_is_the_reference,
    assert_same,
    call,
    error,
    everything,
    leaves,
)

PER_GATE = ("per_gate", "per_gate_carried")
DETACHED = [variant for variant in VARIANTS if variant not in PER_GATE]
every_form = pytest.mark.parametrize("variant", FORMS)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_detachment = pytest.mark.parametrize("detach", DETACH[1:])


def form(variant: str, *shape: int, **options: Any) -> Call:
    return call("lstm", "layer", *shape, variant=variant, **options)


# The same to rounding


# One of each but for the units: of a single one in each gate there is no kernel, see below.
@every_form
@pytest.mark.parametrize("shape", [(1, 1, 2), (5, 6, 17), (2, 3, 256), (100, 5, 12), (3, 400, 4)], ids=str)
def test_a_form_is_the_reference(variant: str, shape: Any) -> None:
    for symbols, padded in ((False, False), (False, True), (True, True)):
        assert_native_is_the_reference(form(variant, *shape, symbols=symbols, padded=padded))
    assert_native_is_the_reference(form(variant, *shape, training=False))


@every_detachment
@every_cell
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 17), (100, 5, 12)], ids=str)
def test_detached_statistics_are_the_references(cell: str, detach: str, shape: Any) -> None:
    for symbols, padded in ((False, False), (True, True)):
        assert_native_is_the_reference(call(cell, "layer", *shape, detach=detach, symbols=symbols, padded=padded))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.builds(
        form,
        *(st.sampled_from(DETACHED), *(st.integers(1, most) for most in (9, 9, 70))),
        inputs=st.integers(1, 70),
        detach=st.sampled_from(DETACH),
        seed=st.integers(0, 1000),
        **dict.fromkeys(("training", "padded", "symbols"), st.booleans()),
    )
)
def test_a_form_with_or_without_detached_statistics_is_the_reference_whatever_the_call(made: Call) -> None:
    assert_native_is_the_reference(made)


@pytest.mark.parametrize(("variant", "detach"), [*((v, "none") for v in FORMS), *((v, "both") for v in DETACHED)])
def test_in_single_precision_native_is_as_exact_as_the_reference(variant: str, detach: str) -> None:
    made = form(variant, 13, 33, 40, detach=detach)
    exact, single = everything("reference", made), made.to(torch.float32)
    native, reference = (everything(kernel, single) for kernel in ("native", "reference"))
    assert native["h"].dtype == native["d W_h"].dtype == torch.float32
    worst, theirs = (max(error(found[name], exact[name]) for name in exact) for found in (native, reference))
    assert worst <= max(5e-5, 10 * theirs)  # as of the plain layers; measured over seeds: at most 1.1e-5


@every_form
def test_who_asks_for_a_gradient_changes_nothing(variant: str) -> None:
    made = form(variant, padded=True)
    full = everything("native", made)
    for name in leaves(made):
        alone = everything("native", made, only=name)
        assert {key for key in alone if key.startswith("d ")} == {f"d {name}"}
        assert_same(alone, {key: full[key] for key in alone}, 0)


@every_form
def test_threads_share_the_work(variant: str) -> None:
    made = form(variant, 13, 33, 40, padded=True)
    alone = everything("native", made)
    torch.set_num_threads(3)
    first, second = (everything("native", made) for _ in range(2))
    assert_same(second, first, 0)
    assert_same(first, alone)


# Gradients


@every_form
def test_gradients_are_those_of_finite_differences(variant: str) -> None:
    assert_gradients_are_those_of_finite_differences(form(variant, 3, 4, 3, padded=True))


@every_cell
@every_detachment
def test_detached_statistics_change_gradients_and_nothing_else(cell: str, detach: str) -> None:
    attached, detached = (everything("native", call(cell, "layer", detach=option)) for option in ("none", detach))
    assert torch.equal(detached["h"], attached["h"])
    assert error(detached["d W_h"], attached["d W_h"]) > 1e-6


# Values at the edge


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_saturated_gates_stay_finite(variant: str, dtype: torch.dtype) -> None:
    for factor in (1e3, 1e12):
        made = form(variant).to(dtype)
        made.x.mul_(factor)
        found = everything("native", made)
        assert all(value.isfinite().all() for value in found.values())
        assert_same(found, everything("reference", made), EXACT if dtype == torch.float64 else 1e-3)


@every_form
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_is_not_finite_goes_where_it_does_in_the_reference(variant: str, value: float) -> None:
    made = form(variant)
    made.x[1, 2, 0] = value
    found, expected = (
        {name: torch.where(part.isfinite(), part, torch.nan) for name, part in everything(kernel, made).items()}
        for kernel in ("native", "reference")
    )
    assert_same(found, expected)


# Which of the two


def regrouped(layer: Any) -> None:
    layer.norm_a = GroupNorm(32, groups=2).double()


REFUSED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "OwnForm": ("carried", lambda layer: setattr(layer, "__class__", type("OwnForm", (type(layer),), {}))),
    "norms GroupNorm, LayerNorm": ("no_cell", lambda layer: setattr(layer, "norm_x", GroupNorm(32).double())),
    "gates of one sum": ("per_gate", regrouped),
    "norms LayerNorm": ("cell_only", lambda layer: setattr(layer, "norm_h", LayerNorm(32).double())),
    "detached": ("carried", lambda layer: setattr(layer.norm_c, "detach", "std")),
    "eps": ("per_gate", lambda layer: setattr(layer.norm_c, "eps", 1e-3)),
    "hooks": ("per_gate", lambda layer: layer.norm_a.register_forward_hook(lambda *_: None)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_kernel_is_refused_with_the_reason_or_runs_on_the_reference(reason: str) -> None:
    variant, change = REFUSED[reason]
    made = form(variant)
    change(made.layer)
    with pytest.raises(KernelError, match=rf"^kernel=native: [^\n]*{reason}[^\n]*$"):
        everything("native", made)
    assert_same(everything("auto", made), everything("reference", made), 0)
    assert kernels.used == {"reference"}


@pytest.mark.parametrize("variant", PER_GATE)
def test_gates_of_a_single_unit_run_on_the_reference_which_remembers_that_they_have_no_spread(variant: str) -> None:
    made = form(variant, 5, 6, 1)
    with pytest.raises(KernelError, match=r"^kernel=native: no kernel for groups [^\n]* of several units each$"):
        everything("native", made)
    assert everything("auto", made)["norm_a.undefined"]


@every_form
def test_a_mode_chooses_the_implementation(variant: str) -> None:
    made = form(variant)
    for kernel, chosen in (("auto", "native"), ("native", "native"), ("reference", "reference")):
        everything(kernel, made)
        assert kernels.used == {chosen}
