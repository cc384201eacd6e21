"""Answers that take seconds to work out and stay the same as long as code and configs/ do, as what Hydra composes.

<cache>/composed/<digest>.json   one answer as JSON, below the SHA-256 of its text

The digest is of the question and of all that has a say in the answer, so nothing here is ever out of date. What is
damaged, or cannot be written, is worked out again.
"""

import hashlib
import json
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data import cache
from experiments.records import files
from experiments.sweeps.options import OUTSIDE
from experiments.training import code, schema

MOST = 32  # answers kept, the newest
ROOMS = ("experiments/records", "experiments/sweeps", "hydra_plugins")  # whose code has a say, beside that of runs
PATHS = [path for room in ROOMS for path in sorted((code.ROOT / room).glob("*.py"))]
SOURCES = [(path.name, path.read_bytes()) for path in PATHS]  # as they were imported
ELSEWHERE = b"${oc."  # begins what a configuration has from its environment


def root() -> Path:
    """The folder of all answers. Raises RuntimeError where there is no home."""
    return cache.of_user() / "composed"


def place(question: object) -> Path | None:
    """Where the answer is, or will be; None if it depends on more than is known here, as on a user's folder."""
    if OUTSIDE:
        return None
    try:
        configs = {str(path.relative_to(schema.CONFIGS)): path.read_bytes() for path in schema.CONFIGS.rglob("*.yaml")}
        folder = root()
    except (OSError, RuntimeError):
        return None
    asked = json.dumps([question, sys.version, version("hydra-core"), version("omegaconf"), code.DIGESTS])
    if any(ELSEWHERE in content for content in (asked.encode(), *configs.values())):
        return None
    digest = hashlib.sha256(asked.encode())
    for name, content in [*sorted(configs.items()), *SOURCES]:
        digest.update(f"{name!r} {hashlib.sha256(content).hexdigest()}\n".encode())
    return folder / f"{digest.hexdigest()[:20]}.json"


def recalled(question: object) -> Any:
    """The answer that was kept; None if there is none, or only a damaged one."""
    if path := place(question):
        with suppress(OSError, ValueError):
            checksum, _, text = path.read_text().partition("\n")
            if checksum == hashlib.sha256(text.encode()).hexdigest():
                return json.loads(text)
    return None


def keep(question: object, answer: object) -> None:
    """Remember an answer, if JSON can hold it, and of the others the newest."""
    with suppress(files.RecordError, OSError, TypeError, ValueError):
        text = json.dumps(answer)
        if (path := place(question)) is None or json.loads(text) != answer:
            return
        files.write(path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", lasting=False)
        for old in sorted(path.parent.glob("*.json"), key=lambda other: -other.stat().st_mtime)[MOST:]:
            old.unlink(missing_ok=True)
