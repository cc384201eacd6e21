"""Where runs go in Weights & Biases: a folder of whole runs, or a project on a server; and what is there already."""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from experiments.records import files
from experiments.records.locks import held, hold

PROJECT = "layer-normalization-reproduced"  # unless WANDB_PROJECT names another


class Place:
    """A stage to write runs on.

    Each kind of place tells by `has` what is there, by the name of a run and a stamp: when what it shows was written,
    in nanoseconds; `keep` takes over a run that was written to its end.
    """

    def __init__(self, into: Path) -> None:
        self.folder = into / "wandb"
        files.make_folder(self.folder)
        for left in self.folder.glob(".partial-*"):
            if not held(left):  # by a mirror that was killed
                shutil.rmtree(left, ignore_errors=True)
        # wandb writes here; locked, so that another mirror does not take it for left.
        self.stage = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        self.lock = ExitStack()
        self.lock.enter_context(hold(self.stage))

    def close(self) -> None:
        self.lock.close()
        shutil.rmtree(self.stage, ignore_errors=True)


class Offline(Place):
    """A folder of whole runs: each is written elsewhere first, then moved here under its final name."""

    def __init__(self, into: Path) -> None:
        super().__init__(into)
        self.there = {name_of(path): path for path in self.folder.glob("offline-run-*-*")}

    def __str__(self) -> str:
        return str(self.folder)

    def has(self, name: str, stamp: int) -> bool:
        mark = self.there.get(name, self.folder) / "mirrored"
        return mark.exists() and mark.read_text() == str(stamp)

    def keep(self, name: str, stamp: int) -> None:
        """Whatever an earlier attempt at the run left, shown by this mirror or by another, goes."""
        (made,) = self.stage.glob(f"wandb/offline-run-*-{name}")
        (made / "mirrored").write_text(str(stamp))
        ended = time.strftime("%Y%m%d_%H%M%S", time.gmtime(stamp / 1e9))
        self.there[name] = self.folder / f"offline-run-{ended}-{name}"  # viewers know runs by names like these
        for older in self.folder.glob(f"offline-run-*-{name}"):
            if name_of(older) == name:
                shutil.rmtree(older, ignore_errors=True)
        with suppress(OSError):  # another mirror was quicker
            made.rename(self.there[name])


def name_of(path: Path) -> str:
    """The name in offline-run-<date>_<time>-<name>."""
    return path.name.split("-", 3)[3]


class Online(Place):
    """A project on a server, and a list of what it is known to have."""

    def __init__(self, into: Path) -> None:
        super().__init__(into)
        server, entity = os.environ.get("WANDB_BASE_URL", ""), os.environ.get("WANDB_ENTITY", "")
        self.project = "/".join(filter(None, [server, entity, os.environ.get("WANDB_PROJECT") or PROJECT]))
        self.sent = self.folder / "sent.txt"
        self.there = set(self.sent.read_text().splitlines()) if self.sent.exists() else set()

    def __str__(self) -> str:
        return self.project

    def has(self, name: str, stamp: int) -> bool:
        return f"{self.project} {name} {stamp}" in self.there

    def keep(self, name: str, stamp: int) -> None:
        for copy in self.stage.glob(f"wandb/run-*-{name}"):
            shutil.rmtree(copy, ignore_errors=True)
        with self.sent.open("a") as file:
            file.write(f"{self.project} {name} {stamp}\n")
