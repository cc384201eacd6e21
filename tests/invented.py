"""Invented claims and runs, a few numbers each, for the tests of claims, evidence and verdicts."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.verdicts import judge

SEEDS = 10


def claim(**changes: Any) -> Claim:
    plain: dict[str, Any] = {
        "id": "c",
        "source": "B4.1",
        "said_by": "note",
        "statement": "s",
        "experiment": "lm",
        "kind": "difference",
    }
    plain |= {"metric": "test_loss", "labels": ("layer", "none"), "weights": (1.0, -1.0), "direction": "less"}
    return Claim(**(plain | {"margin": 0.02, "tuned": False} | changes))


def row(arm: str, seed: int, value: float | None, **changes: Any) -> dict[str, Any]:
    plain = {"run": f"{arm}-s{seed}", "experiment": "lm", "arm": arm, "role": "evaluate", "seed": seed}
    plain |= {
        "learning_rate": 0.01,
        "status": "completed",
        "scale": "laptop",
        "synthetic": False,
        "tuned": True,
    }
    plain |= {
        "final": {"test_loss": value, "validation_loss": value},
        "history": [],
        "timing": {"cpu_seconds": 1.0},
    }
    return plain | changes


def arms(layer: Sequence[float | None], none: Sequence[float | None], **changes: Any) -> list[dict[str, Any]]:
    pairs = (("layer", layer), ("none", none))
    return [row(arm, seed, value, **changes) for arm, values in pairs for seed, value in enumerate(values)]


def tuning(
    arm: str, losses: dict[float, float | None], status: str = "completed", seeds: Sequence[int] = (1000, 1001)
) -> list[dict[str, Any]]:
    return [
        row(arm, seed, loss, role="tune", learning_rate=rate, status=status, run=f"{arm}-{rate}-{seed}")
        for rate, loss in losses.items()
        for seed in seeds
    ]


def spread(centre: float, scale: float = 0.005) -> list[float | None]:
    return [centre + scale * math.sin(7 * seed) for seed in range(SEEDS)]


def verdict(rows: list[dict[str, Any]], *claims: Claim) -> Verdict:
    return judge(Registry(0.05, SEEDS, claims or (claim(),)), rows)[0]
