"""Curves in characters, and the tables they stand in."""

import io
from typing import Any

import pytest
from rich.console import Console

from experiments.dashboards.sparklines import (
    BLOCKS,
    MOST,
    PLAIN,
    WIDEST,
    LossScale,
    arm_tables,
    mean_curve,
    sparkline,
    tell_arms,
)
from experiments.sweeps.arm import Outcome


def record(losses: list[float | None], **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"status": "completed", "config": {"optim": {"learning_rate": 0.03}}}
    plain["history"] = [{"update": update, "validation_loss": loss} for update, loss in enumerate(losses)]
    return plain | {"final": {"validation_loss": losses[-1], "test_loss": 2.0, "test_error": 0.25}} | changes


def shown(*arms: Outcome, plain: bool = False, width: int = 100) -> str:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii" if plain else "utf-8")
    console = Console(width=width, color_system=None, file=terminal)
    with console.capture() as captured:
        for table in arm_tables(arms, console):
            console.print(table)
    return captured.get()


def test_a_curve_falls_from_the_highest_character_to_the_lowest() -> None:
    scale = LossScale.around([1.0, 9.0])
    assert sparkline([9.0, 5.0, 1.0], scale, BLOCKS) == "█▅▁" and not scale.log
    assert sparkline([9.0, 5.0, 1.0], scale, PLAIN) == "#+_"
    assert sparkline([2.0], LossScale.around([2.0]), BLOCKS) == "▁"
    assert sparkline([], LossScale.around([]), BLOCKS) == ""


def test_losses_of_several_decades_are_drawn_by_their_logarithms() -> None:
    scale = LossScale.around([1e-3, 1.0, 1e3])
    assert scale.log and sparkline([1e3, 1.0, 1e-3], scale, BLOCKS) == "█▅▁"
    assert not LossScale.around([0.0, 100.0]).log


def test_a_long_curve_keeps_its_ends() -> None:
    losses = [1000.0 - place for place in range(1000)]
    line = sparkline(losses, LossScale.around(losses), BLOCKS)
    assert len(line) == WIDEST and line[0] == "█" and line[-1] == "▁"
    assert list(line) == sorted(line, reverse=True)


def test_the_mean_ends_where_the_first_run_diverged() -> None:
    assert mean_curve([record([4.0, 2.0, 1.0]), record([2.0, 1.0, None])]) == [3.0, 1.5]
    assert mean_curve([record([4.0, 2.0]), record([2.0])]) == [3.0]
    assert mean_curve([]) == []


def test_an_arm_is_a_line() -> None:
    diverged = record([4.0, None], status="diverged", final={"validation_loss": None, "test_loss": None})
    arms = Outcome("lm", "layer", 3, [record([4.0, 1.0]), record([4.0, 2.0])]), Outcome("lm", "none", 3, [diverged])
    text = shown(*arms, Outcome("lm", "batch", 3, []))
    layer, none, batch = (
        next(line.split() for line in text.splitlines() if name in line) for name in ("layer", "none", "batch")
    )
    assert layer == ["layer", "█▁", "2/3", "0.03", "1.50", "±", "0.71", "2.00", "±", "0"]
    assert none == ["none", "█", "1/3", "0.03", "-", "-", "1"]
    assert batch == ["batch", "0/3", "-", "-", "-"]
    assert "losses from 1.50 to 4.00" in text and "undefined" not in text
    plain = shown(*arms, plain=True)
    assert "#_" in plain and "1.50 +- 0.71" in plain


def test_each_experiment_has_its_own_metrics_and_scale() -> None:
    bits = record([2.0, 1.0], final={"validation_bits_per_character": 1.0, "test_bits_per_character": 3.0})
    measured: dict[str, Any] = {"status": "undefined", "config": {"optim": {"learning_rate": None}}, "history": []}
    measured["final"] = {"company_effect": 0.5, "residual": 1.0, "third": 1.0}
    text = shown(Outcome("lm", "layer", 1, [bits]), Outcome("exact", "layer", 1, [measured]))
    assert "bits per" in text and "losses from 1.00 to 2.00" in text
    assert "company" in text and "residual" in text and "third" not in text and "undefined" in text
    alone = shown(Outcome("exact", "layer", 1, [measured]))
    assert alone in text and "losses" not in alone and "0.500" in alone and "±" not in alone


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_table_fits_its_terminal_and_shows_every_name_and_the_result(width: int) -> None:
    losses: list[float | None] = [3.0 - at / 40 for at in range(40)]
    final = {"validation_bits_per_character": 4.125, "test_bits_per_character": 4.375}
    arms = [
        Outcome("lm", f"{norm} data=text batch_size=16", 2, [record(losses, final=final)] * 2)
        for norm in ("none", "layer")
    ]
    text = shown(*arms, Outcome("lm", "layer data=text batch_size=2", 2, []), width=width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert "all with data=text" in words and text.count("data=text") == 1 and "…" not in text
    assert text.count("batch_size=16") == 2 and text.count("4.38 ± 0") == 2 and "2/2" in text
    assert text.count("4.12 ± 0") == (2 if width >= 80 else 0)


def test_many_arms_are_not_told_but_how_to_see_them(capsys: pytest.CaptureFixture[str]) -> None:
    arms = [Outcome("lm", f"arm{place}", 1, []) for place in range(MOST + 1)]
    tell_arms(arms)
    assert capsys.readouterr().err == f"{MOST + 1} arms: layernorm status --experiment <name> shows their curves\n"
    tell_arms(arms[1:])
    assert capsys.readouterr().err.count("arm") == MOST
