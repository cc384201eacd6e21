"""A run's folder: what lies in it, how it is written and read.

    <results>/runs/<experiment>/<norm>-s<seed>-<hash>/
        config.json       what is run, from the start on, and the options it was started with, by which `resume=` goes
        metrics.jsonl     one line an evaluation, flushed as the run goes
        checkpoint.pt     the last state to go on from
        failed.json       after a failure: the sweep it happened in, how often, and why
        lock              held by the process at work here, if any
        result.json       the record, written last and by rename: a run is done when this file exists

Of a run that is done metrics.jsonl and result.json are left. The hash covers the run's whole scientific configuration
(`identity`), never paths, devices, tracking or how many run at a time. So running is idempotent: the same configuration
finds its own record.
"""

import hashlib
import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from experiments.records.files import VERSION, finite, write

# Of a record, all that a second run of the same bits may change: times, and what it was made on.
VOLATILE = ("timing", "environment", "history.seconds")

RESULT, CONFIG, FAILED = "result.json", "config.json", "failed.json"

KEPT = (RESULT, "metrics.jsonl")  # of a run that is done


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write result.json: first the SHA-256 of all that follows, then the record."""
    body = json.dumps(finite(record), indent=1)[1:] + "\n"
    write(folder / RESULT, checked(body) + body)


def checked(body: str) -> str:
    return f'{{\n "sha256": "{hashlib.sha256(body.encode()).hexdigest()}",'


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished run; None where there is none, or only a damaged one (which is then run again)."""
    try:
        text = (folder / RESULT).read_text()
        start = len(checked(""))
        if text[:start] != checked(text[start:]):
            return None
        record: dict[str, Any] = json.loads("{" + text[start:])
        return record if record["record_version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_start(folder: Path) -> dict[str, Any] | None:
    """What was known of a run before it started: all of a record that is no result, and the options it was given."""
    try:
        found: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        return found if found.keys() >= {"run", "experiment", "scale", "role", "group", "config"} else None
    except (OSError, ValueError, AttributeError):
        return None


def evaluations(lines: bytes) -> list[dict[str, Any]]:
    """Those on the lines of a metrics.jsonl; one that is half written or damaged is left out."""
    found = []
    for line in lines.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [row for row in found if isinstance(row, dict)]


def read_failure(folder: Path) -> dict[str, Any] | None:
    """How a run failed when it was last tried, if it did."""
    try:
        found: dict[str, Any] = json.loads((folder / FAILED).read_text())
        return found if found.keys() >= {"sweep", "attempts", "reason", "log"} else None
    except (OSError, ValueError, AttributeError):
        return None


def damaged(folder: Path) -> bool:
    """Whether there is a record that cannot be read: cut short, changed since, or of another version."""
    return (folder / RESULT).exists() and read_record(folder) is None


def tidy(folder: Path) -> None:
    """Remove what a finished run needs no more, the remains of killed attempts too; its holder's lock last."""
    others = [path for path in folder.iterdir() if path.name not in KEPT]
    for path in sorted(others, key=lambda path: path.name == "lock"):
        path.unlink(missing_ok=True)


def stable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what `VOLATILE` names: of the same configuration always the same."""
    kept = deepcopy(record)
    for name in VOLATILE:
        first, _, key = name.partition(".")
        for place in kept[first] if key else [kept]:
            place.pop(key or first, None)
    return kept
