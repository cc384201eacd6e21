"""One run, from a configuration to its record."""

import dataclasses
import sys
import time
from typing import Any

import torch

import data
from experiments.records import files
from experiments.records.folder import RESULT
from experiments.training import machine, probes
from experiments.training.identity import Run
from experiments.training.machine import pick_device
from experiments.training.processor import processor
from experiments.training.schema import Config
from experiments.training.training_run import Observer, train_model
from models import kernels


def run(config: Config, observe: Observer = lambda history: None) -> dict[str, Any]:
    """The record of a run: read where it is done, else trained, going on from its checkpoint if it has one.

    Raises Busy where another process is at it.
    """
    return perform(Run(config), observe)


def perform(wanted: Run, observe: Observer = lambda history: None) -> dict[str, Any]:
    """As `run`, of one that has its folder."""
    if (done := wanted.record()) is not None:
        return done
    with wanted.folder.hold():
        return wanted.record() or run_alone(wanted, observe)  # it may be done by now, by whoever held the lock before


def run_alone(wanted: Run, observe: Observer = lambda history: None) -> dict[str, Any]:
    """Train, by a process that holds the run's lock."""
    folder = wanted.folder
    if folder.stamp(RESULT) and folder.record() is None:
        print(f"{folder.path / RESULT}: damaged or another run's, the run is done again", file=sys.stderr)
    folder.begin({**wanted.described(), "options": dataclasses.asdict(wanted.config)})
    try:
        record = measure(wanted, observe)
    finally:
        torch.set_flush_denormal(False)  # it was for the run alone
    folder.finish(record)
    finite: dict[str, Any] = files.finite(record)
    return finite


def measure(wanted: Run, observe: Observer) -> dict[str, Any]:
    """Train, or measure what the configuration's probe does; the record."""
    config = wanted.config
    prepared = machine.prepare(config.threads, config.batch_size // config.ranks, config.kernel)
    cpu, wall = time.process_time(), time.perf_counter()
    source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
    if config.method == "train":
        outcome = train_model(config, source, wanted.folder.path, wanted.owner, observe)
    else:
        probe = probes.load(config.method)
        found = probe.measure(config, source)
        drawn = {"histograms": found.pop("histograms")} if "histograms" in found else {}
        final, timing = ({}, found) if probe.times else (found, {})  # times are no results
        outcome = {"status": "completed", "history": [], "timing": timing, "final": final, **drawn}
    # Their share of each other is how much of a core the run had to itself.
    spent = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    timing = outcome["timing"]
    timing |= {name: timing.get(name, 0.0) + seconds for name, seconds in spent.items()}
    return {
        "record_version": files.VERSION,
        **wanted.described(),
        "synthetic": source.synthetic,
        "data_digest": source.digest,
        **({"alphabet": source.alphabet} if hasattr(source, "alphabet") else {}),
        **outcome,
        "environment": {
            **machine.environment(),
            **processor(),
            "device": device_of(config),
            **prepared,
            "kernel": kernel_used(),
        },
    }


def device_of(config: Config) -> str:
    return str(pick_device(config.device)) if config.method == "train" else "cpu"


def kernel_used() -> str | None:
    """What the recurrent layers of this run, or its updates, ran on; None where it had neither."""
    return " and ".join(sorted(kernels.used)) or None
