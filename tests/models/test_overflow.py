"""Where layer norm's variance exceeds all numbers a run has diverged, on the kernels as on the reference."""

import pytest
import torch

from models.recurrence import RecurrentConfig
from models.rnn import CELLS
from tests.models.implementation import on

torch.set_num_threads(1)
SCALES = (1e10, 1e18, 1e20, 1e25, 1e38, float("inf"), float("nan"))


def finite(kernel: str, cell: str, norm: str, hidden_size: int, scale: float) -> list[bool]:
    """Whether outputs, and gradients of inputs and weights, are numbers."""
    on(kernel)
    torch.manual_seed(0)
    layer = CELLS[cell](5, norm, 4, RecurrentConfig(cell=cell, hidden_size=hidden_size))
    x = ((torch.rand(4, 3, 5) - 0.5) * scale).requires_grad_()
    h, _ = layer(x)
    h.sum().backward()
    assert x.grad is not None
    weights = [p.grad for p in layer.parameters() if p.grad is not None]
    return [bool(h.isfinite().all()), bool(x.grad.isfinite().all()), all(bool(w.isfinite().all()) for w in weights)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("hidden_size", [8, 20, 33])
def test_what_is_no_number_on_the_reference_is_none_on_the_kernels(cell: str, norm: str, hidden_size: int) -> None:
    """PyTorch's own layer norm makes zeros of such sums at some widths and no numbers at others."""
    for scale in SCALES:
        native, reference = (finite(kernel, cell, norm, hidden_size, scale) for kernel in ("native", "reference"))
        assert all(there or not here for here, there in zip(native, reference, strict=True)), scale
        assert native == reference or (norm == "layer" and scale >= 1e20), scale


@pytest.mark.parametrize("cell", CELLS)
def test_a_variance_beyond_all_numbers_is_told(cell: str) -> None:
    assert not any(finite("native", cell, "layer", 33, 1e25))
