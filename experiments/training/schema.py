"""The configuration of a run: typed once, here for what all runs share, beside their code for models and data sets."""

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from experiments.records.files import SCIENTIFIC, SuiteError
from experiments.training import probes
from models.options import KERNELS, NORMS, unrecorded

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ANY_SEED = {"minimum": 0, "maximum": 2**63 - 1}


class ConfigError(SuiteError):
    """A configuration that cannot be run: the key, its value and what would be valid."""


@dataclass
class Optim:
    name: str = field(default="adam", metadata={"choices": ("adam", "sgd")})  # the optimiser
    learning_rate: float | None = None  # null: the best of tuning.learning_rates on the tuning seeds
    # of SGD
    momentum: float = field(default=0.9, metadata={"maximum": 1.0, "needs": {"optim.name": ("sgd",)}})
    # how the learning rate decays to 0, or that it does not
    schedule: str = field(default="linear", metadata={"choices": ("linear", "cosine", "constant")})
    clip_norm: float = 0.0  # largest gradient norm; 0: no clipping


@dataclass
class Tuning:
    """How each arm gets its learning rate: the same grid and the same seeds, none of which is ever reported."""

    # the rates to choose from, spaced by 3; the best must not be the first or last
    learning_rates: list[float] = field(default_factory=list, metadata={"distinct": True})
    # the middle rates are tried on these first
    seeds: list[int] = field(
        default_factory=lambda: [1000, 1001], metadata={**ANY_SEED, "distinct": True, "empty": False}
    )
    # on these the two best rates are looked at again; empty: not
    further_seeds: list[int] = field(
        default_factory=lambda: [1002, 1003, 1004], metadata={**ANY_SEED, "distinct": True}
    )

    @property
    def every_seed(self) -> list[int]:
        return [*self.seeds, *self.further_seeds]


@dataclass
class Config:
    # what is measured: a training run, or one of the exact properties and probes of probes/
    method: str = field(default="train", metadata={"choices": ("train", *probes.NAMES)})
    norm: str = field(default="layer", metadata={"choices": NORMS})  # what normalises the summed inputs
    seed: int = field(default=0, metadata=ANY_SEED)  # of the initial weights and the order of the data
    batch_size: int = 32  # cases, or sequences, of a mini-batch
    ranks: int = 1  # processes that share each mini-batch
    updates: int = 300  # optimiser steps
    # above 0: the number of training cases, which then, divided by the batch size, gives the updates.
    training_cases: int = field(default=0, metadata={"minimum": 0})
    evaluations: int = 10  # on the validation set, evenly spaced
    model: Any = MISSING
    data: Any = MISSING
    optim: Optim = field(default_factory=Optim)
    # The rest names no science of a single run and is not part of its identity.
    experiment: str = ""
    scale: str = ""
    arm: str = ""  # the name of the arm this is or, with what differs, comes from: sweeps/compose.py finds it
    arms: dict[str, Any] = field(default_factory=dict)  # arm -> the values that make it: {norm: layer, model: {...}}
    # scale -> the values there; the command line wins over them. A scale that is not named is as the laptop's.
    sizes: dict[str, Any] = field(default_factory=dict)
    deviations: str = ""  # from the paper, for the claims on the experiment
    tuning: Tuning = field(default_factory=Tuning)
    seeds: int = 12  # evaluation seeds of `layernorm reproduce`, from the first one on
    # above 0, a replication: its evaluation begins there, and its tuning seeds lie as much higher
    first_seed: int = field(default=0, metadata={"minimum": 0})
    results: str = field(default="results", metadata={"empty": False})  # folder of the records
    rerun_changed: bool = False  # make runs anew whose record was made by other code than this
    resume: str = ""  # the id of a run that was started below `results`: that run goes on, whatever else is given
    # whether runs are mirrored to wandb, offline unless WANDB_MODE=online
    tracking: str = field(default="wandb", metadata={"choices": ("wandb", "none")})
    # auto: a GPU where there is one
    device: str = field(default="cpu", metadata={"choices": ("cpu", "cuda", "auto")})
    # of each process; several processes of one thread beat one of several on small nets.
    threads: int = field(default=1, metadata={"maximum": 1024})
    n_jobs: int = field(default=0, metadata={"minimum": 0})  # runs of a sweep at a time; 0: one for each core
    # recurrent layers, updates of MLPs and CNNs: compiled kernels where they apply, only those, or the reference.
    kernel: str = field(default="auto", metadata={"choices": KERNELS})
    checkpoint_seconds: float = 20.0  # between two checkpoints, from which a run that was stopped goes on
    # a look at how a single run trains, without a record: one mini-batch again and again, the whole path once in a few
    # updates, or where the first value arises that is not finite
    debug: str = field(default="", metadata={"choices": ("overfit", "fast", "nan")})

    @property
    def evaluation_seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)


def default(spec: dataclasses.Field[Any]) -> Any:
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()


def replicated(config: Config) -> Tuning:
    """The tuning of a study whose first seed is not 0, moved along, so that it shares no run with the original.

    Raises ConfigError where a seed would serve twice: in both studies, or to tune and to evaluate.
    """
    first, tuning = config.first_seed, config.tuning
    if not first:
        return tuning
    tuned, moved = tuning.every_seed, [seed + first for seed in tuning.every_seed]
    twice = [seed for seed in (*tuned, *moved) if seed in config.evaluation_seeds]
    twice += [seed for seed in (first, *moved) if seed < config.seeds or seed in tuned]
    if twice:
        use = f"also serves to tune, or is one of the {config.seeds} from 0 on"
        raise ConfigError(f"first_seed={first}: seed {min(twice)} {use}; choose another first_seed")
    return dataclasses.replace(tuning, seeds=moved[: len(tuning.seeds)], further_seeds=moved[len(tuning.seeds) :])


def updates_of(config: Config) -> int:
    return max(config.training_cases // config.batch_size, 1) if config.training_cases else config.updates


def scientific(config: Config) -> dict[str, Any]:
    """The configuration as plain data, as it is recorded: `ranks` where there are several, no other norms' options,
    and later ones where they are set.
    """
    keys = ("experiment", *SCIENTIFIC, *(("ranks",) if config.ranks > 1 else ()))
    found = {key: plain(getattr(config, key)) for key in keys}
    for option in unrecorded(config.norm):
        found["model"].pop(option, None)
    for part in ("model", "data"):
        for option, unset in later(getattr(config, part).__class__).items():
            if found[part][option] == unset:
                del found[part][option]
    return found


@cache
def later(node: type["DataclassInstance"]) -> dict[str, Any]:
    """The options that came after runs had been made without them, with their defaults, which change none of those.

    Their metadata say `recorded: changed`.
    """
    return {spec.name: default(spec) for spec in dataclasses.fields(node) if spec.metadata.get("recorded") == "changed"}


def plain(value: object) -> Any:
    """A value, or options as plain data: `dataclasses.asdict` of such as hold numbers, texts and lists of them."""
    if not dataclasses.is_dataclass(value):
        return value
    return {key: list(item) if isinstance(item, list) else item for key, item in vars(value).items()}


def at(config: Config, seed: int, learning_rate: float | None) -> Config:
    """The same run with another seed and learning rate."""
    optim = dataclasses.replace(config.optim, learning_rate=learning_rate)
    return dataclasses.replace(config, seed=seed, optim=optim)


CONFIGS = Path(__file__).resolve().parents[2] / "configs"
