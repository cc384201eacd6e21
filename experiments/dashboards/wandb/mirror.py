"""Shows runs and verdicts in Weights & Biases by what their files say. What is there already is not shown again."""

import errno
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from experiments.dashboards.progress import bar
from experiments.dashboards.wandb.places import Folder, Project, plain
from experiments.dashboards.wandb.run import Record, WandbRun, digest, identifier, show_verdicts
from experiments.records.files import SuiteError
from experiments.records.folder import DONE, FAILED, FAILED_STATE, RESULT, RUNNING, STOPPED, RunFolder
from experiments.records.table import read_table
from experiments.verdicts.claims_file import load_claims

SHARE = 0.02  # of the processors' time, while runs are in progress
WHOLE = 2.0  # wandb works in a process of its own too, about as long as this one
LOOK_AGAIN = 1.0  # seconds
AT_A_TIME = 8  # runs sent to a server, each of which waits for its answers
PAUSES = (0.0, 2.0, 5.0)  # seconds before a server is asked whether it has what it was sent
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
DELETED = "wandb takes no deleted id again: restore it in the project, or choose another with WANDB_PROJECT=<name>"
AGAIN = "once that is mended, layernorm mirror sends it"


class Mirror:
    """Shows runs by what their folders say. What one run has that wandb refuses keeps no other from being shown."""

    def __init__(self, place: Folder | Project) -> None:
        self.place = place
        self.claims: dict[tuple[str, str], list[str]] = defaultdict(list)
        for claim in load_claims().claims:
            for arm in dict.fromkeys(claim.arms()):
                self.claims[arm].append(claim.id)
        self.open: dict[Path, WandbRun] = {}  # of those in progress
        self.shown: dict[str, str] = {}  # by this mirror: the ids in wandb and which record they show
        self.refused: dict[str, str] = {}  # id -> why

    def look(self, path: Path, *, follow: bool = False) -> bool:
        """Show what a run's folder has that is not shown yet; whether no more will come of it.

        A run that has not ended is shown only if it is to be followed, online.
        """
        name = identifier(path.parent.name, path.name)
        with self.spared(name):
            return self.look_at(RunFolder(path), name, follow)
        return True

    def look_at(self, folder: RunFolder, name: str, follow: bool) -> bool:
        path = folder.path
        version = version_of(path / RESULT) or version_of(path / FAILED) if folder.ended else ""
        if version and self.place.there.get(name) == version:
            return True
        state = folder.state
        record = folder.record() if state == DONE else so_far(folder, state)
        if record and version and state in (DONE, FAILED_STATE):
            run = self.open.pop(path) if path in self.open else self.opened(record)
            self.keep(name, version, run.finish(record, version))
            return True
        if record and state in (RUNNING, STOPPED) and follow and self.place.online:
            self.open[path] = self.open.get(path) or self.opened(record)
            self.open[path].log(record["history"])
        return False

    def show(self, record: Record) -> bool:
        """Show a whole record."""
        name, version = identifier(record["experiment"], record["run"]), digest(json.dumps(record).encode())
        with self.spared(name):
            if self.place.there.get(name) != version:
                self.keep(name, version, self.opened(record).finish(record, version))
        return True

    def opened(self, record: Record) -> WandbRun:
        arm = record.get("arm", record["group"])  # none where it is no arm's
        return WandbRun(record, self.claims[record["experiment"], arm or ""], self.place.options)

    def keep(self, name: str, version: str, made: Path) -> None:
        self.place.keep(name, version, made)
        self.shown[name] = version
        self.refused.pop(name, None)  # an earlier attempt

    def verdicts(self, results: Path) -> None:
        """Show the verdicts of a reproduction, where it has come to any, anew if they have changed."""
        from experiments.verdicts.claims_json import read_claims

        with self.spared("verdicts"):
            version = version_of(results / "claims.json")
            verdicts = read_claims(results / "claims.json")[0] if version else []
            name = identifier("verdicts", *{str(verdict["scale"]) for verdict in verdicts[:1]})
            if verdicts and self.place.there.get(name) != version:
                self.keep(name, version, show_verdicts(verdicts, results, name, version, self.place.options))

    @contextmanager
    def spared(self, name: str) -> Iterator[None]:
        """Whatever goes wrong with one run is kept to be told; raises where the disk or the server is the trouble."""
        try:
            yield
        except Exception as error:
            if isinstance(error, SuiteError) and not isinstance(error, ValueError):
                raise  # the server is the trouble, not what a file says
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if isinstance(self.place, Project):
                self.place.api()
            self.refused[name] = plain(error)

    def each(self, looks: Sequence[Callable[[], bool]], visible: bool) -> list[bool]:
        """What each look gives; online several at a time, with a bar where somebody waits."""
        workers = ThreadPoolExecutor(AT_A_TIME if self.place.online else 1)
        try:
            with bar() as progress:
                ended = workers.map(lambda look: look(), looks)
                return list(progress.track(ended, len(looks), description="runs to wandb") if visible else ended)
        finally:
            workers.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End what is still followed, for somebody may go on with it; then ask whether all has come."""
        for run in self.open.values():
            with self.spared(run.run.id):
                run.interrupt()
        lost = {*self.shown.items()} if isinstance(self.place, Project) else set()
        for pause in PAUSES:
            if lost and isinstance(self.place, Project):
                time.sleep(pause)
                lost -= {*self.place.asked().items()}
        self.refused |= dict.fromkeys(dict(lost), "sent, but not whole in the project")

    def complaints(self) -> list[str]:
        """A line for each reason why runs are not there: some of them, how many, the reason and the remedy."""
        names: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.refused.items():
            names[reason].append(name)
        return [
            f"wandb refused {', '.join(found[:3])}{f' and {len(found) - 3} more' if len(found) > 3 else ''}: "
            f"{reason}; {DELETED if 'deleted' in reason else AGAIN}"
            for reason, found in names.items()
        ]


def version_of(file: Path) -> str:
    """Tells what a run's folder says of it from whatever it says later; empty without a file."""
    return digest(file.read_bytes()) if file.exists() else ""


def so_far(folder: RunFolder, state: str) -> Record | None:
    """What there is of a run that has no record."""
    start, failure = folder.start(), folder.failure() if state == FAILED_STATE else None
    if start is None:
        return None
    timing = {"reason": failure["reason"]} if failure else {}
    return {**start, "status": state, "timing": timing, "final": {}, "history": folder.evaluations()}


def show_all(mirror: Mirror, results: Path) -> str:
    """Show all that has ended below a results folder, or of a frozen study; what is there now."""
    if (results / "runs").is_dir():
        looks = [partial(mirror.look, folder) for folder in sorted((results / "runs").glob("*/*"))]
    else:
        looks = [partial(mirror.show, {**row, "group": row["arm"]}) for row in read_table(results)[0]]
    ended = mirror.each(looks, visible=True)
    mirror.verdicts(results)
    mirror.close()
    runs = ended.count(True) - len(mirror.refused.keys() - {"verdicts"})
    counts = {"have not ended": ended.count(False), "refused": len(mirror.refused)}
    others = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{runs} runs of {results} are in {mirror.place.address}{f' ({others})' if others else ''}"


def follow(mirror: Mirror, lines: Iterable[str]) -> None:
    """Show the runs whose folders are named, a line each, until no more come, and then what is left of them."""
    named: SimpleQueue[Path] = SimpleQueue()
    ended = Event()

    def listen() -> None:
        for line in lines:
            named.put(Path(line.rstrip("\n")))
        ended.set()

    Thread(target=listen, daemon=True).start()
    os.nice(10)
    rest = WHOLE / (SHARE * (os.cpu_count() or 1))  # seconds after each of work: on two processors 50
    waiting: dict[Path, None] = {}
    pause, last = LOOK_AGAIN, False
    while not last:
        last = ended.wait(pause)  # then somebody waits
        with suppress(Empty):
            while True:
                waiting[named.get_nowait()] = None
        started = time.process_time()
        looks = [partial(mirror.look, folder, follow=True) for folder in waiting]
        done = mirror.each(looks, visible=last)
        waiting = {folder: None for folder, no_more in zip(waiting, done, strict=True) if not no_more}
        pause = max(LOOK_AGAIN, rest * (time.process_time() - started))
    mirror.close()
