"""The code a run goes through, as a number: what its record and its checkpoint say they were made by.

The files are read when this module is imported, which is when they become the running code: processes forked later
inherit both, whatever has happened to the files since.
"""

import os
import re
import subprocess
from functools import cache
from hashlib import sha256
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "data", "experiments/training")
# Names, checks and processes: no number of a run passes through them but by its configuration, which its id tells.
TRAINING = ("checks", "code", "debug", "errors", "identity", "processes", "run", "schema")
# Nor does any pass through models.layers, which the package offers to others.
ASIDE = {"models.options", "models.layers", *(f"experiments.training.{name}" for name in TRAINING)}
# Prepares every run; that it also sets up the kernels makes them no part of a run without recurrent layers.
MACHINE = "experiments.training.machine"
IMPORT = re.compile(r"^\s*(?:from (\S+) )?import (\([^)]*\)|.+)$", re.MULTILINE)


def sources() -> dict[str, bytes]:
    """Every file a run may go through, by the name of its module; the kernels' sources belong to models.kernels."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            found[name_of(path)] = path.read_bytes()
    native = sorted(path for path in (ROOT / "models" / "kernels").iterdir() if path.suffix in (".cpp", ".h"))
    return {**found, "models.kernels.sources": b"".join(path.read_bytes() for path in native)}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = sources()
PACKAGES = {name.rpartition(".")[0] for name in FILES}
DIGESTS = {name: sha256(content).hexdigest() for name, content in FILES.items()}


@cache
def imported(module: str) -> frozenset[str]:
    """Those of `FILES` that a module imports, wherever it does."""
    found = {"models.kernels.sources"} if module == "models.kernels" else set()
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for source, names in IMPORT.findall(FILES[module].decode()):
        source = resolve_name(source, package)
        for name in re.findall(r"[\w.]+", names):
            found |= {f"{source}.{name}", source} if source else {name}
    return frozenset(found & FILES.keys()) - ASIDE


@cache
def modules(method: str, model: str, data: str) -> tuple[str, ...]:
    """What a run goes through: the loop or the probe, its model, its data, and all that these import of `FILES`."""
    measured = "training_run" if method == "train" else f"probes.{method}"
    queue = [f"experiments.training.{measured}", f"models.{model}", f"data.{data}", "models", "data"]
    found = {MACHINE}
    while queue:
        module = queue.pop()
        if module not in found:
            found.add(module)
            queue += imported(module)
    return tuple(sorted(found))


@cache
def digest(method: str, model: str, data: str) -> str:
    """Ten hexadecimal digits for the code of a run with this method, model and data set."""
    lines = "\n".join(f"{name} {DIGESTS[name]}" for name in modules(method, model, data))
    return sha256(lines.encode()).hexdigest()[:10]


@cache
def commit() -> str:
    """The code's version; `-dirty` where files differ from it. A sweep asks once and tells its workers."""
    if "LAYERNORM_COMMIT" not in os.environ:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        try:
            told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
            os.environ["LAYERNORM_COMMIT"] = told.stdout.strip() or "unknown"
        except (OSError, subprocess.TimeoutExpired):
            os.environ["LAYERNORM_COMMIT"] = "unknown"
    return os.environ["LAYERNORM_COMMIT"]
