"""The verdict on one claim, as it is told, written and read."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from experiments.records.table import rounded
from experiments.verdicts.evidence import Obstacle

SUPPORTED, CONTRADICTED, EQUIVALENT = "supported", "contradicted", "equivalent"
INCONCLUSIVE, INCOMPLETE = "inconclusive", "incomplete"
VERDICTS = (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE, INCOMPLETE)


@dataclass(frozen=True)
class Verdict:
    """What the evidence says about one claim: effect, interval and margin in the metric's unit (or its log).

    All of it numbers: sentences are made where they are shown. `p` belongs to the decision: the test of the verdict
    reached, or of the claim as stated where none was.
    """

    id: str
    source: str
    statement: str
    kind: str
    experiment: str
    metric: str
    verdict: str
    margin: float
    scale: str  # of the runs: smoke, laptop, evening, paper
    synthetic: bool
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    arms: dict[str, dict[str, Any]]
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    ratio: float | None = None  # exp(estimate), where the contrast is of logarithms
    p: float | None = None
    p_holm: float | None = None
    p_t: float | None = None  # of the paired t, in the direction of `p`: shown, never decided by
    differences: tuple[float | None, ...] = ()
    seeds_needed: int | None = None
    kept: int | None = None  # runs that keep the bound of an exact claim
    missing: Obstacle | None = None
    doubt: Obstacle | None = None
    codes: int = 1  # versions of the code that its runs went through; more than one is told
    unlike: tuple[Obstacle, ...] = ()  # arms whose runs end otherwise than their tuning promised
    said_by: str = ""
    refuted: str = ""  # of a contradicted one: what that means, in the claim's words

    @property
    def finite(self) -> bool:
        """Whether every seed has a difference; else only their signs count."""
        return all(d is not None and math.isfinite(d) for d in self.differences)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: nothing non-finite, nine digits as in the rows."""
        plain: dict[str, Any] = rounded(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Verdict":
        """The verdict `as_dict` was taken of, without what was not finite. Raises ValueError for anything else."""
        known = {key.name for key in fields(cls)}
        whole = isinstance(plain, Mapping) and known - set(_LATER) <= plain.keys() - {"reason"} <= known
        if not whole or plain["verdict"] not in VERDICTS:
            raise ValueError(f"not a verdict: {plain!s:.60}")
        values = {key: value for key, value in plain.items() if key != "reason"}  # a sentence of the report
        if isinstance(values["interval"], list) and None in values["interval"]:
            values["interval"] = None
        try:
            return _WHOLE.validate_json(json.dumps(values, ensure_ascii=False).encode(errors="replace"), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))} of a verdict: {first['msg']}") from None


_WHOLE = TypeAdapter(Verdict)
_LATER = (
    "kept",
    "missing",
    "doubt",
    "codes",
    "unlike",
    "p_t",
    "said_by",
    "refuted",
)  # what the first reports did not tell apart from their sentences
