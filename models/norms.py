"""Normalisation of summed inputs: the one axis that every model of the suite shares.

A norm turns summed inputs `a` into what the non-linearity sees. Ba, Kiros and Hinton (2016), equations 2-4:

    none        a + b                         no statistics; the shift is the layer's ordinary bias
    batch       g * (a - mu) / sigma + b      mu, sigma of each unit over the cases of the mini-batch
    renorm      g * (a - mu) / sigma + b      as batch, corrected towards running averages (batch_renorm.py)
    sync_batch  g * (a - mu) / sigma + b      of each unit over the mini-batches of all processes that train the model
    layer       g * (a - mu) / sigma + b      mu, sigma of each case over the units of the layer
    rms         g * a / root mean square + b  of each case over the units of the layer
    group       g * (a - mu) / sigma + b      of each case over each group of units or channels
    instance    g * (a - mu) / sigma + b      of each case and channel over its positions
    weight      a + b, with W = g V / |V|     no statistics of a; each unit's weights have the length g

so the shift always belongs to the norm and a layer's linear part has none: a bias inside the normalised sum would
be cancelled (batch) or break the invariances of the paper's Table 1 (layer). sigma^2 is the biased variance, and one
EPS inside the square root serves all norms. Gains and shifts are constants at the start and draw no random numbers,
so that one seed gives every norm the same initial weights; weight norm's gain starts at |V|, which leaves W as drawn.
"""

from torch import nn

from . import batch_norms, batch_renorm, case_norms, sync_batch_norm, weight_norm
from .case_norms import Norm
from .options import FeedforwardNormConfig, NormConfig

NORMS: dict[str, type[Norm]] = {
    norm.name: norm
    for module in (case_norms, batch_norms, batch_renorm, sync_batch_norm, weight_norm)
    for norm in vars(module).values()
    if isinstance(norm, type) and issubclass(norm, Norm) and "name" in vars(norm)
}


def feedforward(
    norm: str,
    features: int,
    config: FeedforwardNormConfig | None = None,
    *,
    axes: str = "channel",
    map_size: tuple[int, int] | None = None,
) -> Norm:
    """The norm of a feed-forward layer: (N, features), or (N, features, H, W) of a convolution, map_size=(H, W)."""
    return NORMS[norm].feedforward(features, config or FeedforwardNormConfig(), axes=axes, map_size=map_size)


def recurrent(
    norm: str,
    features: int,
    config: NormConfig | None = None,
    *,
    steps: int,
    gain: float | None = None,
    shift: bool = True,
) -> Norm:
    """The norm of one term of a recurrent layer; `steps`: time steps with statistics of their own (batch norm only).

    The gain starts at 1, for batch norm at 0.1.
    """
    return NORMS[norm].recurrent(features, config or NormConfig(), steps=steps, gain=gain, shift=shift)


def reparametrize(norm: str, module: nn.Module, *weights: str, dim: int = 0) -> None:
    """With `norm=weight`, W = g V / |V| for the named weights of a module (Salimans and Kingma 2016); else nothing.

    A unit's weights lie along all dimensions but `dim`.
    """
    NORMS[norm].reparametrize(module, *weights, dim=dim)


def undefined(model: nn.Module) -> bool:
    """Whether a norm had to normalise a single value by itself anywhere in `model` during training."""
    return any(bool(buffer) for name, buffer in model.named_buffers() if name.split(".")[-1] == "undefined")
