"""What README.md and docs/ say: links lead somewhere, claims exist, and every interval is one that a study has."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.records.studies import REFERENCE, scale_of, studies
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.verdict import Verdict

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
CLAIM = re.compile(r"\b(?:[ABP][1-7](?:\.[1-7])?|T1|L)-[a-z0-9]+(?:[.-][a-z0-9]+)*")
NUMBER = r"(-?\d+(?:\.\d+)?)"
INTERVAL = re.compile(rf"(?:{NUMBER}(?:\s[a-z%]+)?\s)?\[{NUMBER},\s+{NUMBER}\]")  # after its estimate, as a rule
FINDINGS = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split("\n- ")[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_claims_that_are_named_are_declared(document: Path) -> None:
    if document.name != "editions.md":  # which tells of those that are gone
        named = set(CLAIM.findall(document.read_text(encoding="utf-8")))
        assert named <= {claim.id for claim in load_claims().claims}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, list[Verdict]]:
    """Of each claim those of all studies but replications."""
    found: dict[str, list[Verdict]] = {}
    for study in studies(REFERENCE):
        for verdict in read_verdicts(study / "claims.json") if not scale_of(study.name)[1] else []:
            found.setdefault(verdict.id, []).append(verdict)
    return found


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda text: text[:30])
def test_every_estimate_of_a_finding_is_of_a_claim_that_it_names(
    finding: str, verdicts: dict[str, list[Verdict]]
) -> None:
    named = [verdict for name in names(finding) for verdict in verdicts[name]]
    known = [numbers for verdict in named for numbers in told(verdict)]
    for found in INTERVAL.findall(finding):
        assert any(all(map(rounds_to, numbers, found)) for numbers in known), found


@pytest.mark.parametrize("scale", ["laptop", "evening"])
def test_what_is_said_of_replications_is_what_the_page_of_all_studies_says(scale: str) -> None:
    text = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split())
    ((agreed, tests),) = re.findall(rf"(\d+) of the {scale}'s (\d+)", text)
    page = (REFERENCE / "studies.md").read_text(encoding="utf-8").partition(f": the replication of {scale}\n")[2]
    told = page.partition("Those that moved")[0]
    assert f"of {tests} tests {agreed} have the same verdict" in told and " 0 changed sides" in told


def rounds_to(number: float, text: str) -> bool:
    """Whether a number is the one of a text, if that has one, but for its further digits."""
    return not text or abs(number - float(text)) <= 0.5001 * 10 ** -len(text.partition(".")[2])


def names(finding: str) -> Iterator[str]:
    """The claims in the brackets of a finding; `(B4-batch-in-lstm, -gru)` is short for two of other ends."""
    declared = {claim.id for claim in load_claims().claims}
    yield from CLAIM.findall(finding)
    for first, rest in re.findall(rf"({CLAIM.pattern})((?:,\s+-[a-z0-9-]+)+)", finding):
        for end in re.findall(r"-[a-z0-9-]+", rest):
            starts = [first[:place] for place in range(len(first)) if first[place] == "-"]
            yield next(start + end for start in reversed(starts) if start + end in declared)


def told(verdict: Verdict) -> Iterator[tuple[float, float, float]]:
    """Estimate and interval as a text may have them: in the unit or per cents, as a size, or as a factor."""
    if verdict.interval and verdict.estimate is not None:
        middle, (low, high) = verdict.estimate, verdict.interval
        for factor in (1.0, 100.0):
            yield factor * middle, factor * low, factor * high
            yield -factor * middle, -factor * high, -factor * low
        if verdict.ratio is not None:
            yield math.exp(middle), math.exp(low), math.exp(high)
            yield math.exp(-middle), math.exp(-high), math.exp(-low)
