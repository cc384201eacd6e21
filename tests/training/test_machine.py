"""What a run sets on its machine: it is said in the record and changes no number beyond rounding."""

import ctypes
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import data
import models
from data import Spec, mnist
from experiments.training import limits, machine, processor
from experiments.training.run import run
from experiments.training.train import train
from models import ModelError, cnn, mlp
from models.norms import NORMS
from models.options import LAYER_AXES
from tests.training.test_run import tiny

MATMUL: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
IMAGES = mnist.Config(source="synthetic", crop=20, validation_size=60)
UPDATES = 6


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU where MKL is slow."""
    monkeypatch.setattr(machine, "mkl_is_slow", lambda: True)


def rounded(a: Tensor, b: Tensor) -> Tensor:
    """A product of bfloat16 numbers, as matrix units give it."""
    return (a.bfloat16() @ b.bfloat16()).float()


def losses(config: Any, norm: str, batch_size: int = 32, contiguous: bool = False) -> list[float]:
    source = data.load(IMAGES, batch_size=batch_size, seed=0)
    model: Any = models.build(config, norm, source.spec, 0)
    if contiguous:
        model.to(memory_format=torch.contiguous_format)
    optim = SimpleNamespace(name="sgd", learning_rate=0.005, momentum=0.9, schedule="linear", clip_norm=1.0)
    _, progress = train(model, source, optim, updates=UPDATES, evaluations=UPDATES)
    return [row[key] for row in progress.history for key in ("train_loss", "validation_loss")]


def test_the_self_test_tells_float32_from_less() -> None:
    assert machine.largest_error() < machine.LARGEST_ERROR / 2
    assert machine.largest_error(rounded) > 1e3 * machine.LARGEST_ERROR
    assert machine.largest_error(lambda a, b: (a * (1 + 2e-6)) @ b) > machine.LARGEST_ERROR


def test_an_inexact_product_is_refused(elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "largest_error", lambda: 2e-6)
    assert machine.choose_product(32) == "default" and MATMUL.fp32_precision == "none"


def test_the_product_chosen_is_exact_and_for_large_batches_alone(elsewhere: None) -> None:
    for batch_size in (32, 128, 31, 1):
        chosen = machine.choose_product(batch_size)
        assert (MATMUL.fp32_precision == "bf16") == (chosen == "onednn")
        assert chosen == "default" or batch_size >= 32
        assert machine.largest_error() <= machine.LARGEST_ERROR


@pytest.mark.parametrize(
    ("maker", "slow"), [("AuthenticAMD", True), ("HygonGenuine", True), ("GenuineIntel", False), ("", False)]
)
def test_mkl_is_slow_on_cpus_of_other_makers(maker: str, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_maker", lambda: maker)
    assert machine.mkl_is_slow() == (slow and torch.backends.mkl.is_available())


def test_training_with_either_product_agrees(elsewhere: None) -> None:
    config = mlp.Config(hidden_sizes=[64, 64])
    expected = losses(config, "layer")
    machine.choose_product(32)
    assert losses(config, "layer") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("axes", LAYER_AXES)
def test_training_with_either_layout_of_the_maps_agrees(norm: str, axes: str) -> None:
    config = cnn.Config(depth=4, width=4, layer_axes=axes)
    assert losses(config, norm) == pytest.approx(losses(config, norm, contiguous=True), rel=1e-5)


def test_preparing_again_changes_nothing_and_draws_no_random_number(elsewhere: None) -> None:
    before = torch.get_rng_state()
    first = machine.prepare(2, 32)
    assert torch.get_num_threads() == 2
    assert machine.prepare(2, 32) == first and torch.equal(torch.get_rng_state(), before)


def test_subnormal_numbers_are_taken_as_0(elsewhere: None) -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot")
    torch.set_flush_denormal(False)
    assert torch.tensor(1e-38) * 1e-3 != 0
    machine.prepare(1, 32)
    assert torch.tensor(1e-38) * 1e-3 == 0


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_mallopt_memory_is_left_alone(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: None) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert machine.prepare(1, 32)["allocation"] == "default"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_record_says_what_was_done(threads: int, tmp_path: Path) -> None:
    environment = run(dataclasses.replace(tiny(tmp_path), threads=threads))["environment"]
    assert environment["threads"] == threads == torch.get_num_threads()
    assert environment["allocation"] in ("kept", "default") and environment["product"] == "default"  # at batch 8
    assert environment["processor"] and environment["cores"] == limits.cores()


def test_a_processor_is_told_by_its_model_and_not_by_what_changes_by_the_hour() -> None:
    told = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2.90GHz\ncpu MHz\t\t: 1234.5\n"
    assert processor.named(told + told) == "Some CPU @ 2.90GHz"
    assert processor.named("processor\t: 0\nBogoMIPS\t: 50.00\n") == ""


def test_memory_must_do_for_all_that_train_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config, spec = mlp.Config(hidden_sizes=[1000, 1000]), Spec("image", (1, 28, 28), 10)  # 1.8 million weights: 29 MB
    monkeypatch.setattr(limits, "memory", lambda: 100e6)
    machine.check_memory(config, "layer", spec, at_once=3)
    with pytest.raises(ModelError, match=r"hidden_sizes=\[1000, 1000\]: 4 at a time .* lower n_jobs to 3$"):
        machine.check_memory(config, "layer", spec, at_once=4)
    monkeypatch.setattr(limits, "memory", lambda: 20e6)
    with pytest.raises(ModelError, match=r"lower it$"):
        machine.check_memory(config, "layer", spec)
