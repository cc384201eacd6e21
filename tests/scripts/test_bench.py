"""The benchmark's way of timing: in turns, in processes of their own. What it finds is never asserted."""

import os
from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from models import cnn, language_model, mlp
from models.options import RecurrentConfig
from models.rnn import CELLS
from scripts import bench, bench_cases, paired_timing
from scripts.bench_cases import Case
from scripts.paired_timing import Alternative, Call, Start


@pytest.fixture(autouse=True)
def one_call_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "ROUND_SECONDS", 0.0)


def measured(cases: Iterable[Case]) -> list[bench.Row]:
    return list(bench.measure([replace(case, rounds=2) for case in cases]))


def test_alternatives_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    path, rounds = tmp_path / "calls", list[int]()

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


def test_every_training_step_runs() -> None:
    tiny = (mlp.Config(hidden_sizes=[8]), *(cnn.Config(depth=depth, width=4) for depth in (1, 2)))
    configs = (*tiny, language_model.Config(hidden_size=4))
    specs = (spec for _, spec in bench_cases.NETS.values())
    nets = dict(zip(bench_cases.NETS, zip(configs, specs, strict=True), strict=True))
    rows = measured(bench_cases.training_steps(nets))
    assert {row.implementation for row in rows} == set(bench_cases.STEPS)
    assert [row.ratio_to_torch for row in rows if row.implementation == bench_cases.STEPS[0]] == [1.0] * 7
    table = bench.updates_summary(rows)
    assert table.count("\n") == 8 and "| mlp, batch 128, width 8 | 1 |" in table


def test_every_recurrent_alternative_runs_and_is_tabulated_and_drawn(tmp_path: Path) -> None:
    rows = measured(bench_cases.recurrent_layers(["lstm"], [(3, 2, 8), (4, 3, 5), (3, 1, 8)]))
    assert {row.norm for row in rows if row.implementation == bench_cases.NATIVE} == {"none", "layer", "batch"}
    bench.write(rows, tmp_path / "bench.csv")
    heading, *lines = (tmp_path / "bench.csv").read_text().splitlines()
    assert heading.split(",") == [field.name for field in fields(bench.Row)] and len(lines) == len(rows)
    assert (tmp_path / "bench.svg").read_text().count("T3 B2 H8") == 1
    table = bench.summary(rows)
    assert table.count("\n") == 4 and "| lstm, 3, 1, 8 | 1 |" in table


def test_only_what_is_asked_for_is_timed(tmp_path: Path) -> None:
    bench.main(quick=True, only="no such net", output=tmp_path / "bench.csv")
    assert len((tmp_path / "bench.csv").read_text().splitlines()) == 1


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_the_scripted_lstm_is_our_layer() -> None:
    """The benchmark compares like with like (in the GRU only the cost is alike: one norm for all gates)."""
    scripted = bench_cases.Scripted("lstm", 8, normalized=True)
    ours = CELLS["lstm"](8, "layer", 5, RecurrentConfig(cell="lstm", hidden_size=8))
    with torch.no_grad():
        for linear, weight in ((scripted.W_x, ours.W_x), (scripted.W_h, ours.W_h)):
            linear.weight.copy_(weight.t())
            linear.bias.zero_()
    x = torch.randn(5, 3, 8)
    torch.testing.assert_close(torch.jit.script(scripted)(x)[0], ours(x)[0])
