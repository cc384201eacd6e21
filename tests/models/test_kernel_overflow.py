"""Where numbers overflow, native layers put out finite values exactly where the reference does."""

import itertools
from copy import deepcopy

import pytest
import torch

from models import kernels
from models.options import RecurrentConfig
from models.rnn import CELLS
from tests.models.implementation import on


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_are_finite_where_those_of_the_reference_are(cell: str, norm: str) -> None:
    sizes, values = (5, 16, 33), (1e19, 1e25, 1e36, torch.inf, torch.nan)
    for size, value, name in itertools.product(sizes, values, ("x", "W_x", "W_h")):
        torch.manual_seed(size)
        layer = CELLS[cell](3, norm, 3, RecurrentConfig(hidden_size=size))
        x, found = torch.randn(3, 4, 3), []
        with torch.no_grad():
            (x if name == "x" else getattr(layer, name)).mul_(value)
            for kernel in ("native", "reference"):
                on(kernel)
                found.append(deepcopy(layer)(x)[0].isfinite())
        assert torch.equal(*found), (size, value, name)
    kernels.use("auto")
