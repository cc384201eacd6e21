"""Verdicts beside those of another study of the same claims: in a report, on the page of all studies, in a terminal."""

from collections.abc import Sequence

from experiments.records.studies import REFERENCE
from experiments.reports.tables import Columns, estimate_text, outcome_text
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.replication import Repeated, agreement, compared
from experiments.verdicts.units import as_factor, told
from experiments.verdicts.verdict import Verdict

OUTCOME = len("✘ contradicted")


def beside_study(study: str, verdicts: Sequence[Verdict]) -> list[Repeated]:
    """The verdicts with those of a frozen study; none without a study."""
    return compared(read_verdicts(REFERENCE / study / "claims.json"), verdicts) if study else []


def beside_columns(pairs: Sequence[Repeated], original: str, other: str = "here") -> Columns:
    columns = {
        "claim": [pair.original.id for pair in pairs],
        other: [shown(pair.replication) for pair in pairs],
        original: [shown(pair.original) for pair in pairs],
        "outcome": [pair.outcome for pair in pairs],
        "both together": [together(pair) for pair in pairs],
    }
    return {heading: cells for heading, cells in columns.items() if {*cells} != {"-"}}


def beside_lines(pairs: Sequence[Repeated], original: str, other: str = "here") -> str:
    """The same for a terminal of 80 columns: of each claim a line for the outcome and one for each study."""
    width, lines = max(len(original), len(other), len("both")), list[str]()
    for pair in pairs:
        lines.append(f"{pair.original.id}: {pair.outcome}")
        for name, verdict in ((other, pair.replication), (original, pair.original)):
            lines.append(f"  {name:{width}}  {outcome_text(verdict):{OUTCOME}}  {estimate_text(verdict)}")
        if (both := together(pair)) != "-":
            lines.append(f"  {'both':{width}}  {'':{OUTCOME}}  {both}")
    return "\n".join(lines)


def beside_text(pairs: Sequence[Repeated], study: str) -> str:
    """How many verdicts are those of the study, and what is shown beside them."""
    found = agreement(pairs)
    moved = found.claims - found.agreed - found.opposed
    count = f"""Of {found.claims} claims that `results/reference/{study}` answers too {found.agreed} have the same \
verdict (agreed), {moved} moved and {found.opposed} changed sides (opposed)"""
    if any(pair.shared for pair in pairs):
        return f"{count}, on the same seeds."
    return f"""{count}, on seeds of their own. Both together: mean and 95 % interval over the seeds of both, each at \
the learning rates that it chose; none where runs diverged or a claim has no test."""


def together(pair: Repeated) -> str:
    if pair.pooled is None:
        return "-"
    middle, *ends = pair.pooled
    return told(middle, pair.original.metric, ends) if pair.original.ratio is None else as_factor(middle, ends)


def shown(verdict: Verdict) -> str:
    return f"{outcome_text(verdict)} {estimate_text(verdict)}"
