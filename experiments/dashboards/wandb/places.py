"""Where runs go in Weights & Biases, a folder of whole runs or a project on a server; and what is there already."""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from experiments.records import files
from experiments.records.locks import held, hold

PROJECT = "layer-normalization-reproduced"  # unless WANDB_PROJECT names another
DATE, MARK = "????????_??????", "mirrored"


class Place:
    """Runs are written on a stage first and kept when they are whole.

    What is there is known by the name of a run and a stamp: when what it shows was written, in nanoseconds. Offline
    a mark in a kept folder says so; online a list of what the project is known to have.
    """

    def __init__(self, into: Path) -> None:
        self.online = os.environ["WANDB_MODE"] == "online"
        server, entity = os.environ.get("WANDB_BASE_URL", ""), os.environ.get("WANDB_ENTITY", "")
        self.project = "/".join(filter(None, [server, entity, os.environ.get("WANDB_PROJECT") or PROJECT]))
        self.folder = into / "wandb"
        files.make_folder(self.folder)
        self.list = self.folder / "sent.txt"
        self.sent = set(self.list.read_text(errors="replace").splitlines()) if self.list.exists() else set()
        for left in self.folder.glob(".partial-*"):
            if not held(left):  # by a mirror that was killed
                shutil.rmtree(left, ignore_errors=True)
        # wandb writes here; locked, so that another mirror does not take it for left.
        self.stage = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        self.lock = ExitStack()
        self.lock.enter_context(hold(self.stage))

    def __str__(self) -> str:
        return self.project if self.online else str(self.folder)

    def has(self, name: str, stamp: int) -> bool:
        if self.online:
            return self.entry(name, stamp) in self.sent
        mark = self.kept(name, stamp) / MARK
        return mark.is_file() and mark.read_bytes() == str(stamp).encode()

    def keep(self, name: str, stamp: int) -> None:
        """Take over a run that was written to its end; whatever an earlier attempt at it left goes."""
        made = list(self.stage.glob(f"wandb/*run-{DATE}-{name}"))
        if not self.online:
            (made[0] / MARK).write_text(str(stamp))
        old = made if self.online else self.folder.glob(f"offline-run-{DATE}-{name}")
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        if self.online:
            with self.list.open("a") as file:
                file.write(self.entry(name, stamp) + "\n")
            self.sent.add(self.entry(name, stamp))
        else:
            with suppress(OSError):  # another mirror was quicker
                made[0].rename(self.kept(name, stamp))

    def kept(self, name: str, stamp: int) -> Path:
        """Viewers know runs by names like these."""
        ended = time.strftime("%Y%m%d_%H%M%S", time.gmtime(stamp / 1e9))
        return self.folder / f"offline-run-{ended}-{name}"

    def entry(self, name: str, stamp: int) -> str:
        return f"{self.project} {name} {stamp}"

    def close(self) -> None:
        self.lock.close()
        shutil.rmtree(self.stage, ignore_errors=True)
