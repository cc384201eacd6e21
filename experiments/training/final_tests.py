"""The test metrics of a trained model; of one with batch norm also with other statistics than its running averages.

    test_<metric>                 as the model is used: with running averages
    test_reestimated_<metric>     averages taken anew, with the final weights, over training mini-batches
    test_batch_<metric>           each test mini-batch, of the size trained with, by its own statistics; over a quarter
                                  of the cases, for small mini-batches take long
    test_batch_<metric>_increase  that minus the metric of the same cases with averages taken anew

So a loss that comes from noisy training is told apart from one that comes from bad averages. A model without batch
statistics knows one way only: its three values are the same.
"""

from collections.abc import Iterator

import torch

from experiments.training.train import Data, Row, evaluate, prefixed
from models.batch_norms import BatchNorm
from models.model import Batch, Model, State

REESTIMATED_CASES = 2560  # over which averages are taken anew, in mini-batches of the size trained with
# Mini-batches of so few cases go through a model together, so many cases at once.
FEW, CASES_AT_ONCE = 4, 128


def test_metrics(model: Model, source: Data, batch_size: int) -> Row:
    """The metrics of each test split and, as `<split>_<metric>_increase`, by how much a variant exceeds `test`."""
    plain = evaluate(model, source, "test")
    final = prefixed("test", plain)
    for split in source.test_splits[1:]:
        variant = evaluate(model, source, split)
        final |= prefixed(split, variant)
        final |= {f"{split}_{name}_increase": variant[name] - value for name, value in plain.items()}
    return final | other_statistics(model, source, batch_size, plain)


def other_statistics(model: Model, source: Data, batch_size: int, plain: Row) -> Row:
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if norms and batch_size == 1:
        return {}  # a single value has no statistics
    anew, own, anew_of_same = plain, plain, plain
    if norms:
        reestimate(model, norms, source, batch_size)
        anew = evaluate(model, source, "test")
        own, anew_of_same = own_and_given(model, norms, source, batch_size)
    increase = {f"test_batch_{name}_increase": own[name] - value for name, value in anew_of_same.items()}
    return prefixed("test_reestimated", anew) | prefixed("test_batch", own) | increase


@torch.no_grad()
def reestimate(model: Model, norms: list[BatchNorm], source: Data, batch_size: int) -> None:
    """Replace all running averages by plain means over training mini-batches, all with the present weights."""
    for norm in norms:
        norm.updates.zero_()
        norm.momentum = 0.0
    model.train()
    at_once = max(CASES_AT_ONCE // batch_size, 1) if as_ghosts(norms, batch_size) else 1
    state: State = None
    for call in range(max(REESTIMATED_CASES // (batch_size * at_once), 1)):
        batches = [source.train_batch(call * at_once + k) for k in range(at_once)]
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        _, state = model.loss((x, y), state)


def as_ghosts(norms: list[BatchNorm], batch_size: int) -> bool:
    """Let small mini-batches go through the model together, each normalised by itself; False if its norms cannot.

    With the weights fixed that is the same, and several times faster: one of two cases is all overhead.
    """
    if batch_size > FEW or any(type(norm) is not BatchNorm for norm in norms):
        return False
    for norm in norms:
        norm.ghost_size = norm.ghost_size or batch_size
    return True


def own_and_given(model: Model, norms: list[BatchNorm], source: Data, batch_size: int) -> tuple[Row, Row]:
    """Test metrics of mini-batches of the size trained with, each normalised by itself, and by the model's averages.

    Every so many rows of the evaluation batches are read to their end, as a text goes on from batch to batch; of all
    rows the first quarter, but at least one mini-batch.
    """
    batches = list(source.batches("test"))
    carries, rows = source.carries_state("test"), len(batches[0][1])
    starts = range(0, max(rows // 4, batch_size), batch_size)
    same_rows = Rows(batches, carries, 0, len(starts) * batch_size)
    given = evaluate(model, same_rows, "test")  # before what follows moves the averages
    parts = [Rows(batches, carries, start, batch_size) for start in starts]
    if same_rows.consists_of(batch_size) and as_ghosts(norms, batch_size):
        parts = [same_rows]
    found = [(part.count(), evaluate(model, part, "test", training=True)) for part in parts]
    total = sum(count for count, _ in found)
    return {name: sum(count * row[name] for count, row in found) / total for name in given}, given


class Rows:
    """So many rows of every test batch; fewer at an end, but never a single one, which has no statistics."""

    def __init__(self, batches: list[Batch], carries: bool, start: int, size: int) -> None:
        rows = slice(start, start + size)
        parts = [(x[rows], y[rows]) for x, y in batches]
        self.parts, self.carries = [part for part in parts if len(part[0]) > 1], carries

    def carries_state(self, split: str) -> bool:
        return self.carries

    def batches(self, split: str) -> Iterator[Batch]:
        yield from self.parts

    def consists_of(self, size: int) -> bool:
        """Whether each batch is a number of whole mini-batches."""
        return not any(len(part[0]) % size for part in self.parts)

    def count(self) -> int:
        return sum(y.numel() for _, y in self.parts)
