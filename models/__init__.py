"""Models: the file is the registry. `models/<name>.py` is `model=<name>` if it has `Config`, `build` and `METRICS`."""

import importlib
import pkgutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

if sys.argv[:1] == ["-m"]:  # of `python -m models.kernels`: until it listens, Ctrl-C ends it without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
# What a recurrent model carries from one batch of a text to the next, of each layer; None at the start and elsewhere.
State = list[tuple[Tensor, ...]] | None


class Options(Protocol):
    """A model's configuration: a dataclass beside its code, with a `name`."""

    name: str


class Model(nn.Module, ABC):
    """What can be trained."""

    @abstractmethod
    def loss(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The mean loss of a batch in nats, to be differentiated, and the state to carry on."""

    @abstractmethod
    def metrics(self, batch: Batch, state: State) -> tuple[dict[str, Tensor], State]:
        """Each metric's value for each case (or character) of a batch; evaluation averages over all of them."""

    def native_updates(self, optimizer: torch.optim.Optimizer) -> "NativeUpdates | None":
        """What trains this model natively, many updates at a time; None: autograd and the optimiser do."""
        return None


class NativeUpdates(Protocol):
    """See models/kernels/updates.py."""

    def make(
        self, data: Any, steps: range, rate: Callable[[int], float], loss_sum: Tensor, state: State
    ) -> tuple[int, State]: ...


def available() -> dict[str, type]:
    """Name and options of every model."""
    modules = {m.name: importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)}
    return {name: module.Config for name, module in modules.items() if hasattr(module, "build")}


def build(config: Options, norm: str, spec: Any, seed: int) -> Model:
    """A model for data of `spec`, its initial weights drawn from `seed` alone, the same for every norm."""
    torch.manual_seed(seed)
    module = importlib.import_module(f"{__name__}.{config.name}")
    model: Model = module.build(config, norm, spec)
    return model


def metrics(name: str, *, longer: bool = False) -> tuple[str, ...]:
    """What the model `name` measures on each split; `longer`: on one of sequences longer than those trained on."""
    module = importlib.import_module(f"{__name__}.{name}")
    measured: tuple[str, ...] = module.METRICS + (getattr(module, "METRICS_BEYOND", ()) if longer else ())
    return measured


class ModelError(ValueError):
    """A model that cannot be built for the data it was given; one line with the remedy."""


def require(config: Options, spec: Any, *kinds: str) -> None:
    """Refuse data that a model cannot read."""
    if spec.kind not in kinds:
        raise ModelError(f"model={config.name} reads data of kind {' or '.join(kinds)}; this data is {spec.kind}")
