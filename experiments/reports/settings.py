"""By which settings the arms of an experiment differ: told by their configurations, never by their names.

    differing(arms)     every setting that is not the same in all arms
    numbers(arms)       those of them that results can be drawn against
    lines(arms, key)    the arms that differ in such a number and in nothing else, as lines of a figure

A configuration is flat, `model.hidden_size` and the like, without what differs between the runs of one arm.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.records.files import UNSAID, as_typed, flat
from experiments.records.rows import Row

Settings = Mapping[str, Any]
Arms = Mapping[str, Settings]  # by name

RATE = "optim.learning_rate"


def settings_of(rows: Sequence[Row]) -> dict[str, Any]:
    """What the runs of an arm have in common, their learning rate apart; empty where rows carry no configuration."""
    found = flat(rows[0].get("config", {})) if rows else {}
    return {key: value for key, value in found.items() if key not in ("seed", RATE)}


def model_of(rows: Iterable[Row]) -> str:
    """The model that runs of one experiment train; empty where rows carry no configuration."""
    return str(next((row["config"]["model"]["name"] for row in rows if "config" in row), ""))


def norm_of(rows: Sequence[Row], arm: str) -> str:
    """The norm of an arm; where rows carry no configuration its name may be one."""
    return str(settings_of(rows).get("norm", arm))


def differing(arms: Iterable[Settings]) -> list[str]:
    """The settings that are not the same in all arms, and the norm, which arms are about."""
    every = list(arms)
    keys = dict.fromkeys(key for settings in every for key in settings)
    return [key for key in keys if key == "norm" or len({_text(settings, key) for settings in every}) > 1]


def numbers(arms: Arms) -> list[str]:
    """The numbers in which arms differ that are otherwise alike, the batch size first.

    Of numbers that go together, as more updates with smaller batches, only the first.
    """
    keys = sorted(_numeric(arms), key=lambda key: key != "batch_size")
    alone = [key for key in keys if not any(_follows(arms, key, first) for first in keys[: keys.index(key)])]
    return [key for key in alone if any(len(values) > 1 for values in lines(arms, key).values())]


def lines(arms: Arms, key: str) -> dict[str, dict[float, str]]:
    """The arms by a number and by what else sets them apart: `batch` and, where that is not enough, more."""
    with_it = {arm: settings for arm, settings in arms.items() if is_number(value_of(settings, key))}
    together = {other for other in _numeric(arms) if _follows(arms, other, key)}
    others = [other for other in differing(arms.values()) if other not in (key, "norm", *together)]
    names = {
        arm: (str(s.get("norm", "")), *(_named(s, other) for other in others if value_of(s, other) is not None))
        for arm, s in with_it.items()
    }
    found: dict[str, dict[float, str]] = {}
    for arm, (norm, *rest) in names.items():
        alone = len({name for name in names.values() if name[0] == norm}) == 1
        label = norm if alone else ", ".join([norm, *rest])
        found.setdefault(label, {})[float(value_of(with_it[arm], key))] = arm
    return {label: dict(sorted(found[label].items())) for label in sorted(found)}


def apart_by(arms: Iterable[str]) -> dict[str, str]:
    """What to call arms beside each other, by their names: `layer` of `layer model.depth=3` where all are so deep."""
    shared = shared_by(names := list(arms))
    return {name: " ".join(word for word in name.split(" ") if word not in shared) for name in names}


def shared_by(arms: Iterable[str]) -> list[str]:
    """The settings that are in the names of all these arms."""
    first, *others = [name.split(" ") for name in arms] or [[]]
    return [word for word in first if "=" in word and all(word in words for words in others)]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_of(settings: Settings, key: str) -> Any:
    return settings.get(key, UNSAID.get(key))


def short(key: str) -> str:
    """A setting for people: `batch size`, `hidden size` of model.hidden_size."""
    return key.rpartition(".")[2].replace("_", " ")


def _numeric(arms: Arms) -> list[str]:
    keys = differing(arms.values())
    return [key for key in keys if len({v for s in arms.values() if is_number(v := value_of(s, key))}) > 1]


def _follows(arms: Arms, key: str, first: str) -> bool:
    """Whether one number is told by the other in every arm."""
    pairs = {(_text(settings, first), _text(settings, key)) for settings in arms.values()}
    return key != first and len(pairs) == len({one for one, _ in pairs})


def _text(settings: Settings, key: str) -> str:
    return as_typed(value_of(settings, key)) if key in settings or key in UNSAID else ""


def _named(settings: Settings, key: str) -> str:
    return f"{short(key)} {as_typed(value_of(settings, key))}"
