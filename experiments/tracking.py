"""Weights & Biases as a view of our records: offline unless asked, never read back, never needed.

The only file that imports wandb. A run is mirrored from its finished record, so a resumed one shows up whole.
"""

import os
from pathlib import Path
from typing import Any


def mirror(record: dict[str, Any], results: str | Path) -> None:
    """Write one finished run to wandb: grouped by experiment and arm, one wandb run a seed.

    WANDB_MODE is the user's; unset, it is `offline`, and nothing leaves the machine. Files go to <results>/wandb.
    """
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    config, status = record["config"], record["status"]
    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
                              disable_git=True, disable_code=True, save_code=False)  # fmt: skip
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


def available() -> bool:
    try:
        import wandb  # noqa: F401
    except ImportError:
        return False
    return True
