"""Native training updates against the plain loop: the same weights, averages, losses and optimiser's memory."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import models
from data import Spec
from experiments.training.train import make_optimizer, train
from models import kernels, mlp
from models.kernels import updates
from tests.models.implementation import on
from tests.models.turns import assert_left_to_the_plain_loop, in_turns

INPUTS, CLASSES = 11, 5


class Noise:
    """Batches that depend on nothing but the step."""

    test_splits = ("test",)

    def __init__(self, batch_size: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> None:
        self.batch_size, self.dtype, self.scale = batch_size, dtype, scale

    def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(step)
        x = torch.rand(self.batch_size, 1, INPUTS, generator=draw, dtype=self.dtype) * self.scale
        return x, torch.randint(CLASSES, (self.batch_size,), generator=draw)

    def batches(self, split: str) -> list[tuple[Tensor, Tensor]]:
        return [self.train_batch(-1)]

    def carries_state(self, split: str) -> bool:
        return False


def build(norm: str = "layer", dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    config = mlp.Config(**{"hidden_sizes": [7, 6], **options})
    return models.build(config, norm, Spec("image", (1, INPUTS), CLASSES), 0).to(dtype)


def trained(
    kernel: str, model: Any, source: Any, name: str = "adam", rate: float = 0.01, clip_norm: float = 0.0
) -> Any:
    """Status, progress and all numbers of 20 updates on one implementation."""
    on(kernel)
    optim: Any = SimpleNamespace(name=name, learning_rate=rate, momentum=0.9, schedule="linear", clip_norm=clip_norm)
    status, progress = train(model, source, optim, updates=20, evaluations=3)
    return status, [row["train_loss"] for row in progress.history], model.state_dict(), set(kernels.used)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    norm=st.sampled_from(["none", "layer", "batch"]),
    name=st.sampled_from(["adam", "sgd"]),
    normalize=st.sampled_from(["hidden", "all"]),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    batch_size=st.sampled_from([1, 2, 3, 12, 13, 40]),
    clip_norm=st.sampled_from([0.0, 0.1, 1e9]),
    unbiased=st.booleans(),
)
def test_the_numbers_are_those_of_the_plain_loop(
    norm: str, name: str, normalize: str, sizes: list[int], batch_size: int, clip_norm: float, unbiased: bool
) -> None:
    options: dict[str, Any] = {"hidden_sizes": sizes, "normalize": normalize, "unbiased": unbiased and norm == "batch"}
    _, losses, plain, _ = trained("reference", build(norm, **options), Noise(batch_size), name, 0.01, clip_norm)
    _, ours, native, used = trained("native", build(norm, **options), Noise(batch_size), name, 0.01, clip_norm)
    assert used == {"native"}
    assert ours == pytest.approx(losses, rel=1e-9, abs=1e-9)
    for key, value in plain.items():
        assert torch.allclose(native[key].double(), value.double(), rtol=1e-7, atol=1e-9), key


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_in_float32_they_differ_by_rounding(norm: str) -> None:
    source = Noise(8, torch.float32)
    _, losses, plain, _ = trained("reference", build(norm, torch.float32), source)
    _, ours, native, _ = trained("native", build(norm, torch.float32), source)
    assert ours == pytest.approx(losses, rel=1e-4)
    assert all(torch.allclose(native[key], value, atol=1e-3) for key, value in plain.items())


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_how_many_updates_a_call_makes_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, together, many, _ = trained("native", build("batch"), Noise(4), name)
    monkeypatch.setattr(updates, "CASES_AT_ONCE", 1)
    _, single, one, _ = trained("native", build("batch"), Noise(4), name)
    assert together == single and all(torch.equal(many[key], one[key]) for key in one)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_optimisers_memory_is_where_the_plain_loop_finds_it(name: str) -> None:
    """Ten updates natively and ten plainly are twenty of either."""
    expected = trained("reference", build(), Noise(4), name)[2]
    model = build()
    in_turns(model, make_optimizer(model, SimpleNamespace(name=name, learning_rate=0.01, momentum=0.9)), Noise(4))
    assert all(torch.allclose(model.state_dict()[key], value, atol=1e-10) for key, value in expected.items())


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("scale", [1e20, 1e38, float("inf"), float("nan")])
def test_what_diverges_diverges_on_both(norm: str, scale: float) -> None:
    runs = [
        trained(kernel, build(norm, torch.float32), Noise(4, torch.float32, scale), "sgd", 1e3)
        for kernel in ("reference", "native")
    ]
    assert runs[0][0] == runs[1][0]


def test_at_batch_size_one_batch_norm_remembers_that_it_is_undefined() -> None:
    assert all(norm.undefined for norm in trained_model("batch", 1).norms[:-1])
    assert not any(norm.undefined for norm in trained_model("batch", 2).norms[:-1])


def trained_model(norm: str, batch_size: int) -> Any:
    model = build(norm)
    trained("native", model, Noise(batch_size))
    return model


def test_a_wrong_target_is_refused() -> None:
    class Wrong(Noise):
        def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
            return super().train_batch(step)[0], torch.full((self.batch_size,), CLASSES)

    with pytest.raises(IndexError, match=f"Target {CLASSES} is out of bounds"):
        trained("native", build(), Wrong(4))


def hooked() -> Any:
    model = build()
    model.norms[0].register_forward_hook(lambda *_: None)
    return model


def frozen() -> Any:
    model = build()
    model.linears[0].weight.requires_grad_(False)
    return model


REFUSED = {
    "another norm": lambda: build("rms"),
    "weights made from others": lambda: build("weight"),
    "detached statistics": lambda: build("layer", detach="both"),
    "ghost batches": lambda: build("batch", ghost_size=2),
    "hooks": hooked,
    "frozen weights": frozen,
    "half precision": lambda: build(dtype=torch.bfloat16),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_left_to_the_plain_loop(name: str) -> None:
    assert_left_to_the_plain_loop(REFUSED[name]())
