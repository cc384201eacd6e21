"""What is kept is complete, real and verified, and never half there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.records.rows import Row
from experiments.verify import files
from scripts import freeze
from tests.conftest import GOLDEN


@pytest.fixture
def laptop(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The invented runs, as if they could be kept."""
    return [row | {"synthetic": False, "scale": "laptop"} for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A page, claims that all have their runs, and a reference with a benchmark."""
    declared = yaml.safe_load((GOLDEN / "claims.yaml").read_text(encoding="utf-8"))
    declared["claims"] = [claim for claim in declared["claims"] if claim["id"] != "G6-missing"]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    (tmp_path / "README.md").write_text("<!-- verdicts:begin -->\n<!-- verdicts:end -->\n")
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "bench.csv").write_text("times")
    (tmp_path / "reference" / "old.md").write_text("of the last run")
    return tmp_path


def keep(rows: Sequence[Row], place: Path) -> str:
    return freeze.keep(rows, place / "reference", place / "claims.yaml", place / "README.md")


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files(place)}


def test_a_complete_run_is_kept_with_its_table_and_the_benchmark(place: Path, laptop: list[dict[str, Any]]) -> None:
    assert keep(laptop, place).startswith("6 claims judged anew from 93 runs")
    names = {path.name for path in (place / "reference").iterdir()}
    assert {"runs.csv", "curves.csv", "configs.json", "claims.json", "report.md", "figures", "evidence"} <= names
    assert "bench.csv" in names and "old.md" not in names and not list(place.glob(".*"))
    assert "[G1-better](results/reference/report.md#g1-better)" in (place / "README.md").read_text(encoding="utf-8")


def test_what_is_incomplete_or_synthetic_is_refused_and_nothing_is_touched(
    place: Path, laptop: list[dict[str, Any]]
) -> None:
    before, first = contents(place), laptop[0]
    for rows, why in (
        ([*laptop[1:], first | {"synthetic": True}], f"synthetic data are not kept: {first['experiment']}$"),
        ([row | {"scale": "smoke"} for row in laptop], "^runs of scale smoke are not kept, only those of laptop"),
        ([], r"^6 claims are incomplete: G1-better, .* \.\.\.; run make reproduce"),
    ):
        with pytest.raises(ValueError, match=why):
            keep(rows, place)
    assert contents(place) == before


def test_a_kill_between_the_renames_loses_nothing(place: Path, laptop: list[dict[str, Any]]) -> None:
    (place / "reference").rename(freeze.aside(place / "reference"))
    keep(laptop, place)
    assert (place / "reference" / "bench.csv").read_text() == "times"
    assert not list(place.glob(".*"))
