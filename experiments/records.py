"""Run records on disk: identity, atomic writes, reading. No torch, hydra or wandb here.

    <results>/runs/<experiment>/<norm>-s<seed>-<hash>/
        metrics.jsonl     one line an evaluation, flushed as the run goes
        checkpoint.pt     only while the run is unfinished
        error.txt         only after a failure: its traceback
        result.json       the record, written last and by rename: a run is done when this file exists

The hash covers the run's whole scientific configuration (`identity`), never paths, devices, tracking or workers. So
running is idempotent: the same configuration finds its own record.
"""

import hashlib
import json
import os
import tempfile
from math import isfinite
from pathlib import Path
from typing import Any

# A change of the code that changes what a run measures must raise this number: old records are then not found.
VERSION = 3

SCIENTIFIC = ("method", "norm", "seed", "batch_size", "updates", "evaluations", "model", "data", "optim")


class SuiteError(RuntimeError):
    """Something a user can mend, told in one line: what is wrong, where, and the remedy."""


class RecordError(SuiteError):
    """Records that cannot be written."""


def identity(config: dict[str, Any]) -> str:
    """Ten hexadecimal digits of the SHA-256 of a run's scientific configuration."""
    shared = ("ranks",) if "ranks" in config else ()  # a run in one process has no such key
    scientific = {key: config[key] for key in (*SCIENTIFIC, *shared)} | {"version": VERSION}
    # Of the user's own file the digest counts, not where it lies.
    scientific["data"] = {key: value for key, value in config["data"].items() if key != "path"}
    return hashlib.sha256(json.dumps(scientific, sort_keys=True).encode()).hexdigest()[:10]


def run_id(config: dict[str, Any]) -> str:
    return f"{config['norm']}-s{config['seed']}-{identity(config)}"


def run_folder(results: str | Path, config: dict[str, Any]) -> Path:
    return Path(results) / "runs" / str(config["experiment"]) / run_id(config)


def finite(value: Any) -> Any:
    """JSON knows no infinity and no NaN: they become null, here and in everything the value contains."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(unwritable(path.parent, error)) from error


def unwritable(folder: Path, error: OSError) -> str:
    return f"cannot write to {folder} ({error.strerror}); make room or choose another folder with results=<folder>"


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(unwritable(folder, error)) from error


def check_writable(results: str | Path) -> None:
    """Find out before the first run, not after it."""
    probe = Path(results) / "runs" / ".writable"
    write(probe, "")
    probe.unlink(missing_ok=True)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    write(folder / "result.json", json.dumps(finite(record), indent=1) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished run; None where there is none, or only a damaged one (which is then run again)."""
    try:
        record: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return record if record["record_version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
