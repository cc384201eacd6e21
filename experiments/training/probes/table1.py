"""The paper's Table 1: under which transformations of weights and data the output of a layer stays the same."""

import torch
from torch import Tensor

from data import Data
from experiments.training.probes.parts.layer import TINY, Layer, generic_layer
from experiments.training.schema import Config
from models import norms
from models.case_norms import EPS

TRANSFORMATIONS = (
    "matrix_rescaling",
    "matrix_recentring",
    "vector_rescaling",
    "data_rescaling",
    "data_recentring",
    "case_rescaling",
)
# Where the output is invariant, in the order of TRANSFORMATIONS; the paper has the rows of batch, weight and layer.
TABLE_1 = {name: norm.table_1 for name, norm in norms.NORMS.items() if norm.table_1}
NORMS = tuple(TABLE_1)
BUILDS_MODEL = False
FACTOR = 3.7  # of every re-scaling; a negative one would flip signs, which the table does not mean
METRICS = (
    *TRANSFORMATIONS,
    "largest_invariant_change",
    "smallest_other_change",
    "production_largest_invariant_change",
)


def measure(config: Config, data: Data) -> dict[str, float]:
    """How far each transformation of Table 1 moves the outputs of one tanh layer, in units of their spread.

    20 inputs, 12 units, 16 cases, drawn at random, float64, eps = 1e-12; batch norm by its mini-batch. The largest
    change in the row's invariant cells, the smallest in the others, and the former once more at the EPS of all models
    (`production_...`). Without invariant cells, or without others, these are 0.
    """
    row = changes(config.norm, config.seed, TINY)
    kept = invariant(config.norm, row)
    return {
        **row,
        "largest_invariant_change": max(kept.values(), default=0.0),
        "smallest_other_change": min((value for name, value in row.items() if name not in kept), default=0.0),
        "production_largest_invariant_change": max(
            invariant(config.norm, changes(config.norm, config.seed, EPS)).values(), default=0.0
        ),
    }


def invariant(norm: str, row: dict[str, float]) -> dict[str, float]:
    """The cells of a row that the table calls invariant."""
    return {name: row[name] for name, cell in zip(TRANSFORMATIONS, TABLE_1[norm], strict=True) if cell}


def changes(norm: str, seed: int, eps: float) -> dict[str, float]:
    """Largest change of any output under each transformation, in units of the outputs' standard deviation."""
    draw = torch.Generator().manual_seed(seed)
    layer = generic_layer(norm, 20, 12, draw, eps)
    W = layer.weights.detach().clone()
    X, row_direction, column_direction = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((16, 20), (20,), (20,))
    )
    first, every = 0, slice(None)
    moved = (
        outputs(layer, scaled(W, every), X),
        outputs(layer, W + row_direction, X),
        outputs(layer, scaled(W, first), X),
        outputs(layer, W, scaled(X, every)),
        outputs(layer, W, X + column_direction),
        outputs(layer, W, scaled(X, first)),
    )
    still = outputs(layer, W, X)
    distances = (float((y - still).abs().max() / still.std()) for y in moved)
    return dict(zip(TRANSFORMATIONS, distances, strict=True))


@torch.no_grad()
def outputs(layer: Layer, W: Tensor, X: Tensor) -> Tensor:
    """tanh of the layer with the weights W: X (N, inputs) -> (N, units)."""
    return torch.tanh(layer.with_weights(W)(X))


def scaled(matrix: Tensor, rows: int | slice) -> Tensor:
    out = matrix.clone()
    out[rows] *= FACTOR
    return out
