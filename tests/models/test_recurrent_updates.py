"""Native updates of language models and sequence classifiers against the plain loop: the same numbers and state."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import models
from data import Spec
from experiments.training.train import Progress, make_optimizer, train
from models import kernels, language_model, sequence_classifier
from models.kernels import updates
from models.options import DETACH, VARIANTS
from models.rnn import CELLS
from tests.models.implementation import on
from tests.models.turns import in_turns

STEPS, INPUTS, CLASSES = 5, 3, 6
SPECS = {
    "language_model": Spec("text", (STEPS,), CLASSES),
    "sequence_classifier": Spec("sequence", (STEPS, INPUTS), CLASSES),
}
CONFIGS: dict[str, Any] = {
    "language_model": language_model.Config,
    "sequence_classifier": sequence_classifier.Config,
}
either = pytest.mark.parametrize("name", CONFIGS)


class Noise:
    """Batches that depend on nothing but the step: symbols and symbols, or numbers and classes."""

    def __init__(self, name: str, batch_size: int = 4, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> None:
        self.test_splits = ["test"]
        self.text, self.batch_size, self.dtype, self.scale = name == "language_model", batch_size, dtype, scale

    def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(step)
        if self.text:
            x, y = torch.randint(CLASSES, (2, self.batch_size, STEPS), generator=draw).unbind()
            return x, y
        x = torch.randn(self.batch_size, STEPS, INPUTS, generator=draw, dtype=self.dtype) * self.scale
        return x, torch.randint(CLASSES, (self.batch_size,), generator=draw)

    def batches(self, split: str) -> list[tuple[Tensor, Tensor]]:
        return [self.train_batch(-1)]

    def carries_state(self, split: str) -> bool:
        return self.text


def build(name: str, norm: str = "layer", dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    return models.build(CONFIGS[name](**{"hidden_size": 7, **options}), norm, SPECS[name], 0).to(dtype)


def optimizer_of(model: Any, kind: str = "adam") -> Any:
    return make_optimizer(model, SimpleNamespace(name=kind, learning_rate=0.01, momentum=0.9))


def trained(
    kernel: str, model: Any, source: Noise, kind: str = "adam", rate: float = 0.01, clip_norm: float = 0.0
) -> tuple[str, Progress]:
    """Status and progress of 20 updates on one implementation."""
    on(kernel)
    if kernel == "native":
        assert model.native_updates(optimizer_of(model, kind), clip_norm)
    optim: Any = SimpleNamespace(name=kind, learning_rate=rate, momentum=0.9, schedule="linear", clip_norm=clip_norm)
    return train(model, source, optim, updates=20, evaluations=3)


def numbers(model: nn.Module, progress: Progress) -> dict[str, Tensor]:
    """All that training has changed."""
    state = [part for carried in progress.state or () for part in carried]
    losses = torch.tensor([row["train_loss"] for row in progress.history], dtype=torch.float64)
    return {**model.state_dict(), **{f"state {k}": part for k, part in enumerate(state)}, "losses": losses}


def agree(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float = 1e-7, atol: float = 1e-9) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.allclose(value.double(), b[key].double(), rtol, atol), key


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(list(CONFIGS)),
    norm=st.sampled_from(["none", "layer", "batch"]),
    kind=st.sampled_from(["adam", "sgd"]),
    clip_norm=st.sampled_from([0.0, 0.1, 1e9]),
    batch_size=st.sampled_from([1, 3, 5, 20]),  # of two cases, batch norm is a step function
    embedding_size=st.sampled_from([0, 4]),
    options=st.fixed_dictionaries(
        {
            "cell": st.sampled_from(["tanh", "lstm", "gru"]),
            "layers": st.integers(1, 3),
            "hidden_size": st.sampled_from([3, 6, 19]),
            "statistics": st.sampled_from(["per_step", "pooled"]),
        }
    ),
)
def test_the_numbers_are_those_of_the_plain_loop(
    name: str, norm: str, kind: str, clip_norm: float, batch_size: int, embedding_size: int, options: dict[str, Any]
) -> None:
    if name == "language_model":
        options = {**options, "embedding_size": embedding_size}
    plain, native = build(name, norm, **options), build(name, norm, **options)
    source = Noise(name, batch_size)
    expected = numbers(plain, trained("reference", plain, source, kind, clip_norm=clip_norm)[1])
    agree(numbers(native, trained("native", native, source, kind, clip_norm=clip_norm)[1]), expected)


FORMS = [
    *({"variant": variant} for variant in VARIANTS if variant not in ("paper", "inner_bias")),
    *({"cell": cell, "detach": detach} for cell in CELLS for detach in DETACH[1:]),
]


@either
@pytest.mark.parametrize("options", FORMS, ids=str)
def test_the_forms_of_layer_norm_train_as_in_the_plain_loop(name: str, options: dict[str, Any]) -> None:
    plain, native = build(name, **options), build(name, **options)
    expected = numbers(plain, trained("reference", plain, Noise(name))[1])
    agree(numbers(native, trained("native", native, Noise(name))[1]), expected)


@either
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_in_float32_and_on_three_threads_they_differ_by_rounding(name: str, norm: str) -> None:
    plain, native = build(name, norm, torch.float32), build(name, norm, torch.float32)
    source = Noise(name, 8, torch.float32)
    expected = numbers(plain, trained("reference", plain, source)[1])
    torch.set_num_threads(3)
    agree(numbers(native, trained("native", native, source)[1]), expected, rtol=1e-3, atol=1e-3)


@either
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_how_many_updates_a_call_makes_changes_no_bit(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    many, single = build(name, "batch", layers=2), build(name, "batch", layers=2)
    together = numbers(many, trained("native", many, Noise(name), kind)[1])
    monkeypatch.setattr(updates, "CASES_AT_ONCE", 1)
    one_by_one = numbers(single, trained("native", single, Noise(name), kind)[1])
    assert all(torch.equal(together[key], one_by_one[key]) for key in together)


@either
@pytest.mark.parametrize("options", [{"cell": cell} for cell in CELLS] + FORMS[:5], ids=str)
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_clipped_update_of_sgd_is_as_long_as_asked(name: str, options: dict[str, Any], norm: str) -> None:
    """Over all parameters and no others: shifts that there are not have gradients inside a kernel."""
    if norm == "none" and "variant" in options:
        return
    model, source = build(name, norm, **options), Noise(name)
    on("native")
    before = [p.detach().clone() for p in model.parameters()]
    maker = model.native_updates(optimizer_of(model, "sgd"), 1e-3)
    maker.make(source, range(1), lambda step: 1.0, torch.zeros((), dtype=torch.float64), None)
    way = torch.cat([(p - old).flatten() for p, old in zip(model.parameters(), before, strict=True)])
    assert way.norm().item() == pytest.approx(1e-3, rel=1e-2)  # the 1e-6 that is added to the gradient's norm


@either
def test_gradients_that_are_short_enough_are_left_alone_to_the_bit(name: str) -> None:
    plain, clipped = build(name), build(name)
    expected = numbers(plain, trained("native", plain, Noise(name))[1])
    found = numbers(clipped, trained("native", clipped, Noise(name), clip_norm=1e9)[1])
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@either
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_memory_and_state_are_where_the_plain_loop_finds_them(name: str, kind: str) -> None:
    """Ten updates natively and ten plainly are twenty of either."""
    plain, model, source = build(name, cell="gru"), build(name, cell="gru"), Noise(name)
    expected = numbers(plain, trained("reference", plain, source, kind)[1])
    optimizer = optimizer_of(model, kind)
    progress = Progress(state=in_turns(model, optimizer, source))
    del expected["losses"]
    agree({key: value for key, value in numbers(model, progress).items() if key != "losses"}, expected)


@either
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("rate", [1e3, 1e30, float("inf"), float("nan")])
def test_what_diverges_diverges_on_both(name: str, norm: str, rate: float) -> None:
    source = Noise(name, 4, torch.float32)
    plain, native = (
        trained(kernel, build(name, norm, torch.float32), source, "sgd", rate)[0] for kernel in ("reference", "native")
    )
    assert plain == native


@either
def test_at_batch_size_one_batch_norm_remembers_that_it_is_undefined(name: str) -> None:
    for batch_size in (1, 2):
        model = build(name, "batch")
        trained("native", model, Noise(name, batch_size))
        flags = [flag for key, flag in model.named_buffers() if key.endswith("undefined")]
        assert flags and all(bool(flag) == (batch_size == 1) for flag in flags)


@either
def test_a_wrong_target_is_refused(name: str) -> None:
    class Wrong(Noise):
        def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
            x, y = super().train_batch(step)
            return x, torch.full_like(y, CLASSES)

    with pytest.raises(IndexError, match=f"Target {CLASSES} is out of bounds"):
        trained("native", build(name), Wrong(name))


def hooked(name: str) -> Any:
    model = build(name)
    model.output.register_forward_hook(lambda *_: None)
    return model


def frozen(name: str) -> Any:
    model = build(name)
    model.output.bias.requires_grad_(False)
    return model


def fixed(name: str) -> Any:
    model = build(name, "batch")
    model.rnn.eval()
    return model


def uneven(name: str) -> Any:
    model = build(name, layers=2)
    for norm in model.rnn.layers[1].children():
        norm.eps = 1e-3
    return model


def widened(name: str) -> Any:
    model = build(name)
    model.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))
    return model


LEFT: dict[str, Any] = {  # and whether its layers run natively all the same
    "another norm": (lambda name: build(name, "rms"), False),
    "weights made from others": (lambda name: build(name, "weight"), False),
    "noise on the initial state": (lambda name: build(name, initial_state_std=0.1), True),
    "hooks": (hooked, True),
    "fixed statistics": (fixed, True),
    "layers that differ": (uneven, True),
    "further weights": (widened, True),
    "frozen weights": (frozen, True),
    "half precision": (lambda name: build(name, dtype=torch.bfloat16), False),
}


@either
@pytest.mark.parametrize("reason", LEFT)
def test_what_has_no_kernel_is_left_to_the_plain_loop(name: str, reason: str) -> None:
    build_it, able = LEFT[reason]
    model = build_it(name)
    for kernel in ("reference", "auto", "native"):
        kernels.use(kernel)
        assert model.native_updates(torch.optim.Adam(model.parameters())) is None
    batch = Noise(name, dtype=next(model.parameters()).dtype).train_batch(0)
    if able:
        on("native")
        model.loss(batch, None)
    else:
        with pytest.raises(kernels.KernelError):
            model.loss(batch, None)


@either
def test_another_optimiser_and_the_reference_are_left_to_the_plain_loop(name: str) -> None:
    model = build(name)
    on("auto")
    for optimizer in (torch.optim.RMSprop(model.parameters()), torch.optim.Adam(model.parameters(), weight_decay=0.1)):
        assert model.native_updates(optimizer) is None
    kernels.use("reference")
    assert model.native_updates(optimizer_of(model)) is None
