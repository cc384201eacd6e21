"""Loss curves that a change of the code may not change: every norm, a few updates, trained in double precision.

tests/golden/loss_curves.json holds them. In float32 they would hold on one kind of processor alone: another adds in
another order, and without AVX2 even draws initial weights that differ by an ulp; what is ill conditioned, such as group
norm of two units, makes 1e-3 of that. So initial weights are drawn, and models trained, in float64. Measured over
instruction sets (none, AVX2, AVX-512), threads, kernels and the modes of oneDNN and MKL the curves differ by 4e-15 at
most; an eps of 1e-6 in the place of 1e-5 moves them by more than 1e-6.

After a deliberate change: REGENERATE_GOLDEN=1 python -m pytest <this file>, then read the difference.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import data
import models
from data import mnist, text
from experiments.training.train import train
from models import cnn, language_model, mlp

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_curves.json"
SAME = 1e-10  # relative; far above the rounding of float64, far below what a change of the computation does
DIGITS = 12  # so many are kept: curves made anew on another machine are the same file
SINGLE = 1e-4  # relative; float32 strayed by 2e-6 at most
IMAGES = mnist.Config(source="synthetic", crop=20, validation_size=60)
TEXT = text.Config(corpus="synthetic", sequence_length=8, validation_size=1000)
# Groups of at least three values: of two, group norm is nearly a step function, which turns rounding into differences.
CURVES: dict[str, tuple[Any, Any]] = {
    "mlp": (mlp.Config(hidden_sizes=[16, 16]), IMAGES),
    "cnn": (cnn.Config(depth=4, width=4, head="flatten", hidden_size=8, groups=2), IMAGES),
    "cnn-pooled": (cnn.Config(depth=4, width=4, groups=2), IMAGES),
    "lstm": (language_model.Config(hidden_size=12), TEXT),
}
every_curve = pytest.mark.parametrize("name, norm", list(product(CURVES, models.norms.NORMS)))


@contextmanager
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def curve(name: str, norm: str, dtype: torch.dtype = torch.float64) -> list[float]:
    """Training and validation loss after each of six updates by gradient descent (Adam would amplify rounding).

    The initial weights are drawn in double precision, then rounded to `dtype`.
    """
    config, source = CURVES[name]
    loaded = data.load(source, batch_size=8, seed=0)

    def cast(batch: Any) -> Any:
        x, y = batch
        return x.to(dtype) if x.is_floating_point() else x, y

    in_precision: Any = SimpleNamespace(
        train_batch=lambda step: cast(loaded.train_batch(step)),
        batches=lambda split: map(cast, loaded.batches(split)),
        carries_state=loaded.carries_state,
    )
    optim = SimpleNamespace(name="sgd", learning_rate=0.1 if name == "lstm" else 0.005, momentum=0.9)
    optim.schedule, optim.clip_norm = "linear", 0.0
    with double_precision():
        model = models.build(config, norm, loaded.spec, 0).to(dtype)
        _, progress = train(model, in_precision, optim, updates=6, evaluations=6)
    return [row[key] for row in progress.history for key in ("train_loss", "validation_loss")]


def committed() -> dict[str, list[float]]:
    kept: dict[str, list[float]] = json.loads(GOLDEN.read_text())
    return kept


def test_every_norm_has_its_curves() -> None:
    if os.environ.get("REGENERATE_GOLDEN"):
        made = {f"{name}/{norm}": curve(name, norm) for name, norm in product(CURVES, models.norms.NORMS)}
        rounded = {key: [float(f"{loss:.{DIGITS}g}") for loss in losses] for key, losses in made.items()}
        GOLDEN.write_text(json.dumps(rounded, indent=0, sort_keys=True) + "\n")
    assert committed().keys() == {f"{name}/{norm}" for name, norm in product(CURVES, models.norms.NORMS)}


@every_curve
def test_loss_curves_are_those_committed(name: str, norm: str) -> None:
    assert curve(name, norm) == pytest.approx(committed()[f"{name}/{norm}"], rel=SAME)


@every_curve
def test_in_single_precision_they_are_the_same_to_its_rounding(name: str, norm: str) -> None:
    assert curve(name, norm, torch.float32) == pytest.approx(committed()[f"{name}/{norm}"], rel=SINGLE)
