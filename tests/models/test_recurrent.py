"""Recurrent layers, every cell with every norm: PyTorch's layers, the paper's equations, what masks and steps do."""

from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ModelError
from models.case_norms import Norm
from models.language_model import Config
from models.lstm_variants import FORMS
from models.norms import NORMS, recurrent, undefined
from models.recurrence import nearest_orthogonal
from models.rnn import CELLS, RNN
from tests.models.equations import (
    EPS,
    NORMALIZED,
    OF_A_BATCH,
    OF_A_CASE,
    UNCORRECTED,
    close,
    generic,
    gradients,
    normal,
    over,
    weigh,
)
from tests.models.implementation import on

T, B, INPUTS, UNITS = 4, 5, 3, 6
LENGTHS = torch.tensor([4, 1, 3, 2, 4])
MASK = torch.arange(T)[:, None] < LENGTHS
PLAIN = [norm for norm in NORMS if norm not in OF_A_BATCH + OF_A_CASE]
KERNELS: dict[str, tuple[str, ...]] = {"native": ("none", "batch", "layer"), "reference": tuple(NORMS)}

every_cell = pytest.mark.parametrize("cell", CELLS)
# Every norm on the reference implementation, and natively where it can.
every_norm = pytest.mark.parametrize(
    "kernel, norm",
    [(kernel, norm) for kernel, norms in KERNELS.items() for norm in norms],
    indirect=["kernel"],
)
# The same for each cell; and the other forms of the LSTM with layer norm, which have no kernel.
every_layer = pytest.mark.parametrize(
    "kernel, cell, norm",
    [
        *((kernel, cell, norm) for kernel, norms in KERNELS.items() for cell, norm in product(CELLS, norms)),
        *(("reference", form, "layer") for form in FORMS),
    ],
    indirect=["kernel"],
)
both_kernels = pytest.mark.parametrize("kernel", KERNELS, indirect=True)
full_or_padded = pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> str:
    on(request.param)
    chosen: str = request.param
    return chosen


def rnn(cell: str, norm: str, **options: Any) -> Any:
    form = {"variant": cell} if cell in FORMS else {"cell": cell}
    return generic(RNN(INPUTS, norm, T, Config(hidden_size=UNITS, **{"groups": 2, **UNCORRECTED, **form, **options})))


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


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


@both_kernels
@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_without_a_norm_a_cell_is_that_of_torch(kernel: str, cell: str, layers: int) -> None:
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
    by_x, *by_weights = gradients(h, x, *weights)
    expected_by_x, *expected_by_weights = gradients(expected, x, *their_weights)
    assert close(by_x, expected_by_x) and close([theirs(cell, part).t() for part in by_weights], expected_by_weights)


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
            if norm in OF_A_BATCH:  # padding enters no statistics
                return unit.gain * a.masked_scatter(inside[:, None], over(a[inside], 0)) + shift
            return unit.gain * NORMALIZED[norm](a) + shift

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
@full_or_padded
def test_a_cell_is_the_papers_equations(kernel: str, cell: str, norm: str, mask: Tensor | None) -> None:
    model, x = rnn(cell, norm), normal(T, B, INPUTS).requires_grad_()
    h, state = model(x, mask=mask)
    expected, c = written_out(cell, norm, model.layers[0], x, torch.ones_like(MASK) if mask is None else mask)
    assert close(h, torch.stack(expected))
    assert close(state[0][-1], c if cell == "lstm" else expected[-1])  # c is carried as it is, not normalised
    assert close(gradients(h, x, *model.parameters()), gradients(torch.stack(expected), x, *model.parameters()))


@both_kernels
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_cell_of_an_lstm_counts_beyond_what_a_normalised_one_could(kernel: str, norm: str) -> None:
    model = rnn("lstm", norm)
    with torch.no_grad():
        model.layers[0].norm_x.shift.fill_(50)  # open gates, candidate 1
    _, [(_, c)] = model(normal(T, B, INPUTS))
    assert close(c, torch.full_like(c, T))


@every_layer
def test_integers_stand_for_one_hot_vectors(kernel: str, cell: str, norm: str) -> None:
    model, ids = rnn(cell, norm), torch.randint(INPUTS, (T, B))
    found = [model(x)[0] for x in (ids, nn.functional.one_hot(ids, INPUTS).double())]
    of_ids, of_vectors = (gradients(h, *model.parameters()) for h in found)
    assert close(found[0], found[1]) and close(of_ids, of_vectors)


@every_norm
def test_layers_are_stacked(kernel: str, norm: str) -> None:
    model, x = rnn("gru", norm, layers=3), normal(T, B, INPUTS)
    h, state = model(x)
    by_hand = x
    for layer, (last,) in zip(model.layers, state, strict=True):
        by_hand, (h_last,) = layer(by_hand)
        assert close(last, h_last) and not last.requires_grad
    assert close(h, by_hand)


@every_layer
def test_a_carried_state_continues_a_sequence(kernel: str, cell: str, norm: str) -> None:
    model, x = rnn(cell, norm, layers=2, statistics="pooled"), normal(T, B, INPUTS)
    model(normal(T, B, INPUTS))
    model.eval()
    first, state = model(x[:1])
    second, end = model(x[1:], state)
    whole, whole_end = model(x)
    assert close(torch.cat([first, second]), whole) and close(sum(end, ()), sum(whole_end, ()))


# Padding


@every_layer
def test_padding_changes_nothing_inside_and_the_state_stands_still(kernel: str, cell: str, norm: str) -> None:
    model, x = rnn(cell, norm, layers=2), normal(T, B, INPUTS)
    model(x)
    model.eval()  # where batch norm, too, treats each sequence on its own
    h, state = model(x, mask=MASK)
    for b, length in enumerate(LENGTHS):
        alone, end = model(x[:length, b : b + 1])
        assert close(h[:length, b], alone[:, 0])
        assert torch.equal(h[length:, b], h[length - 1, b].expand(T - length, UNITS))
        assert close([part[b] for part in sum(state, ())], [part[0] for part in sum(end, ())])


@every_layer
def test_the_content_of_padding_reaches_nothing(kernel: str, cell: str, norm: str) -> None:
    x, found = normal(T, B, INPUTS), []
    for padding in (0.0, 1e3):
        torch.manual_seed(1)
        model = rnn(cell, norm, layers=2)
        inputs = torch.where(MASK[..., None], x, padding).requires_grad_()
        h, state = model(inputs, mask=MASK)
        by_inputs, *by_parameters = gradients(h, inputs, *model.parameters())
        assert not by_inputs[~MASK].any()
        found.append([h, *sum(state, ()), by_inputs, *by_parameters, *buffers(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_layer
def test_a_mask_without_padding_is_no_mask(kernel: str, cell: str, norm: str) -> None:
    x, found = normal(T, B, INPUTS), []
    for mask in (None, torch.ones(T, B, dtype=torch.bool)):
        torch.manual_seed(1)
        model = rnn(cell, norm)
        found.append([model(x, mask=mask)[0], *(buffer.double() for buffer in buffers(model).values())])
    assert close(found[0], found[1])


# Batch norm over time; a sequence at once (T, B, UNITS), or its steps one by one

every_batch_norm = pytest.mark.parametrize("norm", OF_A_BATCH)


def over_time(norm: str = "batch", steps: int = T) -> Any:
    return generic(recurrent(norm, UNITS, steps=steps))


@every_batch_norm
def test_each_step_has_its_own_statistics_and_all_share_one_gain(norm: str) -> None:
    for steps in (1, T, 100):
        made = recurrent(norm, UNITS, steps=steps)
        assert {name: p.shape for name, p in made.named_parameters()} == {"gain": (UNITS,), "shift": (UNITS,)}
        assert made.running_mean.shape == made.running_variance.shape == (steps, UNITS)


@every_batch_norm
@full_or_padded
def test_statistics_of_a_step_are_those_of_its_cases(norm: str, mask: Tensor | None) -> None:
    made, a = over_time(norm), normal(T, B, UNITS)
    made(a, mask=mask)
    for t in range(T):
        inside = a[t] if mask is None else a[t][mask[t]]
        assert close(made.running_mean[t], inside.mean(0))
        assert close(made.running_variance[t], inside.var(0, unbiased=True))
    assert made.undefined == (False if mask is None else (MASK.sum(1) == 1).any())


@every_batch_norm
@full_or_padded
@pytest.mark.parametrize("steps", [1, T], ids=["pooled", "per step"])
def test_a_sequence_at_once_is_its_steps_one_by_one(norm: str, mask: Tensor | None, steps: int) -> None:
    at_once, one_by_one = over_time(norm, steps), over_time(norm, steps)
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
    found = at_once(longer)
    assert close(found, torch.stack([one_by_one(longer[t], t) for t in range(T + 3)]))
    for t, out in enumerate(found):  # beyond the trained steps the last statistics serve
        at = min(t, steps - 1)
        normalized = (longer[t] - at_once.running_mean[at]) / (at_once.running_variance[at] + EPS).sqrt()
        assert close(out, at_once.gain * normalized + at_once.shift)


@both_kernels
@every_cell
def test_pooled_statistics_are_the_mean_over_the_steps(kernel: str, cell: str) -> None:
    torch.manual_seed(1)
    pooled = rnn(cell, "batch", statistics="pooled")
    torch.manual_seed(1)
    per_step, x = rnn(cell, "batch"), normal(T, B, INPUTS)
    assert close(pooled(x)[0], per_step(x)[0])  # in training each step has its own mini-batch either way
    for one, several in zip(pooled.layers[0].children(), per_step.layers[0].children(), strict=True):
        assert close(one.running_mean, several.running_mean.mean(0, keepdim=True))
        assert close(one.running_variance, several.running_variance.mean(0, keepdim=True))


def without_step_2() -> Tensor:
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[2] = False
    return mask


@every_batch_norm
@pytest.mark.parametrize(
    "steps, mask, moved",
    [(T, without_step_2(), [1, 1, 0, 1]), (2, None, [1, 1, 0, 0]), (T + 3, None, [1, 1, 1, 1])],
    ids=["a step of padding", "a shorter sequence", "a longer sequence"],
)
def test_a_sequence_moves_the_averages_of_its_own_steps(
    norm: str, steps: int, mask: Tensor | None, moved: list[int]
) -> None:
    made, a = over_time(norm), normal(steps, B, UNITS)
    made(normal(T, B, UNITS))
    before = buffers(made)
    made(a, mask=mask)
    for name in ("running_mean", "running_variance", "updates"):
        assert [not torch.equal(made.get_buffer(name)[t], before[name][t]) for t in range(T)] == moved, name
    assert made.updates.tolist() == [1 + step for step in moved]
    own = [t for t in range(T) if moved[t]]
    assert close(made.running_mean[own], (before["running_mean"][own] + a[own].mean(1)) / 2)


@every_cell
@pytest.mark.parametrize(
    "kernel, norm, cases",
    [("native", "batch", 1), ("reference", "batch", 1), ("reference", "sync_batch", 1), ("reference", "instance", B)],
    indirect=["kernel"],
)
def test_a_single_value_is_undefined_and_gives_weights_no_gradient(
    kernel: str, cell: str, norm: str, cases: int
) -> None:
    """Of one case in batch norm, and always in instance norm: vectors have no positions."""
    model = rnn(cell, norm)
    h, _ = model(normal(T, cases, INPUTS))
    assert undefined(model)
    weigh(h).backward()
    (layer,) = model.layers
    assert not layer.W_x.grad.any() and not layer.W_h.grad.any()
    assert any(parameter.grad.any() for parameter in model.parameters())
    assert all(value.isfinite().all() for value in [h, *model.buffers(), *(p.grad for p in model.parameters())])
    assert model.eval()(normal(T, cases, INPUTS))[0].isfinite().all()


# The start of a run


@both_kernels
@every_cell
def test_noise_on_the_initial_state_is_the_same_for_every_norm(kernel: str, cell: str) -> None:
    drawn = []
    for norm in KERNELS[kernel]:
        torch.manual_seed(3)
        (layer,) = rnn(cell, norm, initial_state_std=0.1).layers
        torch.manual_seed(4)
        h, *c = layer.initial_state(1000)
        assert not any(part.any() for part in c)
        layer(normal(T, B, INPUTS))
        drawn.append((h, torch.randn(3)))  # no norm uses up random numbers of its own
        assert not layer.eval().initial_state(7)[0].any()
    assert all(torch.equal(a, b) for pair in drawn for a, b in zip(pair, drawn[0], strict=True))
    assert drawn[0][0].std().item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("norm", NORMS)
def test_options_set_the_recurrent_scale_and_the_gain(norm: str) -> None:
    made: list[Any] = []
    choices: list[dict[str, Any]] = [{}, {"recurrent_scale": 4.0, "gain": 0.5}]
    for options in choices:
        torch.manual_seed(5)
        made.append(RNN(INPUTS, norm, T, Config(hidden_size=UNITS, groups=2, **options)).layers[0])
    plain, changed = made
    assert torch.equal(changed.W_h, 4 * plain.W_h) and torch.equal(changed.W_x, plain.W_x)
    gains = [part.gain for part in changed.modules() if isinstance(part, Norm) and part.gain is not None]
    assert len(gains) == (0 if norm in PLAIN else 3) and all((gain == 0.5).all() for gain in gains)


def started(cell: str, norm: str, **options: Any) -> tuple[Any, Tensor]:
    """A layer as a run starts with it, and the random number that is drawn after it."""
    torch.manual_seed(5)
    form = {"variant": cell} if cell in FORMS else {"cell": cell}
    made: Any = RNN(INPUTS, norm, T, Config(hidden_size=UNITS, **{"groups": 2, **form, **options}))
    return made.layers[0], torch.rand(1)


every_start = pytest.mark.parametrize("cell, norm", [*product(CELLS, NORMS), *((form, "layer") for form in FORMS)])


@every_start
def test_the_input_scale_multiplies_the_weights_of_the_inputs_alone(cell: str, norm: str) -> None:
    (plain, drawn), (changed, drawn_too) = started(cell, norm), started(cell, norm, input_scale=8.0)
    assert torch.equal(changed.W_x, 8 * plain.W_x) and torch.equal(changed.W_h, plain.W_h)
    assert torch.equal(drawn, drawn_too)


@every_start
def test_orthogonal_weights_turn_the_state_and_leave_all_else_as_it_was(cell: str, norm: str) -> None:
    """Those of each gate are its own; they are scaled after that, and nothing more is drawn for them."""
    (plain, drawn), (changed, drawn_too) = started(cell, norm), started(cell, norm, recurrent_init="orthogonal")
    twice, _ = started(cell, norm, recurrent_init="orthogonal", recurrent_scale=2.0)
    gates = changed.W_h.split(UNITS, 1)
    assert len(gates) == changed.gates
    assert all(torch.allclose(gate.t() @ gate, torch.eye(UNITS), atol=1e-5) for gate in gates)
    assert all(not torch.allclose(one, other, atol=0.1) for one, other in pairwise(gates))
    assert torch.equal(twice.W_h, 2 * changed.W_h) and torch.equal(changed.W_x, plain.W_x)
    assert torch.equal(drawn, drawn_too)


def test_orthogonal_weights_of_every_seed_turn_another_way() -> None:
    """Without a preferred direction: over many draws their mean is nothing."""
    drawn = [nearest_orthogonal(torch.empty(UNITS, UNITS).uniform_(-1, 1)) for _ in range(400)]
    assert torch.stack(drawn).mean(0).abs().max() < 5 / (400 * UNITS) ** 0.5
    assert {round(torch.linalg.det(W).item()) for W in drawn} == {-1, 1}


LSTMS = [*(("lstm", norm) for norm in NORMS), *((form, "layer") for form in FORMS if "carried" not in form)]


@pytest.mark.parametrize("cell, norm", LSTMS)
def test_the_forget_bias_lets_an_lstm_keep_its_cell_state(cell: str, norm: str) -> None:
    """What it was is kept whole by a large bias, and by half, about, without one; other gates only add up to 1."""
    kept = {}
    for bias in (0.0, 1.0, 30.0):
        layer, _ = started(cell, norm, forget_bias=bias)
        start = torch.full((B, UNITS), 100.0)
        _, (_, c) = layer.double()(normal(1, B, INPUTS), (normal(B, UNITS), start.double()))
        kept[bias] = (c / 100).mean().item()
    assert kept[0.0] == pytest.approx(0.5, abs=0.15)
    assert kept[0.0] + 0.05 < kept[1.0] < 0.95
    assert kept[30.0] == pytest.approx(1, abs=0.02)
    (_, plain), (_, biased) = started(cell, norm), started(cell, norm, forget_bias=1.0)
    assert torch.equal(plain, biased)


def test_groups_must_divide_the_units_of_every_term() -> None:
    rnn("lstm", "group", groups=3)
    with pytest.raises(ModelError, match=r"^model.groups=4 does not divide the 6 units of a layer$"):
        rnn("lstm", "group", groups=4)  # 24 units of the gates it does divide
