"""A report of chosen claims: these alone, what asking for few does to p, and a frozen study's verdicts beside them."""

from pathlib import Path

import pytest

from experiments import verify
from experiments.records.rows import Row
from experiments.records.table import Origin, read_table, write_table
from experiments.reports import beside
from experiments.reports.write import write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.verdicts import judge
from tests.conftest import GOLDEN

CHOSEN = ("G1-better", "G7-invariant")


@pytest.fixture
def chosen(report: Path, registry: Registry, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report of two claims beside the one of all, which is the frozen study here."""
    monkeypatch.setattr(beside, "REFERENCE", report.parent)
    some, origin = registry.select(CHOSEN), Origin("make reproduce CLAIM='G1* G7*'", None, CHOSEN, report.name)
    arms = some.arms()
    theirs = [row for row in rows if (row["experiment"], row["arm"]) in arms]
    write_table(theirs, tmp_path / "mine", origin)
    write_report(some, theirs, judge(some, theirs), tmp_path / "mine", origin)
    return tmp_path / "mine"


def test_it_shows_the_chosen_claims_beside_those_of_the_study(chosen: Path, registry: Registry) -> None:
    text = (chosen / "report.md").read_text(encoding="utf-8")
    assert f"Claims: {len(CHOSEN)} of {len(registry.claims)}, chosen; p is" in text
    assert [line[3:] for line in text.splitlines() if line.startswith("## G")] == [*CHOSEN]
    _, _, table = text.partition("## Beside results\n")
    assert "2 have the same verdict (agreed), 0 moved and 0 changed sides (opposed), on the same seeds." in table
    for name in CHOSEN:
        (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
        _, _, here, there, outcome, _ = line.split("|")
        assert here == there and outcome == " agreed "
    assert '<section id="beside">' in (chosen / "report.html").read_text(encoding="utf-8")


def test_its_table_says_what_it_is_of_so_that_it_can_be_verified(chosen: Path) -> None:
    assert read_table(chosen)[1] == Origin("make reproduce CLAIM='G1* G7*'", None, CHOSEN, "results")
    done, found = verify.verify(chosen, GOLDEN / "claims.yaml")
    assert found == [] and done.startswith("2 claims judged anew")


def test_fewer_claims_make_no_p_smaller(registry: Registry, rows: list[Row], verdicts: list[Verdict]) -> None:
    tested = [verdict for verdict in verdicts if verdict.p_holm is not None]
    assert len(tested) > 3
    for verdict in tested:
        some = registry.select([verdict.id])
        (alone,) = judge(some, [row for row in rows if (row["experiment"], row["arm"]) in some.arms()])
        assert alone.verdict == verdict.verdict and alone.p == verdict.p
        assert (alone.p_holm or 0) >= (verdict.p_holm or 0) > (verdict.p or 0)
