"""Models: `models/<name>.py` is `model=<name>`, with `build` and `METRICS`; its options are in options.py.

PyTorch is imported with the first model that is built: whoever only asks for options does without.
"""

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol

if sys.argv[:1] == ["-m"]:  # of `python -m models.kernels`: until it listens, Ctrl-C ends it without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from models.options import MODELS

if TYPE_CHECKING:
    from models.model import Model


class Options(Protocol):
    """A model's configuration: a dataclass of options.py, with a `name`."""

    name: str


class ModelError(ValueError):
    """A model that cannot be built for the data it was given; one line with the remedy."""


class KernelError(RuntimeError):
    """A layer that has no native kernel, where one was demanded; one line with the reason."""


def available() -> dict[str, type]:
    """Name and options of every model."""
    return dict(MODELS)


def build(config: Options, norm: str, spec: Any, seed: int) -> "Model":
    """A model for data of `spec`, its initial weights drawn from `seed` alone, the same for every norm."""
    import torch

    torch.manual_seed(seed)
    module = importlib.import_module(f"{__name__}.{config.name}")
    model: Model = module.build(config, norm, spec)
    return model


def metrics(config: Options, *, longer: bool = False) -> tuple[str, ...]:
    """What a model measures on each split; `longer`: on one of sequences longer than those trained on."""
    module = importlib.import_module(f"{__name__}.{config.name}")
    measured: tuple[str, ...] = module.METRICS + (getattr(module, "METRICS_BEYOND", ()) if longer else ())
    return (*measured, "state_norm") if getattr(config, "state_norm", False) else measured


def require(config: Options, spec: Any, *kinds: str) -> None:
    """Refuse data that a model cannot read."""
    if spec.kind not in kinds:
        raise ModelError(f"model={config.name} reads data of kind {' or '.join(kinds)}; this data is {spec.kind}")
