"""What is told first: for each statement of the notes and each section of the paper what was said and what was found.

Each finding (configs/claims/summary.yaml) has the number of one claim in words, and counts the verdicts on all those of
its sentences.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Formatter

from experiments.reports.sentences import counts
from experiments.reports.tables import SYMBOLS, anchor, estimate_text, markdown
from experiments.verdicts.claims import LITERATURE, SUITE, Claim, Finding, Registry, Sentence
from experiments.verdicts.units import told, unit_of, with_unit
from experiments.verdicts.verdict import (
    CONTRADICTED,
    INCOMPLETE,
    SUPPORTED,
    Verdict,
)
from experiments.verdicts.wording import number, span

OTHERS = {LITERATURE: "What later literature adds", SUITE: "What this suite adds"}


@dataclass(frozen=True)
class Line:
    """A finding as a study answers it."""

    finding: Finding
    sentence: Sentence  # whose words are shown
    text: str
    verdict: Verdict | None  # of the claim whose number is told; none where identities are counted
    claims: Sequence[Verdict]  # all of its sentences

    @property
    def outcome(self) -> str:
        """The verdict on the claim that is told, or on the identities together."""
        if self.verdict:
            return self.verdict.verdict
        identities = [verdict for verdict in self.claims if verdict.kind == "bound"]
        return SUPPORTED if all(verdict.verdict == SUPPORTED for verdict in identities) else CONTRADICTED

    @property
    def counts(self) -> str:
        """The verdicts on all its claims: `7 ✔, 1 ?`."""
        return ", ".join(f"{count} {SYMBOLS[verdict]}" for verdict, count in counts(self.claims).items())


def summary(registry: Registry, verdicts: Iterable[Verdict]) -> list[Line]:
    """The findings that these verdicts answer, in the order of the file."""
    answered = {verdict.id: verdict for verdict in verdicts if verdict.verdict != INCOMPLETE}
    words = {sentence.id: sentence for sentence in registry.sentences}
    claims = {claim.id: claim for claim in registry.family}
    lines = []
    for finding in registry.findings:
        behind = [answered[claim.id] for claim in registry.behind(finding) if claim.id in answered]
        if behind and (not finding.claim or finding.claim in answered):
            verdict = answered.get(finding.claim)
            text = in_words(finding, claims[finding.claim], verdict) if verdict else counted(finding, behind)
            lines.append(Line(finding, words[finding.sentences[0]], text, verdict, behind))
    return lines


def groups(registry: Registry, verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts below the findings that their sentences belong to, each once; then what others add."""
    topics = {said: finding.topic for finding in reversed(registry.findings) for said in finding.sentences}
    found: dict[str, list[Verdict]] = {finding.topic: [] for finding in registry.findings}
    for verdict in verdicts:
        found.setdefault(topics.get(verdict.source, OTHERS.get(verdict.said_by, "Claims")), []).append(verdict)
    return {topic: of_topic for topic, of_topic in found.items() if of_topic}


def counted(finding: Finding, behind: Sequence[Verdict]) -> str:
    identities = [verdict for verdict in behind if verdict.kind == "bound"]
    return finding.found.format(held=sum(v.verdict == SUPPORTED for v in identities), all=len(identities))


def in_words(finding: Finding, claim: Claim, verdict: Verdict) -> str:
    """The number of a claim as its finding tells it."""
    if verdict.estimate is None or not math.isfinite(verdict.estimate):
        return f"{verdict.statement} {estimate_text(verdict)}."
    side = verdict.estimate > 0
    words = [
        (text, (field.split("|")[side] if "|" in field else part(field, claim, verdict)) if field else "")
        for text, field, _, _ in Formatter().parse(finding.found)
    ]
    return "".join(text + word for text, word in words)


def part(field: str, claim: Claim, verdict: Verdict) -> str:
    """{effect}, {ratio} or {value} of a verdict with a finite estimate."""
    assert verdict.estimate is not None
    ends = verdict.interval or ()
    if field == "ratio":
        return number(math.exp(verdict.estimate)) + span([math.exp(end) for end in ends] or None)
    if field == "value":
        unit, null = unit_of(verdict.metric), claim.null()
        value, *shifted = (unit.factor * (end + null) for end in (verdict.estimate, *ends))
        return with_unit(number(value), unit.name) + span(shifted or None)
    size, *turned = (abs(verdict.estimate), *(sorted(math.copysign(1, verdict.estimate) * end for end in ends)))
    return told(size, verdict.metric, turned or None)


def summary_table(lines: Sequence[Line]) -> str:
    """For report.md."""
    columns = {
        "about": [f"**{line.finding.topic}**" for line in lines],
        "what was said": [f"{line.sentence.words} ({line.sentence.place})" for line in lines],
        "what was found": [f"{SYMBOLS[line.outcome]} {line.text}" for line in lines],
        "claims": [
            f"{line.counts}: {' '.join(f'[{verdict.id}](#{anchor(verdict)})' for verdict in line.claims)}"
            for line in lines
        ],
    }
    return markdown(columns)
