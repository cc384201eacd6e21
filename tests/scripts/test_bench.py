"""The benchmark's way of timing: in turns, in processes of their own. What it finds is never asserted."""

import csv
import os
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from models import cnn, mlp
from scripts import bench, bench_cases, paired_timing
from scripts.paired_timing import Alternative, Call, Start


def test_alternatives_take_turns_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "ROUND_SECONDS", 0.0)
    path, rounds = tmp_path / "calls", []

    def start(name: str) -> Start:
        def call() -> None:
            with path.open("a") as file:
                print(name, os.getpid(), file=file)

        return lambda: call

    alternatives = [Alternative(name, "none", start(name)) for name in "ab"]
    a, b = paired_timing.compare(alternatives, 3, advance=lambda: rounds.append(len(path.open().readlines())))
    names, processes = zip(*map(str.split, path.read_text().splitlines()), strict=True)
    assert "".join(names[-6:]) == "abbaab" and len({*processes, str(os.getpid())}) == 3
    assert [after - before for before, after in pairwise(rounds)] == [2, 2]
    assert a.ratio == 1 and a.spread == 0 and b.milliseconds > 0


def test_an_alternative_that_fails_ends_the_benchmark() -> None:
    def fail() -> Call:
        raise SystemExit(1)

    with pytest.raises((EOFError, ConnectionError)):
        paired_timing.compare([Alternative("fails", "none", fail)], 3)


def test_every_training_step_runs_and_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(bench, "QUICK_ROUNDS", 2)
    tiny = (mlp.Config(hidden_sizes=[8]), cnn.Config(depth=1, width=4), cnn.Config(depth=2, width=4))
    monkeypatch.setattr(bench_cases, "NETS", dict(zip(bench_cases.NETS, tiny, strict=True)))
    bench.main(quick=True, only="training step", output=tmp_path / "bench.csv")
    rows = list(csv.DictReader((tmp_path / "bench.csv").open()))
    assert list(rows[0]) == [field.name for field in fields(bench.Row)]
    assert {row["implementation"] for row in rows} == set(bench_cases.STEPS)
    assert [row["ratio_to_torch"] for row in rows if row["implementation"] == bench_cases.STEPS[0]] == ["1.0"] * 5


def test_every_recurrent_alternative_runs_and_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(bench, "QUICK_ROUNDS", 2)
    monkeypatch.setattr(bench_cases, "SHAPES", ((3, 2, 8), (4, 3, 5), (3, 1, 8)))
    bench.main(quick=True, only="layer lstm", output=tmp_path / "bench.csv")
    rows = list(csv.DictReader((tmp_path / "bench.csv").open()))
    norms = {row["norm"] for row in rows if row["implementation"] == bench_cases.NATIVE}
    assert norms == {"none", "layer", "batch"} and {row["cell"] for row in rows} == {"lstm"}
    assert (tmp_path / "bench.svg").read_text().count("T3 B2 H8") == 1
    table = bench.summary([bench.Row(**{**row, "ratio_to_torch": float(row["ratio_to_torch"])}) for row in rows])
    assert table.count("\n") == 6 and "| lstm, 3, 1, 8 | 1 |" in table


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_the_scripted_lstm_is_our_layer() -> None:
    """The benchmark compares like with like (in the GRU only the cost is alike: one norm for all gates)."""
    scripted = bench_cases.Scripted("lstm", 8, normalized=True)
    ours = bench_cases.CELLS["lstm"](8, "layer", 5, bench_cases.RecurrentConfig(cell="lstm", hidden_size=8))
    with torch.no_grad():
        for linear, weight in ((scripted.W_x, ours.W_x), (scripted.W_h, ours.W_h)):
            linear.weight.copy_(weight.t())
            linear.bias.zero_()
    x = torch.randn(5, 3, 8)
    torch.testing.assert_close(torch.jit.script(scripted)(x)[0], ours(x)[0])
