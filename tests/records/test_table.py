"""The table of runs: read back it judges as the runs did, and damage is told by file and line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.records.table import FILES, Origin, TableError, read_table, rounded, write_table
from tests.invented import row

ORIGIN = Origin("make reproduce SCALE=laptop", "2026-01-02T03:04:05+00:00")
ENVIRONMENT = {"torch": "2", "device": "cpu", "commit": "abc", "kernel": None}


def full_row(arm: str, seed: int, value: float | None, **changes: Any) -> dict[str, Any]:
    """A row as a record gives it: with configuration, environment and curve, without what only tests carry."""
    optim = {"name": "adam", "learning_rate": 0.01, "schedule": "linear"}
    config = {"method": "train", "norm": arm, "seed": seed, "evaluations": 2, "model": {"name": "mlp", "gain": None}}
    config |= {"optim": optim}
    history = [{"update": 10 * k, "seconds": 0.25 * k, "validation_loss": value} for k in (1, 2)]
    one = row(arm, seed, value, config=config, environment=ENVIRONMENT, history=history) | changes
    return {key: one[key] for key in one if key != "tuned"}


def some_rows() -> list[dict[str, Any]]:
    untuned: dict[str, Any] = {"learning_rate": None, "history": [], "final": {"effect": -0.0, "count": 46080.0}}
    exact = full_row("exact", 0, None, **untuned)
    exact["config"] = exact["config"] | {"optim": exact["config"]["optim"] | {"learning_rate": None}}
    reference = full_row("layer", 1, 1e-12, environment=ENVIRONMENT | {"kernel": "native"}, synthetic=True)
    diverged = full_row("none", 1, None, status="diverged", timing={})
    return [full_row("none", 0, 0.123456789), diverged, full_row("layer", 0, 2.5e9), reference, exact]


def written(rows: list[dict[str, Any]], folder: Path) -> dict[str, bytes]:
    write_table(rows, folder, ORIGIN)
    return {name: (folder / name).read_bytes() for name in FILES}


def test_rows_come_back_with_every_value_and_the_order_of_options(tmp_path: Path) -> None:
    rows = some_rows()
    written(rows, tmp_path)
    back, origin = read_table(tmp_path)
    assert origin == ORIGIN
    assert sorted(back, key=lambda one: one["run"]) == sorted(rows, key=lambda one: one["run"])
    assert [list(one["config"]["model"]) for one in back] == [["name", "gain"]] * 5
    assert not list(tmp_path.glob(".*"))  # no drafts


def test_any_order_of_rows_is_the_same_bytes_and_so_is_a_table_written_again(tmp_path: Path) -> None:
    rows = some_rows()
    first = written(rows, tmp_path)
    random.Random(1).shuffle(rows)
    assert written(rows, tmp_path) == first
    assert written(read_table(tmp_path)[0], tmp_path) == first


def test_tuning_runs_may_be_evaluated_less_often(tmp_path: Path) -> None:
    tuning = full_row("layer", 1000, 2.0, role="tune", history=[{"update": 20, "validation_loss": 2.0}])
    tuning["config"] = tuning["config"] | {"evaluations": 1}
    written([full_row("layer", 0, 2.5), tuning], tmp_path)
    found = {row["role"]: row["config"]["evaluations"] for row in read_table(tmp_path)[0]}
    assert found == {"evaluate": 2, "tune": 1}
    other = full_row("layer", 1, 2.5)
    with pytest.raises(TableError, match="not that of arm 'layer'"):
        written([full_row("layer", 0, 2.5), other | {"config": other["config"] | {"norm": "none"}}], tmp_path)


@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_a_rounded_number_is_written_without_loss(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    final = rounded({f"m{place}": value for place, value in enumerate(values)})
    write_table([full_row("layer", 0, 1.0, final=final)], folder, ORIGIN)
    assert read_table(folder)[0][0]["final"] == final == rounded(final)


def test_a_curve_shared_by_two_arms_is_there_once(tmp_path: Path) -> None:
    shared = [full_row("layer", 0, 1.0, experiment="lm"), full_row("layer", 0, 1.0, experiment="lm") | {"arm": "again"}]
    written(shared, tmp_path)
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 1 + 2
    assert [one["history"] for one in read_table(tmp_path)[0]] == [shared[0]["history"]] * 2


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def without_last_line(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


DAMAGE: list[tuple[str, Callable[[str], str] | None, str]] = [
    ("runs.csv", None, "runs.csv does not exist; make reproduce writes it anew"),
    ("configs.json", None, "configs.json does not exist"),
    ("runs.csv", lambda text: text[:-1], "runs.csv, line 6: cut off"),
    ("runs.csv", lambda text: text[:-9], "runs.csv, line 6: "),
    ("runs.csv", without_last_line, "runs.csv: has 4 of 5 runs"),
    ("runs.csv", lambda text: "", "runs.csv, line 1: the columns must be different and begin with experiment, arm"),
    ("runs.csv", replaced("diverged", "divreged"), "line 6: status: 'divreged' is not one of completed, diverged"),
    ("runs.csv", replaced("0.123456789", "0.12345678g"), "line 5: test_loss: '0.12345678g' is not a number"),
    ("runs.csv", replaced("0.123456789", "inf"), "line 5: test_loss: 'inf' is not a number"),
    ("runs.csv", replaced("none-s1", "none-s0"), "curves.csv, line 8: run 'none-s1' of 'lm' is not in runs.csv"),
    ("runs.csv", replaced("laptop,0,", "laptop,zero,"), "line 2: seed: 'zero' is not a whole number"),
    ("runs.csv", replaced("false,1,", "false,7,"), "environment: 7 is not one of the 2 of configs.json"),
    (
        "runs.csv",
        lambda text: text + text.splitlines(keepends=True)[-1],
        "line 7: run none-s1 of lm/none is there twice",
    ),
    ("runs.csv", replaced("nan", '"nan'), "runs.csv, line "),
    ("curves.csv", without_last_line, "curves.csv: run none-s1 has 1 of 2 evaluations"),
    ("curves.csv", replaced(",0.5,", ","), "curves.csv, line 3: 4 cells, expected 5"),
    ("configs.json", lambda text: text[:-9], "configs.json, line "),
    (
        "configs.json",
        replaced('"layout": 1', '"layout": 0'),
        "not the configurations of a table (layout 0",
    ),
    ("configs.json", lambda text: "[]", "configs.json: not the configurations of a table (no layout)"),
    ("configs.json", replaced('"runs"', '"rums"'), "configs.json: not the configurations of a table (no runs)"),
    ("configs.json", replaced('"optim"', '"optimiser"'), "table (an arm of lm lacks optim)"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE)
def test_damage_is_told_in_one_line(
    name: str, change: Callable[[str], str] | None, message: str, tmp_path: Path
) -> None:
    written(some_rows(), tmp_path)
    if change is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(change((tmp_path / name).read_text()))
    with pytest.raises(TableError) as told:
        read_table(tmp_path)
    assert message in str(told.value) and "\n" not in str(told.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    written(some_rows(), tmp_path)
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(TableError, match=r"runs\.csv: not text"):
        read_table(tmp_path)


def test_without_runs_the_table_is_empty(tmp_path: Path) -> None:
    written([], tmp_path)
    assert read_table(tmp_path) == ([], ORIGIN)


def test_a_table_that_does_not_say_when_it_was_made_stays_as_it_is(tmp_path: Path) -> None:
    write_table(some_rows(), tmp_path / "old", Origin("make reproduce"))
    about = (tmp_path / "old" / "configs.json").read_text()
    assert "made" not in about
    rows, origin = read_table(tmp_path / "old")
    write_table(rows, tmp_path / "new", origin)
    assert (tmp_path / "new" / "configs.json").read_text() == about
