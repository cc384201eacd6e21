"""The benchmark's way of timing: in turns, in processes of their own. What it finds is never asserted."""

import csv
import os
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from scripts import bench


def test_alternatives_take_turns_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.0)
    path, rounds = tmp_path / "calls", []

    def start(name: str) -> bench.Start:
        def call() -> None:
            with path.open("a") as file:
                print(name, os.getpid(), file=file)

        return lambda: call

    found = bench.compare({n: start(n) for n in "ab"}, 3, advance=lambda: rounds.append(len(path.open().readlines())))
    names, processes = zip(*map(str.split, path.read_text().splitlines()), strict=True)
    assert "".join(names[-6:]) == "abbaab" and len({*processes, str(os.getpid())}) == 3
    assert [after - before for before, after in pairwise(rounds)] == [2, 2]
    assert found["a"].ratio == 1 and found["a"].spread == 0 and found["b"].milliseconds > 0


def test_an_alternative_that_fails_ends_the_benchmark() -> None:
    def fail() -> bench.Call:
        raise SystemExit(1)

    with pytest.raises((EOFError, ConnectionError)):
        bench.compare({"fails": fail}, 3)


def test_every_training_step_runs_and_the_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(bench, "QUICK_ROUNDS", 2)
    tiny = (bench.mlp.Config(hidden_sizes=[8]), bench.cnn.Config(depth=1, width=4), bench.cnn.Config(depth=2, width=4))
    monkeypatch.setattr(bench, "NETS", dict(zip(bench.NETS, tiny, strict=True)))
    bench.main(quick=True, only="training step", output=tmp_path / "bench.csv")
    rows = list(csv.DictReader((tmp_path / "bench.csv").open()))
    assert list(rows[0]) == [field.name for field in fields(bench.Row)]
    assert {row["implementation"] for row in rows} == set(bench.STEPS)
    assert [row["ratio_to_torch"] for row in rows if row["implementation"] == bench.STEPS[0]] == ["1.0"] * 5
