"""Effects of any unit on one axis: multiples of the smallest that counts, what is claimed to the right.

The axis is linear near 0 and logarithmic beyond (the inverse hyperbolic sine), so that an effect of half a margin
and one of a hundred can be seen in the same picture. What is claimed at any size has no place on it.
"""

import math
from collections.abc import Mapping, Sequence

from experiments.reports.claim_figures import Picture
from experiments.reports.scales import ALARM, BAND, FRAME, SIZE, Scale
from experiments.reports.summary import Line
from experiments.reports.svg import Drawing, Panel
from experiments.reports.tables import SYMBOLS, estimate_text
from experiments.verdicts.claims import Claim
from experiments.verdicts.verdict import CONTRADICTED, SUPPORTED, Verdict

TICKS = {-100: "-100", -10: "-10", -1: "-1", 0: "0", 1: "1", 10: "10", 100: "100"}
REACH = math.asinh(300)  # beyond this effects are drawn at the edge
AXIS = Scale(-REACH, REACH, ticks={math.asinh(place): name for place, name in TICKS.items()})
LABEL = "multiples of the smallest effect that counts; right: as was said"
COLOURS = {SUPPORTED: SIZE, CONTRADICTED: ALARM}  # of an effect; FRAME where nothing was decided
WIDTH, HEIGHT = 130.0, 12.0  # of the strip of one effect
ROW, NAMES, NUMBERS, FOREST = 13.0, 172.0, 170.0, 620.0  # of the picture of many: a line, its words, its numbers, all


def strip(claim: Claim, verdict: Verdict) -> Drawing | None:
    """One effect with its interval, to stand beside its numbers; nothing where there is no finite one."""
    found = places(claim, verdict)
    if not found:
        return None
    panel = Panel("", AXIS, Scale(1, -1), plot=HEIGHT - 6, width=WIDTH, left=12)
    ground(panel)
    draw(panel, found, 0, verdict)
    return Drawing("".join(panel.elements), WIDTH, HEIGHT + 6, frozenset(panel.colours))


def effects_picture(lines: Sequence[Line], claims: Mapping[str, Claim], name: str) -> Picture:
    """The effects of findings below each other, each with its number and unit."""
    found = [(line, places(claims[line.verdict.id], line.verdict)) for line in lines if line.verdict]
    found = [(line, drawn) for line, drawn in found if drawn]
    rows, gist = len(found), []
    y = Scale(rows - 0.4, -0.6)
    panel = Panel("", AXIS, y, LABEL, plot=ROW * rows, width=FOREST - NUMBERS, left=NAMES)
    ground(panel)
    for row, (line, drawn) in enumerate(found):
        assert line.verdict
        height = float(panel.down([row])[0]) + 2.6
        equal = ", said to be equal" if line.verdict.kind == "equivalence" else ""
        panel.text(NAMES - 8, height, f"{line.finding.topic}{equal} {SYMBOLS[line.outcome]}", "end")
        draw(panel, drawn, row, line.verdict)
        panel.text(FOREST - NUMBERS + 2, height, estimate_text(line.verdict))
        gist.append(f"{line.finding.topic}: {estimate_text(line.verdict)}, {line.outcome}")
    panel.width = FOREST
    caption = "What was found, in multiples of the smallest effect that counts, with 95 % intervals"
    return Picture(name, panel.drawing(), caption, "; ".join(gist), ())


def places(claim: Claim, verdict: Verdict) -> list[float]:
    """Where the estimate lies and, if there is an interval, its ends."""
    values = [value for value in (verdict.estimate, *(verdict.interval or ())) if value is not None]
    if not claim.margin or not values or not all(map(math.isfinite, values)):
        return []
    sign = -1 if claim.direction == "less" else 1
    return [min(max(math.asinh(sign * value / claim.margin), -REACH), REACH) for value in values]


def ground(panel: Panel) -> None:
    panel.band(math.asinh(-1), math.asinh(1), BAND)
    panel.upright(0, FRAME, 0.8)
    panel.line([-REACH, REACH], [panel.y.low, panel.y.low], FRAME, 0.5)


def draw(panel: Panel, found: Sequence[float], row: float, verdict: Verdict) -> None:
    middle, *ends = found
    colour = COLOURS.get(verdict.verdict, FRAME)
    if ends:
        panel.line(ends, [row, row], colour, 1.6)
    panel.marks("diamond", [middle], [row], colour, 6)
