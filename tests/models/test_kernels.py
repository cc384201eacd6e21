"""The native recurrent layers against the reference: the same values, gradients, running averages and errors."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from data import Spec
from models import kernels, language_model, sequence_classifier
from models.case_norms import LayerNorm
from models.kernels import KernelError, library
from models.language_model import Config
from models.norms import NORMS as EVERY_NORM
from models.norms import undefined
from models.recurrence import RecurrentLayer
from models.rnn import CELLS, LSTMLayer
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
    weigh,
)
from tests.models.equations import normal
from tests.models.implementation import on

NORMS = ("none", "layer", "batch")

every_cell = pytest.mark.parametrize("cell", CELLS)
every_norm = pytest.mark.parametrize("norm", NORMS)
# (steps, batch, hidden_size): one of each, widths around those of vector registers, one that would fill few sets of a
# cache, more rows than a chunk has (192) in several steps and in one.
SHAPES = [(1, 1, 1), (5, 1, 3), (1, 5, 17), (6, 2, 33), (5, 6, 8), (2, 3, 256), (100, 5, 12), (30, 33, 40), (3, 400, 4)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


# The same to rounding


@every_cell
@every_norm
@every_shape
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_native_is_the_reference(cell: str, norm: str, shape: Any, training: bool) -> None:
    for padded in (False, True):
        assert_native_is_the_reference(call(cell, norm, *shape, training=training, padded=padded))


@every_cell
@every_norm
@pytest.mark.parametrize("shape", [(5, 6, 8), (6, 4, 33), (13, 33, 40)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_in_single_precision_native_is_as_exact_as_the_reference(
    cell: str, norm: str, shape: Any, training: bool
) -> None:
    made = call(cell, norm, *shape, training=training)
    exact, single = everything("reference", made), made.to(torch.float32)
    native, reference = (everything(kernel, single) for kernel in ("native", "reference"))
    assert native["h"].dtype == native["d W_h"].dtype == torch.float32
    worst, theirs = (max(error(found[name], exact[name]) for name in exact) for found in (native, reference))
    assert worst <= max(5e-5, 10 * theirs)  # measured over seeds: at most 8e-6 (of two cases batch norm makes 1e-4)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.builds(
        call,
        st.sampled_from(tuple(CELLS)),
        st.sampled_from(NORMS),
        *(st.integers(1, most) for most in (9, 9, 70)),
        inputs=st.integers(1, 70),
        statistics=st.sampled_from(("per_step", "pooled")),
        seed=st.integers(0, 1000),
        **dict.fromkeys(("training", "padded", "symbols"), st.booleans()),
    )
)
def test_native_is_the_reference_whatever_the_call(made: Call) -> None:
    assert_native_is_the_reference(made)


@every_cell
@every_norm
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 6, 17), (100, 5, 12)], ids=str)
def test_symbols(cell: str, norm: str, shape: Any) -> None:
    for inputs, padded in ((1, False), (50, True)):
        assert_native_is_the_reference(call(cell, norm, *shape, inputs=inputs, symbols=True, padded=padded))


@every_norm
@pytest.mark.parametrize("symbol", [-1, 3, 2**40])
def test_a_symbol_out_of_range_is_the_references_error(norm: str, symbol: int) -> None:
    made = call("lstm", norm, symbols=True)
    made.x[2, 1] = symbol
    for kernel in ("native", "reference"):
        with pytest.raises(IndexError):
            everything(kernel, made)


@every_cell
@every_norm
def test_nothing_needs_to_be_contiguous(cell: str, norm: str) -> None:
    made = call(cell, norm, 5, 6, 9, padded=True)
    for weight in (made.layer.W_x, made.layer.W_h):
        weight.data = weight.data.t().contiguous().t()
    assert made.mask is not None
    strided = Call(
        made.layer,
        made.x.repeat_interleave(2, 2)[..., ::2],
        tuple(part.t().contiguous().t() for part in made.state),
        made.mask.t().contiguous().t(),
    )
    tensors = (strided.x, *strided.state, strided.mask, made.layer.W_x, made.layer.W_h)
    assert not any(t is None or t.is_contiguous() for t in tensors)
    assert_native_is_the_reference(strided)
    assert_same(everything("native", strided), everything("native", made), 0)


@every_cell
@every_norm
def test_gradients_of_outputs_may_be_expanded_or_missing(cell: str, norm: str) -> None:
    made, found = call(cell, norm), {}
    for kernel in ("native", "reference"):
        on(kernel)
        h, last = deepcopy(made.layer)(made.x.requires_grad_(), made.state)
        losses = {"sum": h.sum(), "one step": h[1].sum(), "state": last[-1].sum()}
        found[kernel] = {name: torch.autograd.grad(loss, made.x, retain_graph=True)[0] for name, loss in losses.items()}
    assert_same(found["native"], found["reference"])


@every_cell
@every_norm
@pytest.mark.parametrize("symbols", [False, True], ids=["vectors", "symbols"])
def test_who_asks_for_a_gradient_changes_nothing(cell: str, norm: str, symbols: bool) -> None:
    made = call(cell, norm, symbols=symbols, padded=True)
    full = everything("native", made)
    for name in leaves(made):
        alone = everything("native", made, only=name)
        assert {key for key in alone if key.startswith("d ")} == {f"d {name}"}
        assert_same(alone, {key: full[key] for key in alone}, 0)


@every_cell
@every_norm
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_without_gradients(cell: str, norm: str, training: bool) -> None:
    made = call(cell, norm, training=training, padded=True)
    expected = everything("native", made)
    with torch.no_grad():
        h, last = made.layer(made.x, made.state, made.mask)
    assert not h.requires_grad and torch.equal(h, expected["h"]) and torch.equal(last[0], expected["last h"])
    for name, buffer in made.layer.named_buffers():
        assert torch.equal(buffer.double(), expected[name]), name


@every_cell
def test_one_case_beside_padding_is_undefined_for_batch_norm(cell: str) -> None:
    made = call(cell, "batch", padded=True)
    on("native")
    made.layer(made.x, made.state, made.mask)
    assert undefined(made.layer)
    assert all(buffer.isfinite().all() for buffer in made.layer.buffers())


# Gradients


@every_cell
@every_norm
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_gradients_are_those_of_finite_differences(cell: str, norm: str, training: bool) -> None:
    assert_gradients_are_those_of_finite_differences(call(cell, norm, 3, 4, 3, training=training, padded=True))


@every_cell
@every_norm
def test_backward_overwrites_nothing_it_reads(cell: str, norm: str) -> None:
    made = call(cell, norm, 100, 5, 12, padded=True)
    on("native")
    h, last = made.layer(made.x, made.state, made.mask)
    parameters = list(made.layer.parameters())
    first, second = (torch.autograd.grad(weigh(h) + weigh(last[-1]), parameters, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("loss", [Tensor.sum, lambda h: h.square().sum()], ids=["linear", "quadratic"])
def test_a_second_derivative_is_refused(loss: Callable[[Tensor], Tensor]) -> None:
    made = call("lstm", "layer")
    on("native")
    h, _ = made.layer(made.x, made.state)
    with pytest.raises(RuntimeError, match="no second derivative"):
        (d,) = torch.autograd.grad(loss(h), made.layer.W_h, create_graph=True)
        (loss(h) + d.square().sum()).backward()


@every_cell
@pytest.mark.parametrize("changed", ["W_x", "W_h", "x", "h"])
def test_a_change_between_forward_and_backward_is_an_error(cell: str, changed: str) -> None:
    made = call(cell, "layer")
    on("native")
    h, _ = made.layer(made.x, made.state)
    with torch.no_grad():
        {"x": made.x, "h": h.detach(), **dict(made.layer.named_parameters())}[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified"):
        weigh(h).backward()


# Values at the edge


@every_cell
@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_saturated_gates_stay_finite(cell: str, norm: str, dtype: torch.dtype) -> None:
    for factor in (1e3, 1e6, 1e12):
        made = call(cell, norm).to(dtype)
        made = replace(made, x=made.x * factor)
        found = everything("native", made)
        assert all(value.isfinite().all() for value in found.values())
        assert_same(found, everything("reference", made), EXACT if dtype == torch.float64 else 1e-3)


@every_cell
@every_norm
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_goes_where_it_does_in_the_reference(cell: str, norm: str, value: float) -> None:
    made = call(cell, norm)
    made.x[1, 2, 0] = value
    found, expected = (
        {name: torch.where(part.isfinite(), part, torch.nan) for name, part in everything(kernel, made).items()}
        for kernel in ("native", "reference")
    )
    assert_same(found, expected)
    reached = found["h"].isnan()
    assert not reached[0].any() and reached[1, 2].all() == (norm != "none" or value != value)
    assert norm == "batch" or not reached[:, :2].any()


# Threads


@every_cell
@every_norm
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_work(cell: str, norm: str, threads: int) -> None:
    for shape, symbols in (((13, 33, 40), False), ((4, 1, 3), False), ((2, 400, 17), True)):
        made = call(cell, norm, *shape, inputs=11, symbols=symbols, padded=True)
        alone = everything("native", made)
        torch.set_num_threads(threads)
        first, second = (everything("native", made) for _ in range(2))
        torch.set_num_threads(1)
        assert_same(second, first, 0)
        assert_same(first, alone)
        assert_same(everything("native", made), alone, 0)


# Training


def losses(kernel: str, norm: str, build: Callable[..., Any], dtype: torch.dtype) -> Tensor:
    """Of 40 updates; `build` gives a model and a batch for each."""
    on(kernel)
    torch.manual_seed(0)
    model, batch = build(norm, dtype)
    optimizer = torch.optim.Adam(model.to(dtype).parameters(), lr=0.01)
    state, found = None, []
    for _ in range(40):
        loss, state = model.loss(batch(), state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


def text(norm: str, dtype: torch.dtype) -> tuple[nn.Module, Callable[[], Any]]:
    config, spec = Config(hidden_size=10), Spec("text", (8,), 7)

    def batch() -> tuple[Tensor, Tensor]:
        symbols = (torch.randint(7, (9, 1)) + 3 * torch.arange(9) + (torch.rand(9, 9) < 0.1)) % 7
        return symbols[:, :-1], symbols[:, 1:]

    return language_model.build(config, norm, spec), batch


def sequences(norm: str, dtype: torch.dtype) -> tuple[nn.Module, Callable[[], Any]]:
    config = sequence_classifier.Config(cell="gru", hidden_size=10)
    spec = Spec("sequence", (8, 2), 3)

    def batch() -> tuple[Tensor, Tensor]:
        x = torch.randn(9, 8, 2)
        return x.to(dtype), x.sum((1, 2)).clamp(-1, 1).round().long() + 1

    return sequence_classifier.build(config, norm, spec), batch


@every_norm
@pytest.mark.parametrize("build", [text, sequences])
@pytest.mark.parametrize(  # measured: 3e-14 and 7e-6
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)], ids=["double", "single"]
)
def test_a_training_run_is_that_of_the_reference(norm: str, build: Any, dtype: torch.dtype, tolerance: float) -> None:
    native, reference = (losses(kernel, norm, build, dtype) for kernel in ("native", "reference"))
    assert native[-10:].mean() < 0.95 * native[:10].mean()
    assert (native - reference).abs().max() < tolerance


# Which of the two


class OwnNorm(LayerNorm):
    pass


class OwnLayer(LSTMLayer):
    pass


def hooked(layer: Any) -> None:
    layer.norm_c.register_forward_hook(lambda *_: None)


def replaced(layer: Any) -> None:
    layer.norm_x = OwnNorm(layer.norm_x.features)


def frozen(layer: Any) -> None:
    layer.norm_h.eval()


def loosened(layer: Any) -> None:
    layer.norm_h.eps = 1e-3


REFUSED: dict[str, Callable[[Any], Any]] = {
    "hooks": hooked,
    "hooks on": lambda layer: layer.norm_c.register_full_backward_hook(lambda *_: None),
    "gain": lambda layer: setattr(layer.norm_h, "gain", None),
    "OwnNorm": replaced,
    "trained": frozen,
    "detached": lambda layer: setattr(layer.norm_c, "detach", "std"),
    "eps": loosened,
    "bfloat16": lambda layer: layer.bfloat16(),
    "device meta": lambda layer: layer.to("meta"),
}


@pytest.mark.parametrize("reason", [*REFUSED, "OwnLayer"])
def test_what_has_no_kernel_is_refused_with_the_reason_or_runs_on_the_reference(reason: str) -> None:
    layer: RecurrentLayer = (OwnLayer if reason == "OwnLayer" else LSTMLayer)(3, "layer", 5, Config())
    REFUSED.get(reason, lambda _: None)(layer)
    x = torch.randn(5, 6, 3).to(layer.W_h)
    on("native")
    with pytest.raises(KernelError, match=rf"^kernel=native: [^\n]*{reason}[^\n]*$"):
        layer(x)
    found = []
    for kernel in ("auto", "reference"):
        on(kernel)
        assert not kernels.applies(layer, x)
        found.append(layer(x)[0])
    assert found[0].is_meta or torch.equal(*found)


@every_cell
@pytest.mark.parametrize("norm", [name for name in EVERY_NORM if name not in NORMS])
def test_a_norm_without_a_kernel_is_refused_or_runs_on_the_reference(cell: str, norm: str) -> None:
    made = call(cell, norm)
    with pytest.raises(KernelError, match=r"^kernel=native: no kernel for [^\n]+$"):
        everything("native", made)
    assert_same(everything("auto", made), everything("reference", made), 0)
    assert kernels.used == {"reference"}


@every_cell
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_norm_that_has_no_use_for_detachment_keeps_its_kernel(cell: str, norm: str) -> None:
    assert_same(everything("native", call(cell, norm, detach="both")), everything("native", call(cell, norm)), 0)


def test_inputs_of_another_type_than_the_weights_are_refused() -> None:
    made = call("gru", "layer")
    on("native")
    with pytest.raises(KernelError, match=r"float32 inputs and torch.float64 weights"):
        made.layer(made.x.float())
    with pytest.raises(KernelError, match=r"int32 inputs"):
        made.layer(torch.zeros(3, 4, dtype=torch.int32))
    with torch.autocast("cpu"), pytest.raises(KernelError, match="autocast"):
        made.layer(made.x)


@every_norm
def test_a_mode_chooses_the_implementation(norm: str) -> None:
    layer, x = call("tanh", norm).layer, normal(5, 6, 3)
    for kernel, native in (("native", True), ("reference", False)):
        on(kernel)
        assert kernels.applies(layer, x) == native and kernels.used == {kernel}
    with pytest.raises(ValueError, match="kernel=fast: choose one of auto, native, reference"):
        kernels.use("fast")


@pytest.mark.parametrize("contents", [None, "not a library"])
def test_without_a_compiled_library(monkeypatch: Any, tmp_path: Path, contents: str | None) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "unavailable", library.unavailable.__wrapped__)  # what is remembered stays
    if contents is not None:
        library.library().parent.mkdir(parents=True)
        library.library().write_text(contents)
    made = call("lstm", "layer")
    assert torch.equal(everything("auto", made)["h"], everything("reference", made)["h"])
    with pytest.raises(KernelError, match=r"^kernel=native: [^\n]*python -m models.kernels[^\n]*$"):
        everything("native", made)


def test_a_library_is_one_of_its_sources_and_flags(monkeypatch: Any, tmp_path: Path) -> None:
    found = {library.library()}
    monkeypatch.setenv("KERNEL_FLAGS", "-O0")
    found.add(library.library())
    (tmp_path / "kernel.cpp").write_text("")
    monkeypatch.setattr(library, "SOURCES", tmp_path)
    found.add(library.library())
    assert len(found) == 3
