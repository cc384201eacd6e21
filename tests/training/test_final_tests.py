"""Test metrics three ways: by running averages, by averages taken anew, and by each mini-batch's own statistics."""

from typing import Any

import pytest
import torch

import data
import models
from data import mnist, text
from experiments.training import final_tests
from experiments.training.final_tests import REESTIMATED_CASES, Rows, other_statistics, reestimate
from experiments.training.final_tests import test_metrics as measure
from experiments.training.measured import WAYS
from experiments.training.train import evaluate
from models import cnn, language_model, mlp
from models.batch_norms import BatchNorm

BATCH = 8
IMAGES = mnist.Config(source="synthetic", crop=20, validation_size=50, test_size=44)
TEXT = text.Config(corpus="synthetic", sequence_length=6, validation_size=600, test_size=800)
MODELS: dict[str, tuple[models.Options, Any]] = {
    "mlp": (mlp.Config(hidden_sizes=[12]), IMAGES),
    "cnn": (cnn.Config(depth=2, width=4), IMAGES),
    "lstm": (language_model.Config(hidden_size=8), TEXT),
}


def trained(name: str, norm: str, batch_size: int = BATCH) -> tuple[Any, Any]:
    """A model that has seen a few mini-batches, so that its running averages are not where they started."""
    config, source = MODELS[name]
    loaded = data.load(source, batch_size=batch_size, seed=0)
    model: Any = models.build(config, norm, loaded.spec, 0)
    for step in range(3):
        model.loss(loaded.train_batch(step), None)
    return model, loaded


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("norm", ["none", "layer", "group", "instance"])
def test_without_batch_statistics_there_is_one_way(name: str, norm: str) -> None:
    final = measure(*trained(name, norm), BATCH)
    metrics = [key.removeprefix("test_reestimated_") for key in final if key.startswith("test_reestimated_")]
    assert "loss" in metrics
    for metric in metrics:
        assert final[f"test_{metric}"] == final[f"test_reestimated_{metric}"] == final[f"test_batch_{metric}"]
        assert final[f"test_batch_{metric}_increase"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_with_batch_norm_the_ways_differ_and_the_plain_one_is_the_model_as_it_is_used(name: str) -> None:
    model, source = trained(name, "batch")
    plain = evaluate(model, source, "test")
    final = measure(model, source, BATCH)
    assert final["test_loss"] == plain["loss"]
    assert len({final["test_loss"], final["test_reestimated_loss"], final["test_batch_loss"]}) == 3


def test_the_increase_is_over_averages_taken_anew_on_the_same_cases() -> None:
    final = measure(*trained("mlp", "batch"), BATCH)  # a quarter of 44 cases, rounded up to whole mini-batches
    model, source = trained("mlp", "batch")
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    reestimate(model, norms, source, BATCH)
    model.eval()
    x, y = next(iter(source.batches("test")))
    anew = model.metrics((x[: 2 * BATCH], y[: 2 * BATCH]), None)[0]["loss"].mean().item()
    assert final["test_batch_loss_increase"] == pytest.approx(final["test_batch_loss"] - anew, rel=1e-3)


def test_averages_taken_anew_are_plain_means_with_the_present_weights() -> None:
    model, source = trained("mlp", "batch")
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    reestimate(model, norms, source, BATCH)
    batches = range(REESTIMATED_CASES // BATCH)  # more than the 33 after which training averages forget
    sums = [model.linears[0](source.train_batch(step)[0].flatten(1)) for step in batches]
    assert torch.allclose(norms[0].running_mean[0], torch.stack([a.mean(0) for a in sums]).mean(0), atol=1e-5)
    variances = torch.stack([a.var(0, unbiased=True) for a in sums])
    assert torch.allclose(norms[0].running_variance[0], variances.mean(0), rtol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("batch_size", [2, 4])
def test_small_mini_batches_together_are_what_they_are_one_by_one(
    name: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = measure(*trained(name, "batch", batch_size), batch_size)
    monkeypatch.setattr(final_tests, "as_ghosts", lambda norms, batch_size: False)
    one_by_one = measure(*trained(name, "batch", batch_size), batch_size)
    assert together == pytest.approx(one_by_one, rel=1e-4, abs=1e-5)
    assert together["test_batch_loss"] != pytest.approx(together["test_loss"], rel=1e-2)


def test_each_test_mini_batch_is_normalised_by_itself() -> None:
    model, source = trained("mlp", "batch")
    by_own = other_statistics(model, source, BATCH, evaluate(model, source, "test"))["test_batch_loss"]
    x, y = next(iter(source.batches("test")))
    model.train()
    chunks = [model.metrics((x[i : i + BATCH], y[i : i + BATCH]), None)[0]["loss"] for i in (0, BATCH)]
    assert by_own == pytest.approx(torch.cat(chunks).mean().item(), rel=1e-5)


def test_a_single_leftover_case_is_left_out() -> None:
    source = data.load(mnist.Config(source="synthetic", test_size=2 * BATCH + 1), batch_size=BATCH, seed=0)
    batches = list(source.batches("test"))
    assert [Rows(batches, False, start, BATCH).count() for start in (0, BATCH, 2 * BATCH)] == [BATCH, BATCH, 0]


def test_rows_of_a_text_go_on_from_batch_to_batch() -> None:
    model, source = trained("lstm", "layer")
    batches = list(source.batches("test"))
    rows = [Rows(batches, True, start, BATCH) for start in range(0, 64, BATCH)]
    parts = [(part.count(), evaluate(model, part, "test")["loss"]) for part in rows if part.count()]
    whole = sum(count * loss for count, loss in parts) / sum(count for count, _ in parts)
    assert whole == pytest.approx(evaluate(model, source, "test")["loss"], rel=1e-5)


def test_at_batch_size_one_there_are_no_statistics() -> None:
    model, source = trained("mlp", "batch", batch_size=1)
    assert not any(key.startswith(WAYS[1:]) for key in measure(model, source, 1))
