"""How often verdicts err, and how often they find what is there: the declared families on invented differences.

    python scripts/error_rates.py [--families 400]

Each claim of configs/claims/ gets normal differences of its own, of a size given in margins (of claims without one, in
standard deviations), and the whole registry is judged as real runs are. Printed, as the table of docs/statistics.md:
the share of families with a false verdict, which must not exceed alpha, and of claims that a true effect or a true
equality decides.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.reports.tables import markdown
from experiments.verdicts.claims import ADDED, SAID, Claim, Registry
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.verdict import CONTRADICTED, EQUIVALENT, SUPPORTED
from experiments.verdicts.verdicts import judge

SEEDS = (12, 20)  # of scale laptop, of scale evening
SPREADS = (0.2, 0.5, 0.8)  # of the differences over the seeds, in margins


def plain(registry: Registry) -> Registry:
    """The same families with arms of their own for each claim, and a margin of 1 where there is one."""
    claims = [claim for claim in registry.claims if claim.kind != "bound"]
    return replace(registry, seeds=1, claims=tuple(map(alone, claims)))


def alone(claim: Claim) -> Claim:
    margin = 1.0 if claim.margin else 0.0
    labels: dict[str, Any] = {"labels": ("one", "other"), "weights": (1.0, -1.0)}
    rest: dict[str, Any] = {"against": None, "target": None, "scale": "raw", "summary": "mean", "tuned": False}
    return replace(claim, experiment=claim.id, metric="metric", margin=margin, **labels, **rest)


def rows(claim: Claim, differences: Iterator[float]) -> Iterator[dict[str, Any]]:
    for seed, difference in enumerate(differences):
        for arm, value in (("one", difference), ("other", 0.0)):
            yield {
                "experiment": claim.id,
                "arm": arm,
                "role": "evaluate",
                "seed": seed,
                "learning_rate": 0.1,
                "run": f"{claim.id}-{arm}-{seed}",
                "status": "completed",
                "scale": "invented",
                "synthetic": True,
                "history": [],
                "timing": {},
                "final": {"metric": value},
            }


def simulated(registry: Registry, size: float, spread: float, seeds: int, families: int) -> tuple[Counter[str], ...]:
    """Of how many families some claim, and of how many claims of a kind, came to each verdict.

    `size` is that of every effect in the direction that is claimed, of an equality upwards.
    """
    random, of_families, of_claims = np.random.default_rng(0), Counter[str](), Counter[str]()
    for _ in range(families):
        made: list[dict[str, Any]] = []
        for claim in registry.claims:
            sign = -1 if claim.direction == "less" else 1
            made += rows(claim, iter(random.normal(sign * size, spread, seeds).tolist()))
        found = [
            (claim, verdict.verdict) for claim, verdict in zip(registry.claims, judge(registry, made), strict=True)
        ]
        of_families.update({f"{claim.family} {claim.kind} {verdict}" for claim, verdict in found})
        of_claims.update(f"{claim.kind} {verdict}" for claim, verdict in found)
    return of_families, of_claims


def table(families: int) -> str:
    registry = plain(load_claims())
    kinds = Counter(claim.kind for claim in registry.claims)
    columns: dict[str, list[str]] = {name: [] for name in ("seeds", "effect, margins", "sd, margins", *HEADINGS)}
    for seeds in SEEDS:
        for size in (0.0, 0.95, 1.5, 3.0):
            for spread in SPREADS:
                of_families, of_claims = simulated(registry, size, spread, seeds, families)
                cells = [f"{seeds}", f"{size:g}", f"{spread:g}"]
                for kind, verdict in FALSE:
                    worst = max(of_families[f"{family} {kind} {verdict}"] for family in (SAID, ADDED)) / families
                    cells.append(f"{worst:.1%}" if false(kind, verdict, size) else "")
                cells += [f"{of_claims[f'{kind} {v}'] / kinds[kind] / families:.0%}" for kind, v in FOUND]
                for name, cell in zip(columns, cells, strict=True):
                    columns[name].append(cell)
                print(" ".join(cells), file=sys.stderr)
    return markdown(columns)


FALSE = (("difference", SUPPORTED), ("equivalence", CONTRADICTED), ("equivalence", SUPPORTED))
FOUND = (
    ("difference", SUPPORTED),
    ("difference", EQUIVALENT),
    ("equivalence", SUPPORTED),
    ("equivalence", CONTRADICTED),
)
HEADINGS = (
    *(f"families with a false {kind}: {verdict}" for kind, verdict in FALSE),
    *(f"{kind}: {verdict}" for kind, verdict in FOUND),
)


def false(kind: str, verdict: str, size: float) -> bool:
    """Whether a verdict would be false of effects of this size, in margins."""
    if kind == "difference":
        return verdict == SUPPORTED and size == 0
    return size < 1 if verdict == CONTRADICTED else size >= 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=400)
    print(table(parser.parse_args().families))
