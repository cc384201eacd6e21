"""Weight norm: W = g V / |V| for each unit, started where the un-normalised model starts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.norms import NORMS, reparametrize
from models.options import RecurrentConfig
from models.rnn import CELLS, RNN
from tests.models.equations import close, gradients, normal
from tests.models.implementation import on
from tests.models.test_models import MODELS, build, load


@pytest.fixture(autouse=True)
def reference() -> None:
    on("reference")


# A module, the weight that is normalised, the dimension of its units, and an input.
PARTS: dict[str, tuple[Any, str, int, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), "weight", 0, (4, 7)),
    "convolution": (lambda: nn.Conv2d(3, 5, 3), "weight", 0, (4, 3, 6, 6)),
    "recurrent": (lambda: CELLS["lstm"](7, "none", 3, RecurrentConfig(hidden_size=4)), "W_h", 1, (3, 2, 7)),
}
every_part = pytest.mark.parametrize("part", PARTS)


def normalised(part: str) -> tuple[Any, Tensor, Tensor, Tensor]:
    """A module in float64, its g (moved away from |V|) and V, and an input."""
    make, name, dim, shape = PARTS[part]
    module = make().double()
    reparametrize("weight", module, name, dim=dim)
    g, V = module.parametrizations[name].parameters()
    with torch.no_grad():
        g.mul_(1 + torch.rand_like(g))
    return module, g, V, normal(*shape)


def output(module: Any, x: Tensor) -> Tensor:
    found = module(x)
    return found[0] if isinstance(found, tuple) else found


def units(weight: Tensor, dim: int) -> Tensor:
    """Each unit's weights in a row."""
    return weight.movedim(dim, 0).flatten(1)


# The start


@pytest.mark.parametrize("size", [1, 33, 500])
@pytest.mark.parametrize("dim", [0, 1])
def test_weights_start_as_drawn_whatever_their_size(size: int, dim: int) -> None:
    linear = nn.Linear(size, 40, bias=False)
    drawn = linear.weight.detach().clone()
    reparametrize("weight", linear, "weight", dim=dim)
    assert torch.equal(linear.weight, drawn)


def test_convolutions_keep_the_memory_layout_of_their_weights() -> None:
    for conv in build("cnn", "weight").convs[1:]:
        assert conv.weight.is_contiguous(memory_format=torch.channels_last) and not conv.weight.is_contiguous()


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "weight"])
def test_other_norms_leave_weights_alone(norm: str) -> None:
    linear = nn.Linear(3, 4)
    reparametrize(norm, linear, "weight")
    assert type(linear) is nn.Linear and not parametrize.is_parametrized(linear)


# What it normalises


@every_part
def test_each_units_weights_have_the_length_g_and_the_direction_of_v(part: str) -> None:
    module, g, V, _ = normalised(part)
    _, name, dim, _ = PARTS[part]
    W = units(getattr(module, name), dim)
    assert close(W.norm(dim=1), g.flatten()) and g.numel() == V.shape[dim]
    assert close(W / g.view(-1, 1), nn.functional.normalize(units(V, dim)))


@every_part
def test_the_length_of_v_does_not_matter(part: str) -> None:
    module, g, V, x = normalised(part)
    before = output(module, x)
    with torch.no_grad():
        V.mul_(torch.rand_like(g) + 0.5)  # each unit's by a factor of its own
    assert close(output(module, x), before)


@every_part
def test_the_gradient_is_orthogonal_to_v_and_along_it_that_of_g(part: str) -> None:
    """Salimans and Kingma (2016), equation 3: with L a function of W, dL/dg = dL/dW V / |V|."""
    module, g, V, x = normalised(part)
    _, name, dim, _ = PARTS[part]
    by_g, by_V = gradients(output(module, x), g, V)
    assert close((units(by_V, dim) * units(V, dim)).sum(1), torch.zeros(()).double())
    W = getattr(module, name).detach().requires_grad_()
    parametrize.remove_parametrizations(module, name)
    (by_W,) = gradients(output_with(module, name, W, x), W)
    direction = nn.functional.normalize(units(V, dim))
    along = (units(by_W, dim) * direction).sum(1)
    assert close(along, by_g.flatten()) and along.abs().min() > 1e-6
    across = (units(by_W, dim) - along[:, None] * direction) * (g.view(-1, 1) / units(V, dim).norm(dim=1, keepdim=True))
    assert close(units(by_V, dim), across)


def output_with(module: Any, name: str, W: Tensor, x: Tensor) -> Tensor:
    found = torch.func.functional_call(module, {name: W}, (x,))
    return found[0] if isinstance(found, tuple) else found


# In models


@pytest.mark.parametrize("cell", CELLS)
def test_each_column_of_a_recurrent_layer_is_a_unit(cell: str) -> None:
    model = RNN(3, "weight", 4, RecurrentConfig(cell=cell, hidden_size=5, layers=2))
    layers: list[Any] = list(model.layers)
    for layer, inputs in zip(layers, (3, 5), strict=True):
        for name, rows in (("W_x", inputs), ("W_h", 5)):
            g, V = layer.parametrizations[name].parameters()
            assert g.shape == (1, layer.gates * 5) and V.shape == (rows, layer.gates * 5)
            assert torch.allclose(getattr(layer, name).norm(dim=0), g[0])


@pytest.mark.parametrize("name", ["mlp", "mlp-all", "cnn-channel"])
def test_an_output_layer_without_a_norm_is_not_normalised(name: str) -> None:
    layers = [part for part in build(name, "weight").modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    bare = [layer for layer in layers if not parametrize.is_parametrized(layer)]
    assert bare == ([] if name == "mlp-all" else layers[-1:])


@pytest.mark.parametrize("name", ["mlp", "cnn", "text-gru"])
def test_a_state_dict_is_taken_up_bit_for_bit(name: str) -> None:
    batch, trained = load(MODELS[name][0]).train_batch(0), build(name, "weight")
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.01)
    trained.loss(batch, None)[0].backward()
    optimizer.step()
    other = build(name, "weight", seed=1)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.loss(batch, None)[0], trained.loss(batch, None)[0])
