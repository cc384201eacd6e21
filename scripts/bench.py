"""How long things take here beside plain PyTorch: a table, and results/reference/bench.csv.

    python scripts/bench.py [--quick] [--only TEXT]

The alternatives of a case live in processes of their own, so that what one of them sets for its process (memory,
matrix products) is not there for another, and one of plain PyTorch stays plain. They take turns, round by round, so
that whatever else the machine does slows them all; each round gives each alternative's ratio to the first.
"""

import argparse
import csv
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

import torch
import torch._dynamo  # which optimisers import, each in its process, if it is not there

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import models  # noqa: E402
from data import Spec  # noqa: E402
from experiments import machine  # noqa: E402
from experiments.progress import bar  # noqa: E402
from experiments.train import make_optimizer  # noqa: E402
from models import cnn, mlp  # noqa: E402

Call = Callable[[], None]  # what is timed
Start = Callable[[], Call]  # what makes it, in its own process
ROUNDS, QUICK_ROUNDS = 41, 7
ROUND_SECONDS = 0.05  # of each alternative


@dataclass
class Timing:
    milliseconds: float  # median; of processor time, with more than one thread of wall time
    spread: float  # interquartile range of the ratios
    ratio: float  # to the first alternative: median over the rounds


@dataclass
class Case:
    """Alternatives that do the same; the first is PyTorch's own."""

    section: str
    net: str
    norm: str
    steps: int | None  # of a sequence
    batch: int
    hidden: int
    alternatives: dict[str, Start]
    threads: int = 1


@dataclass
class Row:
    """A line of the table: one alternative of one case."""

    section: str
    net: str
    norm: str
    implementation: str
    T: int | None
    B: int
    H: int
    threads: int
    milliseconds: float
    spread: float
    ratio_to_torch: float


def compare(
    alternatives: dict[str, Start], rounds: int, *, threads: int = 1, advance: Call = lambda: None
) -> dict[str, Timing]:
    """Time what each alternative starts, in turns; `advance` is called after each round."""
    wires = {name: served(start, threads) for name, start in alternatives.items()}
    calls = {name: max(round(ROUND_SECONDS / ask(wire, 3)), 1) for name, wire in wires.items()}
    seconds: dict[str, list[float]] = {name: [] for name in wires}
    for turn in range(rounds):
        for name in list(wires)[:: -1 if turn % 2 else 1]:
            seconds[name].append(ask(wires[name], calls[name]))
        advance()
    for wire in wires.values():
        wire.send(0)
    first = next(iter(seconds.values()))
    return {name: timing(own, first) for name, own in seconds.items()}


def timing(seconds: list[float], reference: list[float]) -> Timing:
    ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
    lower, middle, upper = quantiles(ratios, n=4)
    return Timing(1e3 * median(seconds), upper - lower, middle)


def ask(wire: Connection, calls: int) -> float:
    """Seconds a call of one alternative, over so many calls."""
    wire.send(calls)
    seconds: float = wire.recv()
    return seconds


def served(start: Start, threads: int) -> Connection:
    """The wire to a new process that calls what `start` gives as often as it is asked to, until asked for none."""
    here, there = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")  # of this process, which never computes: closures need no pickling
    fork.Process(target=serve, args=(start, threads, there), daemon=True).start()
    there.close()
    return here


def serve(start: Start, threads: int, wire: Connection) -> None:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    call = start()
    call()
    for calls in iter(wire.recv, 0):
        started = clock()
        for _ in range(calls):
            call()
        wire.send((clock() - started) / calls)


# Whole training steps: loss, gradients and Adam's update

ADAM = SimpleNamespace(name="adam", learning_rate=1e-3)
MNIST = Spec("image", (1, 28, 28), 10)
STEPS = ("plain PyTorch", "+ fused Adam", "+ product", "+ kept memory", "+ channels last")  # each with those before it
NETS: dict[str, Any] = {
    "mlp": mlp.Config(hidden_sizes=[1000, 1000]),
    "cnn 2 layers": cnn.Config(depth=2, width=32, head="flatten", hidden_size=64),
    "cnn 16 layers": cnn.Config(depth=16, width=16, head="flatten"),
}


def training_steps() -> Iterator[Case]:
    for net, batch in (("mlp", 128), ("mlp", 4), ("mlp", 1), ("cnn 2 layers", 32), ("cnn 16 layers", 32)):
        config = NETS[net]
        hidden, done = (config.width, 5) if net.startswith("cnn") else (config.hidden_sizes[0], 4)
        alternatives = {STEPS[i]: training_step(config, batch, STEPS[: i + 1]) for i in range(done)}
        yield Case("training step", net, "layer", None, batch, hidden, alternatives)


def training_step(config: Any, batch: int, done: tuple[str, ...]) -> Start:
    def start() -> Call:
        if "+ product" in done:
            machine.choose_product(batch)
        if "+ kept memory" in done:
            machine.keep_memory()
        model: Any = models.build(config, "layer", MNIST, 0)
        if "+ channels last" not in done:
            model.to(memory_format=torch.contiguous_format)
        plain = "+ fused Adam" not in done
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3) if plain else make_optimizer(model, ADAM)
        batches = cycle([(torch.rand(batch, *MNIST.input_shape), torch.randint(10, (batch,))) for _ in range(64)])

        def step() -> None:
            loss, _ = model.loss(next(batches), None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    return start


SECTIONS: tuple[Callable[[], Iterator[Case]], ...] = (training_steps,)


def measure(cases: list[Case], rounds: int) -> Iterator[Row]:
    with bar() as progress:
        task = progress.add_task("", total=len(cases) * rounds)
        for case in cases:
            progress.update(task, description=f"{case.section}: {case.net} {case.norm}, batch {case.batch}")
            found = compare(case.alternatives, rounds, threads=case.threads, advance=lambda: progress.advance(task))
            for name, timing in found.items():
                shape = (case.steps, case.batch, case.hidden, case.threads)
                numbers = (round(timing.milliseconds, 4), round(timing.spread, 3), round(timing.ratio, 3))
                yield Row(case.section, case.net, case.norm, name, *shape, *numbers)


def main(quick: bool, only: str, output: Path | None) -> None:
    cases = [case for section in SECTIONS for case in section() if only in f"{case.section} {case.net} {case.norm}"]
    rows = []
    for row in measure(cases, QUICK_ROUNDS if quick else ROUNDS):
        rows.append(row)
        size = f"B{row.B} H{row.H}" if row.T is None else f"T{row.T} B{row.B} H{row.H}"
        label = f"{row.net} {row.norm} {size}" + (f" {row.threads} threads" if row.threads > 1 else "")
        print(
            f"{label:32}{row.implementation:24}{row.milliseconds:9.3f} ms{row.ratio_to_torch:7.2f} ± {row.spread:.2f}"
        )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times beside plain PyTorch.")
    parser.add_argument("--quick", action="store_true", help="a sixth of the rounds, and no file unless named")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose section, net or norm contains this")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: results/reference/bench.csv")
    options = parser.parse_args()
    partial = options.quick or options.only
    main(options.quick, options.only, options.output or (None if partial else ROOT / "results/reference/bench.csv"))
