"""Kill a sweep again and again; what is left in the end must be what an undisturbed one leaves.

    python scripts/chaos.py --kills 100

Runs a smoke reproduction undisturbed, then the same command in another folder, where at random moments something of
it is killed outright (SIGKILL): the command itself, one of its processes, or all of them. Each time the command is
given again, until it ends. Then all records must be the same but for `records.VOLATILE`, and so must be the report that
follows from them. Rounds are repeated in new folders until all kills are spent.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records.folder import KEPT, RESULT, RunFolder, stable
from experiments.records.table import read_table

CLAIMS = ("A1-mlp-small-batch", "B4-lstm-better", "A3-rnn-better", "B5-gap-worse", "T1-invariant", "P5.2-fisher-law")
WORKING = 4  # processes of a command that runs something: itself, the fork server, its tracker, a run
LONGEST = 3.0  # seconds until a kill, from the start of the command or from when it runs something


def command(results: Path) -> list[str]:
    chosen = [argument for claim in CLAIMS for argument in ("--claim", claim)]
    options = [f"results={results}", "tracking=none", "checkpoint_seconds=0.05", "updates=60"]
    return [sys.executable, "-m", "experiments.reproduce", "--scale", "smoke", *chosen, *options]


def start(results: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(results), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def kill(victims: list[int]) -> None:
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def wait_for_a_moment(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """Return when the command has ended; raises TimeoutExpired at a random moment, mostly while it runs runs."""
    if draw.random() < 0.8:
        while process.poll() is None and len(family(process.pid)) < WORKING:
            time.sleep(0.05)
    process.wait(draw.uniform(0, LONGEST))


def disturbed(results: Path, kills: int, draw: random.Random) -> int:
    """Run the command to its end, killed at most so many times; how often it was."""
    used = 0
    while True:
        process = start(results)
        while used < kills:
            try:
                wait_for_a_moment(process, draw)
                break
            except subprocess.TimeoutExpired:
                used += 1
                everyone = family(process.pid)
                how = draw.choice(("command", "one", "all"))
                kill({"command": [process.pid], "one": [draw.choice(everyone)], "all": everyone}[how])
                print(f"kill {used}: {how} of {len(everyone)} processes; {count(results)} records", flush=True)
        code = process.wait()
        if code == 0:
            return used
        if code != -signal.SIGKILL:
            print(f"the command ended by itself with exit code {code}; given again", flush=True)


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
    return [{key: value for key, value in row.items() if key != "seconds"} for row in folder.evaluations()]


def reports(results: Path) -> dict[str, bytes]:
    """Whatever stands beside the runs, without the time when it was made."""
    made = (read_table(results)[1].made or "").encode()
    files = [path for path in results.rglob("*") if path.is_file() and "runs" not in path.relative_to(results).parts]
    return {str(path.relative_to(results)): path.read_bytes().replace(made, b"") for path in files}


def check(results: Path, undisturbed: Path) -> None:
    differences = adopt_volatile(results, undisturbed)
    if not differences:
        subprocess.run(command(results), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        ours, theirs = reports(results), reports(undisturbed)
        differences = [f"another {name}" for name in sorted(theirs | ours) if ours.get(name) != theirs.get(name)]
    if differences:
        sys.exit("\n".join([*differences, f"error: {results} is not what {undisturbed} is"]))
    print(f"{count(results)} records and {len(reports(results))} files of the report: the same bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    options = parser.parse_args()
    base, draw, used = Path(tempfile.mkdtemp(prefix="chaos-")), random.Random(options.seed), 0
    began = time.monotonic()
    subprocess.run(command(base / "undisturbed"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    undisturbed = time.monotonic() - began
    print(f"undisturbed: {count(base / 'undisturbed')} records in {undisturbed:.0f} s", flush=True)
    while used < options.kills:
        results = base / "disturbed"
        used += disturbed(results, options.kills - used, draw)
        check(results, base / "undisturbed")
        shutil.rmtree(results)
    shutil.rmtree(base)
    print(f"{used} kills in {time.monotonic() - began:.0f} s: nothing lost, nothing doubled, nothing changed")


if __name__ == "__main__":
    main()
