"""The network of pen strokes: its equations written out, a density that is one, skips, and that it learns."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, MultivariateNormal

import data
import models
from data import Spec, mnist, strokes
from experiments.training.schema import Optim
from experiments.training.train import evaluate, make_all, make_optimizer, updates_of
from models import ModelError, kernels, sequence_classifier, stroke_model
from models.norms import NORMS
from tests.models.equations import EPS, close, generic, normal
from tests.models.implementation import on

LENGTH, BATCH, UNITS, MIXTURES = 12, 3, 5, 4
SPEC = Spec("strokes", (LENGTH, 3), 3)
TINY = strokes.Config(source="synthetic", sequence_length=20, validation_size=20, test_size=10)


def build(norm: str = "layer", **options: Any) -> Any:
    config = stroke_model.Config(**({"hidden_size": UNITS, "mixtures": MIXTURES} | options))
    return models.build(config, norm, SPEC, seed=0)


def steps(length: int = LENGTH) -> Tensor:
    found = normal(length, BATCH, 3)
    found[..., 2] = (found[..., 2] > 0.5).double()
    return found


# The network


def normalized(a: Tensor, gain: Tensor | float, shift: Tensor | float) -> Tensor:
    variance = a.var(-1, unbiased=False, keepdim=True)
    return gain * (a - a.mean(-1, keepdim=True)) / (variance + EPS).sqrt() + shift


def written_out(model: Any, x: Tensor) -> Tensor:
    """Equations 20 to 22 of the paper in a network of Graves's equations 1 to 3, a step and a layer at a time."""
    layers: list[Any] = [rnn.layers[0] for rnn in model.rnns]
    h, c = ([torch.zeros(x.shape[1], UNITS).double() for _ in layers] for _ in range(2))
    outputs = []
    for x_t in x:
        for k, layer in enumerate(layers):
            seen = x_t if k == 0 else torch.cat([x_t, h[k - 1]], 1)
            of_x, of_h = seen @ layer.W_x, h[k] @ layer.W_h
            if layer.norm == "layer":
                of_x = normalized(of_x, layer.norm_x.gain, layer.norm_x.shift)
                of_h = normalized(of_h, layer.norm_h.gain, 0)
            else:
                of_x = of_x + layer.norm_x.shift
            f, i, o, g = (of_x + of_h).split(UNITS, 1)
            c[k] = f.sigmoid() * c[k] + i.sigmoid() * g.tanh()
            seen_c = c[k] if layer.norm == "none" else normalized(c[k], layer.norm_c.gain, layer.norm_c.shift)
            h[k] = o.sigmoid() * seen_c.tanh()
        outputs.append(torch.cat(h, 1) @ model.output.weight.T + model.output.bias)
    return torch.stack(outputs)


@pytest.mark.parametrize("kernel", ["native", "reference"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_model_is_its_equations(norm: str, kernel: str) -> None:
    on(kernel)
    model, x, y = generic(build(norm)), steps(), steps()
    parameters = written_out(model, x)
    assert close(model(x), parameters) and kernels.used == {kernel}
    loss, state = model.loss((x.transpose(0, 1), y.transpose(0, 1)), None)
    assert state is None and close(loss, -log_density(parameters, y).mean())
    weights = list(model.parameters())
    expected = torch.autograd.grad(-log_density(parameters, y).mean(), weights)
    assert close(torch.autograd.grad(loss, weights), expected, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_layer_sees_the_input_and_is_seen_by_the_output(layers: int) -> None:
    """Also where no layer sees another."""
    model, x = build(layers=layers).double(), steps()
    with torch.no_grad():
        for rnn in model.rnns[1:]:
            rnn.layers[0].W_x[3:] = 0
    before = model.states(x)
    after = model.states(x + torch.tensor([0.1, 0, 0]))
    assert len(before) == layers and not any(close(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    for k in range(layers):
        model.output.zero_grad()
        model(x).sum().backward()
        seen = model.output.weight.grad[:, k * UNITS : (k + 1) * UNITS]
        assert close(seen[0], before[k].sum((0, 1)))


def test_a_step_is_predicted_from_those_before_it_alone() -> None:
    model, x = build().double(), steps()
    other = x.clone()
    other[7:] += 1
    assert torch.equal(model(x)[:7], model(other)[:7]) and not torch.equal(model(x)[7], model(other)[7])


# The density


def log_density(parameters: Tensor, y: Tensor) -> Tensor:
    """Of the next step, by PyTorch's own distributions; Graves's equations 18 to 26."""
    end, mixture = parameters[..., 0], parameters[..., 1:]
    weight, mean_x, mean_y, log_x, log_y, correlation = mixture.split(mixture.shape[-1] // 6, -1)
    x, y_, rho = log_x.clamp(-6, 6).exp(), log_y.clamp(-6, 6).exp(), 0.99 * correlation.tanh()
    covariance = torch.stack([x**2, rho * x * y_, rho * x * y_, y_**2], -1).unflatten(-1, (2, 2))
    gaussians = MultivariateNormal(torch.stack([mean_x, mean_y], -1), covariance)
    place: Tensor = MixtureSameFamily(Categorical(logits=weight), gaussians).log_prob(y[..., :2])
    return place + Bernoulli(logits=end).log_prob(y[..., 2])


@pytest.mark.parametrize("seed", range(3))
def test_the_density_is_one_in_all(seed: int) -> None:
    """Over a fine grid of places far beyond the means, at which a stroke ends or does not."""
    torch.manual_seed(seed)
    parameters = normal(1 + 6 * MIXTURES)
    parameters[-3 * MIXTURES : -MIXTURES] *= 0.4  # logarithms of deviations
    side, spacing = torch.arange(-16, 16, 0.04, dtype=torch.float64), 0.04
    places = torch.cartesian_prod(side, side)
    total = 0.0
    for end in (0.0, 1.0):
        ends = torch.full((len(places), 1), end, dtype=torch.float64)
        found = stroke_model.negative_log_density(parameters.expand(len(places), -1), torch.cat([places, ends], 1))
        total += float((-found).exp().sum() * spacing**2)
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [1e-6, 1.0, 100.0, 1e4])
def test_extreme_parameters_leave_loss_and_gradients_finite(size: float) -> None:
    torch.manual_seed(0)
    parameters = (size * torch.randn(500, 1 + 6 * MIXTURES)).requires_grad_()
    y = torch.cat([10 * torch.randn(500, 2), torch.randint(2, (500, 1)).float()], 1)
    loss = stroke_model.negative_log_density(parameters, y)
    loss.sum().backward()
    assert loss.isfinite().all() and parameters.grad is not None and parameters.grad.isfinite().all()


def test_float32_is_near_float64() -> None:
    parameters, y = 3 * normal(1000, 1 + 6 * MIXTURES), torch.cat([normal(1000, 2), torch.ones(1000, 1)], 1).double()
    exact = stroke_model.negative_log_density(parameters, y)
    single = stroke_model.negative_log_density(parameters.float(), y.float())
    assert torch.allclose(single.double(), exact, rtol=1e-4, atol=1e-4)


# As a model of the suite


def test_the_metrics_are_what_they_say() -> None:
    source = data.load(TINY, batch_size=4, seed=0)
    config = stroke_model.Config(hidden_size=UNITS, state_norm=True)
    model: Any = models.build(config, "layer", source.spec, seed=0)
    x, y = source.train_batch(0)
    values, _ = model.metrics((x, y), None)
    assert set(values) == {"loss", "sequence_nats", "end_error", "state_norm"} == set(models.metrics(config))
    assert values["loss"].shape == values["end_error"].shape == (20, 4) and values["state_norm"].shape == (4,)
    assert torch.allclose(values["loss"].mean(), model.loss((x, y), None)[0])
    assert torch.allclose(values["sequence_nats"], values["loss"].sum(0))
    wrong = (model(x.transpose(0, 1))[..., 0] > 0) != (y[..., 2].t() > 0)
    assert torch.equal(values["end_error"], wrong)
    found = evaluate(model, source, "validation")
    assert found["sequence_nats"] == pytest.approx(20 * found["loss"], rel=1e-5) and 0 < found["end_error"] < 1


@pytest.mark.parametrize("norm", NORMS)
def test_it_learns_with_every_norm(norm: str) -> None:
    source = data.load(TINY, batch_size=4, seed=0)
    model = models.build(stroke_model.Config(hidden_size=8, mixtures=3), norm, source.spec, seed=0)
    before = evaluate(model, source, "validation", training=True)["loss"]
    optimizer = make_optimizer(model, Optim(learning_rate=0.01))
    make_all(updates_of(model, optimizer, clip_norm=5.0), source, range(20), lambda step: 0.01, torch.zeros(()))
    assert evaluate(model, source, "validation", training=True)["loss"] < before - 0.3


def test_one_seed_gives_every_norm_the_same_weights() -> None:
    plain, layer = build("none"), build("layer")
    for name in ("output.weight", "rnns.0.layers.0.W_x", "rnns.2.layers.0.W_h"):
        assert torch.equal(plain.state_dict()[name], layer.state_dict()[name])


def test_it_reads_strokes_alone() -> None:
    spec = data.load(mnist.Config(source="synthetic", layout="rows"), batch_size=4, seed=0).spec
    with pytest.raises(ModelError, match="model=stroke_model reads data of kind strokes; this data is sequence"):
        models.build(stroke_model.Config(), "layer", spec, 0)
    with pytest.raises(ModelError, match="model=sequence_classifier reads data of kind sequence; this data is strokes"):
        models.build(sequence_classifier.Config(), "layer", SPEC, 0)
