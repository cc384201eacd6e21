"""Shows recorded runs and verdicts in Weights & Biases: as they go, or afterwards.

Offline, unless WANDB_MODE=online, each run becomes a folder of <results>/wandb once it is done or has failed: `wandb
leet` shows them, `wandb sync` uploads them. Online a run in progress is followed. What is there already is not shown
again, so this can be interrupted at any moment and given again.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

from experiments import records
from experiments.claims_file import load_claims
from experiments.locks import held
from experiments.progress import bar
from experiments.run_table import RUNS, read_table
from experiments.wandb_run import PROJECT, Record, Run, identifier, show_verdicts, verdicts_id

SHARE = 0.02  # of the processors' time, while runs are in progress
WHOLE = 2.0  # wandb works in a process of its own too, about as long as this one
LOOK_AGAIN = 1.0  # seconds
AT_A_TIME = 8  # runs sent to a server, each of which waits for its answers
DEFAULTS = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}  # the user's own win
CLAIMS = Path(__file__).parent.parent / "configs" / "claims.yaml"


class Offline:
    """A folder of whole wandb runs: each is written elsewhere first, then moved here under its final name."""

    def __init__(self, into: Path) -> None:
        self.folder = into / "wandb"
        records.make_folder(self.folder)
        for left in self.folder.glob(".partial-*"):
            if time.time() - left.stat().st_mtime > 3600:  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
        self.stage = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
        self.there = {path.name.split("-", 3)[3]: path for path in self.folder.glob("offline-run-*-*")}

    def has(self, name: str, stamp: int) -> bool:
        mark = self.there.get(name, self.folder) / "mirrored"
        return mark.exists() and mark.read_text() == str(stamp)

    def keep(self, name: str, stamp: int) -> None:
        """Take over the run just finished, in the place of what an earlier attempt at it left."""
        (made,) = self.stage.glob(f"wandb/offline-run-*-{name}")
        (made / "mirrored").write_text(str(stamp))
        if name in self.there:
            shutil.rmtree(self.there[name], ignore_errors=True)
        ended = time.strftime("%Y%m%d_%H%M%S", time.gmtime(stamp / 1e9))
        self.there[name] = self.folder / f"offline-run-{ended}-{name}"  # viewers know runs by names like these
        with suppress(OSError):  # another mirror was quicker
            made.rename(self.there[name])

    def __str__(self) -> str:
        return str(self.folder)


class Online:
    """A project on a server, and a list of what has been sent there."""

    def __init__(self, into: Path) -> None:
        server, entity = os.environ.get("WANDB_BASE_URL", ""), os.environ.get("WANDB_ENTITY", "")
        self.project = "/".join(filter(None, [server, entity, os.environ.get("WANDB_PROJECT") or PROJECT]))
        self.sent = into / "wandb" / "sent.txt"
        records.make_folder(self.sent.parent)
        self.there = set(self.sent.read_text().splitlines()) if self.sent.exists() else set()
        self.stage = Path(tempfile.mkdtemp())

    def has(self, name: str, stamp: int) -> bool:
        return f"{self.project} {name} {stamp}" in self.there

    def keep(self, name: str, stamp: int) -> None:
        for copy in self.stage.glob(f"wandb/run-*-{name}"):
            shutil.rmtree(copy, ignore_errors=True)
        with self.sent.open("a") as file:
            file.write(f"{self.project} {name} {stamp}\n")

    def __str__(self) -> str:
        return self.project


class Mirror:
    """Shows runs by what their folders say."""

    def __init__(self, into: Path) -> None:
        self.online = os.environ["WANDB_MODE"] == "online"
        self.place = Online(into) if self.online else Offline(into)
        self.claims: dict[tuple[str, str], list[str]] = defaultdict(list)
        for claim in load_claims(CLAIMS).claims:
            for arm in dict.fromkeys(claim.arms()):
                self.claims[arm].append(claim.id)
        self.open: dict[Path, Run] = {}  # of those in progress

    def look(self, folder: Path) -> bool:
        """Show what a run's folder has that is not shown yet; whether no more will come of it."""
        name, ended = f"{folder.parent.name}-{folder.name}", stamped(folder)
        if ended is not None and self.place.has(name, ended):
            return True
        record = records.read_record(folder) or in_progress(folder)
        if record is None or (ended is None and not self.online):
            return False
        run = self.open.pop(folder, None) or self.opened(record)
        if ended is None:
            run.log(record["history"])
            self.open[folder] = run
            return False
        run.finish(record)
        self.place.keep(name, ended)
        return True

    def each(self, looks: Sequence[Callable[[], Any]], visible: bool) -> list[Any]:
        """What each look gives; online several at a time, with a bar where somebody waits."""
        with bar() as progress, ThreadPoolExecutor(AT_A_TIME if self.online else 1) as workers:
            found = workers.map(lambda look: look(), looks)
            return list(progress.track(found, len(looks), description="runs to wandb") if visible else found)

    def show(self, record: Record, stamp: int) -> None:
        """Show a whole record."""
        if not self.place.has(identifier(record), stamp):
            self.opened(record).finish(record)
            self.place.keep(identifier(record), stamp)

    def close(self) -> None:
        """End what is still followed: another process may go on with it."""
        for run in self.open.values():
            run.run.finish()
        shutil.rmtree(self.place.stage, ignore_errors=True)

    def opened(self, record: Record) -> Run:
        return Run(record, self.claims[record["experiment"], record["group"]], self.place.stage)

    def verdicts(self, results: Path) -> None:
        """Show the verdicts of a reproduction, where it has come to any, anew if they have changed."""
        path = results / "claims.json"
        verdicts = json.loads(path.read_text()) if path.exists() else []
        if verdicts and not self.place.has(verdicts_id(verdicts), time_of(path)):
            show_verdicts(verdicts, results, self.place.stage)
            self.place.keep(verdicts_id(verdicts), time_of(path))


def stamped(folder: Path) -> int | None:
    """When a run ended, with a record or by a failure; None while it has not."""
    if (folder / records.RESULT).exists():
        return time_of(folder / records.RESULT)
    failed = folder / records.FAILED
    return time_of(failed) if failed.exists() and not held(folder) else None


def time_of(path: Path) -> int:
    return path.stat().st_mtime_ns


def in_progress(folder: Path) -> Record | None:
    """What there is of a run that has no record: status `running`, or `failed`."""
    try:
        started: Record = json.loads((folder / records.CONFIG).read_text())
        failed = records.read_failure(folder)
        told = {"status": "failed", "final": {}, "timing": {"reason": failed["reason"]}} if failed else {}
        return {"status": "running", **started, **told, "history": list(rows(folder / "metrics.jsonl"))}
    except (OSError, ValueError):
        return None


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The evaluations so far; the last line may be half written."""
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(ValueError):
            yield json.loads(line)


def show_all(mirror: Mirror, results: Path) -> str:
    """Show everything below a results folder, or of a table of runs such as results/reference; what is there now."""
    jobs: list[Callable[[], Any]] = []
    if (results / "runs").is_dir():
        jobs = [partial(mirror.look, folder) for folder in sorted((results / "runs").glob("*/*"))]
    else:
        stamp, (table, _) = time_of(results / RUNS), read_table(results)
        jobs = [partial(mirror.show, {**row, "group": row["arm"]}, stamp) for row in table]
    found = mirror.each(jobs, visible=True)
    mirror.verdicts(results)
    unfinished = f" ({found.count(False)} have not ended)" if False in found else ""
    return f"{len(found) - found.count(False)} runs of {results} are in {mirror.place}{unfinished}"


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
        looks = [partial(mirror.look, folder) for folder in waiting]
        done = mirror.each(looks, visible=last)
        waiting = {folder: None for folder, no_more in zip(waiting, done, strict=True) if not no_more}
        pause = max(LOOK_AGAIN, rest * (time.process_time() - started))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.mirror", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"), help="(results) or results/reference")
    parser.add_argument("--into", type=Path, help="the folder to write wandb/ into; without it, that of the results")
    parser.add_argument("--follow", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    try:
        if find_spec("wandb") is None:
            raise records.SuiteError("wandb is not installed; make setup, or pip install wandb")
        if not options.follow and not any((options.results / name).exists() for name in ("runs", RUNS)):
            raise records.SuiteError(f"{options.results}: neither runs/ nor {RUNS}; make reproduce makes both")
        with closing(Mirror(options.into or options.results)) as mirror:
            if options.follow:
                return follow(mirror, sys.stdin)
            print(show_all(mirror, options.results))
    except (records.SuiteError, ValueError, OSError) as error:
        later = "; the records are whole, python -m experiments.mirror shows them later" if options.follow else ""
        sys.exit(f"{'' if options.follow else 'error: '}{error}{later}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
