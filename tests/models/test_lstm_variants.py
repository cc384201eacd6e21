"""The forms of the layer-normalised LSTM: each against its row of the table, and by what tells it from the others.

What holds of every recurrent layer is asked of them in test_recurrent.py, of every native one in test_kernel_forms.py.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ModelError
from models.case_norms import Norm
from models.language_model import Config
from models.lstm_variants import FORMS
from models.norms import NORMS
from models.options import DETACH
from models.rnn import CELLS, RNN, LSTMLayer
from tests.models.equations import close, generic, gradients, normal, over, weigh
from tests.models.implementation import on

T, B, INPUTS, UNITS = 4, 5, 3, 6
MASK = torch.arange(T)[:, None] < torch.tensor([4, 1, 3, 2, 4])
VARIANTS = ("paper", *FORMS)
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_form = pytest.mark.parametrize("variant", FORMS)


def layer(variant: str, units: int = UNITS, eps: float | None = None, **options: Any) -> Any:
    """In float64, with every gain, shift and bias moved away from where it starts."""
    config = Config(variant=variant, hidden_size=units, **options)
    (made,) = generic(RNN(INPUTS, "layer", T, config)).layers
    for norm in made.modules():
        if isinstance(norm, Norm) and eps is not None:
            norm.eps = eps
    return made


def state(units: int = UNITS) -> tuple[Tensor, Tensor]:
    return normal(B, units), normal(B, units)


# The table of models/lstm_variants.py, one step and gate after the other


def n(a: Tensor, gain: Tensor, shift: Any = 0.0) -> Tensor:
    return gain * over(a, 1) + shift


def both_terms(made: Any, x: Tensor, h: Tensor) -> Tensor:
    return n(x @ made.W_x, made.norm_x.gain) + n(h @ made.W_h, made.norm_h.gain) + made.norm_x.shift


def inner_bias(made: Any, x: Tensor, h: Tensor) -> Tensor:
    inner = n(x @ made.W_x + made.bias, made.norm_x.gain, made.norm_x.shift)
    return inner + n(h @ made.W_h, made.norm_h.gain) + made.bias


def per_gate(made: Any, x: Tensor, h: Tensor) -> Tensor:
    gates = []
    for gate in range(4):
        of = slice(gate * UNITS, (gate + 1) * UNITS)
        sums = x @ made.W_x[:, of] + h @ made.W_h[:, of]
        gates.append(n(sums, made.norm_a.gain[of], made.norm_a.shift[of]))
    return torch.cat(gates, 1)


def bare(made: Any, x: Tensor, h: Tensor) -> Tensor:
    return x @ made.W_x + h @ made.W_h + made.norm_a.shift


# Summed inputs of the gates; whether the output sees n(c); whether the next step does.
TABLE: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], bool, bool]] = {
    "paper": (both_terms, True, False),
    "inner_bias": (inner_bias, True, False),
    "carried": (both_terms, True, True),
    "per_gate": (per_gate, True, False),
    "per_gate_carried": (per_gate, True, True),
    "cell_only": (bare, True, False),
    "no_cell": (both_terms, False, False),
}


def written_out(variant: str, made: Any, x: Tensor, start: Any, mask: Tensor) -> tuple[Tensor, Tensor]:
    gates, cell, carried = TABLE[variant]
    (h, c), outputs = start, []
    for x_t, inside in zip(x, mask, strict=True):
        a = gates(made, x_t, h)
        f, i, o, g = (a[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
        new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        seen = n(new_c, made.norm_c.gain, made.norm_c.shift) if cell else new_c
        new_h = torch.sigmoid(o) * torch.tanh(seen)
        h = torch.where(inside[:, None], new_h, h)
        c = torch.where(inside[:, None], seen if carried else new_c, c)
        outputs.append(h)
    return torch.stack(outputs), c


def test_every_variant_is_in_the_table() -> None:
    assert tuple(TABLE) == VARIANTS
    assert next(f.metadata["choices"] for f in fields(Config) if f.name == "variant") == VARIANTS


@every_variant
@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
@pytest.mark.parametrize("kernel", ["native", "reference"])
def test_a_variant_is_its_row_of_the_table(variant: str, mask: Tensor | None, kernel: str) -> None:
    on(kernel)
    made, x, start = layer(variant), normal(T, B, INPUTS).requires_grad_(), state()
    start[1].requires_grad_()
    h, (last, c) = made(x, start, mask)
    expected, expected_c = written_out(variant, made, x, start, torch.ones_like(MASK) if mask is None else mask)
    assert close(h, expected) and close(c, expected_c) and torch.equal(last, h[-1])
    by_ours, by_hand = (gradients(part, x, start[1], *made.parameters()) for part in (h, expected))
    assert close(by_ours, by_hand, 1e-9) and all(gradient.any() for gradient in by_ours)  # no parameter is idle


# What tells them apart. Scaled are all weights of the state, all of the input, both, and those of one gate in both.

SCALED: dict[str, Callable[[Any], list[Tensor]]] = {
    "W_h": lambda made: [made.W_h],
    "W_x": lambda made: [made.W_x],
    "both": lambda made: [made.W_x, made.W_h],
    "one gate": lambda made: [made.W_x[:, :UNITS], made.W_h[:, :UNITS]],
}
SEPARATE, GATES = {"W_h", "W_x", "both"}, {"both", "one gate"}
INVARIANT: dict[str, set[str]] = {
    "paper": SEPARATE,
    "inner_bias": {"W_h"},  # beside a bias inside the norm the scale of the inputs counts
    "carried": SEPARATE,
    "per_gate": GATES,
    "per_gate_carried": GATES,
    "cell_only": set(),
    "no_cell": SEPARATE,
}


@every_variant
@pytest.mark.parametrize("scaled", SCALED)
def test_what_a_variant_is_invariant_to(variant: str, scaled: str) -> None:
    made, x, start = layer(variant, eps=1e-14), normal(T, B, INPUTS), state()
    before, _ = made(x, start)
    with torch.no_grad():
        for weights in SCALED[scaled](made):
            weights.mul_(3.7)
    change = (made(x, start)[0] - before).abs().max()
    assert change < 1e-9 if scaled in INVARIANT[variant] else change > 1e-2


@every_variant
def test_only_a_normalised_cell_that_is_carried_stays_bounded(variant: str) -> None:
    made, steps = layer(variant), 60
    shift = made.norm_a.shift if variant.startswith("per_gate") or variant == "cell_only" else made.norm_x.shift
    with torch.no_grad():
        shift.fill_(50)  # open gates, candidate 1
    _, (_, c) = made(normal(steps, B, INPUTS))
    assert close(c, torch.full_like(c, steps)) != variant.endswith("carried")
    if variant.endswith("carried"):  # of UNITS values with mean 0 and variance 1 none is larger than this
        assert (c.abs() <= made.norm_c.gain.abs() * (UNITS - 1) ** 0.5 + made.norm_c.shift.abs()).all()


# What they share with the paper's


def test_the_papers_form_is_the_plain_layer_bit_for_bit() -> None:
    found = []
    for config in (Config(hidden_size=UNITS), Config(hidden_size=UNITS, variant="paper")):
        torch.manual_seed(0)
        (made,) = RNN(INPUTS, "layer", T, config).layers
        assert type(made) is LSTMLayer
        found.append(made(torch.ones(T, B, INPUTS))[0])
    torch.manual_seed(0)
    found.append(CELLS["lstm"](INPUTS, "layer", T, Config(hidden_size=UNITS))(torch.ones(T, B, INPUTS))[0])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@every_form
def test_one_seed_gives_every_variant_the_weights_of_the_paper_and_constants_elsewhere(variant: str) -> None:
    made: list[Any] = []
    for name in ("paper", variant):
        torch.manual_seed(0)
        made += list(RNN(INPUTS, "layer", T, Config(hidden_size=UNITS, variant=name, gain=0.5)).layers)
    paper, other = made
    assert torch.equal(paper.W_x, other.W_x) and torch.equal(paper.W_h, other.W_h)
    gains = [norm.gain for norm in other.modules() if isinstance(norm, Norm) and norm.gain is not None]
    assert gains and all((gain == 0.5).all() for gain in gains)
    assert not any(p.any() for name, p in other.named_parameters() if "shift" in name or "bias" in name)


# What is refused


@every_form
@pytest.mark.parametrize(
    "cell, norm", [("tanh", "layer"), ("gru", "layer"), *(("lstm", norm) for norm in NORMS if norm != "layer")]
)
def test_variants_of_another_cell_or_norm_are_refused_in_one_line(variant: str, cell: str, norm: str) -> None:
    message = rf"^model.variant={variant} with model.cell={cell} norm={norm}: [^\n]*model.variant=paper$"
    with pytest.raises(ModelError, match=message):
        RNN(INPUTS, norm, T, Config(cell=cell, variant=variant))


@every_form
@pytest.mark.parametrize("detach", DETACH[1:])
def test_detached_statistics_are_detached_throughout_or_refused(variant: str, detach: str) -> None:
    if variant.startswith("per_gate"):
        message = rf"^model.detach={detach} with model.variant={variant}: [^\n]*model.detach=none$"
        with pytest.raises(ModelError, match=message):
            layer(variant, detach=detach)
        return
    found = []
    for option in ("none", detach):
        torch.manual_seed(0)
        made = layer(variant, detach=option)
        h, _ = made(normal(T, B, INPUTS))
        found.append((h, *torch.autograd.grad(weigh(h), made.W_x)))
    (attached, by_attached), (detached, by_detached) = found
    assert close(detached, attached) and not close(by_detached, by_attached, 1e-6)
