"""Models: `models/<name>.py` is `model=<name>`, with `build` and `METRICS`; its options are in options.py.

PyTorch is imported with the first model that is built: whoever only asks for options does without.

Installed, this folder is the package `layernorm_reproduced`, of which LSTM, GRU and RNN (layers.py) are public. So its
files import one another relatively.
"""

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any, Protocol

# Of `python -m models.kernels`, not of others' programs: until it listens, Ctrl-C ends it without a word.
if sys.argv[:1] == ["-m"] and __name__ == "models":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from .errors import KernelError as KernelError
from .errors import ModelError as ModelError

if TYPE_CHECKING:
    from .layers import GRU as GRU
    from .layers import LSTM as LSTM
    from .layers import RNN as RNN
    from .model import Model
else:

    def __getattr__(name):
        if name in ("LSTM", "GRU", "RNN"):
            return getattr(importlib.import_module(f"{__name__}.layers"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Options(Protocol):
    """A model's configuration: a dataclass of options.py, with a `name`."""

    name: str


def available() -> dict[str, type]:
    """Name and options of every model."""
    from .options import MODELS

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
