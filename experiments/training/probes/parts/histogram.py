"""Distributions that probes record beside their metrics: to be looked at in dashboards, not judged."""

import torch
from torch import Tensor

BINS = 40
Histogram = tuple[list[int], list[float]]


def histogram(values: Tensor) -> Histogram:
    """How many values lie in each of 40 bins of one width, from the least to the greatest, and the bins' 41 edges.

    Values that are not finite, as of a net that diverged, are left out.
    """
    found = values.detach().cpu().double().flatten()
    counts, edges = torch.histogram(found[found.isfinite()], BINS)
    return [int(count) for count in counts], edges.tolist()
