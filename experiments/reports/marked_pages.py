"""What README.md and docs/verdicts.md show of the frozen studies, between markers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.records import files
from experiments.records.studies import scale_of
from experiments.reports.summary import Line, summary
from experiments.reports.tables import SYMBOLS, Places, anchor, counts_columns, markdown, markdown_table
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdict import INCOMPLETE, SUPPORTED, Verdict

README, VERDICTS = PAGES = "README.md", "docs/verdicts.md"
FROZEN = "results/reference"
Studies = Mapping[str, Sequence[Verdict]]  # by name, the one that counts most first


def update_pages(root: Path, registry: Registry, studies: Studies, headline: str) -> None:
    """Replace what stands between the markers of the pages below `root`.

    Raises ValueError if a page, or one of its markers, is missing.
    """
    report = f"../{FROZEN}/{headline}/report.md"
    replace_marked(root / README, "summary", in_short(registry, studies))
    replace_marked(root / README, "counts", markdown(counts_columns(studies[headline])))
    replace_marked(root / VERDICTS, "verdicts", overview(studies[headline], registry.places, report))


def first_answers(studies: Studies) -> dict[str, tuple[str, Verdict]]:
    """Of each claim the study that counts most among those that answer it, and its verdict."""
    found: dict[str, tuple[str, Verdict]] = {}
    for name, verdicts in studies.items():
        if not scale_of(name)[1]:
            found = {v.id: (name, v) for v in verdicts if v.verdict != INCOMPLETE} | found
    return found


def in_short(registry: Registry, studies: Studies) -> str:
    """The findings that are told first, a line for each."""
    found = first_answers(studies)
    lines = summary(registry, [verdict for _, verdict in found.values()])
    links = {name: f"{FROZEN}/{study}/report.md#{anchor(verdict)}" for name, (study, verdict) in found.items()}
    return "\n".join(bullet(line, links) for line in lines if line.finding.first)


def bullet(line: Line, links: Mapping[str, str]) -> str:
    told = line.verdict or line.claims[0]
    return f"- {SYMBOLS[line.outcome]} [{line.finding.topic}]({links[told.id]}): {line.text} ({line.counts})"


def overview(verdicts: Sequence[Verdict], places: Places, report: str) -> str:
    """The verdicts for a page that has more to tell: what is not simply supported, then all."""
    notable = [verdict for verdict in verdicts if verdict.verdict != SUPPORTED]
    parts = ["## Not supported", markdown_table(notable, places, report)] if notable else []
    return "\n\n".join([*parts, f"## All {len(verdicts)}", markdown_table(verdicts, places, report)])


def replace_marked(page: Path, name: str, content: str) -> None:
    """Replace what stands between the markers `name` of a page. Raises ValueError if it, or they, are missing."""
    if not page.is_file():
        raise ValueError(f"{page} does not exist")
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page}: the markers {first} and {last} are missing")
    files.write(page, f"{before}{begin}\n{content}\n{end}{after}")
