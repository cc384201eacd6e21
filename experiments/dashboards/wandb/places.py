"""Where runs go in Weights & Biases, a folder of whole runs or a project on a server; and what is there already.

Each run there says which record it shows, by a digest: in a folder a file beside it, in a project its summary. So a
project is asked what it has, whatever was sent to it before and by whom.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.records import files
from experiments.records.locks import held, hold

PROJECT = "layer-normalization-reproduced"  # unless WANDB_PROJECT names another
MARK = "mirrored"
RECORD = "record"  # the key of the digest in a run's summary
ENDED = ("finished", "failed")  # as servers name it
API_TIMEOUT = 20  # seconds for an answer
PER_PAGE = 100
ACCOUNT = "WANDB_BASE_URL chooses the server, `wandb login --relogin` or WANDB_API_KEY=<key> the account"


class Folder:
    """Runs as folders, each of them whole."""

    online = False

    def __init__(self, folder: Path, stage: Path) -> None:
        self.address = str(folder)
        self.folder = folder
        self.options = {"mode": "offline", "project": project(), "dir": str(stage)}
        marks = [mark for mark in folder.glob(f"*-*-*-*/{MARK}") if mark.is_file()]
        self.there = {mark.parent.name.split("-", 3)[3]: mark.read_text(errors="replace") for mark in marks}

    def keep(self, name: str, record: str, made: Path) -> None:
        """Take over a run that was written to its end; whatever an earlier attempt at it left goes."""
        (made / MARK).write_text(record)
        for old in self.folder.glob(f"offline-run-????????_??????-{name}"):
            shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # another mirror was quicker
            made.rename(self.folder / made.name)
        self.there[name] = record


class Project:
    """A project of an account on a server. Raises SuiteError where the server does not answer, or not this account."""

    online = True

    def __init__(self, stage: Path) -> None:
        with told(ACCOUNT):
            api = self.api()
            self.entity = api.settings["entity"] or api.default_entity or ""
            self.address = api.project(project(), self.entity).url
        self.options = {"mode": "online", "project": project(), "entity": self.entity, "dir": str(stage)}
        self.options["resume"] = "allow"
        self.there = self.asked()

    def api(self) -> Any:
        """Made anew each time: it remembers answers. It asks who we are, so it cannot be made without a server."""
        import wandb

        with told(ACCOUNT):
            return wandb.Api(timeout=API_TIMEOUT)

    def asked(self) -> dict[str, str]:
        """Which record each whole run of the project shows."""
        with told(ACCOUNT):
            runs = self.api().runs(f"{self.entity}/{project()}", per_page=PER_PAGE, lazy=False)
            try:
                return {run.id: str(run.summary.get(RECORD)) for run in runs if run.state in ENDED}
            except ValueError:  # there is no such project yet
                return {}

    def keep(self, name: str, record: str, made: Path) -> None:
        shutil.rmtree(made, ignore_errors=True)
        self.there[name] = record


@contextmanager
def place(into: Path, online: bool) -> Iterator[Folder | Project]:
    """Where to show runs. wandb writes them on a stage that goes in the end, also that of a mirror that was killed."""
    folder = into / "wandb"
    files.make_folder(folder)
    for left in folder.glob(".partial-*"):
        if not held(left):
            shutil.rmtree(left, ignore_errors=True)
    staged = tempfile.TemporaryDirectory(prefix=".partial-", dir=folder, ignore_cleanup_errors=True)
    with staged as stage, hold(Path(stage)), temporaries(stage):
        yield Project(Path(stage)) if online else Folder(folder, Path(stage))


@contextmanager
def temporaries(folder: str) -> Iterator[None]:
    """wandb makes a folder among the temporary files for each run that it is told of."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def asked_mode() -> str:
    """Of wandb: online only if the environment says so; disabled if it does, or else one of wandb's settings files."""
    import wandb

    with told("look at WANDB_* in the environment"):
        found = wandb.setup().settings.mode
    return os.environ.get("WANDB_MODE") or ("disabled" if found == "disabled" else "offline")


def project() -> str:
    return os.environ.get("WANDB_PROJECT") or PROJECT


def plain(error: BaseException) -> str:
    """What wandb says, in one line that any terminal can print; of other errors also what they are."""
    import wandb

    text = str(error) if isinstance(error, wandb.Error | ValueError) else f"{type(error).__name__}: {error}"
    text = re.split("Consider increasing|For further information", text)[0].removeprefix("Timed out while retrying: ")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split()).rstrip(".")


@contextmanager
def told(remedy: str) -> Iterator[None]:
    """wandb's errors in one line with what can be done; they have no class in common."""
    try:
        yield
    except files.SuiteError:
        raise
    except Exception as error:
        raise files.SuiteError(f"wandb: {plain(error)}; {remedy}") from error
