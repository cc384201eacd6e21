"""The loopback server understands wandb itself: runs logged online, gone on with, failed, and synced later."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.dashboards.wandb_server import WandbServer


def logging(folder: Path, mode: Any = "online") -> Any:
    import wandb

    plain = {"console": "off", "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False}
    return wandb.init(
        project="project",
        id="lm-layer-s0",
        name="layer-s0",
        group="lm/layer",
        job_type="evaluate",
        tags=["layer"],
        config={"optim": {"learning_rate": 0.1}},
        dir=folder,
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(**plain),
    )


def losses(server: WandbServer) -> list[float]:
    return [row["lm/loss"] for row in server.runs["lm-layer-s0"].history]


def test_a_run_logged_online_arrives_whole_and_is_gone_on_with(wandb_server: WandbServer, tmp_path: Path) -> None:
    with logging(tmp_path) as run:
        for update in range(3):
            run.log({"update": update, "lm/loss": 1 / (update + 1)})
        run.summary["lm/test_loss"] = 0.5
    found = wandb_server.runs["lm-layer-s0"]
    assert losses(wandb_server) == [1, 1 / 2, 1 / 3]
    assert (found.project, found.name, found.group, found.job_type) == ("project", "layer-s0", "lm/layer", "evaluate")
    assert found.tags == ["layer"] and found.config["optim"] == {"learning_rate": 0.1}
    assert found.summary["lm/test_loss"] == 0.5 and (found.state, found.exit_code) == ("finished", 0)

    run = logging(tmp_path)
    assert run.resumed and run.starting_step == 3 and run.summary["lm/test_loss"] == 0.5
    run.log({"update": 3, "lm/loss": 0.25})
    run.finish(exit_code=1)
    assert losses(wandb_server) == [1, 1 / 2, 1 / 3, 1 / 4] and found.state == "failed"


def test_a_run_logged_offline_is_synced(wandb_server: WandbServer, tmp_path: Path) -> None:
    with logging(tmp_path, "offline") as run:
        run.log({"update": 0, "lm/loss": 1.5})
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert not wandb_server.runs
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert losses(wandb_server) == [1.5] and wandb_server.runs["lm-layer-s0"].state == "finished"
