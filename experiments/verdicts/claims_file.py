"""The declared claims, configs/claims/, read and checked: one model for each kind of claim says what may be written."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from experiments.verdicts.claims import Claim, ClaimError, Finding, Registry, Sentence, check_known

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CLAIMS, EXPERIMENTS, SENTENCES = CONFIGS / "claims", CONFIGS / "experiment", CONFIGS / "sentences.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times faster, where it was built


def must(test: Callable[[Any], Any], how: str) -> Callable[[Any], Any]:
    """A validator that refuses what fails a test: `<value> should <how>`."""

    def validator(value: Any) -> Any:
        if not test(value):
            raise ValueError(f"should {how}")
        return value

    return validator


def without_zeros(contrast: dict[str, float]) -> bool:
    return 0 not in contrast.values()


NAME, LABEL = re.compile("[A-Za-z0-9.-]+"), re.compile(r"[^/\s]+(/[^/\s]+)?")
Text = Annotated[str, AfterValidator(must(str.strip, "not be empty")), AfterValidator(lambda v: " ".join(v.split()))]
Number = Annotated[
    float,
    BeforeValidator(must(lambda value: not isinstance(value, bool), "be a number")),
    Field(strict=False, allow_inf_nan=False),  # YAML 1.1 reads 1e-9 as a text
]
Id = Annotated[str, AfterValidator(must(NAME.fullmatch, "be made of letters, digits, '.' and '-'"))]
Label = Annotated[str, AfterValidator(must(LABEL.fullmatch, "be written `arm` or `experiment/arm`"))]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Sides(Model):
    """What a difference where none was claimed would mean: of a contrast below, and above, the margin."""

    less: Text
    greater: Text


class OfAnyKind(BaseModel):
    kind: Literal["difference", "equivalence", "bound"]


class Declared(OfAnyKind, Model):
    id: Id
    says: list[Text] = []
    said_by: Literal["literature", "suite", "own"] | None = None
    statement: Text
    experiment: Text
    metric: Text
    expected: Text
    deviations: Text
    would_change: Text = ""
    asked_at: str = ""
    better: Literal["less", "greater"] = "less"
    tuned: bool = True

    @model_validator(mode="after")
    def said_by_someone(self) -> "Declared":
        if bool(self.says) == bool(self.said_by):
            raise ValueError("a claim needs either `says`, sentences of configs/sentences.yaml, or `said_by`")
        return self


class Contrast(Declared):
    contrast: Annotated[dict[Label, Number], Field(min_length=1), AfterValidator(must(without_zeros, "have no 0"))]
    against: Number | None = None
    target: Number | None = None
    scale: Literal["raw", "log"] = "raw"
    summary: Literal["mean", "median"] = "mean"

    @model_validator(mode="after")
    def compared_with_something(self) -> "Contrast":
        if self.against is None and abs(math.fsum(self.contrast.values())) > 1e-9:
            raise ValueError("the numbers of a contrast should sum to 0, or it is `against` a constant")
        if self.against is not None and self.scale == "log" and self.against <= 0:
            raise ValueError(f"against: {self.against:g} has no logarithm; use a positive constant or scale: raw")
        return self


class Difference(Contrast):
    direction: Literal["less", "greater"]
    margin: Number = Field(default=0.0, ge=0)
    refuted: Text

    @property
    def meaning(self) -> dict[str, str]:
        return {"greater" if self.direction == "less" else "less": self.refuted}


class Equivalence(Contrast):
    margin: Number = Field(gt=0)
    refuted: Sides

    @property
    def meaning(self) -> dict[str, str]:
        return self.refuted.model_dump()


class Bound(Declared):
    # What varies by seed has no bound that all seeds keep: it is compared with a constant, and tested.
    experiment: Annotated[
        str,
        AfterValidator(must(lambda v: v.startswith("exact_"), "be exact_...: use `against` for what varies by seed")),
    ]
    tuned: bool = False
    arms: Annotated[
        list[Label], Field(min_length=1), AfterValidator(must(lambda v: len(set(v)) == len(v), "be different arms"))
    ]
    at_most: Number | None = None
    at_least: Number | None = None

    @model_validator(mode="after")
    def bounded_once(self) -> "Bound":
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a bound needs exactly one of at_most, at_least")
        return self

    @property
    def meaning(self) -> dict[str, str]:
        return {}


class Family(Model):
    alpha: Number = Field(gt=0, lt=1)
    seeds: int = Field(ge=1)


class Part(Model):
    claims: list[dict[str, Any]] = []


class Said(Model):
    id: Text
    said_by: Literal["paper", "note"]
    place: Text
    words: Text
    shows: Text = ""
    untested: Text = ""


class Saying(Model):
    sentences: list[Said]


class Found(Model):
    topic: Text
    sentences: Annotated[list[Text], Field(min_length=1)]
    claim: str = ""
    found: Text
    first: bool = False

    @model_validator(mode="after")
    def tells_its_number(self) -> "Found":
        fields = {field for _, field, _, _ in Formatter().parse(self.found) if field}
        wanted = {"effect", "ratio", "value"} if self.claim else {"held", "all"}
        if not wanted & fields or not all(field in wanted or "|" in field for field in fields):
            raise ValueError(f"found: {self.found!r} should tell {' or '.join(sorted(wanted))} in braces")
        return self


class Summary(Model):
    summary: list[dict[str, Any]]


class Document(Part):
    family: dict[str, Any]
    summary: str = ""  # the file of findings beside this one
    files: list[str] = []  # beside this one, each a list of claims
    only: dict[str, list[str]] = {}  # by scale


def load_claims(path: str | Path = CLAIMS) -> Registry:
    """The claims of a file, or of a folder: there family.yaml names the others, in the order of the family.

    Raises ClaimError: one line with claim, key, value and what would be valid.
    """
    path = Path(path, "family.yaml") if Path(path).is_dir() else Path(path)
    document = read(Document, path)
    family = checked(Family, document.family, f"{path}: family")
    parts = [read(Part, path.with_name(f"{name}.yaml"), "claims").claims for name in document.files]
    said = read(Saying, SENTENCES, "sentences").sentences
    sentences = {sentence.id: Sentence(**sentence.model_dump()) for sentence in said}
    claims = tuple(
        to_claim(entry, place, sentences) for place, entry in enumerate(sum(parts, document.claims), start=1)
    )
    twice = [name for name, count in Counter(claim.id for claim in claims).items() if count > 1]
    if twice or not claims:
        raise ClaimError(
            f"claim {twice[0]!r}: the id is used more than once" if twice else f"{path}: there is no claim"
        )
    check_distinct(claims)
    for scale, ids in document.only.items():
        for name in ids:
            check_known(name, [claim.id for claim in claims], f"{path}: only: {scale}: claim")
    for claim in claims:
        if claim.asked_at:
            check_known(claim.asked_at, document.only, f"claim {claim.id!r}: asked_at, a scale below only:,")
    only = {scale: tuple(ids) for scale, ids in document.only.items()}
    registry = Registry(family.alpha, family.seeds, claims, sentences=tuple(sentences.values()), only=only)
    if not document.summary:
        return registry
    return replace(registry, findings=findings(path.with_name(f"{document.summary}.yaml"), registry))


def findings(path: Path, registry: Registry) -> tuple[Finding, ...]:
    """What is told first. Raises ClaimError for a sentence or a claim that there is not."""
    found = []
    for place, written in enumerate(read(Summary, path, "summary").summary, start=1):
        entry = checked(Found, written, f"{path}: {written.get('topic', f'finding {place}')}")
        for said in entry.sentences:
            check_known(said, [sentence.id for sentence in registry.sentences], f"{path}: {entry.topic}: sentence")
        finding = Finding(**entry.model_dump() | {"sentences": tuple(entry.sentences)})
        if finding.claim:
            check_known(finding.claim, [c.id for c in registry.behind(finding)], f"{path}: {entry.topic}: claim")
        found.append(finding)
    return tuple(found)


def check_distinct(claims: Iterable[Claim]) -> None:
    """Refuse a comparison that two claims make: one effect would be counted twice."""
    seen: dict[tuple[Any, ...], str] = {}
    for claim in (claim for claim in claims if claim.kind != "bound"):
        other = seen.setdefault(claim.contrast(), claim.id)
        if other != claim.id:
            raise ClaimError(f"claim {claim.id!r}: compares what {other!r} compares; one comparison is one claim")


def to_claim(entry: dict[str, Any], place: int, sentences: Mapping[str, Sentence]) -> Claim:
    kinds: dict[str, type[BaseModel]] = {"difference": Difference, "equivalence": Equivalence, "bound": Bound}
    where = f"claim {entry['id']!r}" if "id" in entry else f"claim number {place}"
    model = kinds.get(str(entry.get("kind")), OfAnyKind)
    if "experiment" in entry and "deviations" not in entry:
        try:
            check_known(entry["experiment"], (path.stem for path in EXPERIMENTS.glob("*.yaml")), f"{where}: experiment")
        except ClaimError as error:
            raise ClaimError(f"{error}; of an experiment of your own the claim itself has `deviations`") from None
        entry = stated(entry["experiment"]) | entry
    declared: Any = checked(model, entry, where)
    plain = declared.model_dump() | {"refuted": declared.meaning, "says": tuple(declared.says)}
    weights = plain.pop("contrast", {})
    labels = weights or plain.pop("arms")
    for said in declared.says:
        check_known(said, sentences, f"{where}: says")
    plain["said_by"] = declared.said_by or sentences[declared.says[0]].said_by
    source = declared.says[0] if declared.says else declared.said_by
    return Claim(**plain, source=source, labels=tuple(labels), weights=tuple(weights.values()))


@cache
def stated(experiment: str) -> dict[str, Any]:
    """What the file of an experiment says of all claims about it: the deviations, if any."""
    written = yaml.load((EXPERIMENTS / f"{experiment}.yaml").read_text(encoding="utf-8"), Loader=LOADER)
    return {key: value for key, value in written.items() if key == "deviations"}


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], path: Path, key: str = "") -> M:
    """A file as a model; with `key`, as the value of that key."""
    try:
        written = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except FileNotFoundError:
        raise ClaimError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return checked(model, {key: written} if key else written, str(path))


def checked(model: type[M], written: Any, where: str) -> M:
    """What is written as a model. Raises ClaimError for the first mistake, for a key that is unknown before others."""
    try:
        return model.model_validate(written)
    except ValidationError as error:
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    *outer, key = [str(step) for step in first["loc"] if step != "[key]"] or [""]
    where = ": ".join([where, *outer])
    if first["type"] == "extra_forbidden":
        check_known(key, model.model_fields, f"{where}: key")
    if first["type"] == "missing":
        elsewhere = " (or of its experiment, in configs/experiment/)" if key == "deviations" else ""
        raise ClaimError(f"{where}: key {key!r} is missing{elsewhere}")
    said = first["msg"].removeprefix("Value error, ")
    _, _, valid = said.partition("should ")  # Input should be less than 1
    raise ClaimError(f"{where}: {key}: {first['input']!r} should {valid}" if key else f"{where}: {said}")
