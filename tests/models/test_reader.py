"""The attentive reader against its equations, case by case; padding; where its norms sit; that it learns."""

from typing import Any

import pytest
import torch
from torch import Tensor

import data
import models
from data import Spec, cloze, recall
from experiments.training import checks
from experiments.training.schema import Config, ConfigError
from experiments.training.train import evaluate
from models import ModelError, kernels, reader
from models.batch_norms import StepwiseBatchNorm
from models.norms import NORMS
from tests.models.equations import NORMALIZED, OF_A_BATCH, close, generic, over, scaled
from tests.models.implementation import on

STEPS, SIZE, ENTITIES = 9, 6, 4
SPEC = Spec("cloze", (2, STEPS), ENTITIES, symbols=20)
NATIVE = ("none", "layer", "batch")
every_norm = pytest.mark.parametrize(
    ("kernel", "norm"), [*(("reference", norm) for norm in NORMS), *(("native", norm) for norm in NATIVE)]
)
every_extent = pytest.mark.parametrize("normalize", ["recurrent", "all"])


def build(norm: str, **options: Any) -> Any:
    config = reader.Config(hidden_size=SIZE, embedding_size=5, groups=2, **options)
    return generic(models.build(config, norm, SPEC, 0))


def questions(*lengths: tuple[int, int]) -> Tensor:
    """Documents and queries of these lengths."""
    x = torch.full((len(lengths), 2, STEPS), -1)
    for case, both in zip(x, lengths, strict=True):
        for row, length in zip(case, both, strict=True):
            row[:length] = torch.randint(20, (length,))
    return x


VARIED = (9, 2), (5, 3), (7, 3), (2, 4), (7, 1)
EVEN = ((8, 3),) * 5


# The equations


def lstm(layer: Any, x: Tensor) -> Tensor:
    """Equations 20-22, or those without a norm, over one sequence (T, inputs): h (T, SIZE)."""

    def normalized(norm: Any, a: Tensor) -> Tensor:
        return scaled(norm, over(a, -1)) if layer.norm == "layer" else a if norm.shift is None else a + norm.shift

    h, c, states = torch.zeros(SIZE).double(), torch.zeros(SIZE).double(), []
    for x_t in x:
        f, i, o, g = (normalized(layer.norm_h, h @ layer.W_h) + normalized(layer.norm_x, x_t @ layer.W_x)).split(SIZE)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (normalized(layer.norm_c, c) if layer.norm == "layer" else c).tanh()
        states.append(h)
    return torch.stack(states)


def answer(model: Any, document: Tensor, query: Tensor) -> Tensor:
    """The logits of one case, neither padded nor in a batch."""

    def W(name: str, a: Tensor) -> Tensor:
        term = model.get_submodule(f"W_{name}")
        summed = a @ term.linear.weight.T
        return scaled(term.norm, summed if term.norm.gain is None else over(summed, -1))

    y = lstm(model.document.layers[0], model.embedding(document))
    u = lstm(model.query.layers[0], model.embedding(query))[-1]
    s = torch.exp(torch.tanh(W("ym", y) + W("um", u)) @ model.w_ms.weight[0])
    r = (s[:, None] * y).sum(0) / s.sum()
    return model.output.weight @ torch.tanh(W("rg", r) + W("ug", u))


@every_extent
@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("kernel", ["reference", "native"])
def test_each_case_is_answered_by_the_equations(kernel: str, norm: str, normalize: str) -> None:
    on(kernel)
    model, x = build(norm, normalize=normalize), questions(*VARIED)
    alone = [answer(model, row[0, :d], row[1, :q]) for row, (d, q) in zip(x, VARIED, strict=True)]
    assert close(model(x), torch.stack(alone)) and kernels.used == {kernel}


def test_attention_that_prefers_nothing_is_the_mean_of_the_states_inside() -> None:
    model, x = build("layer"), questions(*VARIED)
    with torch.no_grad():
        model.w_ms.weight.zero_()
    read: list[Tensor] = []
    model.W_rg.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0][0]))
    model(x)
    means = [
        lstm(model.document.layers[0], model.embedding(row[0, :d])).mean(0)
        for row, (d, _) in zip(x, VARIED, strict=True)
    ]
    assert close(read[0], torch.stack(means))


# Padding


@every_extent
@every_norm
def test_a_case_is_answered_as_it_is_alone(kernel: str, norm: str, normalize: str) -> None:
    """With batch norm at test time, where each case is on its own."""
    on(kernel)
    model, x = build(norm, normalize=normalize), questions(*VARIED)
    if norm in OF_A_BATCH:
        model(x)
        model.eval()
    assert close(model(x), torch.cat([model(row[None]) for row in x]))


@every_extent
@every_norm
def test_padding_reaches_no_loss_gradient_or_average(kernel: str, norm: str, normalize: str) -> None:
    """The same documents and queries in longer rows, and other numbers for padding."""
    on(kernel)
    x, y, found = questions(*((d - 2 if d > 2 else d, q) for d, q in VARIED)), torch.arange(5) % ENTITIES, []
    for cases in (x, x[..., :7], torch.where(x < 0, -5, x)):
        model = build(norm, normalize=normalize)
        loss, _ = model.loss((cases, y))
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters()), *model.buffers()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_batch_norm_takes_a_steps_statistics_over_the_cases_that_reach_it() -> None:
    model = build("batch", normalize="all")
    model(questions(*VARIED))
    for norm in (*model.document.layers[0].children(), model.W_ym.norm):
        assert isinstance(norm, StepwiseBatchNorm) and norm.undefined  # one document alone is longer than 7
        assert norm.updates.tolist() == [1] * 9
    for norm in model.query.layers[0].children():
        assert norm.updates.tolist() == [1] * 4 + [0] * 5


# Where the norms sit


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in ("none", "weight", "instance", "renorm")])
def test_normalize_all_reaches_each_term_of_the_attention_and_of_the_answer(norm: str) -> None:
    x, found = questions(*EVEN), {}
    for normalize in ("recurrent", "all"):
        model = build(norm, normalize=normalize)
        for name in ("W_ym", "W_um", "W_rg", "W_ug"):
            term = model.get_submodule(name)
            term.register_forward_hook(
                lambda _module, inputs, output, name=name: found.update({name: (*inputs, output)})
            )
        model(x)
        for name, (a, *_, output) in found.items():
            term = model.get_submodule(name)
            summed = term.linear(a)
            expected = torch.stack([NORMALIZED[norm](step) for step in summed]) if normalize == "all" else summed
            assert close(output, scaled(term.norm, expected)), name


@pytest.mark.parametrize("norm", NATIVE)
def test_recurrent_layers_run_natively_on_padded_cases(norm: str) -> None:
    on("native")
    build(norm).loss((questions(*VARIED), torch.zeros(5, dtype=torch.int64)))
    assert kernels.used == {"native"}


def test_normalize_all_is_refused_without_a_norm() -> None:
    model = reader.Config(normalize="all")
    config = Config(norm="none", model=model, data=cloze.Config(source="synthetic"))
    with pytest.raises(ConfigError, match=r"model\.normalize=all changes nothing with norm=none"):
        checks.check_together(config)


def test_other_data_is_refused_in_one_line() -> None:
    spec = data.load(recall.Config(), batch_size=2, seed=0).spec
    with pytest.raises(ModelError, match=r"^model=reader reads data of kind cloze; this data is sequence$"):
        models.build(reader.Config(), "layer", spec, 0)


# Training


@pytest.mark.parametrize("norm", NATIVE)
def test_it_learns_a_few_cases_by_heart_and_says_how_long_its_states_are(norm: str) -> None:
    on("native")
    source = data.load(cloze.Config(source="synthetic", validation_size=20), batch_size=12, seed=0)
    model = models.build(reader.Config(hidden_size=16, embedding_size=8, state_norm=True), norm, source.spec, 0)
    batch, optimizer = source.train_batch(0), torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        loss, _ = model.loss(batch, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    row = evaluate(model, source, "validation")
    assert set(row) == {"loss", "error", "state_norm"} == set(models.metrics(reader.Config(state_norm=True)))
    assert 0 < row["state_norm"] < 1
