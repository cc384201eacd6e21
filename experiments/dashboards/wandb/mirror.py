"""Shows runs and verdicts in Weights & Biases by what their files say. What is there already is not shown again."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from experiments.dashboards.progress import bar
from experiments.dashboards.wandb.places import Place
from experiments.dashboards.wandb.run import Record, WandbRun, identifier, show_verdicts, verdicts_id
from experiments.records.folder import DONE, FAILED_STATE, RUNNING, STOPPED, RunFolder
from experiments.records.table import RUNS, read_table
from experiments.verdicts.claims_file import load_claims

SHARE = 0.02  # of the processors' time, while runs are in progress
WHOLE = 2.0  # wandb works in a process of its own too, about as long as this one
LOOK_AGAIN = 1.0  # seconds
AT_A_TIME = 8  # runs sent to a server, each of which waits for its answers


class Mirror:
    """Shows runs by what their folders say."""

    def __init__(self, into: Path) -> None:
        self.place = Place(into)
        self.claims: dict[tuple[str, str], list[str]] = defaultdict(list)
        for claim in load_claims().claims:
            for arm in dict.fromkeys(claim.arms()):
                self.claims[arm].append(claim.id)
        self.open: dict[Path, WandbRun] = {}  # of those in progress
        self.doubtful = 0  # of those sent, how many the server did not say it has

    def look(self, path: Path, *, follow: bool = False) -> bool:
        """Show what a run's folder has that is not shown yet; whether no more will come of it.

        A run that has not ended is shown only if it is to be followed, online.
        """
        folder = RunFolder(path)
        if (stamp := folder.ended) and self.place.has(f"{path.parent.name}-{path.name}", stamp):
            return True
        state = folder.state
        record = folder.record() if state == DONE else so_far(folder, state)
        if record and stamp and state in (DONE, FAILED_STATE):
            self.finish(self.open.pop(path) if path in self.open else self.opened(record), record, stamp)
            return True
        if record and state in (RUNNING, STOPPED) and follow and self.place.online:
            self.open[path] = self.open.get(path) or self.opened(record)
            self.open[path].log(record["history"])
        return False

    def show(self, record: Record, stamp: int) -> bool:
        """Show a whole record."""
        if not self.place.has(identifier(record), stamp):
            self.finish(self.opened(record), record, stamp)
        return True

    def opened(self, record: Record) -> WandbRun:
        arm = record.get("arm", record["group"])  # none where it is no arm's
        return WandbRun(record, self.claims[record["experiment"], arm or ""], self.place.stage)

    def finish(self, run: WandbRun, record: Record, stamp: int) -> None:
        run.finish(record)
        if not self.place.online or run.arrived():
            self.place.keep(identifier(record), stamp)
        else:
            self.doubtful += 1

    def each(self, looks: Sequence[Callable[[], bool]], visible: bool) -> list[bool]:
        """What each look gives; online several at a time, with a bar where somebody waits."""
        workers = ThreadPoolExecutor(AT_A_TIME if self.place.online else 1)
        try:
            with bar() as progress:
                ended = workers.map(lambda look: look(), looks)
                return list(progress.track(ended, len(looks), description="runs to wandb") if visible else ended)
        finally:
            workers.shutdown(wait=False, cancel_futures=True)

    def verdicts(self, results: Path) -> None:
        """Show the verdicts of a reproduction, where it has come to any, anew if they have changed."""
        from experiments.verdicts.claims_json import read_claims

        path = results / "claims.json"
        verdicts = read_claims(path)[0] if path.exists() else []
        if verdicts and not self.place.has(verdicts_id(verdicts), path.stat().st_mtime_ns):
            show_verdicts(verdicts, results, self.place.stage)
            self.place.keep(verdicts_id(verdicts), path.stat().st_mtime_ns)

    def doubts(self) -> list[str]:
        text = "wandb's server did not say that it has {} of them; python -m experiments.mirror sends them again"
        return [text.format(self.doubtful)] if self.doubtful else []

    def close(self) -> None:
        """End what is still followed: somebody may go on with it."""
        for run in self.open.values():
            run.interrupt()


def so_far(folder: RunFolder, state: str) -> Record | None:
    """What there is of a run that has no record."""
    start, failure = folder.start(), folder.failure() if state == FAILED_STATE else None
    if start is None:
        return None
    timing = {"reason": failure["reason"]} if failure else {}
    return {**start, "status": state, "timing": timing, "final": {}, "history": folder.evaluations()}


def show_all(mirror: Mirror, results: Path) -> str:
    """Show all that has ended below a results folder, or of a table like results/reference; what is there now."""
    if (results / "runs").is_dir():
        looks = [partial(mirror.look, folder) for folder in sorted((results / "runs").glob("*/*"))]
    else:
        stamp, (table, _) = (results / RUNS).stat().st_mtime_ns, read_table(results)
        looks = [partial(mirror.show, {**row, "group": row["arm"]}, stamp) for row in table]
    ended = mirror.each(looks, visible=True)
    mirror.verdicts(results)
    unfinished = f" ({ended.count(False)} have not ended)" if False in ended else ""
    return "; ".join([f"{ended.count(True)} runs of {results} are in {mirror.place}{unfinished}", *mirror.doubts()])


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
    for line in mirror.doubts():
        print(line, file=sys.stderr)
