"""The report is a pure function of the rows: a golden copy is kept, and every file is written whole.

tests/golden/rows.json are invented runs that reach every verdict; the files beside it are what they must give. After a
deliberate change of the report: REGENERATE_GOLDEN=1 python -m pytest tests/test_report.py, then read the difference
before committing it.
"""

import hashlib
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from experiments.reports.tables import markdown_table, verdict_table
from experiments.reports.write import main, overview, update_readme, write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import VERDICTS, Verdict, judge, read_verdicts

GOLDEN = Path(__file__).parents[1] / "golden"
COMMAND = "make reproduce"


@pytest.fixture(scope="module")
def verdicts(registry: Registry, rows: list[dict[str, Any]]) -> list[Verdict]:
    return judge(registry, rows)


@pytest.fixture(scope="module")
def folder(
    registry: Registry,
    rows: list[dict[str, Any]],
    verdicts: list[Verdict],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    target = tmp_path_factory.mktemp("report")
    write_report(registry, rows, verdicts, target, COMMAND)
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_golden_runs_reach_every_verdict(verdicts: list[Verdict]) -> None:
    assert {verdict.verdict for verdict in verdicts} == set(VERDICTS)


@pytest.mark.parametrize("name", ["report.md", "claims.json", "report.html", "evidence/language.html"])
def test_report_is_the_golden_one(folder: Path, name: str) -> None:
    written = without_drawings((folder / name).read_text(encoding="utf-8"))
    if os.environ.get("REGENERATE_GOLDEN"):
        (GOLDEN / name).write_text(written, encoding="utf-8")
    assert written == (GOLDEN / name).read_text(encoding="utf-8")


def without_drawings(text: str) -> str:
    """A page with a hash for each drawing and without style and script, which are files of their own."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.S)
    drawing = r"(<svg[^>]*>)(.*?)(?=</svg>)"
    return re.sub(drawing, lambda svg: svg[1] + hashlib.sha256(svg[2].encode()).hexdigest()[:12], text, flags=re.S)


def test_the_same_rows_in_any_order_give_the_same_bytes(
    folder: Path, registry: Registry, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    write_report(registry, shuffled, judge(registry, shuffled), tmp_path, COMMAND)
    assert contents(tmp_path) == contents(folder)


def test_every_figure_is_drawn_and_linked(folder: Path, verdicts: list[Verdict]) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    figures = sorted((folder / "figures").iterdir())
    for figure in figures:
        ElementTree.parse(figure)
        assert f"(figures/{figure.name})" in text
    names = {figure.name for figure in figures}
    assert {"G1-better-curves.svg", "G1-better-differences.svg", "G1-better-tuning.svg"} <= names
    for verdict in (v for v in verdicts if v.id != "G6-missing"):  # which has nothing to show yet
        assert f"{verdict.id}-{'bound' if verdict.kind == 'bound' else 'differences'}.svg" in names
        assert f"\n## {verdict.id}\n" in text and f"make reproduce CLAIM={verdict.id}" in text


def test_stale_figures_and_drafts_do_not_stay(
    registry: Registry, rows: list[dict[str, Any]], verdicts: list[Verdict], tmp_path: Path
) -> None:
    for stale in ("figures/old-claim.svg", "evidence/old-experiment.html"):
        (tmp_path / stale).parent.mkdir()
        (tmp_path / stale).write_text("<svg/>")
    (tmp_path / "runs.csv").write_text("kept")
    some = registry.select(["G7-invariant"])
    write_report(some, rows, verdicts[-1:], tmp_path, COMMAND)
    experiments = sorted({f"evidence/{row['experiment']}.html" for row in rows})
    kept = ["claims.json", *experiments, "figures/G7-invariant-bound.svg", "report.html", "report.md", "runs.csv"]
    assert sorted(contents(tmp_path)) == kept


def test_without_runs_the_report_says_so(registry: Registry, tmp_path: Path) -> None:
    verdicts = judge(registry, [])
    write_report(registry, [], verdicts, tmp_path, COMMAND)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.count("\n… **incomplete**: ") == len(registry.claims) and "](figures/" not in text
    assert not list((tmp_path / "figures").iterdir())


def test_synthetic_data_are_labelled(
    folder: Path, registry: Registry, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert "**Synthetic data**" in (folder / "report.md").read_text(encoding="utf-8")
    real = [row | {"synthetic": False} for row in rows]
    write_report(registry, real, judge(registry, real), tmp_path, COMMAND)
    assert "Synthetic" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_overview_counts_every_claim_once_and_tells_first_what_does_not_hold(verdicts: list[Verdict]) -> None:
    counts, rest = overview(verdicts, "report.md").split("Those not supported:")
    cells = [line.split("|")[1:-1] for line in counts.strip().splitlines()[2:]]
    numbers = [[int(cell) if cell.strip() else 0 for cell in row[1:]] for row in cells]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert sum(numbers[-1]) == len(verdicts)
    notable, every = rest.split("<details>")
    assert notable.count("](report.md#") == sum(verdict.verdict != "supported" for verdict in verdicts)
    assert markdown_table(verdicts, "report.md") in every


def test_readme_gets_the_table_between_its_markers(verdicts: list[Verdict], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- verdicts:begin -->\nold\n<!-- verdicts:end -->\nafter\n")
    for _ in range(2):  # again changes nothing
        update_readme(readme, verdicts, "results/reference/report.md")
        text = readme.read_text(encoding="utf-8")
        table = overview(verdicts, "results/reference/report.md")
        assert text == f"before\n<!-- verdicts:begin -->\n{table}\n<!-- verdicts:end -->\nafter\n"
    assert "[G1-better](results/reference/report.md#g1-better)" in text
    assert "layer norm \\| none" in text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        update_readme(readme, verdicts)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments.report", *map(str, arguments)])
    main()


def test_the_command_needs_only_claims_json(
    verdicts: list[Verdict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- verdicts:begin -->\nold\n<!-- verdicts:end -->\nafter\n")
    run_main(monkeypatch, GOLDEN / "claims.json", readme)
    lines = readme.read_text(encoding="utf-8").splitlines()
    expected = overview(verdicts, "results/reference/report.md").splitlines()
    assert lines == ["before", "<!-- verdicts:begin -->", *lines[2:-2], "<!-- verdicts:end -->", "after"]
    # An infinite estimate is null in JSON, its sign lost; every other cell is that of the report.
    infinite = [v.id for v in verdicts if v.estimate is not None and math.isinf(v.estimate)]
    assert infinite == ["G5-diverges"]
    assert lines[2:-2] == [line.replace("| -∞ |", "| not finite |") for line in expected]


@pytest.mark.parametrize(
    ("json_text", "page_text", "message"),
    [
        (None, "x", "claims.json does not exist; make reproduce"),
        ("[{", "x", "claims.json: not the verdicts of a report"),
        ("{}", "x", "claims.json: not the verdicts of a report (not a list)"),
        ('[{"id": "x"}]', "x", "claims.json: not the verdicts of a report (not a verdict: {'id': 'x'})"),
        ("[]", None, "README.md does not exist"),
        ("[]", "no markers", "README.md: the markers <!-- verdicts:begin --> and <!-- verdicts:end --> are missing"),
        ("[]", "<!-- verdicts:begin -->", "README.md: the markers"),
    ],
)
def test_the_command_says_in_one_line_what_is_missing(
    json_text: str | None, page_text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, page = tmp_path / "claims.json", tmp_path / "README.md"
    for path, text in ((given, json_text), (page, page_text)):
        if text is not None:
            path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, given, page)
    assert str(stop.value).startswith("error: ") and message in str(stop.value) and "\n" not in str(stop.value)
    assert not page.exists() or page.read_text() == page_text


def test_claims_json_can_be_read_back(folder: Path, verdicts: list[Verdict]) -> None:
    back = read_verdicts(folder / "claims.json")
    assert [verdict.as_dict() | {"interval": None} for verdict in back] == [
        verdict.as_dict() | {"interval": None} for verdict in verdicts
    ]


def test_terminal_table_is_plain_text_without_a_terminal(verdicts: list[Verdict]) -> None:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(verdict_table(verdicts))
    text = capture.get()
    assert "\x1b" not in text and "✔ supported" in text
    assert all(verdict.id in text for verdict in verdicts)


def test_analysis_imports_no_training() -> None:
    code = "import sys, experiments.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "hydra", "omegaconf", "wandb", "datasets"} & set(loaded)
