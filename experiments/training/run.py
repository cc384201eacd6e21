"""One run, from a configuration to its record."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import data
from experiments.records import files
from experiments.records.folder import CONFIG, RESULT, damaged, tidy, write_record
from experiments.records.locks import hold
from experiments.training import machine, schema
from experiments.training.identity import arm_of, folder_of, read, role_of
from experiments.training.machine import pick_device
from experiments.training.probes import PROBES
from experiments.training.schema import Config
from experiments.training.training_run import Observer, train_model
from models import kernels


def run(config: Config, observe: Observer = lambda history: None) -> dict[str, Any]:
    """The record of a run: read where it is done, else trained, going on from its checkpoint if it has one.

    Raises Busy where another process is at it.
    """
    if (done := read(config)) is not None:
        return done
    files.make_folder(folder_of(config))
    with hold(folder_of(config)):
        return read(config) or run_alone(config, observe)  # it may be done by now, by whoever held the lock before


def run_alone(config: Config, observe: Observer = lambda history: None) -> dict[str, Any]:
    """Train, by a process that holds the run's lock."""
    folder = folder_of(config)
    if damaged(folder):
        print(f"{folder / RESULT}: damaged, the run is done again", file=sys.stderr)
    started = {**described(config), "options": dataclasses.asdict(config)}
    files.write(folder / CONFIG, json.dumps(started, indent=1) + "\n")
    record = measure(config, folder, observe)
    write_record(folder, record)
    tidy(folder)
    finite: dict[str, Any] = files.finite(record)
    return finite


def measure(config: Config, folder: Path, observe: Observer) -> dict[str, Any]:
    """Train, or measure what the configuration's probe does; the record."""
    prepared = machine.prepare(config.threads, config.batch_size // config.ranks, config.kernel)
    started = time.perf_counter()
    source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
    if config.method == "train":
        outcome = train_model(config, source, folder, observe)
    else:
        found = PROBES[config.method](config, source)
        drawn = {"histograms": found.pop("histograms")} if "histograms" in found else {}
        final, timing = ({}, found) if config.method == "step_time" else (found, {})  # times are no results
        outcome = {"status": "completed", "history": [], "timing": timing, "final": final, **drawn}
    outcome["timing"]["wall_seconds"] = time.perf_counter() - started
    return {
        "record_version": files.VERSION,
        **described(config),
        "synthetic": source.synthetic,
        **outcome,
        "environment": {**machine.environment(), "device": device_of(config), **prepared, "kernel": kernel_used()},
    }


def described(config: Config) -> dict[str, Any]:
    """What a run is, known before it starts."""
    plain = schema.scientific(config)
    return {
        "run": files.run_id(plain),
        "experiment": config.experiment,
        "scale": config.scale,
        "role": role_of(config),
        "group": arm_of(config),
        "config": {key: value for key, value in plain.items() if key != "experiment"},
    }


def device_of(config: Config) -> str:
    return str(pick_device(config.device)) if config.method == "train" else "cpu"


def kernel_used() -> str | None:
    """What the recurrent layers of this run ran on; None where it had none."""
    return " and ".join(sorted(kernels.used)) or None
