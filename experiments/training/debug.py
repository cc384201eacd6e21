"""Debug runs, `debug=fast|overfit|nan`: how a configuration trains. They are no results and leave no records.

    fast      a few updates, one evaluation, the test metrics: the whole path once
    overfit   the first mini-batch again and again, which a sound net memorises
    nan       where the first value that is not finite arises

Each takes the configuration as it is, its optimiser and schedule included. What goes wrong ends in a DebugError.
"""

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

import data
import models
from experiments.records import files
from experiments.training import machine, schema
from experiments.training.machine import check_kernel, pick_device
from experiments.training.measured import WAYS
from experiments.training.schema import Config, ConfigError
from experiments.training.train import Row, evaluate, train
from experiments.training.training_run import Observer, train_model
from models.model import Model, State
from models.options import OF_A_BATCH

Loss = Callable[[data.Batch, State], tuple[Tensor, State]]
FEW = 5  # updates of `fast`
MEMORISED = 0.01  # of the loss at the start: below that `overfit` has learned its mini-batch


class DebugError(files.SuiteError):
    """What a debug run found wrong with the training."""


@dataclass
class Feed:
    """A data set as the loop sees it, its batches replaced."""

    train_batch: Callable[[int], data.Batch]
    batches: Callable[[str], Iterable[data.Batch]]
    carries_state: Callable[[str], bool] = lambda split: False
    test_splits: list[str] = field(default_factory=list)


def debug(config: Config) -> None:
    """Do what `config.debug` asks for and print what it found."""
    if config.method != "train":
        raise ConfigError(f"debug={config.debug} with method={config.method}: only training runs can be debugged")
    if config.optim.learning_rate is None:
        if not config.tuning.learning_rates:
            raise ConfigError("optim.learning_rate=null: give a rate, or tuning.learning_rates a grid of rates")
        rates = sorted(config.tuning.learning_rates)
        config = schema.at(config, config.seed, rates[len(rates) // 2])
        print(f"optim.learning_rate={config.optim.learning_rate:g}, the middle of tuning.learning_rates")
    if config.debug == "nan":  # a compiled kernel has no modules to look into
        config = dataclasses.replace(config, kernel="reference")
    check_kernel(config)
    machine.prepare(config.threads, config.batch_size, config.kernel)
    PRESETS[config.debug](config, data.load(config.data, batch_size=config.batch_size, seed=config.seed))


def fast(config: Config, source: data.Data) -> None:
    few = dataclasses.replace(config, updates=min(FEW, config.updates), evaluations=1)
    with TemporaryDirectory() as folder:
        outcome = train_model(few, source, Path(folder), "", lambda history: None)
    end = outcome["history"][-1]
    print(f"{outcome['status']}, {1000 * end['seconds'] / end['update']:.2f} ms an update")
    same = WAYS[1:] if config.norm not in OF_A_BATCH else ()
    for name, value in outcome["final"].items():
        if not name.startswith(("mean_", *same)):
            print(f"{name} {value:.4g}")


def overfit(config: Config, source: data.Data) -> None:
    model = built(config, source)
    batch = source.train_batch(0)
    model.loss = partial(without_state, model.loss)  # type: ignore[method-assign]
    feed = Feed(lambda step: batch, lambda split: [batch])
    start = evaluate(model, feed, "train", training=True)["loss"]
    print(f"update 0  loss {start:.4g}")

    def show(history: list[Row]) -> None:
        for row in history[-1:]:
            print(f"update {row['update']}  loss {row['train_loss']:.4g}")

    train_on(feed, model, config, evaluations=min(10, config.updates), observe=show)
    end = evaluate(model, feed, "train", training=True)["loss"]
    share = f"{100 * end / start:.2g} % of its start"
    found = f"after {config.updates} updates on one mini-batch the loss is {end:.2g}, {share}"
    if not math.isfinite(end):
        raise DebugError(f"overfit: {found}; debug=nan finds where it broke")
    if end > MEMORISED * start:
        remedy = "try more updates or another learning rate"
        raise DebugError(f"overfit: {found}, not below {100 * MEMORISED:g} %; {remedy}")
    print(f"memorised: {found}")


def without_state(loss: Loss, batch: data.Batch, state: State) -> tuple[Tensor, None]:
    """The loss of a batch by itself: each update is to meet the same task, also in recurrent nets."""
    return loss(batch, None)[0], None


def nan(config: Config, source: data.Data) -> None:
    model = built(config, source)
    watch = Watch(model)

    def train_batch(step: int) -> data.Batch:
        watch.parameters()
        watch.update = step + 1
        return source.train_batch(step)

    def batches(split: str) -> Iterator[data.Batch]:
        watch.parameters()
        yield from source.batches(split)

    feed = Feed(train_batch, batches, source.carries_state)
    with warnings.catch_warnings(record=True) as told, torch.autograd.set_detect_anomaly(True):
        try:
            train_on(feed, model, config, evaluations=config.evaluations)
        except RuntimeError as error:
            if "returned nan" not in str(error):
                raise
            raise DebugError(f"update {watch.update}: in the backward pass {error}{place(told)}") from error
    print(f"every output, gradient and weight of {config.updates} updates is finite")


class Watch:
    """Raises DebugError at the first output, loss, gradient or weight of a model that is not finite."""

    def __init__(self, model: Model) -> None:
        self.model, self.update = model, 0
        for name, module in model.named_modules():
            module.register_forward_hook(partial(self.output, f"{name or 'the model'} ({type(module).__name__})"))
        for name, parameter in model.named_parameters():
            parameter.register_hook(partial(self.gradient, name))
        self.plain_loss, model.loss = model.loss, self.loss  # type: ignore[method-assign]

    def output(self, name: str, module: nn.Module, given: object, output: object) -> None:
        if not finite(output):
            when = f"update {self.update}" if module.training else f"evaluation after update {self.update}"
            if not finite(given):
                raise DebugError(f"{when}: input of {name} is not finite, the outputs of modules before it were")
            raise DebugError(f"{when}: output of {name} is not finite; its input was finite{largest(given)}")

    def loss(self, batch: data.Batch, state: State) -> tuple[Tensor, State]:
        found = self.plain_loss(batch, state)
        if not finite(found[0]):
            raise DebugError(f"update {self.update}: the loss is not finite, all outputs of modules were")
        return found

    def gradient(self, name: str, gradient: Tensor) -> None:
        if not finite(gradient):
            raise DebugError(f"update {self.update}: gradient of {name} is not finite, the loss and all outputs were")

    def parameters(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not finite(parameter):
                if not self.update:
                    raise DebugError(f"before update 1: {name} is not finite")
                cause = f"its gradient was finite{largest(parameter.grad)}; lower optim.learning_rate"
                raise DebugError(f"update {self.update}: the optimiser made {name} not finite; {cause}")


def finite(value: object) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in floating(value))


def floating(value: object) -> list[Tensor]:
    """The floating-point tensors in a value that may be nested."""
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in floating(item)]
    return [value] if isinstance(value, Tensor) and value.is_floating_point() else []


def largest(value: object) -> str:
    sizes = [float(tensor.detach().abs().max()) for tensor in floating(value) if tensor.numel()]
    return f", largest {max(sizes):.2g}" if sizes else ""


def place(told: list[warnings.WarningMessage]) -> str:
    """Where in the models the operation stands whose backward pass autograd's anomaly detection told of."""
    found = [line for message in told for line in re.findall(r'/(models/\S+)", line (\d+)', str(message.message))]
    return f" It belongs to {found[-1][0]}:{found[-1][1]}." if found else ""


def built(config: Config, source: data.Data) -> Model:
    device = pick_device(config.device)
    machine.check_memory(config.model, config.norm, source.spec)
    source.to(device)
    return models.build(config.model, config.norm, source.spec, config.seed).to(device)


def train_on(
    feed: Feed, model: Model, config: Config, evaluations: int, observe: Observer = lambda history: None
) -> None:
    train(model, feed, config.optim, updates=config.updates, evaluations=evaluations, observe=observe)


PRESETS = {"overfit": overfit, "fast": fast, "nan": nan}
