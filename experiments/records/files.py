"""Identity of a run, and files that are written whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.records.printable import printable

# A change of the code that changes what a run measures must raise this number: old records are then not found.
VERSION = 4

SCIENTIFIC = ("method", "norm", "seed", "batch_size", "updates", "evaluations", "model", "data", "optim")
# What a configuration without this key means.
UNSAID: dict[str, Any] = {
    "ranks": 1,
    "model.recurrent_init": "uniform",
    "model.input_scale": 1.0,
    "model.forget_bias": 0.0,
    "model.residual": False,
    "model.unbiased": False,
    "model.state_norm": False,
    "data.repeated_lengths": [],
    "data.shortest_length": 0,
    "data.test_distances": [],
}
LONGEST_WHOLE = 20  # digits and sign of any 64 bits


class SuiteError(RuntimeError):
    """Something a user can mend, told in one line: what is wrong, where, and the remedy."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")  # with names and values out of files, as they are


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
    return Path(results) / "runs" / one_name("experiment", str(config["experiment"])) / run_id(config)


def one_name(key: str, name: str) -> str:
    """A text that becomes part of a path, and leads nowhere else."""
    if name == ".." or Path(name).name != name or "\0" in name:
        raise RecordError(f"{key}={name}: a name without / is wanted")
    return name


def finite(value: Any) -> Any:
    """JSON knows no infinity and no NaN: they become null, here and in everything the value contains."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@contextmanager
def draft(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Gives a place to write to; what was written there becomes the file `path`, whole, or nothing remains of it.

    Not `lasting`, it may be lost when the power fails: to wait for the disk takes some milliseconds a file.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        yield partial
        if lasting:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, *, lasting: bool = True) -> None:
    """Write a file whole or not at all; for `lasting` see `draft`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path, lasting=lasting) as partial:
            partial.write_bytes(content if isinstance(content, bytes) else content.encode())
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
    folder = Path(results) / "runs"
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # which nothing is left of, whatever happens
            file.write(b"probe")
    except OSError as error:
        raise RecordError(unwritable(folder, error)) from error


def from_json(text: str | bytes) -> Any:
    """What is written in a file of records. Raises ValueError, also for a whole number that no float comes near."""
    return json.loads(text, parse_int=_whole)


def _whole(text: str) -> int:
    if len(text) > LONGEST_WHOLE:
        raise ValueError(f"{text[:9]}... is too large a number")
    return int(text)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"learning_rate": 0.1}} as {"optim.learning_rate": 0.1}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def as_typed(value: Any) -> str:
    """A value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def setting(key: str, value: Any) -> str:
    """One word of a command line, and of the name of a run that it sets apart: `model.hidden_sizes=[64,64]`."""
    return f"{key}={as_typed(value).replace(', ', ',')}"
