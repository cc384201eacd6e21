"""Strikes on a command and its processes, at random moments, and which exit codes they explain."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from experiments.records.folder import LOCK

ROOT = Path(__file__).resolve().parent.parent
SIGNALS = (*3 * [signal.SIGKILL], signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP)
MOST_SERVERS = 3  # fewer than the tries at a fork server
STARTING = "Fatal Python error: init_import_site"  # so Python itself tells Ctrl-C in its first hundredths of a second

Moment = Callable[[subprocess.Popen[bytes], random.Random], None]  # waits for it; returns if the command has ended
Ends = Counter[tuple[str, str, int]]  # phase, last signal and target, exit code


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
    child_dies: set[int] = field(default_factory=set)  # with what it ends where a process that it needs was struck
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
        else:
            self.explained |= self.child_dies
            if pid in victims:
                self.explained |= {-number} if number == signal.SIGKILL else {-number, 128 + number}
        self.last = f"{signal.Signals(number).name}{' and CONT' if number == signal.SIGSTOP else ''} to {target}"


def until_well(
    phase: str,
    command: list[str],
    environment: dict[str, str],
    most: int,
    moment: Moment,
    draw: random.Random,
    ends: Ends,
    child_dies: Iterable[int] = (),
) -> int:
    """Give a command until it ends well, struck at most so many times; how often it was."""
    used = 0
    while True:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        strikes = Strikes(draw, set(child_dies))
        while used < most and not strikes.explained:  # then it is ending
            moment(process, draw)
            if process.poll() is not None:
                break
            used += 1
            strikes.strike(process.pid)
            print(f"{phase}, strike {used}: {strikes.last}", flush=True)
        words = process.communicate()[1].decode(errors="replace")
        ends[phase, strikes.last, process.returncode] += 1
        if process.returncode == 0:
            return used
        if strikes.explained and STARTING in words:
            continue
        if process.returncode not in strikes.explained or "Traceback" in words:
            sys.exit(f"{words}\nerror: {phase} ended with exit code {process.returncode} after {strikes.last}")
