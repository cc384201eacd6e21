"""Native training updates of convolutional nets against the plain loop, and their norms by themselves."""

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import models
from data import Spec
from experiments.training.train import evaluate, make_optimizer, train
from models import ModelError, cnn, kernels
from models.kernels import maps, updates
from models.norms import NORMS, feedforward
from models.options import LAYER_AXES
from tests.models.implementation import on
from tests.models.turns import assert_left_to_the_plain_loop, falling, in_turns

CLASSES = 5
NATIVE = [name for name in NORMS if name not in ("weight", "renorm")]
Training = tuple[str, list[float], dict[str, Tensor], set[str]]


class Noise:
    """Images that depend on nothing but the step."""

    test_splits = ("test",)

    def __init__(self, batch_size: int, shape: tuple[int, int, int] = (2, 9, 7), dtype: Any = torch.float64) -> None:
        self.batch_size, self.shape, self.dtype = batch_size, shape, dtype

    def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(step)
        x = torch.rand(self.batch_size, *self.shape, generator=draw, dtype=self.dtype)
        return x, torch.randint(CLASSES, (self.batch_size,), generator=draw)

    def batches(self, split: str) -> list[tuple[Tensor, Tensor]]:
        return [self.train_batch(-1)]

    def carries_state(self, split: str) -> bool:
        return False


def build(norm: str, source: Noise, **options: Any) -> Any:
    config = cnn.Config(**{"depth": 3, "width": 8, "groups": 2, **options})
    return models.build(config, norm, Spec("image", source.shape, CLASSES), 0).to(source.dtype)


def trained(
    kernel: str, model: Any, source: Noise, name: str = "sgd", steps: int = 12, clip_norm: float = 0
) -> Training:
    """Status, losses and all numbers after some updates on one implementation."""
    on(kernel)
    optim: Any = SimpleNamespace(name=name, learning_rate=0.01, momentum=0.9, schedule="linear", clip_norm=clip_norm)
    status, progress = train(model, source, optim, updates=steps, evaluations=3)  # type: ignore[arg-type]
    losses = [loss for row in progress.history for loss in (row["train_loss"], row["validation_loss"])]
    return status, losses, model.state_dict(), set(kernels.used)


def on_both(
    norm: str, source: Noise, *, steps: int = 12, clip_norm: float = 0.0, error: float = 1e-7, **options: Any
) -> None:
    """Train the same model on either implementation: all numbers are equal."""
    native, plain = (
        trained(kernel, build(norm, source, **options), source, steps=steps, clip_norm=clip_norm)
        for kernel in ("native", "reference")
    )
    assert native[3] == {"native"} and native[0] == plain[0]
    assert native[1] == pytest.approx(plain[1], rel=error, abs=error)
    for key, value in plain[2].items():
        assert torch.allclose(native[2][key].double(), value.double(), rtol=error, atol=error), key


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    norm=st.sampled_from(NATIVE),
    padding=st.sampled_from(["zeros", "circular"]),
    head=st.sampled_from(["gap", "flatten"]),
    hidden_size=st.sampled_from([0, 6]),
    depth=st.integers(1, 3),
    width=st.sampled_from([2, 6, 16, 40, 72]),
    batch_size=st.sampled_from([1, 2, 3, 20]),
    clip_norm=st.sampled_from([0.0, 0.1]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
)
def test_the_numbers_are_those_of_the_plain_loop(
    norm: str, batch_size: int, shape: tuple[int, int, int], **options: Any
) -> None:
    """After two updates; norms of two values are nearly step functions, which multiply every difference."""
    on_both(norm, Noise(batch_size, shape), steps=2, **options)


@pytest.mark.parametrize("norm", NATIVE)
@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_in_float32_they_differ_by_rounding(norm: str, head: str) -> None:
    on_both(norm, Noise(8, (1, 12, 12), torch.float32), error=1e-3, head=head)


@pytest.mark.parametrize("ghost_size", [1, 2, 8])
def test_ghost_batches_have_statistics_of_their_own(ghost_size: int) -> None:
    on_both("batch", Noise(8), ghost_size=ghost_size)
    with pytest.raises(ModelError, match="does not divide"):
        trained("native", build("batch", Noise(8), ghost_size=3), Noise(8))


def test_pixels_may_have_statistics_of_their_own() -> None:
    on_both("layer", Noise(3), layer_axes="pixel")


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_optimisers_memory_is_where_the_plain_loop_finds_it(name: str) -> None:
    """Ten updates natively and ten plainly, in turn, are twenty of either."""
    source = Noise(4)
    expected = trained("reference", build("batch", source), source, name, 20)[2]
    model, optimizer = begun("batch", name)
    in_turns(model, optimizer, source)
    assert all(torch.allclose(model.state_dict()[key], value, atol=1e-10) for key, value in expected.items())


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_how_many_updates_a_call_makes_changes_no_bit(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Noise(4)
    _, together, many, _ = trained("native", build(norm, source, padding="circular"), source)
    monkeypatch.setattr(updates, "MULTIPLICATIONS_AT_ONCE", 1)
    _, single, one, _ = trained("native", build(norm, source, padding="circular"), source)
    assert together == single and all(torch.equal(many[key], one[key]) for key in one)


def test_from_what_is_saved_a_run_goes_on_with_the_same_bits() -> None:
    (whole, of_whole), (first, of_first), (second, of_second) = (begun("batch", "sgd") for _ in range(3))
    natively(whole, of_whole, range(10))
    natively(first, of_first, range(5))
    saved = BytesIO()
    torch.save((first.state_dict(), of_first.state_dict()), saved)
    saved.seek(0)
    for loaded, state in zip((second, of_second), torch.load(saved), strict=True):
        loaded.load_state_dict(state)
    natively(second, of_second, range(5, 10))
    assert all(torch.equal(second.state_dict()[key], value) for key, value in whole.state_dict().items())


def begun(norm: str, name: str) -> tuple[Any, torch.optim.Optimizer]:
    model = build(norm, Noise(4))
    return model, make_optimizer(model, SimpleNamespace(name=name, learning_rate=0.01, momentum=0.9))


def natively(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    on("native")
    model.native_updates(optimizer).make(Noise(4), steps, falling, torch.zeros((), dtype=torch.float64), None)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_single_values_are_flagged_and_pass_no_gradient(norm: str) -> None:
    source = Noise(1, (1, 4, 4))  # whose last maps are single pixels
    model = build(norm, source, depth=2, width=2, hidden_size=2)
    before = model.hidden.weight.clone()
    trained("native", model, source)
    assert model.hidden_norm.undefined and torch.equal(model.hidden.weight, before)


def hooked() -> Any:
    model = build("layer", Noise(2))
    model.norms[0].register_forward_hook(lambda *_: None)
    return model


def frozen() -> Any:
    model = build("layer", Noise(2))
    model.convs[0].weight.requires_grad_(False)
    return model


REFUSED = {
    "weights made from others": lambda: build("weight", Noise(2)),
    "detached statistics": lambda: build("layer", Noise(2), detach="both"),
    "gains of units": lambda: build("layer", Noise(2), layer_axes="unit"),
    "hooks": hooked,
    "frozen weights": frozen,
    "weights in another order": lambda: build("layer", Noise(2)).to(memory_format=torch.contiguous_format),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_left_to_the_plain_loop(name: str) -> None:
    assert_left_to_the_plain_loop(REFUSED[name]())


def test_a_wrong_target_is_refused() -> None:
    class Wrong(Noise):
        def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
            return super().train_batch(step)[0], torch.full((self.batch_size,), CLASSES)

    with pytest.raises(IndexError, match=f"Target {CLASSES} is out of bounds"):
        trained("native", build("none", Noise(2)), Wrong(2))


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
@pytest.mark.parametrize("norm", NATIVE)
def test_what_diverges_diverges_on_both(norm: str, scale: float) -> None:
    class Loud(Noise):
        def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
            x, y = super().train_batch(step)
            return x * scale, y

    source = Loud(4, dtype=torch.float32)
    runs = [trained(kernel, build(norm, source), source) for kernel in ("native", "reference")]
    assert runs[0][0] == runs[1][0]


MAPS = [(1, 4, 1, 1), (3, 4, 5, 3), (2, 16, 14, 14), (5, 72, 3, 2), (6, 10, 1, 7), (4, 64, 12, 12), (7, 12)]


@pytest.mark.parametrize("shape", MAPS, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_without_gradients_norms_of_maps_are_the_same(norm: str, training: bool, shape: tuple[int, ...]) -> None:
    config = cnn.Config(groups=2)
    ours, plain = (feedforward(norm, shape[1], config).double().train(training) for _ in range(2))
    a = torch.randn(shape, dtype=torch.float64) * 3 + 1
    a = a.to(memory_format=torch.channels_last) if a.dim() == 4 else a
    on("native")
    with torch.no_grad():
        for made in (ours, plain):
            for number in made.parameters():
                number.add_(torch.arange(number.numel()).view(number.shape) / 7)
        for _ in range(2):
            assert torch.allclose(maps.relu_of_norm(ours, a), torch.relu(plain(a)), rtol=1e-9, atol=1e-9)
    for key, value in plain.state_dict().items():
        assert torch.allclose(ours.state_dict()[key].double(), value.double(), rtol=1e-9, atol=1e-9), key


@pytest.mark.parametrize("axes", LAYER_AXES)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_whatever_lies_otherwise_in_memory_is_left_to_the_norm(axes: str, memory: torch.memory_format) -> None:
    norm = feedforward("layer", 4, axes=axes, map_size=(5, 3)).double()
    a = torch.randn(2, 4, 5, 3, dtype=torch.float64).to(memory_format=memory)
    on("native")
    with torch.no_grad():
        assert torch.allclose(maps.relu_of_norm(norm, a), torch.relu(norm(a)), rtol=1e-9, atol=1e-12)


def test_hooks_of_a_norm_see_what_it_computes() -> None:
    model, seen = build("layer", Noise(2)).eval(), []
    model.norms[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(Noise(2).train_batch(0)[0])
    assert len(seen) == 1 and (seen[0] < 0).any()


def test_the_number_of_threads_changes_no_bit() -> None:
    a = torch.randn(20, 16, 28, 28, dtype=torch.float64).to(memory_format=torch.channels_last)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for norm in ("batch", "layer"):
            made = feedforward(norm, 16).double()
            on("native")
            with torch.no_grad():
                found.append(maps.relu_of_norm(made, a))
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])


def test_second_derivatives_and_evaluation_are_as_they_were() -> None:
    source = Noise(3)
    model = build("batch", source)
    on("auto")
    x = source.train_batch(0)[0].requires_grad_()
    (d,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    d.square().sum().backward()
    assert model.convs[0].weight.grad.abs().sum() > 0
    native = evaluate(model, source, "validation")
    on("reference")
    assert evaluate(model, source, "validation") == pytest.approx(native, rel=1e-9)
