"""Order embeddings: the penalty, the loss and the ranks against plain versions, and what padding may not do."""

from dataclasses import replace
from math import log2
from typing import Any

import pytest
import torch
from torch import Tensor

import data
import models
from data import hypernyms
from experiments.training.final_tests import test_metrics as measure
from experiments.training.train import evaluate
from models import ModelError, order_embeddings
from models.norms import NORMS
from models.order_embeddings import MARGIN, contrasts, penalties, ranks
from tests.models.equations import close, generic, normal, over
from tests.models.implementation import on
from tests.models.test_models import outside_norms, same

SOURCE = hypernyms.Config(source="synthetic", validation_size=60, test_size=40)
CONFIG = order_embeddings.Config(cell="gru", hidden_size=8, embedding_size=6)
every_kernel = pytest.mark.parametrize("kernel", ["reference", "native"])
none_and_layer = pytest.mark.parametrize("norm", ["none", "layer"])


def load(batch_size: int = 12) -> data.Data:
    return data.load(SOURCE, batch_size=batch_size, seed=0)


def build(norm: str, **options: Any) -> Any:
    return models.build(replace(CONFIG, **options), norm, load().spec, 0)


# The penalty and the loss


def test_the_penalty_is_0_where_the_order_holds_and_nowhere_else() -> None:
    lower = normal(7, 5).abs()
    upper = lower * torch.rand(7, 5, dtype=torch.float64)
    assert torch.equal(penalties(lower, upper).diagonal(), torch.zeros(7, dtype=torch.float64))
    assert torch.equal(penalties(lower, lower).diagonal(), torch.zeros(7, dtype=torch.float64))
    assert bool((penalties(upper, lower).diagonal() > 0).all())


def test_the_penalty_is_the_squared_length_of_what_is_above() -> None:
    u, v = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 3.0]])
    assert penalties(u, v).tolist() == [[4.0, 5.0]]
    many = normal(order_embeddings.ROWS + 3, 4)
    assert close(penalties(many, many[:5]), torch.stack([(many[:5] - one).relu().square().sum(1) for one in many]))


def test_the_loss_is_the_sum_over_all_contrasts_of_both_sides() -> None:
    E = normal(5, 5).square() * MARGIN
    for i, value in enumerate(contrasts(E)):
        above = sum(max(0.0, MARGIN + E[i, i].item() - E[i, j].item()) for j in range(5) if j != i)
        below = sum(max(0.0, MARGIN + E[i, i].item() - E[j, i].item()) for j in range(5) if j != i)
        assert value.item() == pytest.approx((above + below) / 4, abs=1e-15)
    assert not contrasts(1 - torch.eye(4)).any()  # each pair is told from every other by more than the margin


# The ranks, on a tree: 0 is above 1 and 2, and 1 above 3


def test_ranks_are_those_among_the_different_candidates_without_other_ancestors() -> None:
    numbers, none = torch.tensor([1, 2, 0, 0]), torch.full((4, 1), -1)
    E = torch.tensor(
        [
            [0.3, 0.2, 0.1, 0.1],  # 1 is third, or, without 0, second
            [0.2, 0.1, 0.3, 0.3],  # 2 is first
            [0.2, 0.1, 0.3, 0.3],  # 0 is third of three, though four cases are in the batch
            [0.2, 0.3, 0.2, 0.2],  # 0 comes after 1, which is no further away, and before 2
        ]
    )
    assert ranks(E, numbers, none).tolist() == [3, 1, 3, 2]
    ancestors = none.clone()
    ancestors[0] = 0
    assert ranks(E, numbers, ancestors).tolist() == [2, 1, 3, 2]


def test_what_tells_nothing_apart_ranks_last() -> None:
    numbers, none = torch.arange(5), torch.full((5, 0), -1)
    for value in (0.0, float("nan")):
        assert ranks(torch.full((5, 5), value), numbers, none).tolist() == [5] * 5


def test_metrics_are_those_of_the_ranks() -> None:
    model, [batch] = build("none"), load().batches("validation")
    values, _ = model.metrics(batch)
    rank = values["mean_rank"]
    assert torch.equal(rank, ranks(model.penalties(batch), batch[1][:, 20], batch[1][:, 21:]).float())
    assert len(rank) == 60 and rank.min() >= 1 and rank.max() <= len(batch[1][:, 20].unique())
    for k in (1, 10):
        assert values[f"recall_at_{k}"].sum() == sum(place <= k for place in rank.tolist())
    assert values["log_rank"].tolist() == pytest.approx([log2(place) for place in rank.tolist()])
    assert values["median_rank"] == rank.sort().values[29]
    assert torch.equal(values["loss"].mean(), model.loss(batch)[0])
    assert set(evaluate(model, load(), "validation")) == set(models.metrics(CONFIG))
    asked = evaluate(build("none", state_norm=True), load(), "validation")
    assert set(asked) == set(models.metrics(replace(CONFIG, state_norm=True)))


# The net


@every_kernel
@none_and_layer
def test_the_whole_model_is_the_plain_one(norm: str, kernel: str) -> None:
    """Equations 26-28 word by word, the embedding and the loss, in float64."""
    on(kernel)
    model, (x, y) = generic(build(norm)), load().train_batch(0)
    u, v = ([embedded(model, norm, text) for text in texts] for texts in (x, y[:, :20]))
    E = [[(above - below).clamp(min=0).square().sum() for above in v] for below in u]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            if i != j:
                total = total + (MARGIN + E[i][i] - E[i][j]).clamp(min=0) + (MARGIN + E[i][i] - E[j][i]).clamp(min=0)
    loss, _ = model.loss((x, y))
    assert close(loss, total / 12 / 11)
    parameters = list(model.parameters())
    plain = torch.autograd.grad(total / 12 / 11, parameters, allow_unused=True)
    for found, expected in zip(torch.autograd.grad(loss, parameters, allow_unused=True), plain, strict=True):
        assert (found is None and expected is None) or close(found, expected)


def embedded(model: Any, norm: str, text: Tensor) -> Tensor:
    [layer] = model.rnn.layers
    size, h = layer.hidden_size, torch.zeros(layer.hidden_size, dtype=torch.float64)

    def normed(a: Tensor, by: Any) -> Tensor:
        a = by.gain * over(a, 0) if norm == "layer" else a
        return a if by.shift is None else a + by.shift

    for word in text[text > 0]:
        from_x, from_h = model.embedding.weight[word] @ layer.W_x, h @ layer.W_h
        gates = normed(from_x[: 2 * size], layer.norm_x) + normed(from_h[: 2 * size], layer.norm_h)
        z, r = torch.sigmoid(gates).chunk(2)
        candidate = normed(from_x[2 * size :], layer.norm_candidate) + r * normed(from_h[2 * size :], layer.norm_u)
        h = (1 - z) * h + z * torch.tanh(candidate)
    return h.abs() / h.norm()


@every_kernel
@none_and_layer
@pytest.mark.parametrize("encoder", ["rnn", "mean"])
def test_padding_has_no_effect(norm: str, kernel: str, encoder: str) -> None:
    if encoder == "mean" and norm != "none":
        return
    on(kernel)
    x, _ = load().train_batch(0)
    model = build(norm, encoder=encoder).double()
    before = model(x)
    with torch.no_grad():
        model.embedding.weight[hypernyms.PADDING] += 1e3
    assert torch.equal(model(x), before)
    lengths = (x > 0).sum(1)
    assert len(lengths.unique()) > 1
    assert close(before, torch.cat([model(text[None, :length]) for text, length in zip(x, lengths, strict=True)]))
    model(x).sum().backward()
    assert not model.embedding.weight.grad[hypernyms.PADDING].any()


@none_and_layer
def test_embeddings_are_of_length_1_and_not_negative(norm: str) -> None:
    v = build(norm)(load().train_batch(0)[0])
    assert v.shape == (12, 8) and bool((v >= 0).all()) and torch.allclose(v.norm(dim=1), torch.ones(12))


def test_without_a_net_an_embedding_knows_the_words_and_not_their_order() -> None:
    model, text = build("none", encoder="mean"), torch.tensor([[3, 4, 5, 0]])
    assert torch.allclose(model(text), model(torch.tensor([[5, 3, 4, 0]])))
    mean = model.embedding.weight[[3, 4, 5]].mean(0).abs()
    assert torch.allclose(model(text)[0], mean / mean.norm())


@none_and_layer
def test_it_learns(norm: str) -> None:
    model, source = build(norm, hidden_size=16), load(32)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.03), []
    for step in range(40):
        loss, _ = model.loss(source.train_batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("norm", NORMS)
def test_it_can_be_trained_with_every_norm(norm: str) -> None:
    model = build(norm)
    loss, _ = model.loss(load().train_batch(0))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert same(outside_norms(model), outside_norms(build("none")))


def test_with_batch_norm_it_is_tested_in_every_way() -> None:
    model, source = build("batch"), load()
    model.loss(source.train_batch(0))
    assert {f"{way}_log_rank" for way in ("test", "test_reestimated", "test_batch")} <= set(measure(model, source, 12))


def test_what_does_not_fit_is_told_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"model.encoder=mean has nothing to normalise: norm=layer; use norm=none"):
        build("layer", encoder="mean")
    image: Any = data.Spec("image", (1, 2, 2), 10)
    with pytest.raises(ModelError, match="model=order_embeddings reads data of kind pairs; this data is image"):
        models.build(CONFIG, "none", image, 0)
