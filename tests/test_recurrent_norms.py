"""Recurrent layers with the norms that have no native kernel: what holds for none, batch and layer norm holds here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ModelError
from models.norms import NORMS, undefined
from models.recurrence import RecurrentConfig
from models.rnn import CELLS, RNN
from tests import test_recurrent as held

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("reference")
every_cell = pytest.mark.parametrize("cell", CELLS)
every_norm = pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in held.NORMS])


@every_cell
@every_norm
@pytest.mark.parametrize("mask", [None, held.MASK], ids=["full", "padded"])
def test_a_cell_is_the_papers_equations(cell: str, norm: str, mask: Tensor | None) -> None:
    held.test_a_cell_is_the_papers_equations(cell, norm, mask)


@every_cell
@every_norm
@pytest.mark.parametrize(
    "holds",
    [
        held.test_integers_stand_for_one_hot_vectors,
        held.test_padding_changes_nothing_inside_and_the_state_stands_still,
        held.test_the_content_of_padding_reaches_nothing,
        held.test_a_mask_without_padding_is_no_mask,
    ],
    ids=lambda holds: holds.__name__.removeprefix("test_"),
)
def test_of_each_cell(holds: Callable[[str, str], None], cell: str, norm: str) -> None:
    holds(cell, norm)


@every_norm
@pytest.mark.parametrize(
    "holds",
    [held.test_layers_are_stacked, held.test_options_set_the_recurrent_scale_and_the_gain],
    ids=lambda holds: holds.__name__.removeprefix("test_"),
)
def test_of_each_norm(holds: Callable[[str], None], norm: str) -> None:
    holds(norm)


@every_cell
@every_norm
def test_a_carried_state_continues_a_sequence(cell: str, norm: str) -> None:
    options = {"statistics": "pooled"} if norm == "sync_batch" else {}
    held.test_a_carried_state_continues_a_sequence(cell, norm, options)


@every_cell
def test_without_positions_instance_norm_is_undefined_and_its_weights_get_no_gradient(cell: str) -> None:
    model = held.rnn(cell, "instance")
    h, _ = model(held.normal(held.T, held.B, held.INPUTS))
    assert undefined(model)
    held.weigh(h).backward()
    (layer,) = model.layers
    assert not layer.W_x.grad.any() and not layer.W_h.grad.any()
    assert any(parameter.grad.any() for parameter in model.parameters())
    assert all(value.isfinite().all() for value in [h, *(p.grad for p in model.parameters())])


def test_groups_must_divide_the_units_of_every_term() -> None:
    def lstm(groups: int) -> Any:
        return RNN(3, "group", 4, RecurrentConfig(hidden_size=6, groups=groups))

    lstm(3)
    with pytest.raises(ModelError, match=r"^model.groups=4 does not divide the 6 units of a layer$"):
        lstm(4)  # 24 units of the gates it does divide
