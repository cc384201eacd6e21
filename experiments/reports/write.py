"""The report: verdicts and the runs behind them as claims.json, report.md, report.html and small figures.

A pure function of the recorded runs: the same rows give the same bytes, a changed report is a changed result.
`python -m experiments.report results/claims.json README.md` puts the verdicts into a page, from claims.json alone.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.records.rows import Row, Runs, group_runs
from experiments.reports.claim_figures import Picture, claim_pictures
from experiments.reports.page import EVIDENCE, page
from experiments.reports.panel import standalone
from experiments.reports.run_pages import run_pages
from experiments.reports.sentences import (
    ABOUT,
    MEANING,
    MEASURED,
    SYNTHETIC,
    TITLE,
    command_of,
    counts,
    facts,
    is_synthetic,
    measured_arms,
    method,
    outlook,
    setup,
    timed_arms,
    timing_text,
    trained_arms,
)
from experiments.reports.series_figures import series_pictures
from experiments.reports.tables import (
    SYMBOLS,
    arm_columns,
    counts_columns,
    experiment_columns,
    markdown,
    markdown_table,
    measurement_columns,
    step_time_columns,
)
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.verdicts import SUPPORTED, Verdict, claims_json, read_verdicts


def write_report(
    registry: Registry, rows: Iterable[Row], verdicts: Sequence[Verdict], folder: str | Path, command: str
) -> None:
    """Write report.html, report.md, claims.json, figures and the runs' pages to `folder`, each by rename.

    Other figures and pages of runs go.
    """
    folder, runs = Path(folder), group_runs(rows)
    claims = {claim.id: claim for claim in registry.family}
    pictures = {verdict.id: claim_pictures(claims[verdict.id], verdict, runs) for verdict in verdicts}
    pictures |= {name: series_pictures(arms) for name, arms in (trained_arms(runs) | measured_arms(runs)).items()}
    figures: dict[str, str] = {}
    for name, row in pictures.items():
        files = standalone([picture.svg for picture in row])
        figures |= {f"{name}-{picture.name}.svg": file for picture, file in zip(row, files, strict=True)}
    _write_all(folder / "figures", figures, "*.svg")
    _write_all(folder / EVIDENCE, run_pages(registry, runs, verdicts), "*.html")
    _write(folder / "report.html", page(registry, runs, verdicts, command, pictures).encode())
    _write(folder / "report.md", report_text(registry, runs, verdicts, command, pictures).encode())
    _write(folder / "claims.json", claims_json(verdicts).encode())


def _write_all(folder: Path, files: Mapping[str, str], kind: str) -> None:
    """Write these files; others of their kind go."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        _write(folder / name, text.encode())
    for stale in folder.glob(kind):
        if stale.name not in files:
            stale.unlink()


def update_readme(readme: str | Path, verdicts: Sequence[Verdict], report: str = "results/reference/report.md") -> None:
    """Replace what stands between the verdicts markers of a page. Raises ValueError if it, or they, are missing."""
    replace_marked(Path(readme), "verdicts", overview(verdicts, report))


def overview(verdicts: Sequence[Verdict], report: str) -> str:
    """The verdicts for a page that has more to tell: counts, what is not simply supported, and, folded away, all."""
    notable = [verdict for verdict in verdicts if verdict.verdict != SUPPORTED]
    every = (
        f"<details><summary>All {len(verdicts)} claims</summary>\n\n{markdown_table(verdicts, report)}\n\n</details>"
    )
    parts = [
        markdown(counts_columns(verdicts)),
        *(["Those not supported:", markdown_table(notable, report)] if notable else []),
    ]
    return "\n\n".join([*parts, every])


def replace_marked(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers `name` of a page. Raises ValueError if it, or they, are missing."""
    if not page.is_file():
        raise ValueError(f"{page} does not exist")
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page}: the markers {first} and {last} are missing")
    _write(page, f"{before}{begin}\n{text}\n{end}{after}".encode())


# ------------------------------------------------------------------------------------------------------ text


def report_text(
    registry: Registry,
    runs: Runs,
    verdicts: Sequence[Verdict],
    command: str,
    pictures: Mapping[str, Sequence[Picture]] | None = None,
) -> str:
    """report.md: overview, then a section for each claim. `pictures` are those of each claim and experiment."""
    claims, drawn = {claim.id: claim for claim in registry.family}, pictures or {}
    body = [f"# {TITLE}", *_introduction(registry, runs, verdicts, command), "## Verdicts", markdown_table(verdicts)]
    body.append("## How to read the verdicts")
    body.append("\n".join(f"- {SYMBOLS[name]} **{name}**: {text}" for name, text in MEANING.items()))
    body.append(method(registry))
    body += [_section(claims[verdict.id], verdict, runs, drawn.get(verdict.id, ())) for verdict in verdicts]
    if timed := timed_arms(runs):
        body += ["## Time per update", timing_text(timed), markdown(step_time_columns(timed))]
    if trained := trained_arms(runs):
        body += ["## All arms", "Mean ± sd over the evaluation seeds."]
    for name, arms in trained.items():
        body += filter(None, [f"### {name}", markdown(experiment_columns(arms)), _images(name, drawn.get(name, ()))])
    if measured := measured_arms(runs):
        body += ["## All measurements", MEASURED]
    for name, arms in measured.items():
        body += filter(None, [f"### {name}", markdown(measurement_columns(arms)), _images(name, drawn.get(name, ()))])
    return "\n\n".join(body) + "\n"


def _introduction(registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str) -> list[str]:
    told = facts(registry, runs)
    made = told.pop("Made with", "")
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts(verdicts).items())
    line = f"Scale {told['Scale']} · {registry.seeds} seeds per arm · {told['Runs']} · {found or 'no claims'}"
    lines = [ABOUT, f"{line} · made by `{command}`", f"Runs made with {made}." if made else ""]
    return [text for text in (*lines, SYNTHETIC if is_synthetic(runs) else "") if text]


def _section(claim: Claim, verdict: Verdict, runs: Runs, pictures: Sequence[Picture]) -> str:
    compared, *made = setup(claim, verdict, runs)
    parts = [
        f"## {claim.id}",
        f"**{claim.statement}** ({claim.source})",
        f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**: {verdict.reason}",
        _images(claim.id, pictures),
        f"Set-up: {compared}",
        "\n".join(made),
        markdown(arm_columns(claim, verdict, runs)),
        "\n".join(f"- {term}: {text}" for term, text in outlook(claim).items()),
        f"```sh\n{command_of(claim)}\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def _images(name: str, pictures: Iterable[Picture]) -> str:
    """Side by side where there is room."""
    return " ".join(f"![{name}: {picture.caption}](figures/{name}-{picture.name}.svg)" for picture in pictures)


def _write(path: Path, content: bytes) -> None:
    """Write by rename: readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


# ------------------------------------------------------------------------------------------------------ page


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report", description="Write the verdict table of a claims.json into a page."
    )
    parser.add_argument("verdicts", help="what make reproduce wrote: results/claims.json")
    parser.add_argument("page", help="the page, README.md: what stands between the verdicts markers is replaced")
    options = parser.parse_args()
    try:
        update_readme(options.page, read_verdicts(options.verdicts))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
