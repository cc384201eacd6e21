"""What is written in the files of a results folder, and a check that what is read from one is nothing else."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.records.files import from_json

Whole = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[int, Field(gt=-(2**63), lt=2**63)] | float | None  # null: it was not finite
Numbers = dict[str, Number]


class Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Evaluation(Shape):
    update: Whole
    __pydantic_extra__: Numbers = Field(init=False)


class Optim(Shape):
    learning_rate: float | None


class Part(Shape):
    name: str


class Science(Shape):
    method: str
    norm: str
    seed: Whole
    batch_size: Whole
    model: Part
    data: Part
    optim: Optim


class Start(Shape):
    """What is known of a run before it begins."""

    experiment: str
    run: str
    scale: str
    role: Literal["tune", "evaluate"]
    group: str
    config: Science


class Timing(Shape):
    __pydantic_extra__: Numbers = Field(init=False)
    wall_seconds: Annotated[float, Field(ge=0)]


class Record(Start):
    synthetic: bool
    status: Literal["completed", "diverged", "undefined"]
    history: list[Evaluation]
    final: Numbers
    timing: Timing
    environment: dict[str, Any]
    code: str = ""  # digests of what it went through and read; older records do not say
    data_digest: str = ""


class Failure(Shape):
    sweep: str
    attempts: int
    reason: str
    log: list[str]


class Tried(Shape):
    learning_rate: float
    validation_loss: Number


class Rate(Shape):
    choice: str
    learning_rate: float
    losses: Annotated[list[Tried], Field(min_length=1)]


DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what reading garbage can raise


def parsed(shape: type[Shape], text: str | bytes) -> dict[str, Any]:
    """JSON as it stands there, if it has this shape. Raises one of DAMAGED."""
    found: dict[str, Any] = from_json(text)
    try:
        shape.model_validate(found)
    except ValueError:  # perhaps a path that is no UTF-8, of whose bytes Python makes halves of characters
        shape.model_validate_json(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found


def read(shape: type[Shape], path: Path) -> dict[str, Any]:
    return parsed(shape, path.read_bytes())
