"""Data sets: one file each, selected by its name.

A data set is a module of this package with a dataclass `Config` (its options, `name` first), a function
`load(config, *, batch_size, seed) -> Data` and a function `test_splits(config)`; the file is the registry. It may
have a function `check(config)`, and `DOWNLOADS`: what `python -m data` can prepare. The other modules are what
data sets are built from: `cache` (verified files), `downloads` and `packages` (where they come from), `cases` (labelled
cases in memory), `streams` (text for truncated backpropagation).
"""

from __future__ import annotations

import logging
import pkgutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if sys.argv[:1] == ["-m"]:  # of `python -m data`: until it listens, Ctrl-C ends it without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if TYPE_CHECKING:  # PyTorch takes a second to import: it is, when data are loaded
    import torch
    from torch import Tensor

Batch: TypeAlias = "tuple[Tensor, Tensor]"


class DataError(Exception):
    """Data that cannot be had or used: one line that names what is wrong (file, value) and the remedy."""


@dataclass(frozen=True)
class Spec:
    """What a model must know of its data."""

    kind: str  # "image" | "sequence" | "text" | "cloze" | "strokes"
    input_shape: tuple[int, ...]  # of one case: (C, H, W) | (steps, features) | (steps,) | (2, steps) | (steps, 3)
    outputs: int  # number of classes, of symbols, or of what a stroke's step is made of
    # Whether sequences have lengths of their own: the last feature of a step is then 1 inside a case, 0 on padding.
    padded: bool = False
    symbols: int = 0  # of a cloze: how many its document and query are written in


class Data(Protocol):
    """Batches (x, y) of one data set: x float32 (B, *input_shape), or int64 ids (B, T) for text; y int64.

    Of strokes y is float32, of x's shape.
    """

    spec: Spec
    synthetic: bool
    digest: str  # SHA-256 of the bytes it was made from, as read in this very load; of drawn data, of what was drawn
    test_splits: list[str]  # "test", then its variants

    def train_batch(self, step: int) -> Batch:
        """The batch of update `step`, from 0: a pure function of (seed, step), so resuming needs no state."""

    def batches(self, split: str) -> Iterator[Batch]:
        """All of "validation" or of a test split, in a fixed order that no seed changes."""

    def carries_state(self, split: str) -> bool:
        """Whether each batch of the split continues, row by row, the sequences of the batch before it."""

    def to(self, device: torch.device | str) -> Data:
        """Move the data to `device`; returns the data set itself."""


def load(config: Any, *, batch_size: int, seed: int) -> Data:
    """The data set `config.name`, in training batches of `batch_size` in the order given by `seed`.

    Raises DataError if there is no such data set, if its options do not fit one another, or if it is neither cached
    nor to be had.
    """
    check(config)
    data: Data = _module(config).load(config, batch_size=batch_size, seed=seed)
    return data


def tell_of_downloads() -> None:
    """Let what is fetched, and from where, be said on stderr."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__name__).setLevel(logging.INFO)


def test_splits(config: Any) -> list[str]:
    """The names of the test splits that data of this configuration will have, known without loading it."""
    splits: list[str] = _module(config).test_splits(config)
    return splits


def check(config: Any) -> None:
    """Raise DataError if options of the data set do not fit one another or would have no effect."""
    if refuse := getattr(_module(config), "check", None):
        refuse(config)


def identified(config: Any) -> Any:
    """The configuration with whatever else identifies its data, such as the digest of the user's own file."""
    identify = getattr(_module(config), "identified", None)
    return identify(config) if identify else config


def available() -> dict[str, type]:
    """The `Config` dataclass of every data set, by name."""
    return {name: module.Config for name, module in modules().items()}


def _module(config: Any) -> ModuleType:
    data_sets = modules()
    if config.name not in data_sets:
        raise DataError(f"there is no data set {config.name!r}; choose one of: {', '.join(data_sets)}")
    return data_sets[config.name]


def modules() -> dict[str, ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")]
    modules = {name: import_module(f"{__name__}.{name}") for name in sorted(names)}
    return {name: module for name, module in modules.items() if hasattr(module, "Config")}
