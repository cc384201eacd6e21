"""How listing, skipping, reading and judging grow with the number of runs. Nothing is trained: the runs are invented.

python scripts/many_runs.py [1000 10000 100000]
"""

import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data import mnist
from experiments.records import files
from experiments.records.folder import RESULT, checksum
from experiments.sweeps import sweep
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.standing import Standing
from experiments.training.run import run
from experiments.training.schema import Config, Optim
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.verdicts import judge
from models import mlp

SEEDS = 12


def invented(template: Config, runs: int) -> dict[Name, Arm]:
    """The arms `none` and `layer` of as many experiments as it takes."""
    names = [(f"invented_{index}", norm) for index in range(runs // (2 * SEEDS)) for norm in ("none", "layer")]
    return {name: arm(template, *name) for name in names}


def arm(template: Config, experiment: str, norm: str) -> Arm:
    return Arm(dataclasses.replace(template, experiment=experiment, arm=norm, norm=norm), range(SEEDS))


def write_records(arms: dict[Name, Arm], template: Config) -> None:
    """A record of the usual size for each run of each arm, its loss drawn at random."""
    draw = random.Random(0)
    record = run(template)
    for arm in arms.values():
        for one in arm.evaluations:
            record |= one.described()
            record["final"]["test_loss"] = draw.gauss(0.3, 0.01)
            body = json.dumps(files.finite(record), indent=1)[1:] + "\n"
            one.folder.path.mkdir(parents=True)
            (one.folder.path / RESULT).write_text(checksum(body) + body)  # not synced to the disk, for once


def registry_of(arms: dict[Name, Arm]) -> Registry:
    """One claim an experiment."""
    experiments = dict.fromkeys(experiment for experiment, _ in arms)
    common: dict[str, Any] = {"source": "others", "statement": "Invented.", "kind": "difference", "margin": 0.01}
    common |= {"labels": ("layer", "none"), "weights": (1.0, -1.0), "metric": "test_loss", "direction": "less"}
    claims = tuple(Claim(id=name, experiment=name, tuned=False, **common) for name in experiments)
    return Registry(alpha=0.05, seeds=SEEDS, claims=claims)


def timed(name: str, runs: int, action: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = action()
    seconds = time.perf_counter() - began
    print(f"{runs:>8} {name:<8} {seconds:8.2f} s {1e6 * seconds / runs:8.0f} us a run", flush=True)
    return result


def measure(runs: int) -> None:
    results = Path(tempfile.mkdtemp(prefix="many-runs-"))
    net, images = mlp.Config(hidden_sizes=[256, 256]), mnist.Config(source="synthetic")
    template = Config(model=net, data=images, optim=Optim(learning_rate=0.01), scale="laptop", results=str(results))
    arms = invented(template, runs)
    runs = SEEDS * len(arms)
    write_records(arms, template)
    standing = Standing(list(arms.values()))
    timed("list", runs, standing.look)
    timed("again", runs, standing.look)
    timed("skip", runs, lambda: sweep.run_all([run for arm in arms.values() for run in arm.evaluations]))
    rows = timed("read", runs, lambda: collect_rows(invented(template, runs)))
    verdicts = timed("judge", runs, lambda: judge(registry_of(arms), rows))
    done = sum(counts["done"] for counts in standing.counts().values())
    assert done == len(rows) == len(verdicts) * 2 * SEEDS, (done, len(rows), len(verdicts))
    shutil.rmtree(results)


if __name__ == "__main__":
    for runs in map(int, sys.argv[1:] or (1_000, 10_000, 100_000)):
        measure(runs)
