"""Native training updates of language models and sequence classifiers whose layers all run natively."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import kernels
from ..batch_norms import StepwiseBatchNorm
from ..model import State
from . import updates


def native_updates(
    model: Any, embedding: nn.Embedding | None, optimizer: Optimizer, clip_norm: float = 0.0
) -> "RecurrentUpdates | None":
    """What trains a model that has an `rnn` and an `output`; None: the plain loop does, on what its layers run on."""
    layers: list[Any] = list(model.rnn.layers)
    if updates.refusal(model, optimizer) or any(layer.initial_state_std for layer in layers):
        return None
    if any(kernels.refusal(layer, layer.W_h.new_empty(1, 1, 1)) for layer in layers):
        return None
    found = RecurrentUpdates(layers, model.output, embedding, optimizer, clip_norm)
    if len(found.kinds) > 1 or {*map(id, model.parameters())} - {*map(id, found.parameters)}:
        return None  # layers of two kinds, or weights that no kernel knows
    kernels.used.add("native")
    return found


class RecurrentUpdates(updates.Updates):
    """x (updates, B, T, features), y (updates, B); of a language model both (updates, B, T), and its state goes on."""

    def __init__(
        self,
        layers: list[Any],
        output: nn.Linear,
        embedding: nn.Embedding | None,
        optimizer: Optimizer,
        clip_norm: float = 0.0,
    ) -> None:
        self.layers = layers
        self.terms: list[list[Any]] = [term for layer in layers for term in layer.terms()]
        slots: list[list[Tensor]] = [[] if embedding is None else [embedding.weight], [output.weight], [output.bias]]
        for layer in layers:
            slots += [[layer.W_x], [layer.W_h], *kernels.parts(layer)]
        self.kinds = {kind_of(layer) for layer in layers}
        self.slots = [number for number, parts in enumerate(slots) for _ in parts]
        super().__init__([part for parts in slots for part in parts], optimizer, clip_norm)

    def call(self, x: Tensor, y: Tensor, optimizer: tuple[Any, ...], state: State) -> State:
        text, x, nothing = y.dim() == 3, x.transpose(1, 2).contiguous(), self.layers[0].W_h.new_empty(0)
        batched = [norm for term in self.terms for norm in term if isinstance(norm, StepwiseBatchNorm)]
        ((*form, eps, momentum),) = self.kinds
        before = state or [layer.initial_state(x.shape[2]) for layer in self.layers]
        after = torch.ops.layernorm.recurrent_updates(
            x,
            y.transpose(1, 2).contiguous() if text else y,
            *optimizer,
            self.slots,
            [kernels.statistics_of(term, x[0], nothing) for term in self.terms],
            [getattr(norm, name) for norm in batched for name in updates.AVERAGES],
            form,
            eps,
            momentum,
            [part.contiguous() for carried in before for part in (*carried, nothing)[:2]],
        )
        if x.shape[2] == 1:
            for norm in batched:
                norm.undefined.fill_(True)
        if not text:
            return None
        carried = self.layers[0].carried
        return [tuple(after[first : first + carried]) for first in range(0, len(after), 2)]

    def multiplications(self, x: Tensor) -> int:
        return x.shape[1] * super().multiplications(x)


def kind_of(layer: Any) -> tuple[Any, ...]:
    """What C++ knows of the layer, eps and the momentum of running averages."""
    terms = layer.terms()
    norm = [norm for term in terms for norm in term][-1]
    return *kernels.form_of(layer, terms), norm.eps, getattr(norm, "momentum", 0.0)
