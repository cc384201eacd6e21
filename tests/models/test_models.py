"""Every model with every norm: the same start, a loss that falls, metrics that mean what they say."""

from dataclasses import replace
from functools import cache
from itertools import product
from math import log, prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import data
import models
from data import cloze, mnist, text
from experiments.training.train import evaluate
from models import ModelError, cnn, language_model, mlp, reader, sequence_classifier
from models.case_norms import LayerNorm, Norm, Unnormalized
from models.norms import NORMS
from models.options import LAYER_AXES
from tests.models.equations import NORMALIZED, OF_A_BATCH, UNCORRECTED, close
from tests.models.turns import assert_left_to_the_plain_loop

BATCH, STEPS = 6, 8
DATA = {
    "image": mnist.Config(source="synthetic", crop=20, validation_size=30, test_size=20),
    "sequence": mnist.Config(source="synthetic", layout="rows", crop=20, validation_size=30),
    "text": text.Config(corpus="synthetic", sequence_length=STEPS, validation_size=600, test_size=600, test_length=24),
    "cloze": cloze.Config(source="synthetic", validation_size=30, test_size=20),
}
CELLS = ("tanh", "lstm", "gru")
MODELS: dict[str, tuple[str, Any]] = {
    "mlp": ("image", mlp.Config(hidden_sizes=[12, 12])),
    "mlp-all": ("sequence", mlp.Config(hidden_sizes=[12], normalize="all", groups=2)),
    "cnn": ("image", cnn.Config(depth=3, width=4)),
    "cnn-residual": ("image", cnn.Config(depth=7, width=4, residual=True)),
    "cnn-shallow": ("image", cnn.Config(depth=1, width=4, hidden_size=12)),
    **{
        f"cnn-{axes}": ("image", cnn.Config(depth=2, width=4, head="flatten", hidden_size=12, layer_axes=axes))
        for axes in LAYER_AXES
    },
    **{f"rows-{cell}": ("sequence", sequence_classifier.Config(cell=cell, hidden_size=12)) for cell in CELLS},
    **{f"text-{cell}": ("text", language_model.Config(cell=cell, hidden_size=12)) for cell in CELLS},
    "text-embedded": ("text", language_model.Config(hidden_size=12, layers=2, embedding_size=4, statistics="pooled")),
    "reader": ("cloze", reader.Config(hidden_size=12, embedding_size=4)),
    "reader-all": ("cloze", reader.Config(hidden_size=12, embedding_size=4, cell="gru", normalize="all")),
}

every_model = pytest.mark.parametrize("name", MODELS)
every_norm = pytest.mark.parametrize("norm", NORMS)


@cache
def load(kind: str) -> data.Data:
    return data.load(DATA[kind], batch_size=BATCH, seed=0)


def build(name: str, norm: str, seed: int = 0) -> Any:
    kind, config = MODELS[name]
    return models.build(config, norm, load(kind).spec, seed)


def outside_norms(model: nn.Module) -> dict[str, Tensor]:
    """Weights by name; of a re-parametrised one, what the model computes with."""
    inside = {id(p) for part in model.modules() if isinstance(part, Norm) for p in part.parameters()}
    named = [(name, p) for name, p in model.named_parameters() if "parametrizations" not in name]
    found: dict[str, Tensor] = {name: p for name, p in named if id(p) not in inside}
    for name, part in model.named_modules():
        if parametrize.is_parametrized(part):
            found |= {f"{name}.{weight}": getattr(part, weight) for weight in part.parametrizations}
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_file_is_the_registry() -> None:
    named = {"mlp", "cnn", "language_model", "sequence_classifier", "order_embeddings", "stroke_model"}
    assert named <= set(models.available())
    assert all(config().name == name for name, config in models.available().items())
    assert {config.name for _, config in MODELS.values()} <= set(models.available())


@every_model
def test_one_seed_gives_every_norm_the_same_weights(name: str) -> None:
    plain = outside_norms(build(name, "none"))
    assert sum(p.dim() > 1 for p in plain.values()) >= 2
    assert all(same(outside_norms(build(name, norm)), plain) for norm in NORMS)
    assert not same(outside_norms(build(name, "none", seed=1)), plain)


@every_model
@every_norm
def test_initial_weights_and_outputs_depend_on_the_seed_alone(name: str, norm: str) -> None:
    batch, found = load(MODELS[name][0]).train_batch(0), []
    for before in (1, 2):
        torch.manual_seed(before)
        model = build(name, norm)
        found.append({**model.state_dict(), "loss": model.loss(batch, None)[0]})
    assert same(*found)


@every_model
@every_norm
def test_a_few_updates_reduce_the_loss(name: str, norm: str) -> None:
    model, batch = build(name, norm), load(MODELS[name][0]).train_batch(0)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(8):
        loss, _ = model.loss(batch, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert losses[-1] < losses[0] < 4 * log(load(MODELS[name][0]).spec.outputs)


@every_model
@every_norm
def test_a_batch_of_one_trains_and_only_norms_without_a_second_value_call_it_undefined(name: str, norm: str) -> None:
    model, (x, y) = build(name, norm), load(MODELS[name][0]).train_batch(0)
    loss, _ = model.loss((x[:1], y[:1]), None)
    loss.backward()
    assert loss.isfinite() and all(value.isfinite().all() for value in model.state_dict().values())
    # One case, or one position: this CNN has only maps to normalise.
    assert models.norms.undefined(model) == (norm in (*OF_A_BATCH, "instance") and name not in ("cnn", "cnn-residual"))


@every_model
@every_norm
def test_the_loss_is_the_mean_of_the_metric_and_all_are_named(name: str, norm: str) -> None:
    kind, config = MODELS[name]
    model = build(name, norm)
    model.loss(load(kind).train_batch(0), None)
    model.eval()
    with torch.no_grad():
        batch = load(kind).train_batch(1)
        values, _ = model.metrics(batch, None)
        assert torch.allclose(values["loss"].mean(), model.loss(batch, None)[0])
        cases = batch[1].t().shape if kind == "text" else batch[1].shape
        assert all(value.shape == cases for value in values.values())
        if kind == "text":
            assert torch.equal(values["bits_per_character"], values["loss"] / log(2))
        else:
            assert torch.equal(values["error"], (model(batch[0]).argmax(1) != batch[1]).float())
    plain, *variants = [set(evaluate(model, load(kind), split)) for split in load(kind).test_splits]
    assert plain == set(models.metrics(config))
    assert all(variant == set(models.metrics(config, longer=True)) for variant in variants)


@every_norm
def test_bits_beyond_the_trained_length_are_set_against_the_second_half_within(norm: str) -> None:
    model = build("text-gru", norm)
    model.loss(load("text").train_batch(0), None)
    model.eval()
    (batch,) = load("text").batches("test_long")
    values, _ = model.metrics(batch, None)
    bits, rows = values["bits_per_character"], len(batch[0])
    assert bits.shape == (24, rows) and values["length_penalty"].shape == (rows,)
    assert torch.equal(values["bits_per_character_beyond"], bits[STEPS:])
    penalty = bits[STEPS:].mean() - bits[STEPS // 2 : STEPS].mean()
    assert values["length_penalty"].mean().item() == pytest.approx(penalty.item(), abs=1e-6)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_language_model_reads_on_where_the_last_batch_ended(norm: str) -> None:
    model, text_data = build("text-lstm", norm).double().eval(), load("text")
    (x, _), (following, _) = text_data.train_batch(0), text_data.train_batch(1)
    _, state = model(x.t())
    continued, _ = model(following.t(), state)
    whole, _ = model(torch.cat([x, following], 1).t())
    assert close(continued, whole[STEPS:])


@pytest.mark.parametrize(
    "name, kind",
    [
        (n, k)
        for n, k in product(MODELS, DATA)
        if n in ("mlp", "cnn", "rows-gru", "text-gru") and k != MODELS[n][0] and (n, k) != ("mlp", "sequence")
    ],
)
def test_data_of_another_kind_is_refused_in_one_line(name: str, kind: str) -> None:
    config = MODELS[name][1]
    with pytest.raises(ModelError, match=f"model={config.name} reads data of kind .*; this data is {kind}") as error:
        models.build(config, "layer", load(kind).spec, 0)
    assert "\n" not in str(error.value)


# Where the norms sit


@every_norm
def test_only_normalize_all_reaches_the_logits_of_an_mlp(norm: str) -> None:
    x = load("image").train_batch(0)[0].double()
    for normalize, expected in (("hidden", Unnormalized), ("all", NORMS[norm])):
        config = mlp.Config(hidden_sizes=[12], normalize=normalize, groups=2, **UNCORRECTED)
        model: Any = models.build(config, norm, load("image").spec, 0).double()
        assert [type(part) for part in model.norms] == [NORMS[norm], expected]
        if normalize == "all" and norm not in ("none", "weight"):
            summed = model.linears[-1](torch.relu(model.norms[0](model.linears[0](x.flatten(1)))))
            assert close(model(x), NORMALIZED[norm](summed))


@pytest.mark.parametrize("name", ["mlp-all", "cnn-shallow", "rows-tanh", "rows-lstm", "text-gru", "reader-all"])
def test_every_norm_of_a_model_has_the_models_options(name: str) -> None:
    kind, config = MODELS[name]
    for norm, option, value in (("layer", "detach", "std"), ("group", "groups", 2), ("batch", "ghost_size", 3)):
        if hasattr(config, option):
            model = models.build(replace(config, **{option: value}), norm, load(kind).spec, 0)
            found = [getattr(part, option) for part in model.modules() if isinstance(part, NORMS[norm])]
            assert found and set(found) == {value}


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_a_cnn_halves_its_maps_twice_and_doubles_its_channels_once(depth: int) -> None:
    config, spec = cnn.Config(depth=depth, width=4, head="flatten", layer_axes="unit"), load("image").spec
    model: Any = models.build(config, "layer", spec, 0)
    side, shapes = 20, []
    for layer in range(depth):
        side = (side + 1) // 2 if layer in (0, depth // 2) else side
        shapes.append((4 if layer < max(depth // 2, 1) else 8, side, side))
    assert [tuple(norm.gain.shape) for norm in model.norms] == shapes
    assert model.output.in_features == prod(shapes[-1])
    assert model(load("image").train_batch(0)[0]).shape == (BATCH, 10)


# Shortcuts


@every_norm
@pytest.mark.parametrize("depth", [4, 6, 12])  # maps are halved by the first or the second layer of a block
def test_blocks_that_add_nothing_hand_on_every_second_pixel_and_channels_of_zero(norm: str, depth: int) -> None:
    config, x = cnn.Config(depth=depth, width=4, residual=True, groups=2), load("image").train_batch(0)[0]
    model: Any = models.build(config, norm, load("image").spec, 0)
    maps: list[Tensor] = []
    for part in (model.convs[2], model.head):
        part.register_forward_hook(lambda _module, inputs, _output: maps.append(inputs[0].detach()))
    for last in range(3, depth, 2):
        model.norms[last].register_forward_hook(lambda _module, _inputs, output: 0 * output)
    model(x)
    before, after = maps
    assert before.any() and torch.equal(after[:, :4], before[:, :, ::2, ::2]) and not after[:, 4:].any()


def test_an_odd_last_layer_stands_alone() -> None:
    model: Any = models.build(cnn.Config(depth=5, width=4, residual=True), "none", load("image").spec, 0)
    model.norms[4].register_forward_hook(lambda _module, _inputs, output: 0 * output)
    assert not model(load("image").train_batch(0)[0]).any()


@every_norm
def test_shortcuts_draw_nothing_and_change_no_parameter(norm: str) -> None:
    plain, residual = (
        models.build(cnn.Config(depth=6, width=4, residual=residual), norm, load("image").spec, 0)
        for residual in (False, True)
    )
    assert same(dict(plain.named_parameters()), dict(residual.named_parameters()))


@pytest.mark.parametrize("norm", ["none", "weight"])
@pytest.mark.parametrize("depth", [16, 64])
def test_without_a_norm_neither_maps_nor_gradients_explode_over_many_blocks(norm: str, depth: int) -> None:
    config = cnn.Config(depth=depth, width=8, residual=True)
    model: Any = models.build(config, norm, load("image").spec, 0)
    sizes: list[float] = []
    for layer in (2, depth - 2):
        model.convs[layer].register_forward_hook(
            lambda _module, inputs, _output: sizes.append(inputs[0].square().mean().sqrt().item())
        )
    loss, _ = model.loss(load("image").train_batch(0), None)
    loss.backward()
    assert 0.3 < sizes[1] / sizes[0] < 3
    first, last = (grad_of(model.convs[layer]) for layer in (2, depth - 2))
    assert 0.1 < first / last < 30


def grad_of(conv: nn.Module) -> float:
    """The length of the gradient of a convolution's weights, or of what they are made of."""
    return torch.stack([p.grad.norm() for p in conv.parameters() if p.grad is not None]).norm().item()


def test_shortcuts_have_no_kernel() -> None:
    model: Any = models.build(cnn.Config(depth=6, width=4, residual=True), "layer", load("image").spec, 0)
    assert_left_to_the_plain_loop(model)


@pytest.mark.parametrize("name", ["mlp", "cnn", "rows-lstm", "text-lstm", "reader-all"])
def test_no_bias_hides_inside_a_normalised_sum(name: str) -> None:
    """All that is added to summed inputs are shifts of norms and the bias of the last layer."""
    vectors = {n for n, p in outside_norms(build(name, "layer")).items() if p.dim() == 1}
    assert vectors <= {"output.bias"}
    assert any(isinstance(part, LayerNorm) for part in build(name, "layer").modules())


# What lies beyond the border of a map


@every_norm
@pytest.mark.parametrize("padding, invariant", [("circular", True), ("zeros", False)])
@pytest.mark.parametrize("shift", [(4, 0), (8, -4)], ids=str)
def test_on_a_torus_logits_of_pooled_maps_do_not_move_with_the_image(
    norm: str, padding: str, invariant: bool, shift: tuple[int, int]
) -> None:
    """By whole strides: the maps halve twice, so 4 pixels are one position of the last of them."""
    config = cnn.Config(depth=4, width=4, padding=padding, **UNCORRECTED)
    model: Any = models.build(config, norm, load("image").spec, 0).double()
    x = load("image").train_batch(0)[0].double()
    change = (model(x.roll(shift, (2, 3))) - model(x)).abs().max()
    assert change < 1e-10 if invariant else change > 1e-4


@pytest.mark.parametrize("depth, stride", [(1, 2), (2, 4), (5, 4)])
def test_on_a_torus_maps_move_with_the_image(depth: int, stride: int) -> None:
    config = cnn.Config(depth=depth, width=4, padding="circular", head="flatten")
    model: Any = models.build(config, "layer", load("image").spec, 0).double()
    maps: list[Tensor] = []
    model.norms[-1].register_forward_hook(lambda _module, _inputs, output: maps.append(output.detach()))
    x = load("image").train_batch(0)[0].double()
    model(x)
    model(x.roll((stride, 2 * stride), (2, 3)))
    assert close(maps[1], maps[0].roll((1, 2), (2, 3)))


def test_padding_draws_no_random_numbers_and_reaches_only_the_border() -> None:
    zeros, torus = (
        models.build(cnn.Config(depth=1, width=4, padding=padding), "none", load("image").spec, 0)
        for padding in ("zeros", "circular")
    )
    assert same(dict(zeros.named_parameters()), dict(torus.named_parameters()))
    x = load("image").train_batch(0)[0].double()
    inner, outer = (model.double().get_submodule("convs.0")(x) for model in (zeros, torus))
    assert close(inner[..., 1:, 1:], outer[..., 1:, 1:])


@pytest.mark.parametrize("stride", [1, 2])
def test_opposite_sides_meet_as_in_torchs_circular_padding(stride: int) -> None:
    ours = cnn.CircularConv2d(3, 4, 3, stride=stride, padding=1, bias=False)
    theirs = torch.nn.Conv2d(3, 4, 3, stride=stride, padding=1, padding_mode="circular", bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 7, 6).to(memory_format=torch.channels_last)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
