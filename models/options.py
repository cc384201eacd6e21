"""What models and norms can be asked for: every option, typed once. Without PyTorch, which takes a second to import.

`model=<name>` is the dataclass with this name in MODELS; `models/<name>.py` builds it. What an option needs to change
anything its metadata say (experiments/training/checks.py): most of those about norms need certain ones. So do they say
when it is `recorded`: later options only where they are "changed" from their default, so that the ids of older runs
stay as they are.
"""

from dataclasses import Field, dataclass, field, fields
from typing import Any

NORMS = ("none", "layer", "rms", "group", "instance", "batch", "renorm", "sync_batch", "weight")  # of models/norms.py
NORMALIZING = tuple(norm for norm in NORMS if norm != "none")
OF_A_BATCH = ("batch", "renorm", "sync_batch")  # whose statistics cases share
SCALING = ("layer", "rms", "group", *OF_A_BATCH)  # with gains that start at a constant, in recurrent nets too
# Which units of a convolutional layer share layer norm's statistics and which share a gain:
# all of (C, H, W) with a gain per channel; all of (C, H, W) with a gain per unit; the C units of one pixel.
LAYER_AXES = ("channel", "unit", "pixel")
# Which of layer norm's statistics the backward pass takes for constants (Xu et al. 2019).
DETACH = ("none", "mean", "std", "both")
# Forms of the LSTM with layer norm found in papers and public code (models/lstm_variants.py).
VARIANTS = ("paper", "inner_bias", "carried", "per_gate", "per_gate_carried", "cell_only", "no_cell")
RECURRENT_INITS = ("uniform", "orthogonal")  # of the recurrent weights
KERNELS = ("auto", "native", "reference")  # implementations of recurrent layers and of an MLP's updates


@dataclass
class NormConfig:
    """Options that single norms have of their own, in every model: keywords of the norm's class.

    They are recorded with their norm alone, so that a new one leaves the ids of all other runs as they are. Two are
    older than this rule.
    """

    # statistics that pass no gradient back
    detach: str = field(
        default="none", metadata={"choices": DETACH, "needs": {"norm": ("layer",)}, "recorded": "always"}
    )
    # into so many the units of a layer, or its channels, are divided
    groups: int = field(default=4, metadata={"needs": {"norm": ("group",)}, "recorded": "always"})
    # batch renormalisation: the limit of its correction of the scale (Ioffe 2017)
    r_max: float = field(default=3.0, metadata={"minimum": 1, "needs": {"norm": ("renorm",)}})
    # that of its correction of the mean
    d_max: float = field(default=5.0, metadata={"needs": {"norm": ("renorm",)}})
    # the updates over which these limits grow
    renorm_warmup: int = field(default=300, metadata={"minimum": 0, "needs": {"norm": ("renorm",)}})


@dataclass
class FeedforwardNormConfig(NormConfig):
    # so many cases of a mini-batch share statistics, as on one of several devices; 0: all of them
    ghost_size: int = field(default=0, metadata={"minimum": 0, "needs": {"norm": ("batch",)}})
    # normalise by the unbiased estimate of the variance, as section 6.6 does at batch 4
    unbiased: bool = field(default=False, metadata={"needs": {"norm": ("batch",)}, "recorded": "changed"})


@dataclass
class MLPConfig(FeedforwardNormConfig):
    name: str = "mlp"
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 256])  # units of each hidden layer
    # which summed inputs are normalised: the hidden layers', or all including the logits (section 6.6 does so for
    # batch norm: "batch normalization is applied to all layers").
    normalize: str = field(default="hidden", metadata={"choices": ("hidden", "all"), "needs": {"norm": NORMALIZING}})


@dataclass
class CNNConfig(FeedforwardNormConfig):
    name: str = "cnn"
    depth: int = field(default=8, metadata={"maximum": 1000})  # convolutions, 3x3
    width: int = 16  # channels of the first half; the second half has twice as many
    # what reads the last maps: all their units, or global average pooling.
    head: str = field(default="gap", metadata={"choices": ("flatten", "gap")})
    hidden_size: int = field(default=0, metadata={"minimum": 0})  # units of a normalised fully connected layer; 0: none
    # what lies beyond the border of a map: zeros, or its opposite side.
    padding: str = field(default="zeros", metadata={"choices": ("zeros", "circular")})
    # layer norm's statistics and gains: of a whole map a channel, of it a unit, of the channels of a pixel
    layer_axes: str = field(default="channel", metadata={"choices": LAYER_AXES, "needs": {"norm": ("layer",)}})
    # shortcuts around pairs of convolutions (He et al. 2016)
    residual: bool = field(default=False, metadata={"recorded": "changed"})


@dataclass
class RecurrentConfig(NormConfig):
    """What all models with recurrent layers have in common."""

    cell: str = field(default="lstm", metadata={"choices": ("tanh", "lstm", "gru")})  # of the recurrent layers
    hidden_size: int = 64  # units of a layer
    layers: int = field(default=1, metadata={"maximum": 1000})  # one above the other
    # forms of the layer normalised LSTM in papers and public code (models/lstm_variants.py)
    variant: str = field(
        default="paper", metadata={"choices": VARIANTS, "needs": {"norm": ("layer",), "model.cell": ("lstm",)}}
    )
    # initial gain of the norms; null: 1, for batch norm 0.1
    gain: float | None = field(default=None, metadata={"needs": {"norm": SCALING}})
    # running averages for each time step, or one for all of them
    statistics: str = field(
        default="per_step",
        metadata={"choices": ("per_step", "pooled"), "needs": {"norm": OF_A_BATCH}},
    )
    recurrent_scale: float = 1.0  # multiplies the initial recurrent weights
    # how those start: as PyTorch's, or each gate's an orthogonal matrix of its own (Saxe et al. 2014).
    recurrent_init: str = field(default="uniform", metadata={"choices": RECURRENT_INITS, "recorded": "changed"})
    # multiplies the initial weights of the inputs; sqrt(hidden_size) makes those of one-hot inputs lie in [-1, 1]
    input_scale: float = field(default=1.0, metadata={"recorded": "changed"})
    # is added to the shift the forget gate starts at (Jozefowicz et al. 2015 recommend 1)
    forget_bias: float = field(default=0.0, metadata={"needs": {"model.cell": ("lstm",)}, "recorded": "changed"})
    initial_state_std: float = 0.0  # noise on h_0 in training, the same for every norm (Cooijmans et al. use 0.1)
    # measure, beside the loss, how long the last state is: `state_norm`
    state_norm: bool = field(default=False, metadata={"recorded": "changed"})


@dataclass
class LanguageModelConfig(RecurrentConfig):
    name: str = "language_model"
    embedding_size: int = field(default=0, metadata={"minimum": 0})  # 0: one-hot characters


@dataclass
class SequenceClassifierConfig(RecurrentConfig):
    name: str = "sequence_classifier"


@dataclass
class ReaderConfig(RecurrentConfig):
    name: str = "reader"
    embedding_size: int = 64  # of a word's vector
    # which summed inputs are normalised: the recurrent layers', as in section 6.2, or also those of the attention and
    # of what is made of it ("BN-everywhere" of Cooijmans et al. 2016).
    normalize: str = field(
        default="recurrent", metadata={"choices": ("recurrent", "all"), "needs": {"norm": NORMALIZING}}
    )


@dataclass
class OrderEmbeddingsConfig(RecurrentConfig):
    name: str = "order_embeddings"
    embedding_size: int = 64  # of a word's vector
    # what reads a text: the recurrent net, or none, and its words' vectors are averaged.
    encoder: str = field(default="rnn", metadata={"choices": ("rnn", "mean")})


@dataclass
class DRAWConfig(NormConfig):
    name: str = "draw"
    glimpses: int = field(default=8, metadata={"maximum": 1000})  # in which an image is painted
    hidden_size: int = 128  # of the encoder, and of the decoder
    latent_size: int = 20  # latent variables of each glimpse
    # whether a glimpse reads and writes patches, chosen by the decoder, or the whole image
    attention: bool = False
    # pixels along each side of the patches that are read
    read_size: int = field(default=2, metadata={"maximum": 28, "needs": {"model.attention": (True,)}})
    # and of those that are written
    write_size: int = field(default=5, metadata={"maximum": 28, "needs": {"model.attention": (True,)}})
    # forms of the layer normalised LSTM (models/lstm_variants.py)
    variant: str = field(default="paper", metadata={"choices": VARIANTS, "needs": {"norm": ("layer",)}})
    # initial gain of the norms; null: 1, for batch norm 0.1
    gain: float | None = field(default=None, metadata={"needs": {"norm": SCALING}})


@dataclass
class StrokeModelConfig(RecurrentConfig):
    name: str = "stroke_model"
    layers: int = field(default=3, metadata={"maximum": 1000})  # each sees the input, and the output all layers
    mixtures: int = 20  # Gaussians of the density of a step


NODES = (
    CNNConfig,
    DRAWConfig,
    LanguageModelConfig,
    MLPConfig,
    OrderEmbeddingsConfig,
    ReaderConfig,
    SequenceClassifierConfig,
    StrokeModelConfig,
)
MODELS = {node.name: node for node in NODES}


def norms_with(option: Field[Any]) -> tuple[str, ...]:
    """The norms with which an option of a model changes something; empty if it is not about norms."""
    norms: tuple[str, ...] = option.metadata.get("needs", {}).get("norm", ())
    return norms


def own_options(norm: str) -> list[str]:
    return [option.name for option in fields(NormConfig) if norm in norms_with(option)]


def unrecorded(norm: str) -> set[str]:
    """The options of a model that are other norms' own, and so no part of what a run with this norm is."""
    later = {option.name for option in fields(NormConfig) if option.metadata.get("recorded") != "always"}
    return later - set(own_options(norm))
