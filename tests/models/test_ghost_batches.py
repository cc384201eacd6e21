"""Ghost batches: every `ghost_size` successive cases of a mini-batch are normalised as if they were all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models import ModelError, mlp
from models.batch_norms import BatchNorm
from tests.models.equations import close, generic, gradients, normal
from tests.models.test_models import load

torch.set_num_threads(1)
N, C = 12, 5
SHAPES = {"units": (N, C), "maps": (N, C, 3, 2)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pair(ghost_size: int) -> tuple[Any, Any]:
    """Ghost and plain batch norm with the same gains and shifts."""
    ghost, plain = generic(BatchNorm(C, ghost_size=ghost_size)), BatchNorm(C).double()
    plain.load_state_dict(ghost.state_dict())
    return ghost, plain


@every_shape
@pytest.mark.parametrize("size", [1, 2, 3, 6, N])
@pytest.mark.parametrize("channels_last", [False, True])
def test_each_ghost_batch_is_normalised_as_if_alone(shape: tuple[int, ...], size: int, channels_last: bool) -> None:
    ghost, plain = pair(size)
    a = normal(*shape)
    a = (a.to(memory_format=torch.channels_last) if channels_last and a.dim() == 4 else a).requires_grad_()
    alone = torch.cat([plain(chunk) for chunk in a.split(size)])
    assert close(ghost(a), alone)
    assert close(gradients(ghost(a), a, ghost.gain, ghost.shift), gradients(alone, a, plain.gain, plain.shift))


@every_shape
@pytest.mark.parametrize("size", [4, N])
def test_running_averages_take_the_mean_over_ghost_batches_once_an_update(shape: tuple[int, ...], size: int) -> None:
    ghost, batches = BatchNorm(C, ghost_size=size).double(), [normal(*shape) for _ in range(2)]
    for a in batches:
        ghost(a)
    chunks = [chunk.transpose(0, 1).flatten(1) for a in batches for chunk in a.split(size)]
    assert ghost.updates.tolist() == [2]
    assert close(ghost.running_mean[0], torch.stack([chunk.mean(1) for chunk in chunks]).mean(0))
    assert close(ghost.running_variance[0], torch.stack([chunk.var(1) for chunk in chunks]).mean(0))  # unbiased


@every_shape
def test_evaluation_knows_no_ghost_batches(shape: tuple[int, ...]) -> None:
    ghost, plain = pair(4)
    with torch.no_grad():
        ghost.running_mean.normal_()
        ghost.running_variance.uniform_(0.5, 2)
    plain.load_state_dict(ghost.state_dict())
    a = normal(*shape)[:7]  # of a size that 4 does not divide
    assert torch.equal(ghost.eval()(a), plain.eval()(a))
    assert all(torch.equal(buffer, plain.get_buffer(name)) for name, buffer in ghost.named_buffers())


@pytest.mark.parametrize("cases, size", [(N, 5), (N, 24), (1, 4)])
def test_ghost_batches_that_do_not_divide_are_refused_in_one_line(cases: int, size: int) -> None:
    message = rf"^model.ghost_size={size} does not divide a mini-batch of {cases} cases$"
    with pytest.raises(ModelError, match=message):
        BatchNorm(C, ghost_size=size)(torch.randn(cases, C))


def test_models_hand_the_size_on() -> None:
    spec, (x, y) = load("image").spec, load("image").train_batch(0)

    def loss(ghost_size: int, x: Tensor, y: Tensor) -> Tensor:
        config = mlp.Config(hidden_sizes=[12, 12], ghost_size=ghost_size)
        model: Any = models.build(config, "batch", spec, 0)
        return model.loss((x, y), None)[0]

    halves = (loss(0, x[:3], y[:3]) + loss(0, x[3:], y[3:])) / 2
    assert torch.allclose(loss(3, x, y), halves) and not torch.allclose(loss(0, x, y), halves)
