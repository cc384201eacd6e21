"""How listing, skipping, reading and judging grow with the number of runs. Nothing is trained: the runs are invented.

python scripts/many_runs.py [1000 10000 100000]
"""

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

from experiments import status
from experiments.records import files
from experiments.records.folder import RESULT, checked
from experiments.sweeps import sweep
from experiments.sweeps.arm import evaluation_configs, read_arm
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.compose import Arm, compose_arms
from experiments.training import schema
from experiments.training.identity import folder_of
from experiments.training.run import run
from experiments.training.schema import Config, Optim
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.verdicts import judge

SEEDS = 12


def invented(results: Path, runs: int) -> dict[Arm, Config]:
    """The arms `none` and `layer` of as many experiments as it takes."""
    template = next(config for (experiment, _), config in compose_arms([]).items() if experiment == "mlp_batch128")
    arms = {}
    for index in range(runs // (2 * SEEDS)):
        for norm in ("none", "layer"):
            arm = schema.at(template, 0, 0.01)
            name = f"invented_{index}"
            arms[name, norm] = Config(**{**vars(arm), "norm": norm, "experiment": name, "results": str(results)})
    return arms


def write_records(arms: dict[Arm, Config]) -> None:
    """A record of the usual size for each run of each arm, its loss drawn at random."""
    draw = random.Random(0)
    config = next(iter(arms.values()))
    small = Config(**{**vars(config), "updates": 20, "optim": Optim(learning_rate=0.01), "tracking": "none"})
    record = run(Config(**{**vars(small), "results": tempfile.mkdtemp(prefix="template-")}))
    for arm in arms.values():
        for config in evaluation_configs(arm):
            plain = schema.scientific(config)
            record |= {"run": files.run_id(plain), "experiment": config.experiment, "scale": config.scale}
            record["config"] = {key: plain[key] for key in files.SCIENTIFIC}
            record["final"]["test_loss"] = draw.gauss(0.3, 0.01)
            folder = folder_of(config)
            folder.mkdir(parents=True)
            body = json.dumps(files.finite(record), indent=1)[1:] + "\n"
            (folder / RESULT).write_text(checked(body) + body)  # not synced to the disk, for once


def registry_of(arms: dict[Arm, Config]) -> Registry:
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
    arms = invented(results, runs)
    write_records(arms)
    configs = [config for arm in arms.values() for config in evaluation_configs(arm)]
    timed("list", len(configs), lambda: [list(status.states(arm)) for arm in arms.values()])
    timed("skip", len(configs), lambda: sweep.run_all(configs))
    rows = timed("read", len(configs), lambda: collect_rows(arms))
    verdicts = timed("judge", len(configs), lambda: judge(registry_of(arms), rows))
    assert len(rows) == len(configs) and len(verdicts) == len(configs) // (2 * SEEDS)
    assert all(read_arm(arm, range(SEEDS))[1] for arm in list(arms.values())[:2])
    shutil.rmtree(results)


if __name__ == "__main__":
    for runs in map(int, sys.argv[1:] or (1_000, 10_000, 100_000)):
        measure(runs)
