"""Tables of the arms behind a claim."""

from experiments.records.arm_rows import group_runs
from experiments.reports.tables import arm_columns
from tests.invented import SEEDS, arms, claim, verdict


def test_how_long_each_arm_takes_to_the_controls_level_is_told_in_updates_and_in_cpu_seconds() -> None:
    """Layer is there after half of its updates, each of which takes 1.5 times as long."""
    rows = arms([0.5] * SEEDS, [1.0] * SEEDS)
    for row in rows:
        layer = row["arm"] == "layer"
        row["history"] = [
            {
                "update": 10 * k,
                "cpu_seconds": (1.5 if layer else 1.0) * k,
                "validation_loss": 2.0 - (0.5 + layer / 2) * k,
            }
            for k in (1, 2)
        ]
    shown = arm_columns(claim(), verdict(rows), group_runs(rows))
    assert shown["updates to none's final validation loss"] == ["10.0 (0.50×)", "20.0 (1.00×)"]
    assert shown["CPU seconds to none's final validation loss"] == ["1.50 (0.75×)", "2.00 (1.00×)"]
    for row in rows:  # layer never is, and older records have no CPU time
        row["history"] = [{"update": 10, "validation_loss": 3.0 if row["arm"] == "layer" else 2.0}]
    shown = arm_columns(claim(), verdict(rows), group_runs(rows))
    assert shown["updates to none's final validation loss"] == ["never", "10.0 (1.00×)"]
    assert not any(name.startswith("CPU") for name in shown)
