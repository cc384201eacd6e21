"""Every test of a model computes on one thread, starts from the same random numbers, and may choose the kernels."""

from collections.abc import Iterator

import pytest
import torch

from models import kernels

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def alike() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    kernels.use("auto")
    torch.set_num_threads(1)
