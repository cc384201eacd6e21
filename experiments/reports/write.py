"""The report: verdicts and the runs behind them as claims.json, report.md, report.html and small figures.

A pure function of the recorded runs: the same rows give the same bytes, a changed report is a changed result.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.records import files
from experiments.records.arm_rows import group_runs
from experiments.records.printable import printable
from experiments.records.rows import Row
from experiments.records.table import Origin
from experiments.reports.claim_figures import claim_pictures
from experiments.reports.page import EVIDENCE, contents, figure_file, html, text
from experiments.reports.run_pages import run_pages
from experiments.reports.sentences import measured_arms, trained_arms
from experiments.reports.series_figures import series_pictures
from experiments.reports.svg import level
from experiments.verdicts.claims import Registry
from experiments.verdicts.claims_json import claims_json
from experiments.verdicts.verdict import Verdict


def write_report(
    registry: Registry, rows: Iterable[Row], verdicts: Sequence[Verdict], folder: str | Path, origin: Origin
) -> None:
    """Write report.html, report.md, claims.json, figures and the runs' pages to `folder`, each whole or not at all.

    Other figures and pages of runs go.
    """
    folder, runs = Path(folder), group_runs(rows)
    claims = {claim.id: claim for claim in registry.family}
    pictures = {verdict.id: claim_pictures(claims[verdict.id], verdict, runs) for verdict in verdicts}
    pictures |= {name: series_pictures(arms) for name, arms in (trained_arms(runs) | measured_arms(runs)).items()}
    told = contents(registry, runs, verdicts, origin, pictures)
    figures: dict[str, str] = {}
    for name, row in pictures.items():
        for picture, drawing in zip(row, level([picture.drawing for picture in row]), strict=True):
            figures[Path(figure_file(name, picture)).name] = drawing.standalone(picture.gist)
    plain = [claim["verdict"].as_dict() | {"reason": claim["reason"]} for claim in told["claims"]]
    _write_all(folder / "figures", figures, "*.svg")
    _write_all(folder / EVIDENCE, run_pages(registry, runs, verdicts, origin), "*.html")
    for name, content in (("html", html(told)), ("md", text(told))):
        _write(folder / f"report.{name}", content)
    _write(folder / "claims.json", claims_json(plain, origin))


def _write_all(folder: Path, contents: Mapping[str, str], kind: str) -> None:
    """Write these files, which the same command writes again; others of their kind go."""
    files.make_folder(folder)
    for name, content in contents.items():
        _write(folder / files.one_name("file", name), content, lasting=False)
    for stale in folder.glob(kind):
        if stale.name not in contents:
            stale.unlink()


def _write(path: Path, content: str, *, lasting: bool = True) -> None:
    files.write(path, printable(content, keep="\n"), lasting=lasting)
