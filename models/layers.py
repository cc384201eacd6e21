"""LSTM, GRU and RNN (tanh) with normalised summed inputs, to be used where torch.nn's are.

    from layernorm_reproduced import LSTM

    lstm = LSTM(input_size=40, hidden_size=256, num_layers=2, batch_first=True)  # norm="layer"
    outputs, (h, c) = lstm(torch.randn(32, 100, 40))

Shapes, states and packed sequences are those of torch.nn; what is computed, and where gains and shifts are, is in
rnn.py. On the CPU the layers run natively for norm="none", "layer" and "batch", which the first call compiles, where
there is a C++ compiler; elsewhere as PyTorch's operations, one step after the other.
"""

import warnings
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from . import kernels
from .errors import ModelError
from .kernels.library import provide
from .options import NORMS, OF_A_BATCH, RecurrentConfig
from .recurrence import PLAIN, RecurrentLayer, States
from .rnn import RNN as Stack

ONLY: dict[str, Any] = {"bidirectional": False, "proj_size": 0, "nonlinearity": "tanh"}  # values of torch.nn's options
SAID_OTHERWISE = ("cell", "hidden_size", "layers", "statistics", "state_norm")
OPTIONS = {option.name: option for option in fields(RecurrentConfig) if option.name not in SAID_OTHERWISE}


class Recurrent(nn.Module):
    """Stacked recurrent layers: the interface of torch.nn.LSTM, GRU and RNN, and their initial weights.

    norm: "layer", "none", "rms", "group", "batch", "renorm", "sync_batch" or "weight" (norms.py)
    steps: of norms of a batch, so many time steps have running averages of their own, the last also serves beyond;
        without it all steps share one
    dropout: of the outputs of each layer but the last, in training
    options: those of options.RecurrentConfig, such as gain=0.1, forget_bias=1.0, variant="per_gate"

    Raises ModelError for values that it has not, TypeError for options that there are not.
    """

    cell: ClassVar[str]  # of rnn.py
    torch_type: ClassVar[type[nn.RNNBase]]
    # Which of torch.nn's gates each of ours is, and its sign.
    gates: ClassVar[tuple[tuple[int, int], ...]]
    layers: Any  # a list of RecurrentLayer

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        norm: str = "layer",
        steps: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, value in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            if value < 1:
                raise ModelError(f"{name}={value}: give 1 or more")
        if not bias and options.get("forget_bias"):
            raise ModelError(f"forget_bias={options['forget_bias']} with bias=False: there is none; leave one out")
        if steps is not None and (steps < 1 or norm not in OF_A_BATCH):
            raise ModelError(
                f"steps={steps} with norm={norm}: 1 or more, for {', '.join(OF_A_BATCH)}; else leave it out"
            )
        options = checked(options, self.cell, norm)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.norm = bias, batch_first, dropout, norm
        config = RecurrentConfig(
            cell=self.cell,
            hidden_size=hidden_size,
            layers=num_layers,
            statistics="per_step" if steps else "pooled",
            **options,
        )
        self.layers = Stack(input_size, norm, steps or 1, config).layers
        if not bias:
            for module in self.modules():
                for name in {"shift", "bias"} & module._parameters.keys():
                    setattr(module, name, None)
        self.to(device=device, dtype=dtype)

    @classmethod
    def from_torch(cls, module: nn.RNNBase, norm: str = "layer", **options: Any) -> Self:
        """A layer with the sizes and weights of torch.nn's: with norm="none" it gives the same outputs.

        Its biases are the shifts of norms that normalise nothing; others keep the gains and shifts they start with.
        Raises ModelError where there is no such layer here.
        """
        if not isinstance(module, cls.torch_type):
            raise ModelError(f"{cls.__name__}.from_torch takes a torch.nn.{cls.__name__}, not {type(module).__name__}")
        given: Any = module  # of whose attributes torch says little
        options |= {
            name: getattr(given, name) for name in ("bias", "batch_first", "dropout", *ONLY) if hasattr(given, name)
        }
        options |= {"device": given.weight_ih_l0.device, "dtype": given.weight_ih_l0.dtype}
        made = cls(given.input_size, given.hidden_size, given.num_layers, norm=norm, **options)
        with torch.no_grad():
            for index, layer in enumerate(made.layers):
                for name, own in (("ih", "W_x"), ("hh", "W_h")):
                    set_weight(layer, own, made.ordered(getattr(given, f"weight_{name}_l{index}")).T)
                if given.bias and norm in PLAIN:
                    both = (made.ordered(getattr(given, f"bias_{name}_l{index}")) for name in ("ih", "hh"))
                    made.set_shifts(layer, *both)
        return made.train(module.training)

    def ordered(self, theirs: Tensor) -> Tensor:
        """Weights or biases of torch.nn's gates (gates * hidden_size, ...) in the order, and of the signs, of ours."""
        parts = theirs.split(self.hidden_size)
        return torch.cat([sign * parts[gate] for gate, sign in self.gates])

    def set_shifts(self, layer: Any, of_x: Tensor, of_h: Tensor) -> None:
        ((norm,), *_) = layer.terms()
        norm.shift.copy_(of_x + of_h)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """The outputs of the last layer at every step, and the state of all layers after the last step.

        input: (T, B, input_size), with batch_first (B, T, input_size), unbatched (T, input_size), or a PackedSequence;
        outputs are alike, of hidden_size. The state hx is h, in an LSTM (h, c), each (num_layers, B, hidden_size),
        unbatched (num_layers, hidden_size); without it, zeros. Raises ModelError where shapes do not fit.
        """
        states = None if hx is None else hx if isinstance(hx, tuple) else (hx,)
        outputs, last = self.packed(input, states) if isinstance(input, PackedSequence) else self.padded(input, states)
        return outputs, last if len(last) > 1 else last[0]

    def padded(self, x: Tensor, states: States | None) -> tuple[Tensor, States]:
        if x.dim() == 2:
            outputs, states = self.through(x[:, None], states and tuple(part[:, None] for part in states))
            return outputs[:, 0], tuple(part[:, 0] for part in states)
        if not self.batch_first or x.dim() != 3:
            return self.through(x, states)
        outputs, states = self.through(x.transpose(0, 1), states)
        return outputs.transpose(0, 1), states

    def packed(self, sequences: PackedSequence, states: States | None) -> tuple[PackedSequence, States]:
        data, sizes, order, back = sequences
        x, lengths = pad_packed_sequence(PackedSequence(data, sizes))  # longest first, as they are packed
        inside = torch.arange(len(x))[:, None] < lengths
        mask = None if inside.all() else inside.to(x.device)
        if states is not None and order is not None:
            states = tuple(part.index_select(1, order) for part in states)
        outputs, states = self.through(x, states, mask)
        if back is not None:
            states = tuple(part.index_select(1, back) for part in states)
        return PackedSequence(pack_padded_sequence(outputs, lengths).data, sizes, order, back), states

    def through(self, x: Tensor, states: States | None, mask: Tensor | None = None) -> tuple[Tensor, States]:
        """All layers on x (T, B, input_size); mask (T, B) is true inside a sequence."""
        self.check(x, states)
        if x.device.type == "cpu" and kernels.mode != "reference":
            compile_once()
        after = []
        for index, layer in enumerate(self.layers):
            x = F.dropout(x, self.dropout, self.training) if index else x
            x, state = layer(x, states and tuple(part[index] for part in states), mask)
            after.append(state)
        return x, tuple(map(torch.stack, zip(*after, strict=True)))

    def check(self, x: Tensor, states: States | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.input_size or not x.is_floating_point() or 0 in x.shape:
            given = f"input of shape (time, cases, features) = {tuple(x.shape)} and {x.dtype}"
            raise ModelError(
                f"{given}: give floating point numbers, {self.input_size} features, and no empty sequences"
            )
        shape, count = (self.num_layers, x.shape[1], self.hidden_size), self.layers[0].carried
        if states is not None and [tuple(part.shape) for part in states] != [shape] * count:
            given = ", ".join(str(tuple(part.shape)) for part in states)
            raise ModelError(f"state of shape {given}: give {'(h, c), each' if count == 2 else 'h,'} {shape}")

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, norm={self.norm!r}"


class LSTM(Recurrent):
    """torch.nn.LSTM with the norms of equations 20-22, or of a `variant`; options as those of Recurrent."""

    cell, torch_type, gates = "lstm", nn.LSTM, ((1, 1), (0, 1), (3, 1), (2, 1))


class GRU(Recurrent):
    """torch.nn.GRU with the norms of equations 26-28; options as those of Recurrent."""

    cell, torch_type, gates = (
        "gru",
        nn.GRU,
        ((1, -1), (0, 1), (2, 1)),
    )  # its z says what is kept, the paper's what is new

    def set_shifts(self, layer: Any, of_x: Tensor, of_h: Tensor) -> None:
        two = 2 * self.hidden_size
        layer.norm_x.shift.copy_((of_x + of_h)[:two])
        layer.norm_candidate.shift.copy_(of_x[two:])
        layer.norm_u.shift.copy_(of_h[two:])


class RNN(Recurrent):
    """torch.nn.RNN (tanh) with the norm of equation 4; options as those of Recurrent."""

    cell, torch_type, gates = "tanh", nn.RNN, ((0, 1),)


def checked(options: dict[str, Any], cell: str, norm: str) -> dict[str, Any]:
    """The options, those of torch.nn aside that have but one value here. Raises ModelError or TypeError."""
    if norm not in NORMS or norm == "instance":  # which leaves nothing of single values
        raise ModelError(f"norm={norm}: choose one of {', '.join(name for name in NORMS if name != 'instance')}")
    for name, value in options.items():
        if name in ONLY:
            if value != ONLY[name]:
                raise ModelError(f"{name}={value}: these layers have {name}={ONLY[name]} only")
            continue
        if name not in OPTIONS:
            raise TypeError(f"{name}={value}: recurrent layers have no such option; there are {', '.join(OPTIONS)}")
        default, metadata = OPTIONS[name].default, OPTIONS[name].metadata
        if value not in (choices := metadata.get("choices", (value,))):
            raise ModelError(f"{name}={value}: choose one of {', '.join(choices)}")
        for key, needed in metadata.get("needs", {}).items():
            if value != default and (chosen := {"norm": norm, "model.cell": cell}[key]) not in needed:
                raise ModelError(f"{name}={value} changes nothing where {key} is {chosen}; leave it out")
    return {name: value for name, value in options.items() if name not in ONLY}


def set_weight(layer: RecurrentLayer, name: str, weight: Tensor) -> None:
    if parametrize.is_parametrized(layer, name):  # weight norm's W is made of other parameters
        setattr(layer, name, weight)
    else:
        getattr(layer, name).copy_(weight)


@cache
def compile_once() -> None:
    if reason := provide():
        warnings.warn(f"recurrent layers run on the slow reference implementation: {reason}", stacklevel=2)
