"""Recurrent layers against PyTorch's, against the paper's equations written out, and what masks and steps promise."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import kernels
from models.batch_norms import BatchNorm, StepwiseBatchNorm
from models.case_norms import Norm
from models.norms import undefined
from models.recurrence import PLAIN, RecurrentConfig
from models.rnn import CELLS, RNN
from tests.implementation import on

torch.set_num_threads(1)
T, B, INPUTS, UNITS = 4, 5, 3, 6
NORMS = ("none", "batch", "layer")
LENGTHS = torch.tensor([4, 1, 3, 2, 4])
MASK = torch.arange(T)[:, None] < LENGTHS

every_cell = pytest.mark.parametrize("cell", CELLS)
every_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True, params=["native", "reference"])
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.manual_seed(0)
    on(request.param)
    yield
    kernels.use("auto")


def rnn(cell: str, norm: str, steps: int = T, inputs: int = INPUTS, **options: Any) -> RNN:
    """In float64, with gains and shifts moved away from where they start."""
    made = RNN(inputs, norm, steps, RecurrentConfig(cell=cell, hidden_size=UNITS, groups=2, **options)).double()
    with torch.no_grad():
        for part in made.modules():
            for parameter in part.parameters() if isinstance(part, Norm) else ():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return made


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-11)


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def weigh(h: Tensor) -> Tensor:
    return (h * torch.linspace(-1, 2, h.numel()).double().view_as(h)).sum()


# Without a norm: PyTorch's layers

LAYERS = {"tanh": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def theirs(cell: str, columns: Tensor) -> Tensor:
    """Our gates (f, i, o, g), (z, r, candidate) along the last axis as PyTorch's i, f, g, o and r, 1 - z, candidate."""
    if cell == "lstm":
        f, i, o, g = columns.chunk(4, -1)
        return torch.cat([i, f, g, o], -1)
    if cell == "gru":
        z, r, candidate = columns.chunk(3, -1)
        return torch.cat([r, -z, candidate], -1)
    return columns


def shifts(cell: str, layer: Any) -> tuple[Tensor, Tensor]:
    """The shifts as biases of W_x x and of W_h h."""
    if cell == "gru":
        nothing = torch.zeros_like(layer.norm_x.shift)
        return torch.cat([layer.norm_x.shift, layer.norm_candidate.shift]), torch.cat([nothing, layer.norm_u.shift])
    shift = (layer.norm_x if cell == "lstm" else layer.norm_a).shift
    return shift, torch.zeros_like(shift)


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_without_a_norm_a_cell_is_that_of_torch(cell: str, layers: int) -> None:
    ours, reference = rnn(cell, "none", layers=layers), LAYERS[cell](INPUTS, UNITS, layers).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    with torch.no_grad():
        for number, layer in enumerate(ours.layers):
            for name, value in zip(names, (layer.W_x, layer.W_h, *shifts(cell, layer)), strict=True):
                getattr(reference, f"{name}_l{number}").copy_(theirs(cell, value).t())
    x = normal(T, B, INPUTS).requires_grad_()
    state = [tuple(normal(B, UNITS) for _ in range(layer.carried)) for layer in ours.layers]
    stacked = tuple(torch.stack(parts) for parts in zip(*state, strict=True))
    h, last = ours(x, state)
    expected, expected_last = reference(x, stacked if cell == "lstm" else stacked[0])
    assert close(h, expected)
    for mine, yours in zip(zip(*last, strict=True), expected_last if cell == "lstm" else [expected_last], strict=True):
        assert close(torch.stack(mine), yours)
    weights = [weight for layer in ours.layers for weight in (layer.W_x, layer.W_h)]
    their_weights = [getattr(reference, f"{name}_l{number}") for number in range(layers) for name in names[:2]]
    by_x, *by_weights = torch.autograd.grad(weigh(h), [x, *weights])
    expected_by_x, *expected = torch.autograd.grad(weigh(expected), [x, *their_weights])
    assert close(by_x, expected_by_x)
    assert all(close(theirs(cell, mine).t(), yours) for mine, yours in zip(by_weights, expected, strict=True))


# With a norm: equations 4, 20-22 and 26-28 of the paper, written out one step and gate after the other


def written_out(cell: str, norm: str, layer: Any, x: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
    h = c = x.new_zeros(x.shape[1], UNITS)
    W, U, outputs = layer.W_x, layer.W_h, []
    for x_t, inside in zip(x, mask, strict=True):

        def normalized(name: str, a: Tensor, inside: Tensor = inside) -> Tensor:
            unit = getattr(layer, name)
            shift = 0 if unit.shift is None else unit.shift
            if norm in PLAIN:
                return a + shift
            if norm == "instance":  # of a single value
                return unit.gain * 0 * a + shift
            if norm == "rms":
                return unit.gain * a / torch.sqrt((a**2).mean(1, keepdim=True) + 1e-5) + shift
            if norm == "group":
                halves = a.view(len(a), 2, -1)
                variance = halves.var(2, unbiased=False, keepdim=True)
                centred = halves - halves.mean(2, keepdim=True)
                return unit.gain * (centred / torch.sqrt(variance + 1e-5)).view(a.shape) + shift
            dim, values = (0, a[inside]) if norm in ("batch", "sync_batch") else (1, a)
            mean = values.mean(dim, keepdim=True)
            variance = ((values - mean) ** 2).mean(dim, keepdim=True)
            return unit.gain * (a - mean) / torch.sqrt(variance + 1e-5) + shift

        new_c = c
        if cell == "tanh":
            new_h = torch.tanh(normalized("norm_a", h @ U + x_t @ W))
        elif cell == "lstm":
            a = normalized("norm_h", h @ U) + normalized("norm_x", x_t @ W)
            f, i, o, g = (a[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
            new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            new_h = torch.sigmoid(o) * torch.tanh(new_c if norm in PLAIN else normalized("norm_c", new_c))
        else:
            two = 2 * UNITS
            a = normalized("norm_h", h @ U[:, :two]) + normalized("norm_x", x_t @ W[:, :two])
            z, r = torch.sigmoid(a[:, :UNITS]), torch.sigmoid(a[:, UNITS:])
            inner = normalized("norm_candidate", x_t @ W[:, two:]) + r * normalized("norm_u", h @ U[:, two:])
            new_h = (1 - z) * h + z * torch.tanh(inner)
        h, c = torch.where(inside[:, None], new_h, h), torch.where(inside[:, None], new_c, c)
        outputs.append(h)
    return outputs, c


@every_cell
@every_norm
@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
def test_a_cell_is_the_papers_equations(cell: str, norm: str, mask: Tensor | None) -> None:
    model, x = rnn(cell, norm), normal(T, B, INPUTS)
    h, state = model(x, mask=mask)
    expected, c = written_out(cell, norm, model.layers[0], x, torch.ones_like(MASK) if mask is None else mask)
    assert close(h, torch.stack(expected))
    assert close(state[0][-1], c if cell == "lstm" else expected[-1])  # c is carried as it is, not normalised
    parameters = list(model.parameters())
    by_ours = torch.autograd.grad(weigh(h), parameters)
    by_hand = torch.autograd.grad(weigh(torch.stack(expected)), parameters)
    assert all(close(g, k) for g, k in zip(by_ours, by_hand, strict=True))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_cell_of_an_lstm_counts_beyond_what_a_normalised_one_could(norm: str) -> None:
    model = rnn("lstm", norm)
    with torch.no_grad():
        model.layers[0].norm_x.shift.fill_(50)  # open gates, candidate 1
    _, [(_, c)] = model(normal(T, B, INPUTS))
    assert close(c, torch.full_like(c, T))


@every_cell
@every_norm
def test_integers_stand_for_one_hot_vectors(cell: str, norm: str) -> None:
    model, ids = rnn(cell, norm), torch.randint(INPUTS, (T, B))
    gradients = []
    for x in (ids, nn.functional.one_hot(ids, INPUTS).double()):
        h, _ = model(x)
        gradients.append((h, *torch.autograd.grad(weigh(h), list(model.parameters()))))
    assert all(close(a, b) for a, b in zip(*gradients, strict=True))


@every_norm
def test_layers_are_stacked(norm: str) -> None:
    model, x = rnn("gru", norm, layers=3), normal(T, B, INPUTS)
    h, state = model(x)
    by_hand = x
    for layer, (last,) in zip(model.layers, state, strict=True):
        by_hand, (h_last,) = layer(by_hand)
        assert close(last, h_last) and not last.requires_grad
    assert close(h, by_hand)


@every_cell
@pytest.mark.parametrize("norm, options", [("none", {}), ("layer", {}), ("batch", {"statistics": "pooled"})])
def test_a_carried_state_continues_a_sequence(cell: str, norm: str, options: Any) -> None:
    model, x = rnn(cell, norm, layers=2, **options), normal(T, B, INPUTS)
    model(normal(T, B, INPUTS))
    model.eval()
    first, state = model(x[:1])
    second, end = model(x[1:], state)
    whole, whole_end = model(x)
    assert close(torch.cat([first, second]), whole)
    assert all(close(a, b) for a, b in zip(sum(end, ()), sum(whole_end, ()), strict=True))


# Padding


@every_cell
@every_norm
def test_padding_changes_nothing_inside_and_the_state_stands_still(cell: str, norm: str) -> None:
    model, x = rnn(cell, norm, layers=2), normal(T, B, INPUTS)
    model(x)
    model.eval()  # where batch norm, too, treats each sequence on its own
    h, state = model(x, mask=MASK)
    for b, length in enumerate(LENGTHS):
        alone, end = model(x[:length, b : b + 1])
        assert close(h[:length, b], alone[:, 0])
        assert torch.equal(h[length:, b], h[length - 1, b].expand(T - length, UNITS))
        for padded, bare in zip(sum(state, ()), sum(end, ()), strict=True):
            assert close(padded[b], bare[0])


@every_cell
@every_norm
def test_the_content_of_padding_reaches_nothing(cell: str, norm: str) -> None:
    x, found = normal(T, B, INPUTS), []
    for padding in (0.0, 1e3):
        torch.manual_seed(1)
        model = rnn(cell, norm, layers=2)
        inputs = torch.where(MASK[..., None], x, padding).requires_grad_()
        h, state = model(inputs, mask=MASK)
        gradients = torch.autograd.grad(weigh(h), [inputs, *model.parameters()])
        assert not gradients[0][~MASK].any()
        found.append([h, *sum(state, ()), *gradients, *buffers(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_cell
@every_norm
def test_a_mask_without_padding_is_no_mask(cell: str, norm: str) -> None:
    x, found = normal(T, B, INPUTS), []
    for mask in (None, torch.ones(T, B, dtype=torch.bool)):
        torch.manual_seed(1)
        model = rnn(cell, norm)
        found.append([model(x, mask=mask)[0], *buffers(model).values()])
    assert all(close(a.double(), b.double()) for a, b in zip(*found, strict=True))


# Batch norm over time


def stepwise(**options: Any) -> StepwiseBatchNorm:
    norm = StepwiseBatchNorm(UNITS, **{"steps": T, **options}).double()
    torch.nn.init.normal_(norm.shift)
    return norm


def test_each_step_has_its_own_statistics_and_all_share_one_gain() -> None:
    for steps in (1, T, 100):
        norm = stepwise(steps=steps)
        assert {name: p.shape for name, p in norm.named_parameters()} == {"gain": (UNITS,), "shift": (UNITS,)}
        assert norm.running_mean.shape == norm.running_variance.shape == (steps, UNITS)
        assert torch.equal(norm.gain.float(), torch.full((UNITS,), 0.1))


@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
def test_statistics_of_a_step_are_those_of_its_cases(mask: Tensor | None) -> None:
    norm, a = stepwise(), normal(T, B, UNITS)
    norm(a, mask=mask)
    for t in range(T):
        inside = a[t] if mask is None else a[t][mask[t]]
        assert close(norm.running_mean[t], inside.mean(0))
        assert close(norm.running_variance[t], inside.var(0, unbiased=True))
    assert norm.undefined == (False if mask is None else (MASK.sum(1) == 1).any())


@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
@pytest.mark.parametrize("steps", [1, T], ids=["pooled", "per step"])
def test_a_sequence_at_once_is_its_steps_one_by_one(mask: Tensor | None, steps: int) -> None:
    torch.manual_seed(1)
    at_once, one_by_one = stepwise(steps=steps), stepwise(steps=steps)
    one_by_one.load_state_dict(at_once.state_dict())
    for _ in range(2):
        a = normal(T, B, UNITS)
        parts = [one_by_one(a[t], t, None if mask is None else mask[t]) for t in range(T)]
        one_by_one.flush()
        assert close(at_once(a, mask=mask), torch.stack(parts))
        for name, buffer in at_once.named_buffers():
            assert close(buffer.double(), one_by_one.get_buffer(name).double()), name
    longer = normal(T + 3, B, UNITS)
    at_once.eval()
    one_by_one.eval()
    assert close(at_once(longer), torch.stack([one_by_one(longer[t], t) for t in range(T + 3)]))


def test_beyond_the_trained_steps_the_last_statistics_serve() -> None:
    norm, a = stepwise(), normal(T + 3, B, UNITS)
    norm(normal(T, B, UNITS))
    norm.eval()
    for t, out in enumerate(norm(a)):
        at = min(t, T - 1)
        normalized = (a[t] - norm.running_mean[at]) / (norm.running_variance[at] + norm.eps).sqrt()
        assert close(out, norm.gain * normalized + norm.shift)


@every_cell
def test_pooled_statistics_are_the_mean_over_the_steps(cell: str) -> None:
    torch.manual_seed(1)
    pooled = rnn(cell, "batch", statistics="pooled")
    torch.manual_seed(1)
    per_step, x = rnn(cell, "batch"), normal(T, B, INPUTS)
    assert close(pooled(x)[0], per_step(x)[0])  # in training each step has its own mini-batch either way
    for one, several in zip(pooled.layers[0].children(), per_step.layers[0].children(), strict=True):
        assert isinstance(one, BatchNorm) and isinstance(several, BatchNorm)
        assert close(one.running_mean, several.running_mean.mean(0, keepdim=True))
        assert close(one.running_variance, several.running_variance.mean(0, keepdim=True))


def test_a_step_that_is_all_padding_keeps_its_averages() -> None:
    norm, mask = stepwise(), torch.ones(T, B, dtype=torch.bool)
    norm(normal(T, B, UNITS))
    before, mask[2] = buffers(norm), False
    norm(normal(T, B, UNITS), mask=mask)
    for name in ("running_mean", "running_variance", "updates"):
        kept = [torch.equal(norm.get_buffer(name)[t], before[name][t]) for t in range(T)]
        assert kept == [False, False, True, False], name


def test_shorter_sequences_leave_later_steps_alone() -> None:
    norm = stepwise()
    norm(normal(2, B, UNITS))
    assert norm.updates.tolist() == [1, 1, 0, 0]


def test_longer_training_sequences_leave_nothing_of_their_further_steps() -> None:
    norm, a = stepwise(), normal(T + 3, B, UNITS)
    norm(a)
    assert close(norm.running_mean, a[:T].mean(1)) and norm.updates.tolist() == [1] * T


@every_cell
def test_one_case_is_undefined_for_batch_norm_and_its_weights_get_no_gradient(cell: str) -> None:
    model = rnn(cell, "batch")
    h, _ = model(normal(T, 1, INPUTS))
    assert undefined(model)
    weigh(h).backward()
    (layer,) = model.layers
    assert not layer.W_x.grad.any() and not layer.W_h.grad.any()
    assert any(parameter.grad.any() for parameter in model.parameters())
    assert all(value.isfinite().all() for value in [h, *model.buffers(), *(p.grad for p in model.parameters())])
    assert model.eval()(normal(T, 1, INPUTS))[0].isfinite().all()


# The start of a run


@every_cell
def test_noise_on_the_initial_state_is_the_same_for_every_norm(cell: str) -> None:
    drawn = []
    for norm in NORMS:
        torch.manual_seed(3)
        (layer,) = rnn(cell, norm, initial_state_std=0.1).float().layers
        torch.manual_seed(4)
        h, *c = layer.initial_state(1000)
        drawn.append(h)
        assert not any(part.any() for part in c)
        layer(torch.randn(T, B, INPUTS))
        drawn.append(torch.randn(3))  # no norm uses up random numbers of its own
        assert not layer.eval().initial_state(7)[0].any()
    assert all(torch.equal(a, b) for a, b in zip(drawn, drawn[:2] * len(NORMS), strict=True))
    assert drawn[0].std().item() == pytest.approx(0.1, rel=0.05)


@every_norm
def test_options_set_the_recurrent_scale_and_the_gain(norm: str) -> None:
    made = []
    for options in ({}, {"recurrent_scale": 4.0, "gain": 0.5}):
        torch.manual_seed(5)
        made.append(RNN(INPUTS, norm, T, RecurrentConfig(hidden_size=UNITS, groups=2, **options)).layers[0])
    plain, changed = made
    assert torch.equal(changed.W_h, 4 * plain.W_h) and torch.equal(changed.W_x, plain.W_x)
    gains = [part.gain for part in changed.modules() if isinstance(part, Norm) and part.gain is not None]
    assert len(gains) == (0 if norm in PLAIN else 3) and all((gain == 0.5).all() for gain in gains)
