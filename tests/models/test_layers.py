"""The public layers: those of torch.nn without a norm, the suite's own with one; sequences, states and errors."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, pad_sequence

from models import GRU, LSTM, RNN, ModelError, kernels, layers
from models.options import RecurrentConfig
from models.rnn import RNN as Stack
from tests.models.calls import weigh
from tests.models.equations import normal
from tests.models.implementation import on

PAIRS = [(LSTM, nn.LSTM), (GRU, nn.GRU), (RNN, nn.RNN)]
every_pair = pytest.mark.parametrize(("ours", "theirs"), PAIRS)
every_layer = pytest.mark.parametrize("ours", [LSTM, GRU, RNN])
EXACT = 1e-12  # measured: below 1e-13


@pytest.fixture(params=["native", "reference"], autouse=True)
def kernel(request: pytest.FixtureRequest) -> None:
    on(request.param)


def pair(ours: Any, theirs: Any, **options: Any) -> tuple[Any, Any]:
    """Two layers of torch.nn's, of 3 inputs and 4 units, and ours with their weights."""
    plain = theirs(3, 4, 2, dtype=torch.float64, **options)
    return ours.from_torch(plain, norm="none"), plain


def state(layer: Any, *batch: int) -> Any:
    parts = tuple(normal(2, *batch, 4) for _ in range(2 if isinstance(layer, LSTM) else 1))
    return parts if isinstance(layer, LSTM) else parts[0]


def tensors(found: Any) -> list[Tensor]:
    """Those of outputs and states, packed or not."""
    return (
        [found]
        if isinstance(found, Tensor)
        else [part for inner in found if inner is not None for part in tensors(inner)]
    )


def assert_same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(tensors(found), tensors(wanted), rtol=0, atol=EXACT)


def gradients(layer: Any, x: Tensor, hx: Any) -> list[Tensor]:
    """Of inputs and states, by all that comes out."""
    leaves = [part.detach().requires_grad_() for part in (x, *tensors(hx))]
    start = leaves[1] if len(leaves) == 2 else tuple(leaves[1:])
    return list(torch.autograd.grad(torch.stack([*map(weigh, tensors(layer(leaves[0], start)))]).sum(), leaves))


@every_pair
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}, {"dropout": 1.0}], ids=str)
def test_without_a_norm_they_are_pytorchs(ours: Any, theirs: Any, options: Any) -> None:
    layer, plain = pair(ours, theirs, **options)
    x, hx = normal(5, 6, 3), state(layer, 5 if "batch_first" in options else 6)
    assert_same(layer(x, hx), plain(x, hx))
    assert_same(layer(x), plain(x))
    assert_same(gradients(layer, x, hx), gradients(plain, x, hx))
    assert_same(layer.eval()(x), plain.eval()(x))


@every_pair
@pytest.mark.parametrize("sort", [True, False], ids=["sorted", "any order"])
def test_packed_sequences_are_packed_as_pytorchs(ours: Any, theirs: Any, sort: bool) -> None:
    layer, plain = pair(ours, theirs)
    for lengths in ((7, 4, 4, 1), (3, 3)):
        packed = pack_sequence([normal(length, 3) for length in (lengths if sort else lengths[::-1])], sort)
        hx = state(layer, len(lengths))
        found, after = layer(packed, hx)
        assert isinstance(found, PackedSequence)
        assert_same((found, after), plain(packed, hx))


@every_pair
def test_a_sequence_may_be_by_itself(ours: Any, theirs: Any) -> None:
    layer, plain = pair(ours, theirs, batch_first=True)
    x, hx = normal(5, 3), state(layer)
    assert_same(layer(x, hx), plain(x, hx))


@every_layer
@pytest.mark.parametrize("norm", ["layer", "rms", "group", "batch", "renorm", "weight"])
def test_with_a_norm_they_are_the_suites(ours: Any, norm: str) -> None:
    if norm not in ("layer", "batch"):
        on("auto")  # these have no kernel
    torch.manual_seed(1)
    layer = ours(3, 4, norm=norm, dtype=torch.float64)
    torch.manual_seed(1)
    config = RecurrentConfig(cell=layer.cell, hidden_size=4, statistics="pooled")
    suites = Stack(3, norm, 1, config).layers[0].double()
    x = normal(5, 6, 3)
    outputs, after = suites(x)
    found, last = layer(x)
    assert torch.equal(found, outputs) and all(map(torch.equal, tensors(last), (part[None] for part in after)))
    assert layer.state_dict().keys() == {f"layers.0.{name}" for name in suites.state_dict()}


@every_pair
def test_layer_norm_takes_pytorchs_weights_and_starts_with_gains_of_1(ours: Any, theirs: Any) -> None:
    plain = theirs(3, 4, dtype=torch.float64)
    found = ours.from_torch(plain).layers[0].state_dict()
    same = ours.from_torch(plain, norm="none").layers[0].state_dict()
    assert all(torch.equal(found[name], same[name]) for name in ("W_x", "W_h"))
    assert all((found[name] == 1).all() for name in found if name.endswith("gain"))
    assert all((found[name] == 0).all() for name in found if name.endswith("shift"))


def test_weight_norm_starts_as_pytorchs_layer() -> None:
    on("auto")
    plain = nn.LSTM(3, 4, dtype=torch.float64)
    x = normal(5, 6, 3)
    assert_same(LSTM.from_torch(plain, norm="weight")(x), plain(x))


@every_layer
def test_the_norms_see_nothing_of_padding(ours: Any) -> None:
    layer = ours(3, 4, norm="batch", dtype=torch.float64)
    suites = deepcopy(layer.layers[0])
    cases = [normal(length, 3) for length in (3, 5, 2)]
    outputs, after = layer(pack_sequence(cases, enforce_sorted=False))
    mask = torch.arange(5)[:, None] < torch.tensor([3, 5, 2])
    wanted, last = suites(pad_sequence(cases, padding_value=100.0), mask=mask)
    assert_same(pad_packed_sequence(outputs)[0], wanted * mask[..., None])
    assert_same(after, [part[None] for part in last])
    assert_same(list(layer.buffers()), list(suites.buffers()))


@every_layer
def test_gradients_flow_through_the_state(ours: Any) -> None:
    """As through torch.nn's, and not as in a language model, which cuts them there."""
    layer, x = ours(3, 4, 2, dtype=torch.float64), normal(6, 2, 3)
    first, middle = layer(x[:3])
    second, last = layer(x[3:], middle)
    whole, end = layer(x)
    assert_same((torch.cat([first, second]), last), (whole, end))
    found, wanted = (torch.autograd.grad(weigh(part), list(layer.parameters())) for part in (second, whole[3:]))
    assert_same(found, wanted)


def test_steps_have_averages_of_their_own_where_asked() -> None:
    assert LSTM(3, 4, norm="batch", steps=7).layers[0].norm_h.running_mean.shape == (7, 16)
    assert LSTM(3, 4, norm="batch").layers[0].norm_h.running_mean.shape == (1, 16)


def test_options_of_the_suite_are_taken() -> None:
    layer = LSTM(3, 4, variant="per_gate", forget_bias=2.0, detach="none", bidirectional=False)
    assert type(layer.layers[0]).__name__ == "LSTMVariant"
    assert layer.layers[0].norm_a.shift.tolist() == [2.0] * 4 + [0.0] * 12
    assert not any(
        name.endswith(("shift", "bias")) for name, _ in LSTM(3, 4, variant="inner_bias", bias=False).named_parameters()
    )


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: LSTM(3, 4, norm="later"), "norm=later: choose one of none, layer"),
    (lambda: LSTM(3, 4, norm="instance"), "norm=instance: choose"),
    (lambda: LSTM(0, 4), "input_size=0: give 1 or more"),
    (lambda: LSTM(3, 4, bidirectional=True), "bidirectional=True: these layers have bidirectional=False only"),
    (lambda: LSTM(3, 4, proj_size=2), "proj_size=2: these layers have proj_size=0 only"),
    (lambda: RNN(3, 4, nonlinearity="relu"), "nonlinearity=relu: these layers have nonlinearity=tanh only"),
    (lambda: LSTM.from_torch(nn.LSTM(3, 4, bidirectional=True)), "bidirectional=True: these"),
    (lambda: LSTM.from_torch(nn.GRU(3, 4)), "LSTM.from_torch takes a torch.nn.LSTM, not GRU"),
    (lambda: LSTM(3, 4, steps=5), "steps=5 with norm=layer: 1 or more, for batch"),
    (lambda: LSTM(3, 4, variant="papers"), "variant=papers: choose one of paper"),
    (lambda: GRU(3, 4, variant="carried"), "variant=carried changes nothing where model.cell is gru; leave it out"),
    (lambda: LSTM(3, 4, bias=False, forget_bias=1.0), "forget_bias=1.0 with bias=False: there is none"),
    (lambda: LSTM(3, 4)(torch.ones(5, 6, 2)), r"features\) = \(5, 6, 2\) and torch.float32: give .* 3 features"),
    (lambda: LSTM(3, 4, batch_first=True)(torch.ones(3)), r"features\) = \(3,\)"),
    (lambda: LSTM(3, 4)(torch.ones(0, 6, 3)), r"features\) = \(0, 6, 3\)"),
    (
        lambda: LSTM(3, 4)(torch.ones(5, 6, 3), torch.ones(1, 6, 4)),
        r"state of shape \(1, 6, 4\): give \(h, c\), each \(1, 6, 4\)",
    ),
    (lambda: GRU(3, 4)(torch.ones(5, 6, 3), torch.ones(1, 5, 4)), r"state of shape \(1, 5, 4\): give h, \(1, 6, 4\)"),
]


@pytest.mark.parametrize(("make", "told"), WRONG, ids=[told[:30] for _, told in WRONG])
def test_what_does_not_fit_is_told_in_one_line(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(ModelError, match=rf"^[^\n]*{told}[^\n]*$"):
        make()


def test_an_option_that_there_is_not_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"^colour=blue: recurrent layers have no such option; there are detach, groups, "
    ):
        LSTM(3, 4, colour="blue")


def test_without_a_compiler_one_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    on("reference")
    layer, x = LSTM(3, 4), torch.ones(2, 1, 3)
    monkeypatch.setattr(kernels, "mode", "auto")
    monkeypatch.setattr(kernels, "applies", lambda *_: False)
    monkeypatch.setattr(layers, "provide", lambda: "no C++ compiler")
    layers.compile_once.cache_clear()
    try:
        with pytest.warns(UserWarning, match="slow reference implementation: no C") as told:
            layer(x)
            layer(x)
        assert len(told) == 1
    finally:
        layers.compile_once.cache_clear()
