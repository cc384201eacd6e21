"""Strike commands again and again; what is left in the end must be what undisturbed ones leave.

    python scripts/chaos.py --kills 100

At random moments a signal is sent to the command, to its fork server, to one of its processes, or to all: KILL, TERM,
INT, HUP, or STOP and, later, CONT. It is given again until it ends well. Ending otherwise is a failure, unless a signal
that was sent to the command itself explains the exit code. Four phases divide the strikes:

reproduction  a smoke reproduction; all records must be those of an undisturbed one but for `records.VOLATILE`
report        the same, with all runs done, while it writes the report and its tables: the same bytes
data          `python -m data` as it fetches and prepares; the same files, nothing beside them
kernels       `python -m models.kernels` as it compiles; a library that loads, nothing beside it
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records.folder import KEPT, RESULT, RunFolder, stable
from experiments.records.table import read_table
from scripts.strikes import Ends, Moment, family, until_well

CLAIMS = ("A1-mlp-small-batch", "B4-lstm-better", "A3-rnn-better", "B5-gap-worse", "T1-invariant", "P5.2-fisher-law")
WORKING = 4  # processes of a command that runs something: itself, the fork server, its tracker, a run
LONGEST = 3.0  # seconds until a strike, from the start of the command or from when it runs something
SHARES = {"report": 6, "data": 10, "kernels": 20}  # every so many strikes one; the others are of the reproduction
DATA = [sys.executable, "-m", "data", "text"]
KERNELS = [sys.executable, "-m", "models.kernels"]


def reproduction(results: Path) -> list[str]:
    chosen = [argument for claim in CLAIMS for argument in ("--claim", claim)]
    options = [f"results={results}", "tracking=none", "checkpoint_seconds=0.05", "updates=60"]
    return [sys.executable, "-m", "experiments.reproduce", "--scale", "smoke", *chosen, *options]


def quietly(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def while_it_runs(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """A moment after it has begun to run runs, mostly; else one after its start."""
    if draw.random() < 0.8:
        while process.poll() is None and len(family(process.pid)) < WORKING:
            time.sleep(0.05)
    at_once(process, draw)


def at_once(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, LONGEST))


class WhileItWrites:
    """A moment after it has written the first file beside the runs."""

    def __init__(self, results: Path) -> None:
        self.results = results

    def __call__(self, process: subprocess.Popen[bytes], draw: random.Random) -> None:
        for path in self.results.iterdir():
            if path.name != "runs":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        while process.poll() is None and len(list(self.results.iterdir())) < 2:
            time.sleep(0.002)
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, 0.3))


def count(results: Path) -> int:
    return len(list(results.glob("runs/*/*/" + RESULT)))


def adopt_volatile(results: Path, undisturbed: Path) -> list[str]:
    """Give records the volatile values of their undisturbed twins; what else differs, in a line each."""
    differences = []
    folders = [{str(path.relative_to(base)) for path in base.glob("runs/*/*")} for base in (results, undisturbed)]
    differences += [f"only in one of both: {name}" for name in sorted(folders[0] ^ folders[1])]
    for name in sorted(folders[0] & folders[1]):
        ours, theirs = (RunFolder(base / name) for base in (results, undisturbed))
        record, twin = ours.record(), theirs.record()
        if record is None or twin is None or stable(record) != stable(twin):
            differences.append(f"another record: {name}")
            continue
        left = sorted(path.name for path in ours.path.iterdir() if path.name not in KEPT)
        differences += [f"left behind: {name}/{other}" for other in left]
        if untimed(ours) != untimed(theirs):
            differences.append(f"other evaluations: {name}")
        ours.finish(twin)
    return differences


def untimed(folder: RunFolder) -> list[dict[str, Any]]:
    """The evaluations of a run, without their times."""
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in folder.evaluations()]


def reports(results: Path) -> dict[str, bytes]:
    """Whatever stands beside the runs, without the time when it was made."""
    made = (read_table(results)[1].made or "").encode()
    files = [path for path in results.rglob("*") if path.is_file() and "runs" not in path.relative_to(results).parts]
    return {str(path.relative_to(results)): path.read_bytes().replace(made, b"") for path in files}


def check(results: Path, undisturbed: Path) -> None:
    differences = adopt_volatile(results, undisturbed)
    if not differences:
        quietly(reproduction(results))
        ours, theirs = reports(results), reports(undisturbed)
        differences = [f"another {name}" for name in sorted(theirs | ours) if ours.get(name) != theirs.get(name)]
    if differences:
        sys.exit("\n".join([*differences, f"error: {results} is not what {undisturbed} is"]))
    print(f"{count(results)} records and {len(reports(results))} files of the report: the same bytes", flush=True)


def phases(base: Path, kills: dict[str, int], draw: random.Random, ends: Ends) -> None:
    undisturbed, results, cache = base / "undisturbed", base / "disturbed", base / "cache"
    quietly(reproduction(undisturbed))
    if kills["data"]:
        until_well("data", DATA, {"LAYERNORM_DATA": str(base / "whole")}, 0, at_once, draw, ends)

    def reproduced(phase: str, moment: Moment, most: int) -> int:
        used = until_well(phase, reproduction(results), {}, most, moment, draw, ends)
        check(results, undisturbed)
        return used

    def fetched(most: int) -> int:
        place = {"LAYERNORM_DATA": str(base / "struck")}
        used = until_well("data", DATA, place, most, at_once, draw, ends, child_dies=[1])
        same_files(base / "struck", base / "whole")
        shutil.rmtree(base / "struck")
        return used

    def compiled(most: int) -> int:
        place = {"XDG_CACHE_HOME": str(cache)}
        used = until_well("kernels", KERNELS, place, most, at_once, draw, ends, child_dies=[1])
        left = sorted(path.name for path in cache.rglob("*") if path.is_file())
        if left != ["layernorm_kernels.so", "lock"] or subprocess.run(KERNELS, env=os.environ | place).returncode:
            sys.exit(f"error: beside the kernels there is {left}")
        shutil.rmtree(cache)
        return used

    def afresh(most: int) -> int:
        shutil.rmtree(results, ignore_errors=True)
        return reproduced("reproduction", while_it_runs, most)

    spend(kills["reproduction"], afresh)
    spend(kills["report"], lambda most: reproduced("report", WhileItWrites(results), most))
    spend(kills["data"], fetched)
    spend(kills["kernels"], compiled)


def spend(kills: int, attempt: Callable[[int], int]) -> None:
    """Round after round until so many strikes are spent; an attempt gets how many are left, gives how many it took."""
    while kills > 0:
        kills -= attempt(kills)


def same_files(ours: Path, theirs: Path) -> None:
    found = [contents(base) for base in (ours, theirs)]
    if different := [name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name)]:
        sys.exit(f"error: {ours} and {theirs} differ in {', '.join(sorted(different))}")


def contents(base: Path) -> dict[str, bytes]:
    """Of all files below, but for when they were last found whole."""
    files = [path for path in base.rglob("*") if path.is_file() and path.name != "verified.json"]
    return {str(path.relative_to(base)): path.read_bytes() for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    options = parser.parse_args()
    kills = {phase: options.kills // share for phase, share in SHARES.items()}
    kills["reproduction"] = options.kills - sum(kills.values())
    base, ends, began = Path(tempfile.mkdtemp(prefix="chaos-")), Counter[tuple[str, str, int]](), time.monotonic()
    phases(base, kills, random.Random(options.seed), ends)
    shutil.rmtree(base)
    print("phase, last signal on a start of the command, its exit code, how often:")
    for (phase, last, code), number in sorted(ends.items()):
        print(f"  {phase:<13} {last:<28} {code:>4} {number:>4}")
    seconds = time.monotonic() - began
    print(f"{options.kills} strikes in {seconds:.0f} s: nothing lost, nothing doubled, nothing changed")


if __name__ == "__main__":
    main()
