"""Weight norm, which normalises weights instead of summed inputs."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .case_norms import Unnormalized


class WeightNorm(Unnormalized):
    """`norm=weight`: W = g V / |V| (Salimans and Kingma 2016); sums are left alone but for the shift."""

    name = "weight"
    table_1 = (1, 0, 1, 0, 0, 0)

    @staticmethod
    def reparametrize(module: nn.Module, *weights: str, dim: int) -> None:
        for name in weights:
            parametrize.register_parametrization(module, name, LengthTimesDirection(dim))


class LengthTimesDirection(nn.Module):
    """W = V * (g / |V|). As g starts at |V|, that factor starts at exactly 1: W is V bit for bit, in V's memory layout.

    PyTorch's own parametrisation computes |V| in two ways, and starts an ulp away.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, V: Tensor) -> Tensor:
        return V * (g / self.lengths(V))

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        return self.lengths(W), W

    def lengths(self, V: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(V, dim=[d for d in range(V.dim()) if d != self.dim], keepdim=True)
        return lengths
