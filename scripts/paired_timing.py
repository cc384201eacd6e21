"""Alternatives timed in turns, each in a process of its own.

So what one of them sets for its process (memory, matrix products) is not there for another, and one of plain PyTorch
stays plain. They take turns, round by round, so that whatever else the machine does slows them all; each round gives
each alternative's ratio to the first.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median, quantiles

import torch

Call = Callable[[], object]  # what is timed
Start = Callable[[], Call]  # what makes it, in its own process
ROUND_SECONDS = 0.05  # of each alternative


@dataclass
class Alternative:
    implementation: str
    norm: str
    start: Start
    threads: int = 1
    times: int = 1  # that a call does what is timed


@dataclass
class Timing:
    milliseconds: float  # median; of processor time, with more than one thread of wall time
    spread: float  # interquartile range of the ratios
    ratio: float  # to the first alternative: median over the rounds


def compare(
    alternatives: Sequence[Alternative], rounds: int, *, advance: Callable[[], None] = lambda: None
) -> list[Timing]:
    """Time what each alternative starts, in turns; `advance` is called after each round."""
    clock = time.process_time if all(a.threads == 1 for a in alternatives) else time.perf_counter
    wires = [served(alternative, clock) for alternative in alternatives]
    seconds_of = [ask(wire, 3) * a.times for wire, a in zip(wires, alternatives, strict=True)]
    calls = [max(round(ROUND_SECONDS / of_a_call), 1) for of_a_call in seconds_of]
    seconds: list[list[float]] = [[] for _ in wires]
    for turn in range(rounds):
        for i in range(len(wires))[:: -1 if turn % 2 else 1]:
            seconds[i].append(ask(wires[i], calls[i]))
        advance()
    for wire in wires:
        wire.send(0)
    return [timing(own, seconds[0]) for own in seconds]


def timing(seconds: list[float], reference: list[float]) -> Timing:
    ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
    lower, middle, upper = quantiles(ratios, n=4)
    return Timing(1e3 * median(seconds), upper - lower, middle)


def ask(wire: Connection, calls: int) -> float:
    """Seconds of what is timed, over so many calls of one alternative."""
    wire.send(calls)
    seconds: float = wire.recv()
    return seconds


def served(alternative: Alternative, clock: Callable[[], float]) -> Connection:
    """The wire to a new process that makes the call as often as it is asked to, until asked for none."""
    here, there = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")  # of this process, which never computes: closures need no pickling
    fork.Process(target=serve, args=(alternative, clock, there), daemon=True).start()
    there.close()
    return here


def serve(alternative: Alternative, clock: Callable[[], float], wire: Connection) -> None:
    torch.set_num_threads(alternative.threads)
    call = alternative.start()
    call()
    for calls in iter(wire.recv, 0):
        started = clock()
        for _ in range(calls):
            call()
        wire.send((clock() - started) / (calls * alternative.times))
