"""What somebody may have meant by a name that does not exist."""

import difflib
from collections.abc import Iterable, Sequence

# What the field, and other libraries, call what has another name here.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "ln": ("layer",),
    "layernorm": ("layer",),
    "bn": ("batch",),
    "batchnorm": ("batch",),
    "syncbn": ("sync_batch",),
    "gn": ("group",),
    "in": ("instance",),
    "wn": ("weight",),
    "rmsnorm": ("rms",),
    "brn": ("renorm",),
    "null": ("none",),
    "identity": ("none",),
    "vanilla": ("none", "tanh"),
    "rnn": ("tanh", "language_model"),
    "lstm": ("lstm", "language_model"),
    "gru": ("gru", "language_model"),
    "lm": ("language_model",),
    "resnet": ("cnn",),
    "convnet": ("cnn",),
    "shakespeare": ("text",),
    "lr": ("learning_rate",),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "epochs": ("training_cases", "updates"),
    "steps": ("updates",),
    "iterations": ("updates",),
    "hidden": ("hidden_size", "hidden_sizes"),
    "hidden_dim": ("hidden_size", "hidden_sizes"),
    "units": ("hidden_size", "hidden_sizes"),
    "num_layers": ("layers", "depth"),
    "channels": ("width",),
    "bptt": ("sequence_length",),
    "seq_len": ("sequence_length",),
    "file": ("path",),
    "grad_clip": ("clip_norm",),
    "workers": ("n_jobs",),
    "output": ("results",),
    "gpu": ("cuda", "device"),
}


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Of the known names those that may be meant, at most three, the likeliest first: what it is called here, or what
    is spelt alike.
    """
    valid = sorted(known)
    called = SYNONYMS.get(name.lower().replace("-", "_"), ())
    return [word for word in called if word in valid] or difflib.get_close_matches(name, valid, n=3)


def nearest_key(key: str, known: Iterable[str]) -> list[str]:
    """The same of keys such as `optim.learning_rate`, of which one may have only the end right, or only that wrong."""
    by_end: dict[str, list[str]] = {}
    for valid in sorted(known):
        by_end.setdefault(valid.rpartition(".")[2], []).append(valid)
    end = key.rpartition(".")[2]
    words = [end] if end in by_end else nearest(end, {*by_end, *known})
    return list(dict.fromkeys(found for word in words for found in by_end.get(word, [word])))[:3]


def did_you_mean(names: Sequence[str]) -> str:
    """A question to stand in a message, and nothing where no name is near."""
    return f"did you mean {' or '.join(names)}? " if names else ""
