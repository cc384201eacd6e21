"""What several frozen studies say together: each sentence's verdicts at every scale, which of them replicate, and the
effects beside those that others measured. Written beside the studies, as studies.md and forest-*.svg.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.records.files import write
from experiments.records.studies import scale_of
from experiments.reports.beside import shown, together
from experiments.reports.claim_figures import Picture
from experiments.reports.forest import Published, forest
from experiments.reports.marked_pages import Studies, first_answers
from experiments.reports.strips import effects_picture, places
from experiments.reports.summary import summary
from experiments.reports.tables import anchor, estimate_text, markdown, outcome_text
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.replication import Repeated, agreement, repeated
from experiments.verdicts.verdict import INCOMPLETE, Verdict
from experiments.verdicts.wording import number

PAGE = "studies.md"


def write_across(registry: Registry, studies: Studies, others: Iterable[Published], folder: Path) -> None:
    """Write the page and the figures, each whole or not at all."""
    apart = again(registry)
    whole = {name: found for name, found in studies.items() if scale_of(name)[0] not in apart}
    pictures = forest(registry, whole, others)
    for picture in (*pictures, *findings(registry, studies)):
        write(folder / f"{picture.name}.svg", picture.drawing.standalone(picture.gist))
    figures = [f"![{picture.caption}]({picture.name}.svg)" for picture in pictures]
    parts = ["# The studies together", ABOUT, *by_sentence(registry, whole), *of_other_nets(registry, studies)]
    parts += [*replications(studies), "## Beside what others measured", PUBLISHED, *figures]
    write(folder / PAGE, "\n\n".join(parts) + "\n")


def findings(registry: Registry, studies: Studies) -> list[Picture]:
    """A picture of what is told first; none where no finding has a number."""
    claims = {claim.id: claim for claim in registry.family}
    lines = summary(registry, [verdict for _, verdict in first_answers(studies).values()])
    drawn = [line for line in lines if line.verdict and places(claims[line.verdict.id], line.verdict)]
    return [effects_picture(drawn, claims, "summary")] if drawn else []


ABOUT = """What the paper and the two notes say, sentence by sentence, with the verdicts of every study that has runs \
for it: *laptop* trains for a few hundred updates, *evening* eight times as long and on 20 seeds; a number behind a \
scale is the first seed of a replication. Each verdict leads to its claim in the study's report, where a figure shows \
the effect as nets train."""
OTHER_NETS = """Claims asked once more, tuned anew, of nets twice and four times as wide, recurrent ones trained as \
long as in an evening and the others as long as at the laptop; at figure6 of section 6.6's own."""
PUBLISHED = """Of each claim the ratio of its first arm's metric to its second's, here and in the literature, with \
other nets and data ([numbers and sources](../../configs/published.yaml)): signs and orders of magnitude can be \
compared."""


def by_sentence(registry: Registry, studies: Studies) -> Iterable[str]:
    found = by_id(studies)
    for sentence in registry.sentences:
        yield f"### {sentence.id}\n\n> {sentence.words} ({sentence.place})"
        if sentence.shows:
            yield f"In the paper: {sentence.shows}"
        claims = registry.on(sentence)
        yield table_of(claims, found) if claims else f"Not tested: {sentence.untested}"
    yield "### What later work and this suite add"
    yield table_of([claim for claim in registry.family if not claim.says], found)


def by_id(studies: Studies) -> dict[str, dict[str, Verdict]]:
    return {name: {verdict.id: verdict for verdict in verdicts} for name, verdicts in studies.items()}


def table_of(claims: Sequence[Claim], found: Mapping[str, Mapping[str, Verdict]]) -> str:
    columns = {"claim": [f"{claim.id}: {claim.statement}" for claim in claims]}
    for study, verdicts in found.items():
        cells = [cell(study, verdicts.get(claim.id)) for claim in claims]
        columns |= {study: cells} if {*cells} != {"-"} else {}
    return markdown(columns)


def cell(study: str, verdict: Verdict | None) -> str:
    if verdict is None or verdict.verdict == INCOMPLETE:
        return "-"
    shown = "" if verdict.kind == "bound" else f" {estimate_text(verdict)}"
    return f"[{outcome_text(verdict)}]({study}/report.md#{anchor(verdict)}){shown}"


def again(registry: Registry) -> set[str]:
    """The scales that ask nothing but some of the claims that others ask too."""
    return registry.only.keys() - {claim.asked_at for claim in registry.family}


def of_other_nets(registry: Registry, studies: Studies) -> Iterable[str]:
    """The claims that are asked again, beside what other studies say of them."""
    scales = again(registry) & studies.keys()
    asked = [claim for claim in registry.family if any(claim.id in registry.only[scale] for scale in scales)]
    if asked:
        shown = {name: verdicts for name, verdicts in studies.items() if not scale_of(name)[1]}
        yield f"## Of other nets\n\n{OTHER_NETS}"
        yield table_of(asked, by_id(shown))


def replications(studies: Studies) -> Iterable[str]:
    """Every study that repeats another on seeds of its own."""
    for name, verdicts in studies.items():
        scale, replicates = scale_of(name)
        if replicates and scale in studies and (pairs := repeated(studies[scale], verdicts)):
            yield f"## {name}: the replication of {scale}"
            yield in_sum(pairs)
            yield "Those that moved:"
            yield moved([pair for pair in pairs if pair.original.verdict != pair.replication.verdict])


def in_sum(pairs: Sequence[Repeated]) -> str:
    found = agreement([pair for pair in pairs if pair.original.kind != "bound"])
    exact = agreement([pair for pair in pairs if pair.original.kind == "bound"])
    moved = found.claims - found.agreed - found.opposed
    identities = f"; of {exact.claims} identities {exact.agreed} have" if exact.claims else ""
    same, others = found.same_rates, found.effects - found.same_rates
    return f"""Rates tuned and nets trained anew, on seeds that nobody had looked at: of {found.claims} tests \
{found.agreed} have the same verdict, {moved} moved and {found.opposed} changed sides{identities}. \
Of {found.effects} effects {found.same_sign} have the same sign and {found.inside} lie in the original's 95 % \
interval, where repetition alone lets 83 in 100 lie: {found.inside_at_same_rates} of {same} whose arms all got the \
same learning rate again, {found.inside - found.inside_at_same_rates} of {others} where tuning chose another for some \
arm, for intervals are of seeds and not of tuning. Their rank correlation is {number(found.rank_correlation, 2)} \
(effects in standard deviations over the seeds)."""


def moved(pairs: Sequence[Repeated]) -> str:
    columns = {
        "claim": [pair.original.id for pair in pairs],
        "original": [shown(pair.original) for pair in pairs],
        "replication": [shown(pair.replication) for pair in pairs],
        "both together": [together(pair) for pair in pairs],
    }
    return markdown(columns) if pairs else "none."
