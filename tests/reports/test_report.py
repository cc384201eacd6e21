"""The report is a pure function of the rows: a golden copy is kept, and every file is written whole.

tests/golden/rows.json are invented runs that reach every verdict; the files beside it are what they must give. After a
deliberate change: REGENERATE_GOLDEN=1 python -m pytest tests/reports/test_report.py, then read the difference before
committing it.
"""

import hashlib
import json
import os
import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from experiments.records.rows import Row
from experiments.records.table import Origin
from experiments.reports.tables import verdict_table
from experiments.reports.write import write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.claims_json import read_claims, read_verdicts
from experiments.verdicts.verdict import VERDICTS, Verdict
from experiments.verdicts.verdicts import judge
from tests.conftest import GOLDEN, ORIGIN


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["report.md", "claims.json", "report.html", "evidence/language.html"])
def test_report_is_the_golden_one(report: Path, name: str) -> None:
    written = without_drawings((report / name).read_text(encoding="utf-8"))
    if os.environ.get("REGENERATE_GOLDEN"):
        (GOLDEN / name).write_text(written, encoding="utf-8")
    assert written == (GOLDEN / name).read_text(encoding="utf-8")


def without_drawings(text: str) -> str:
    """A page with a hash for each drawing and without style and script, which are files of their own."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)
    drawing = r"(<svg[^>]*>)(.*?)(?=</svg>)"
    return re.sub(drawing, lambda svg: svg[1] + hashlib.sha256(svg[2].encode()).hexdigest()[:12], text, flags=re.S)


def test_the_same_rows_in_any_order_give_the_same_bytes(
    report: Path, registry: Registry, rows: list[Row], tmp_path: Path
) -> None:
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    write_report(registry, shuffled, judge(registry, shuffled), tmp_path, ORIGIN)
    made = contents(report)
    assert contents(tmp_path) == {name: made[name] for name in contents(tmp_path)}


def test_every_figure_is_drawn_and_linked(report: Path, verdicts: list[Verdict]) -> None:
    assert {verdict.verdict for verdict in verdicts} == set(VERDICTS)
    figures = list((report / "figures").iterdir())
    for figure in figures:
        ElementTree.parse(figure)
    linked = re.findall(r"\(figures/([^)]*)\)", (report / "report.md").read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(figure.name for figure in figures)
    shown = {name.rpartition("-")[0] for name in linked if name.endswith(("-differences.svg", "-bound.svg"))}
    assert shown == {verdict.id for verdict in verdicts} - {"G6-missing"}  # which has nothing to show yet


def test_stale_figures_and_drafts_do_not_stay(
    registry: Registry, rows: list[Row], verdicts: list[Verdict], tmp_path: Path
) -> None:
    for stale in ("figures/old-claim.svg", "evidence/old-experiment.html"):
        (tmp_path / stale).parent.mkdir()
        (tmp_path / stale).write_text("<svg/>")
    (tmp_path / "runs.csv").write_text("kept")
    write_report(registry.select(["G7-invariant"]), rows, verdicts[-1:], tmp_path, ORIGIN)
    experiments = sorted({f"evidence/{row['experiment']}.html" for row in rows})
    kept = ["claims.json", *experiments, "figures/G7-invariant-bound.svg", "report.html", "report.md", "runs.csv"]
    assert sorted(contents(tmp_path)) == kept


def test_without_runs_the_report_says_so(registry: Registry, tmp_path: Path) -> None:
    write_report(registry, [], judge(registry, []), tmp_path, Origin("make reproduce"))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("\n… **incomplete**: ") == len(registry.claims) and "](figures/" not in text
    assert "made by `make reproduce`\n" in text and read_claims(tmp_path / "claims.json")[1].made is None
    assert not list((tmp_path / "figures").iterdir())


def test_synthetic_data_are_labelled(report: Path, registry: Registry, rows: list[Any], tmp_path: Path) -> None:
    assert "**Synthetic data**" in (report / "report.md").read_text(encoding="utf-8")
    real = [row | {"synthetic": False} for row in rows]
    write_report(registry, real, judge(registry, real), tmp_path, ORIGIN)
    assert "Synthetic" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_no_time_is_shown_that_depends_on_what_else_ran(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "ms per update" not in text
    evidence = (report / "evidence" / "language.html").read_text(encoding="utf-8")
    assert "<td>0.320 (50 %)</td>" in evidence and "wall seconds" not in evidence


def test_claims_json_can_be_read_back_also_as_it_was_once(
    report: Path, verdicts: list[Verdict], tmp_path: Path
) -> None:
    plain, origin = read_claims(report / "claims.json")
    assert origin == ORIGIN and all(entry["reason"].endswith(".") for entry in plain)
    for entry, back, verdict in zip(plain, read_verdicts(report / "claims.json"), verdicts, strict=True):
        assert back.as_dict() | {"interval": None} == verdict.as_dict() | {"interval": None}
        for key in ("kept", "missing", "doubt"):
            del entry[key]
    old = tmp_path / "claims.json"
    old.write_text(json.dumps(plain[:1]))
    assert [verdict.id for verdict in read_verdicts(old)] == ["G1-better"]
    assert read_claims(old)[1] == Origin("")


@pytest.mark.parametrize("text", [None, "[{", "{}", '[{"id": "x"}]', '{"verdicts": [{}]}'])
def test_other_files_are_refused_in_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"claims\.json( does not exist|: not the verdicts of a report)") as told:
        read_verdicts(path)
    assert "\n" not in str(told.value)


def test_terminal_table_is_plain_text_without_a_terminal(verdicts: list[Verdict]) -> None:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(verdict_table(verdicts))
    text = capture.get()
    assert "\x1b" not in text and "✔ supported" in text
    assert all(verdict.id in text for verdict in verdicts)
