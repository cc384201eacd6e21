"""Weights & Biases as a view of our records: offline unless asked, never read back, never needed.

The only file that imports wandb. A run is mirrored from its finished record, so a resumed one shows up whole.
"""

import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INIT_TIMEOUT = 20.0  # seconds; wandb itself tries for 90 where it cannot be reached, and the sweep waits
given_up: list[str] = []  # why mirroring stopped in this process


def mirror(record: dict[str, Any], results: str | Path) -> None:
    """Write one finished run to wandb: grouped by experiment and arm, one wandb run a seed.

    WANDB_MODE is the user's; unset, it is `offline`, and nothing leaves the machine. Files go to <results>/wandb.
    A run is mirrored once. Whatever goes wrong is told in one line: the record is whole without its mirror.
    """
    mark = Path(results) / "runs" / record["experiment"] / record["run"] / "mirrored"
    if not installed() or mark.exists() or given_up:
        return
    try:
        write(record, results)
        mark.touch()
    except Exception as error:  # wandb's own, or a full disk's
        reason = " ".join(str(error).split())
        print(f"{record['run']} is recorded but not mirrored to wandb, nor are later runs: {reason}", file=sys.stderr)
        given_up.append(reason)  # each further try might wait for a network that is not there


@cache
def installed() -> bool:
    """Whether wandb can be imported; the first time it cannot, one line says so."""
    if find_spec("wandb") is None:
        print("wandb is not installed: runs are recorded but not mirrored (tracking=none)", file=sys.stderr)
    return find_spec("wandb") is not None


def write(record: dict[str, Any], results: str | Path) -> None:
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    config, status = record["config"], record["status"]
    settings = wandb.Settings(
        console="off",
        init_timeout=INIT_TIMEOUT,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
    )
    tags = [config["norm"], record["scale"], config["model"]["name"], config["data"]["name"], status]
    with wandb.init(
        project="layer-normalization-reproduced",
        dir=str(results),
        id=f"{record['experiment']}-{record['run']}",
        name=record["run"],
        group=f"{record['experiment']}/{record['group']}",
        job_type=record["role"],
        tags=tags + (["synthetic"] if record["synthetic"] else []),
        config={"experiment": record["experiment"], "scale": record["scale"], **config},
        settings=settings,
    ) as run:
        run.define_metric("update")
        run.define_metric("*", step_metric="update")
        for row in record["history"]:
            run.log(row)
        run.summary.update({**record["final"], **record["timing"], "status": status})
