"""Our effects beside those that others measured, on other nets and data: by how much an arm's metric exceeds another's.

What others measured stands in configs/published.yaml; ours are verdicts of several studies, at several scales say.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from experiments.reports.claim_figures import Picture
from experiments.reports.scales import FRAME, INK, SIZE, Scale, linear
from experiments.reports.svg import Panel
from experiments.verdicts.claims import Claim, Registry, check_known
from experiments.verdicts.claims_file import CONFIGS, read
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.wording import number

PUBLISHED = CONFIGS / "published.yaml"
ROW, WIDTH, LEFT = 12.0, 560.0, 265.0  # units of a drawing
SMALL = 0.3  # log ratios up to this are drawn as per cents, larger ones as factors
FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Published(BaseModel):
    """An effect as two numbers of one unit: of the arms a claim adds and subtracts."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    study: str
    data: str
    unit: str
    first: float
    second: float


class Publications(BaseModel):
    effects: list[Published]


@dataclass(frozen=True)
class Entry:
    """An effect as a logarithm of the first over the second, where it is ours with its interval."""

    name: str
    middle: float
    ends: tuple[float, float] | None = None


def published() -> list[Published]:
    return read(Publications, PUBLISHED, "effects").effects


def forest(registry: Registry, studies: Mapping[str, Sequence[Verdict]], others: Iterable[Published]) -> list[Picture]:
    """A picture of the small and one of the large effects, of the claims that others have measured too."""
    declared, claims = {claim.id: claim for claim in registry.family}, dict[str, list[Entry]]()
    for other in others:
        check_known(other.claim, declared, f"{PUBLISHED}: claim")
        ours = claims.get(other.claim) or list(entries(declared[other.claim], studies))
        theirs = Entry(f"{other.study}, {other.data}", math.log(other.first / other.second))
        claims[other.claim] = [*ours, theirs]
    large = {name for name, found in claims.items() if any(abs(entry.middle) > SMALL for entry in found)}
    parts = {"small": claims.keys() - large, "large": large}
    return [
        drawn(part, [(declared[name], found) for name, found in claims.items() if name in names])
        for part, names in parts.items()
        if names
    ]


def entries(claim: Claim, studies: Mapping[str, Sequence[Verdict]]) -> Iterable[Entry]:
    """Ours, of every study that has runs for the claim."""
    for study, verdicts in studies.items():
        for verdict in verdicts:
            if verdict.id == claim.id and (found := relative(claim, verdict)) is not None:
                yield Entry(f"here, {study}", found[0], (found[1], found[2]))


def relative(claim: Claim, verdict: Verdict) -> tuple[float, float, float] | None:
    """Estimate and interval as logarithms of a ratio: of the control's mean where differences are not of logarithms."""
    if verdict.estimate is None or verdict.interval is None:
        return None
    if verdict.ratio is not None:
        return verdict.estimate, *verdict.interval
    control = verdict.arms[claim.control]["mean"] if claim.control else None
    if not control:
        return None
    shares = [1 + value / control for value in (verdict.estimate, *verdict.interval)]
    if min(shares) <= 0:
        return None
    middle, low, high = map(math.log, shares)
    return middle, low, high


def drawn(part: str, claims: Sequence[tuple[Claim, Sequence[Entry]]]) -> Picture:
    rows = sum(1 + len(found) for _, found in claims)
    ends = [end for _, found in claims for entry in found for end in (entry.middle, *(entry.ends or ()))]
    panel = Panel("", scale(part, ends), Scale(rows - 0.5, -0.7), AXIS[part], plot=ROW * rows, width=WIDTH, left=LEFT)
    panel.upright(1.0 if part == "large" else 0.0, FRAME, 0.8)
    place, told = 0, []
    for claim, found in claims:
        panel.text(8, float(panel.down([place])[0]) + 3, claim.id, kind="title")
        for entry in found:
            place += 1
            height = float(panel.down([place])[0]) + 3
            panel.text(LEFT - 8, height, entry.name, "end")
            middle, *interval = (value(part, end) for end in (entry.middle, *(entry.ends or ())))
            if interval:
                panel.line(interval, [place, place], SIZE, 1.4)
            panel.marks("diamond" if interval else "ring", [middle], [place], SIZE if interval else INK, 6)
        place += 1
        told += [claim.statement, "; ".join(f"{entry.name}: × {number(math.exp(entry.middle))}" for entry in found)]
    caption = f"{CAPTION[part]}: ours (diamonds, with 95 % intervals) and what others measured (rings)"
    return Picture(f"forest-{part}", panel.drawing(), caption, " ".join(told), ())


AXIS = {"small": "change, %", "large": "factor"}
CAPTION = {"small": "Effects of per cents", "large": "Effects of factors"}


def value(part: str, log: float) -> float:
    """Where it is drawn: as per cents of change, or as a factor."""
    return math.exp(log) if part == "large" else 100 * math.expm1(log)


def scale(part: str, ends: Sequence[float]) -> Scale:
    low, high = value(part, min(*ends, 0.0)), value(part, max(*ends, 0.0))
    if part == "small":
        room = 0.06 * (high - low)
        return linear(low - room, high + room)
    shown = {factor: f"{factor:g}" for factor in FACTORS if low / 1.2 <= factor <= high * 1.2}
    return Scale(low / 1.2, high * 1.2, True, shown)
