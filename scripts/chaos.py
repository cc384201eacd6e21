"""Strike a reproduction again and again; what is left in the end must be what an undisturbed one leaves.

    python scripts/chaos.py --kills 100

Runs a smoke reproduction undisturbed, then the same command in another folder, where at random moments a signal is sent
to the command, to its fork server, to one of its processes, or to all: KILL, TERM, INT, HUP, or STOP and, later,
CONT. It is given again until it ends well. Ending otherwise is a failure, unless a signal that was sent to the command
itself explains the exit code. Then all records must be the same but for `records.VOLATILE`, and so must be the report
that follows from them. Rounds are repeated in new folders until all strikes are spent.
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
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records.folder import KEPT, LOCK, RESULT, RunFolder, stable
from experiments.records.table import read_table

CLAIMS = ("A1-mlp-small-batch", "B4-lstm-better", "A3-rnn-better", "B5-gap-worse", "T1-invariant", "P5.2-fisher-law")
WORKING = 4  # processes of a command that runs something: itself, the fork server, its tracker, a run
SIGNALS = (*3 * [signal.SIGKILL], signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP)
MOST_SERVERS = 3  # fewer than the tries at a fork server
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


def forkserver(everyone: list[int]) -> list[int]:
    return [pid for pid in everyone if b"forkserver import main" in said(pid, "cmdline")]


def said(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def run_of(pid: int) -> str:
    """The run whose lock a process holds, if it is a worker."""
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if (path := Path(os.readlink(descriptor))).name == LOCK:
                    return path.parent.name
    return ""


def send(number: int, victims: list[int]) -> None:
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, number)


@dataclass
class Strikes:
    """Those on one start of the command."""

    draw: random.Random
    spared: set[str] = field(default_factory=set)  # runs hit once: a run that dies twice has failed, as it should
    servers: int = 0
    explained: set[int] = field(default_factory=set)  # exit codes, besides 0
    last: str = "nothing"

    def strike(self, pid: int) -> None:
        everyone = family(pid)
        number, target = self.draw.choice(SIGNALS), self.draw.choice(("command", "server", "one", "all"))
        server = forkserver(everyone)
        if target == "server" and self.servers == MOST_SERVERS:
            target = "all"
        victims = {"command": [pid], "server": server, "one": [self.draw.choice(everyone)], "all": everyone}[target]
        hit = {run_of(victim) for victim in victims} - {""}
        if target == "one" and (hit & self.spared or set(victims) & set(server)):
            victims, hit, target = [pid], set(), "command"
        self.servers += target == "server"
        self.spared |= hit
        send(number, victims)
        if number == signal.SIGSTOP:
            time.sleep(self.draw.uniform(0, 1))
            send(signal.SIGCONT, victims)
        elif pid in victims:
            self.explained |= {-number} if number == signal.SIGKILL else {-number, 128 + number}
        self.last = f"{signal.Signals(number).name}{' and CONT' if number == signal.SIGSTOP else ''} to {target}"


def wait_for_a_moment(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """Return when the command has ended; raises TimeoutExpired at a random moment, mostly while it runs runs."""
    if draw.random() < 0.8:
        while process.poll() is None and len(family(process.pid)) < WORKING:
            time.sleep(0.05)
    process.wait(draw.uniform(0, LONGEST))


def disturbed(results: Path, most: int, draw: random.Random, ends: Counter[tuple[str, int]]) -> int:
    """Run the command until it ends well, struck at most so many times; how often it was."""
    used = 0
    while True:
        process, strikes = start(results), Strikes(draw)
        while used < most:
            try:
                wait_for_a_moment(process, draw)
                break
            except subprocess.TimeoutExpired:
                used += 1
                strikes.strike(process.pid)
                print(f"strike {used}: {strikes.last}; {count(results)} records", flush=True)
                if strikes.explained:  # it is ending
                    break
        code = process.wait()
        ends[strikes.last, code] += 1
        if code == 0:
            return used
        if code not in strikes.explained:
            sys.exit(f"error: the command ended with exit code {code} after {strikes.last}; its words stand above")


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
    ends: Counter[tuple[str, int]] = Counter()
    began = time.monotonic()
    subprocess.run(command(base / "undisturbed"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    undisturbed = time.monotonic() - began
    print(f"undisturbed: {count(base / 'undisturbed')} records in {undisturbed:.0f} s", flush=True)
    while used < options.kills:
        results = base / "disturbed"
        used += disturbed(results, options.kills - used, draw, ends)
        check(results, base / "undisturbed")
        shutil.rmtree(results)
    shutil.rmtree(base)
    print("the last signal on a start of the command, its exit code, how often:")
    for (last, code), number in sorted(ends.items()):
        print(f"  {last:<24} {code:>4} {number:>4}")
    print(f"{used} strikes in {time.monotonic() - began:.0f} s: nothing lost, nothing doubled, nothing changed")


if __name__ == "__main__":
    main()
