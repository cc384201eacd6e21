"""What is timed: whole training steps, and recurrent layers forward and backward. PyTorch's own comes first."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # which optimisers import, each in its process, if it is not there
import torch.nn.functional as F
from torch import Tensor, nn

import models
from data import Spec
from experiments.training import machine
from experiments.training.train import make_all, make_optimizer, updates_of
from models import cnn, kernels, language_model, mlp
from models.model import State
from models.options import RecurrentConfig
from models.rnn import CELLS
from scripts.paired_timing import Alternative, Call, Start


@dataclass
class Case:
    """Alternatives that do the same; the first is PyTorch's own."""

    section: str
    net: str
    steps: int | None  # of a sequence
    batch: int
    hidden: int
    alternatives: list[Alternative]
    rounds: int = 41


# Whole training steps: loss, gradients and Adam's update

ADAM = SimpleNamespace(name="adam", learning_rate=1e-3)
# Each with those before it.
STEPS = ("plain PyTorch", "+ fused Adam", "+ product", "+ kept memory", "+ channels last", "+ native updates")
UPDATES = 8  # natively in a call, as in a run
IMAGES, TEXT = Spec("image", (1, 28, 28), 10), Spec("text", (32,), 50)
NETS: dict[str, tuple[Any, Spec]] = {
    "mlp": (mlp.Config(hidden_sizes=[1000, 1000]), IMAGES),
    "cnn 2 layers": (cnn.Config(depth=2, width=32, head="flatten", hidden_size=64), IMAGES),
    "cnn 16 layers": (cnn.Config(depth=16, width=16, head="flatten"), IMAGES),
    "language model": (language_model.Config(hidden_size=64), TEXT),
}
BATCHES = {"mlp": (128, 4, 1), "cnn 2 layers": (32,), "cnn 16 layers": (32,), "language model": (16, 1)}


def training_steps(nets: Mapping[str, tuple[Any, Spec]] = NETS) -> Iterator[Case]:
    for net, (config, spec) in nets.items():
        hidden = config.width if net.startswith("cnn") else getattr(config, "hidden_size", 0) or config.hidden_sizes[0]
        steps = spec.input_shape[0] if spec.kind == "text" else None
        names = [name for name in STEPS if net.startswith("cnn") or name != "+ channels last"]
        for batch in BATCHES[net]:
            made = [
                Alternative(names[i], "layer", training_step(config, spec, batch, names[: i + 1]), times=UPDATES)
                for i in range(len(names))
            ]
            yield Case("training step", net, steps, batch, hidden, made)


def training_step(config: Any, spec: Spec, batch: int, done: Sequence[str]) -> Start:
    """Updates of a model with layer norm on random batches."""

    def start() -> Call:
        if "+ product" in done:
            machine.choose_product(batch)
        if "+ kept memory" in done:
            machine.keep_memory()
        kernels.use("native" if "+ native updates" in done else "reference")
        model: Any = models.build(config, "layer", spec, 0)
        if "+ channels last" not in done and spec.kind == "image":
            model.to(memory_format=torch.contiguous_format)
        plain = "+ fused Adam" not in done
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3) if plain else make_optimizer(model, ADAM)
        maker, data, loss_sum = updates_of(model, optimizer), Random(spec, batch), torch.zeros(())
        state: State = None

        def update() -> None:
            nonlocal state
            state = make_all(maker, data, range(UPDATES), lambda step: ADAM.learning_rate, loss_sum, state)

        return update

    return start


class Random:
    """Random batches: the same few again and again."""

    def __init__(self, spec: Spec, batch: int) -> None:
        shape = (UPDATES, batch, *spec.input_shape)
        text = spec.kind == "text"
        self.x = torch.randint(spec.outputs, shape) if text else torch.rand(shape)
        self.y = torch.randint(spec.outputs, shape if text else shape[:2])

    def train_batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.x[step], self.y[step]


# Recurrent layers: outputs, and gradients of all parameters, of a sequence of floats

Shape = tuple[int, int, int]  # T, B, H; as many inputs as units
SHAPES = ((64, 32, 256), (100, 64, 512), (28, 128, 128), (32, 16, 64), (64, 1, 256))
NATIVE, REFERENCE, SCRIPT, PRODUCTS = "native", "reference loop", "TorchScript cell", "products alone"
THEIRS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN}


def recurrent_layers(cells: Iterable[str] = THEIRS, shapes: Sequence[Shape] = SHAPES) -> Iterator[Case]:
    for cell in cells:
        for steps, batch, hidden in shapes:
            norms = ("none", "layer", "batch") if batch > 1 else ("none", "layer")
            size = (cell, steps, batch, hidden)
            alternatives = [
                Alternative(f"torch.nn.{THEIRS[cell].__name__}", "none", torch_layer(*size)),
                *(Alternative(NATIVE, norm, our_layer(*size, norm, "native")) for norm in norms),
                *(Alternative(REFERENCE, norm, our_layer(*size, norm, "reference")) for norm in norms),
                *(Alternative(SCRIPT, norm, scripted_layer(*size, norm == "layer")) for norm in ("none", "layer")),
                Alternative(PRODUCTS, "none", products(*size)),
            ]
            yield Case("recurrent layer", cell, steps, batch, hidden, alternatives, rounds=11)


def two_threads() -> Iterator[Case]:
    for cell in THEIRS:
        for steps, batch, hidden in SHAPES[:3]:
            size = (cell, steps, batch, hidden)
            theirs = f"torch.nn.{THEIRS[cell].__name__}"
            alternatives = [Alternative(theirs, "none", torch_layer(*size), threads) for threads in (1, 2)]
            for norm in ("none", "layer", "batch"):
                native = our_layer(*size, norm, "native")
                alternatives += [Alternative(NATIVE, norm, native, threads) for threads in (1, 2)]
            yield Case("two threads", cell, steps, batch, hidden, alternatives, rounds=11)


def differentiated(layer: Any, inputs: Tensor) -> Call:
    """The outputs' gradients, as random as they are, by all of the layer's parameters."""
    parameters, d_outputs = list(layer.parameters()), torch.randn(inputs.shape)
    return lambda: torch.autograd.grad(layer(inputs)[0], parameters, d_outputs, allow_unused=True)


def torch_layer(cell: str, steps: int, batch: int, hidden: int) -> Start:
    def start() -> Call:
        machine.keep_memory()
        return differentiated(THEIRS[cell](hidden, hidden), torch.randn(steps, batch, hidden))

    return start


def our_layer(cell: str, steps: int, batch: int, hidden: int, norm: str, kernel: str) -> Start:
    def start() -> Call:
        machine.keep_memory()
        kernels.use(kernel)
        layer = CELLS[cell](hidden, norm, steps, RecurrentConfig(cell=cell, hidden_size=hidden))
        return differentiated(layer, torch.randn(steps, batch, hidden))

    return start


def scripted_layer(cell: str, steps: int, batch: int, hidden: int, normalized: bool) -> Start:
    def start() -> Call:
        machine.keep_memory()
        warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated")
        layer = torch.jit.script(Scripted(cell, hidden, normalized))
        return differentiated(layer, torch.randn(steps, batch, hidden))

    return start


class Scripted(nn.Module):
    """The usual public implementation: a loop over time, compiled by TorchScript, with torch's own layer norm."""

    def __init__(self, cell: str, hidden: int, normalized: bool) -> None:
        super().__init__()
        self.cell, self.hidden, self.normalized = cell, hidden, normalized
        width = hidden * CELLS[cell].gates
        self.W_x, self.W_h = nn.Linear(hidden, width), nn.Linear(hidden, width)
        self.gain_x, self.gain_h = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.gain_c, self.shift_c = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.zeros(hidden))

    def norm(self, a: Tensor, gain: Tensor) -> Tensor:
        return F.layer_norm(a, (a.size(-1),), gain) if self.normalized else a

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.zeros(x.size(1), self.hidden)
        c = torch.zeros_like(h)
        outputs: list[Tensor] = []
        for x_t in x.unbind(0):
            a_x, a_h = self.norm(self.W_x(x_t), self.gain_x), self.norm(self.W_h(h), self.gain_h)
            if self.cell == "tanh":
                h = torch.tanh(a_x + a_h)
            elif self.cell == "gru":
                (z_x, r_x, g_x), (z_h, r_h, g_h) = a_x.chunk(3, 1), a_h.chunk(3, 1)
                z, r = torch.sigmoid(z_x + z_h), torch.sigmoid(r_x + r_h)
                h = torch.lerp(h, torch.tanh(g_x + r * g_h), z)
            else:
                f, i, o, g = (a_x + a_h).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(self.norm(c, self.gain_c) + self.shift_c)
            outputs.append(h)
        return torch.stack(outputs), c


def products(cell: str, steps: int, batch: int, hidden: int) -> Start:
    """As many multiply-adds as the layer's products have, in products of 512 x 512 x 512: the most that can be had."""
    # forward W_x x and W_h h; backward dW_x, dW_h and dh: nobody asks for dx
    count = 5 * steps * batch * CELLS[cell].gates * hidden * hidden / 512**3

    def start() -> Call:
        a, b, out = (torch.randn(512, 512) for _ in range(3))
        rows = max(round(512 * (count - int(count))), 1)  # the last one is a part

        def call() -> None:
            for _ in range(int(count)):
                torch.mm(a, b, out=out)
            torch.mm(a[:rows], b, out=out[:rows])

        return call

    return start


SECTIONS = (training_steps, recurrent_layers, two_threads)
