"""What is kept is complete, real and verified, and never half there."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import verify
from experiments.records.table import rounded
from scripts import freeze

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page, claims, a reference with a benchmark, and the golden runs in the place of records."""
    declared = yaml.safe_load((GOLDEN / "claims.yaml").read_text(encoding="utf-8"))
    declared["claims"] = [claim for claim in declared["claims"] if claim["id"] != "G6-missing"]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    (tmp_path / "README.md").write_text("<!-- verdicts:begin -->\n<!-- verdicts:end -->\n")
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "bench.csv").write_text("times")
    (tmp_path / "reference" / "old.md").write_text("of the last run")
    monkeypatch.setattr(freeze, "compose_arms", lambda overrides: {})
    monkeypatch.setattr(freeze, "check_claims", lambda registry, arms: None)
    rows = rounded(json.loads((GOLDEN / "rows.json").read_text(encoding="utf-8")))
    keep(monkeypatch, [row | {"synthetic": False, "scale": "laptop"} for row in rows])
    return tmp_path


def keep(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(freeze, "collect_rows", lambda arms: rows)


def run(place: Path) -> str:
    return freeze.freeze(Path("results"), place / "reference", place / "claims.yaml", place / "README.md")


def test_a_complete_run_is_kept_with_its_table_and_the_benchmark(place: Path) -> None:
    assert run(place).startswith("6 claims judged anew from 93 runs")
    names = {path.name for path in (place / "reference").iterdir()}
    assert {
        "runs.csv",
        "curves.csv",
        "configs.json",
        "claims.json",
        "report.md",
        "figures",
        "evidence",
        "bench.csv",
    } <= names
    assert "old.md" not in names
    assert "[G1-better](results/reference/report.md#g1-better)" in (place / "README.md").read_text(encoding="utf-8")
    kept = {path: path.read_bytes() for path in verify.files(place)}
    run(place)
    assert {path: path.read_bytes() for path in verify.files(place)} == kept
    assert not list(place.glob(".*"))


def test_what_is_incomplete_or_synthetic_is_refused_and_nothing_is_touched(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in verify.files(place)}
    rows = freeze.collect_rows({})
    keep(monkeypatch, [*rows[1:], rows[0] | {"synthetic": True}])
    with pytest.raises(ValueError, match=f"synthetic data are not kept: {rows[0]['experiment']}$"):
        run(place)
    keep(monkeypatch, [row | {"scale": "smoke"} for row in rows])
    with pytest.raises(ValueError, match="runs of scale smoke are not kept, only those of laptop"):
        run(place)
    keep(monkeypatch, [])
    with pytest.raises(ValueError, match=r"results: 6 claims are incomplete: G1-better, .* \.\.\.; run make reproduce"):
        run(place)
    assert {path: path.read_bytes() for path in verify.files(place)} == before


def test_a_kill_between_the_renames_loses_nothing(place: Path) -> None:
    (place / "reference").rename(freeze.aside(place / "reference"))
    run(place)
    assert (place / "reference" / "bench.csv").read_text() == "times"
    assert not list(place.glob(".*"))
