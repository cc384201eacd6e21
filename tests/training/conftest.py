"""Tests of training compute on one thread, unless a run asks for more, and leave what a run sets as it was."""

from collections.abc import Iterator

import pytest
import torch

from experiments.training import machine

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    yield
    machine.prepare(1, 1)
