"""Ghost batches: every `ghost_size` successive cases of a mini-batch are normalised as if they were all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models import ModelError, mlp, norms
from models.batch_norms import BatchNorm
from models.case_norms import EPS
from models.norms import FeedforwardNormConfig, feedforward
from tests.test_models import load
from tests.test_norms import close, generic, gradients, normal

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
def test_one_ghost_batch_is_plain_batch_norm(shape: tuple[int, ...]) -> None:
    ghost, plain = pair(N)
    for _ in range(3):
        a = normal(*shape).requires_grad_()
        assert close(ghost(a), plain(a))
        ours, theirs = (gradients(norm(a), a, norm.gain, norm.shift) for norm in (ghost, plain))
        assert all(close(g, k) for g, k in zip(ours, theirs, strict=True))
        assert all(close(buffer.double(), plain.get_buffer(name).double()) for name, buffer in ghost.named_buffers())
    assert close(ghost.eval()(a), plain.eval()(a))


@every_shape
@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("channels_last", [False, True])
def test_each_ghost_batch_is_normalised_as_if_alone(shape: tuple[int, ...], size: int, channels_last: bool) -> None:
    ghost, plain = pair(size)
    a = normal(*shape)
    a = (a.to(memory_format=torch.channels_last) if channels_last and a.dim() == 4 else a).requires_grad_()
    alone = torch.cat([plain(chunk) for chunk in a.split(size)])
    assert close(ghost(a), alone)
    ours = gradients(ghost(a), a, ghost.gain, ghost.shift)
    theirs = gradients(alone, a, plain.gain, plain.shift)
    assert all(close(g, k) for g, k in zip(ours, theirs, strict=True))


@every_shape
def test_running_averages_take_the_mean_over_ghost_batches_once_an_update(shape: tuple[int, ...]) -> None:
    ghost, batches = BatchNorm(C, ghost_size=4).double(), [normal(*shape) for _ in range(2)]
    for a in batches:
        ghost(a)
    chunks = [chunk.transpose(0, 1).flatten(1) for a in batches for chunk in a.split(4)]
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


@pytest.mark.parametrize("shape", [(N, C), (1, C), (N, C, 1, 1)], ids=["units", "one case", "maps of one pixel"])
def test_a_ghost_batch_of_one_case_is_undefined(shape: tuple[int, ...]) -> None:
    ghost, a = generic(BatchNorm(C, ghost_size=1)), normal(*shape).requires_grad_()
    out = ghost(a)
    assert norms.undefined(ghost)
    assert torch.equal(out.view(-1, C), ghost.shift.expand(len(a), C))
    by_input, by_gain, by_shift = gradients(out, a, ghost.gain, ghost.shift)
    assert not by_input.any() and not by_gain.any() and by_shift.any()
    assert close(ghost.running_mean[0], a.detach().view(-1, C).mean(0))
    assert ghost.running_variance.max() < EPS  # nothing else can be said of one value


def test_ghost_batches_of_one_map_are_defined() -> None:
    ghost = BatchNorm(C, ghost_size=1)
    ghost(torch.randn(N, C, 3, 2))
    assert not norms.undefined(ghost)


@pytest.mark.parametrize("cases, size", [(N, 5), (N, 24), (1, 4)])
def test_ghost_batches_that_do_not_divide_are_refused_in_one_line(cases: int, size: int) -> None:
    message = rf"^model.ghost_size={size} does not divide a mini-batch of {cases} cases$"
    with pytest.raises(ModelError, match=message):
        BatchNorm(C, ghost_size=size)(torch.randn(cases, C))


@pytest.mark.parametrize("norm", [name for name in norms.NORMS if name != "batch"])
@every_shape
def test_ghost_batches_are_batch_norms_alone(norm: str, shape: tuple[int, ...]) -> None:
    a, found = torch.randn(shape, requires_grad=True), []
    for size in (0, 1, 5):
        out = feedforward(norm, C, FeedforwardNormConfig(ghost_size=size, groups=1))(a)
        found.append((out, *torch.autograd.grad(out.square().sum(), a)))
    assert all(torch.equal(x, y) for other in found[1:] for x, y in zip(other, found[0], strict=True))


def test_models_hand_the_size_on() -> None:
    spec, (x, y) = load("image").spec, load("image").train_batch(0)

    def loss(ghost_size: int, x: Tensor, y: Tensor) -> Tensor:
        config = mlp.Config(hidden_sizes=[12, 12], ghost_size=ghost_size)
        model: Any = models.build(config, "batch", spec, 0)
        return model.loss((x, y), None)[0]

    halves = (loss(0, x[:3], y[:3]) + loss(0, x[3:], y[3:])) / 2
    assert torch.allclose(loss(3, x, y), halves) and not torch.allclose(loss(0, x, y), halves)
