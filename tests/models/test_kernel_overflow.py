"""Where numbers overflow, native layers put out finite values exactly where the reference does."""

import itertools
from copy import deepcopy
from typing import Any

import pytest
import torch

from models import kernels
from models.lstm_variants import FORMS
from models.options import DETACH, RecurrentConfig
from models.rnn import CELLS, RNN
from tests.models.implementation import on

CASES: list[tuple[str, dict[str, str]]] = [
    *((norm, {"cell": cell}) for norm in ("none", "layer", "batch") for cell in CELLS),
    *(("layer", {"variant": variant}) for variant in FORMS),
    *(("layer", {"cell": cell, "detach": detach}) for cell in CELLS for detach in DETACH[1:]),
]


@pytest.mark.parametrize(("norm", "options"), CASES, ids=str)
def test_outputs_are_finite_where_those_of_the_reference_are(norm: str, options: dict[str, Any]) -> None:
    sizes, values = (5, 16, 33), (1e19, 1e25, 1e36, torch.inf, torch.nan)
    for size, value, name in itertools.product(sizes, values, ("x", "W_x", "W_h")):
        torch.manual_seed(size)
        (layer,) = RNN(3, norm, 3, RecurrentConfig(hidden_size=size, **options)).layers
        x, found = torch.randn(3, 4, 3), []
        with torch.no_grad():
            (x if name == "x" else getattr(layer, name)).mul_(value)
            for kernel in ("native", "reference"):
                on(kernel)
                found.append(deepcopy(layer)(x)[0].isfinite())
        assert torch.equal(*found), (size, value, name)
    kernels.use("auto")
