"""The file of the declared claims, configs/claims.yaml, read and checked key by key."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.verdicts.claims import KINDS, Claim, ClaimError, Registry, check_known

CLAIMS = Path(__file__).resolve().parents[2] / "configs" / "claims.yaml"


def load_claims(path: str | Path = CLAIMS) -> Registry:
    """Read and check the declared claims. Raises ClaimError: one line with claim, key, value and choices."""
    try:
        document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    top = _Entry(document, str(path))
    family = _Entry(top.take("family"), f"{path}: family")
    alpha, seeds = family.number("alpha"), family.number("seeds")
    family.check(0 < alpha < 1, "alpha", "a probability above 0 and below 1")
    family.check(seeds >= 1 and seeds == int(seeds), "seeds", "a whole number of at least 1")
    family.finish()
    entries = top.take("claims")
    top.check(isinstance(entries, list) and bool(entries), "claims", "a list of claims")
    top.finish()
    claims = tuple(_parse(entry, place) for place, entry in enumerate(entries, start=1))
    twice = [name for name, count in Counter(claim.id for claim in claims).items() if count > 1]
    if twice:
        raise ClaimError(f"claim {twice[0]!r}: the id is used more than once")
    return Registry(alpha, int(seeds), claims)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times faster, where it was built
_MISSING: Any = object()


class _Entry:
    """One mapping of the file, read key by key; what nobody asked for is an unknown key."""

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, dict):
            raise ClaimError(f"{name}: expected keys and values, got {values!r}")
        self.values, self.name, self.asked = values, name, list[str]()

    def check(self, good: bool, key: str, choices: str) -> None:
        if not good:
            raise ClaimError(f"{self.name}: {key}: {self.values[key]!r} is not {choices}")

    def take(self, key: str, default: Any = _MISSING) -> Any:
        self.asked.append(key)
        value = self.values.get(key, default)
        if value is _MISSING:
            raise ClaimError(f"{self.name}: key {key!r} is missing")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not (value.strip() or value == default):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not a text")
        return " ".join(value.split())

    def number(self, key: str, default: Any = _MISSING) -> float:
        return self.as_number(key, self.take(key, default))

    def as_number(self, key: str, value: Any) -> float:
        try:  # YAML 1.1 reads 1e-9 as a string
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not a finite number")
        return number

    def choice(self, key: str, choices: Sequence[str], default: Any = _MISSING) -> str:
        value = self.take(key, default)
        if value not in choices:
            raise ClaimError(f"{self.name}: {key}: {value!r} is not one of {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ClaimError(f"{self.name}: {key}: {value!r} is not one of true, false")
        return value

    def finish(self) -> None:
        unknown = [key for key in self.values if key not in self.asked]
        if unknown:
            check_known(unknown[0], self.asked, f"{self.name}: key")


def _parse(values: Any, place: int) -> Claim:
    entry = _Entry(values, f"claim number {place}")
    name = entry.text("id")
    entry.check(bool(re.fullmatch(r"[A-Za-z0-9.-]+", name)), "id", "made of letters, digits, '.' and '-'")
    entry.name = f"claim {name!r}"
    kind = entry.choice("kind", KINDS)
    decision = _bound(entry) if kind == "bound" else _contrast(entry, kind)
    claim = Claim(
        id=name,
        kind=kind,
        source=entry.text("source"),
        statement=entry.text("statement"),
        experiment=entry.text("experiment"),
        metric=entry.text("metric"),
        expected=entry.text("expected"),
        deviations=entry.text("deviations"),
        would_change=entry.text("would_change", ""),
        better=entry.choice("better", ("less", "greater"), "less"),
        tuned=entry.flag("tuned", default=kind != "bound"),
        **decision,
    )
    entry.finish()
    return claim


def _contrast(entry: _Entry, kind: str) -> dict[str, Any]:
    contrast = entry.take("contrast")
    several = isinstance(contrast, dict) and len(contrast) > 1
    entry.check(several, "contrast", "a weight for each of two or more arms")
    labels = tuple(_labels(entry, "contrast", contrast))
    weights = tuple(entry.as_number(f"contrast: {label}", weight) for label, weight in contrast.items())
    balanced = 0 not in weights and abs(math.fsum(weights)) < 1e-9
    entry.check(balanced, "contrast", "a set of weights other than 0 that sum to 0")
    margin = entry.number("margin") if kind == "equivalence" else entry.number("margin", 0.0)
    if margin < 0 or (kind == "equivalence" and margin == 0):
        least = "above" if kind == "equivalence" else "at least"
        raise ClaimError(f"{entry.name}: margin: {margin:g} is not {least} 0")
    return {
        "labels": labels,
        "weights": weights,
        "margin": margin,
        "direction": entry.choice("direction", ("less", "greater")) if kind == "difference" else "",
        "scale": entry.choice("scale", ("raw", "log"), "raw"),
        "summary": entry.choice("summary", ("mean", "median"), "mean"),
    }


def _bound(entry: _Entry) -> dict[str, Any]:
    arms = entry.take("arms")
    entry.check(isinstance(arms, list) and bool(arms), "arms", "a list of arms")
    given = [key for key in ("at_most", "at_least") if entry.take(key, None) is not None]
    if len(given) != 1:
        raise ClaimError(f"{entry.name}: a bound needs exactly one of at_most, at_least; it has {len(given)}")
    return {"labels": tuple(_labels(entry, "arms", arms)), given[0]: entry.number(given[0])}


def _labels(entry: _Entry, key: str, labels: Iterable[Any]) -> list[str]:
    names = list(labels)
    good = all(isinstance(name, str) and re.fullmatch(r"[^/\s]+(/[^/\s]+)?", name) for name in names)
    good = good and len(set(names)) == len(names)
    entry.check(good, key, "made of different arms, each written `arm` or `experiment/arm`")
    return names
