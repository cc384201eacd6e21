"""Classifiers of sequences that have lengths of their own: what padding may not do."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import data
import models
from data import recall
from experiments.training.train import evaluate, make_optimizer, train
from models import kernels, sequence_classifier
from models.batch_norms import StepwiseBatchNorm
from models.norms import NORMS
from tests.models.equations import OF_A_BATCH, close
from tests.models.implementation import on

CONFIG = recall.Config(sequence_length=9, symbols=5, shortest_length=2, validation_size=40, test_size=40)
NATIVE = ("none", "layer", "batch")
CELLS = ("tanh", "lstm", "gru")
every_cell = pytest.mark.parametrize("cell", CELLS)
every_norm = pytest.mark.parametrize(
    ("kernel", "norm"), [*(("reference", norm) for norm in NORMS), *(("native", norm) for norm in NATIVE)]
)


def load(batch_size: int = 12, **options: Any) -> data.Data:
    return data.load(replace(CONFIG, **options), batch_size=batch_size, seed=0)


def build(cell: str, norm: str, **options: Any) -> Any:
    config = sequence_classifier.Config(cell=cell, hidden_size=8, layers=2, **options)
    return models.build(config, norm, load().spec, 0).double()


def batch() -> tuple[Tensor, Tensor]:
    x, y = load().train_batch(0)
    return x.double(), y


def on_padding(x: Tensor, content: float) -> Tensor:
    """The cases x, with other content after their end."""
    inside = x[..., -1:] > 0
    assert not inside.all()
    return torch.cat([torch.where(inside, x[..., :-1], content), x[..., -1:]], 2)


@every_norm
@every_cell
def test_the_content_of_padding_reaches_no_loss_gradient_or_average(kernel: str, norm: str, cell: str) -> None:
    on(kernel)
    x, y = batch()
    found = []
    for content in (0.0, 1e3):
        model = build(cell, norm)
        loss, _ = model.loss((on_padding(x, content), y), None)
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_norm
@every_cell
def test_a_case_is_classified_as_it_is_alone(kernel: str, norm: str, cell: str) -> None:
    """Without its padding, too; with batch norm at test time, where each case is on its own."""
    on(kernel)
    x, y = batch()
    model = build(cell, norm)
    if norm in OF_A_BATCH:
        model.loss((x, y), None)
        model.eval()
    lengths = x[..., -1].sum(1).int().tolist()
    alone = [model(case[None, :length]) for case, length in zip(x, lengths, strict=True)]
    assert len(set(lengths)) > 2 and close(model(x), torch.cat(alone))


@every_cell
def test_batch_norm_normalises_a_step_by_the_cases_that_reach_it(cell: str) -> None:
    """A mini-batch moves averages as it does without the steps that none of its cases reaches."""
    x, _ = batch()
    short = x[x[..., -1].sum(1) <= 5]
    padded, cut = build(cell, "batch"), build(cell, "batch")
    padded(short)
    cut(short[:, :5])
    for one, other in zip(padded.modules(), cut.modules(), strict=True):
        if isinstance(one, StepwiseBatchNorm):
            assert one.updates.tolist() == other.updates.tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0]
            assert close(one.running_mean, other.running_mean) and not one.running_mean[5:].any()


@pytest.mark.parametrize("norm", NATIVE)
def test_native_layers_in_the_plain_loop_train_as_the_reference(norm: str) -> None:
    """Updates in native code know no padding, and say so."""
    optim: Any = SimpleNamespace(name="adam", learning_rate=0.01, momentum=0.9, schedule="linear", clip_norm=0.0)
    source, found = load(), []
    in_double: Any = SimpleNamespace(
        train_batch=lambda step: (source.train_batch(step)[0].double(), source.train_batch(step)[1]),
        batches=lambda split: ((x.double(), y) for x, y in source.batches(split)),
        carries_state=source.carries_state,
    )
    for kernel in ("reference", "native"):
        on(kernel)
        model = build("lstm", norm)
        assert model.native_updates(make_optimizer(model, optim)) is None
        _, progress = train(model, in_double, optim, updates=5, evaluations=1)
        assert kernels.used == {kernel}
        found.append(progress.history[-1]["validation_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_the_length_of_the_last_state_is_measured_where_asked_for_and_changes_nothing(norm: str) -> None:
    x, y = batch()
    plain, asked = build("lstm", norm), build("lstm", norm, state_norm=True)
    before, values = plain.metrics((x, y))[0], asked.metrics((x, y))[0]
    state = asked.last_state(x)
    assert close(values.pop("state_norm"), state.square().mean(1).sqrt())
    assert values.keys() == before.keys() and all(torch.equal(values[name], before[name]) for name in values)
    config = sequence_classifier.Config(state_norm=True)
    assert set(evaluate(asked.float(), load(), "validation")) == set(models.metrics(config))
