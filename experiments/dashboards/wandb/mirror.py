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
from typing import Any

from experiments.dashboards.progress import bar
from experiments.dashboards.wandb.places import Offline, Online
from experiments.dashboards.wandb.run import Record, Run, identifier, show_verdicts, verdicts_id
from experiments.records.folder import FAILED, RESULT, evaluations, read_failure, read_record, read_start
from experiments.records.locks import held
from experiments.records.table import RUNS, read_table
from experiments.verdicts.claims_file import load_claims

SHARE = 0.02  # of the processors' time, while runs are in progress

WHOLE = 2.0  # wandb works in a process of its own too, about as long as this one

LOOK_AGAIN = 1.0  # seconds

AT_A_TIME = 8  # runs sent to a server, each of which waits for its answers


class Mirror:
    """Shows runs by what their folders say."""

    def __init__(self, into: Path) -> None:
        self.online = os.environ["WANDB_MODE"] == "online"
        self.place: Online | Offline = Online(into) if self.online else Offline(into)
        self.claims: dict[tuple[str, str], list[str]] = defaultdict(list)
        for claim in load_claims().claims:
            for arm in dict.fromkeys(claim.arms()):
                self.claims[arm].append(claim.id)
        self.open: dict[Path, Run] = {}  # of those in progress
        self.doubtful = 0  # of those sent, how many the server did not say it has

    def look(self, folder: Path, *, follow: bool = False) -> bool:
        """Show what a run's folder has that is not shown yet; whether no more will come of it.

        A run that has not ended is shown only if it is to be followed, online.
        """
        name, ended = f"{folder.parent.name}-{folder.name}", stamped(folder)
        if ended is None and not (follow and self.online):
            return False
        if ended is not None and self.place.has(name, ended):
            return True
        record = read_record(folder) or in_progress(folder)
        if record is None:
            return False
        unended = ended is None or record["status"] == "running"  # or there is a damaged record, to be made anew
        if unended and not (follow and self.online):
            return False
        run = self.open.pop(folder, None) or self.opened(record)
        if ended is None or unended:
            run.log(record["history"])
            self.open[folder] = run
            return False
        self.finish(run, record, ended)
        return True

    def show(self, record: Record, stamp: int) -> bool:
        """Show a whole record."""
        if not self.place.has(identifier(record), stamp):
            self.finish(self.opened(record), record, stamp)
        return True

    def opened(self, record: Record) -> Run:
        return Run(record, self.claims[record["experiment"], record["group"]], self.place.stage)

    def finish(self, run: Run, record: Record, stamp: int) -> None:
        run.finish(record)
        if not self.online or run.arrived():
            self.place.keep(identifier(record), stamp)
        else:
            self.doubtful += 1

    def each(self, looks: Sequence[Callable[[], Any]], visible: bool) -> list[Any]:
        """What each look gives; online several at a time, with a bar where somebody waits."""
        workers = ThreadPoolExecutor(AT_A_TIME if self.online else 1)
        try:
            with bar() as progress:
                found = workers.map(lambda look: look(), looks)
                return list(progress.track(found, len(looks), description="runs to wandb") if visible else found)
        finally:
            workers.shutdown(wait=False, cancel_futures=True)

    def verdicts(self, results: Path) -> None:
        """Show the verdicts of a reproduction, where it has come to any, anew if they have changed."""
        from experiments.verdicts.verdicts import read_claims

        path = results / "claims.json"
        verdicts = read_claims(path)[0] if path.exists() else []
        if verdicts and not self.place.has(verdicts_id(verdicts), time_of(path)):
            show_verdicts(verdicts, results, self.place.stage)
            self.place.keep(verdicts_id(verdicts), time_of(path))

    def doubts(self) -> str:
        told = "wandb's server did not say that it has {} of them; python -m experiments.mirror sends them again"
        return told.format(self.doubtful) if self.doubtful else ""

    def close(self) -> None:
        """End what is still followed: somebody may go on with it."""
        for run in self.open.values():
            run.interrupt()


def stamped(folder: Path) -> int | None:
    """When a run ended, with a record or by a failure; None while it has not."""
    result, failed = time_of(folder / RESULT), time_of(folder / FAILED)
    return result or (failed if failed and not held(folder) else None)


def time_of(path: Path) -> int:
    """In nanoseconds; 0 where there is nothing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def in_progress(folder: Path) -> Record | None:
    """What there is of a run that has no record: status `running`, or `failed`."""
    started, metrics = read_start(folder), folder / "metrics.jsonl"
    if started is None:
        return None
    failed = read_failure(folder) if not held(folder) else None
    status = {"status": "failed", "timing": {"reason": failed["reason"]}} if failed else {"status": "running"}
    history = evaluations(metrics.read_bytes()) if metrics.exists() else []
    return {**started, **status, "final": {}, "history": history}


def show_all(mirror: Mirror, results: Path) -> str:
    """Show all that has ended below a results folder, or of a table like results/reference; what is there now."""
    jobs: list[Callable[[], bool]] = []
    if (results / "runs").is_dir():
        jobs = [partial(mirror.look, folder) for folder in sorted((results / "runs").glob("*/*"))]
    else:
        stamp, (table, _) = time_of(results / RUNS), read_table(results)
        jobs = [partial(mirror.show, {**row, "group": row["arm"]}, stamp) for row in table]
    found = mirror.each(jobs, visible=True)
    mirror.verdicts(results)
    unfinished = f" ({found.count(False)} have not ended)" if False in found else ""
    told = f"{len(found) - found.count(False)} runs of {results} are in {mirror.place}{unfinished}"
    return "; ".join(filter(None, [told, mirror.doubts()]))


def follow(mirror: Mirror, lines: Iterable[str]) -> None:
    """Show the runs whose folders are named, a line each, until no more come, and then what is left of them."""
    told: SimpleQueue[Path] = SimpleQueue()
    ended = Event()

    def listen() -> None:
        for line in lines:
            told.put(Path(line.rstrip("\n")))
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
                waiting[told.get_nowait()] = None
        started = time.process_time()
        looks = [partial(mirror.look, folder, follow=True) for folder in waiting]
        done = mirror.each(looks, visible=last)
        waiting = {folder: None for folder, no_more in zip(waiting, done, strict=True) if not no_more}
        pause = max(LOOK_AGAIN, rest * (time.process_time() - started))
    mirror.close()
    if mirror.doubtful:
        print(mirror.doubts(), file=sys.stderr)
