"""The runs that the live page draws together: by arm, or by a setting in which they differ."""

from collections.abc import Callable, Iterable, Sequence

from experiments.dashboards.live.runs import SEED, SeenRun
from experiments.records.files import as_typed, setting
from experiments.reports import settings
from experiments.reports.settings import RATE, apart_by
from experiments.verdicts.wording import by_number

Groups = dict[str, list[SeenRun]]  # by label
ARM = "arm"
UNSCIENTIFIC = ("data.path",)  # of a text its digest counts, not where it lies


def varied(runs: Iterable[SeenRun]) -> list[str]:
    """The settings in which runs differ."""
    configs = [run.config for run in runs if run.config]
    keys = [key for key in settings.differing(configs) if key not in UNSCIENTIFIC]
    return [key for key in keys if key != "norm" or len({config.get(key) for config in configs}) > 1]


def grouped(runs: Iterable[SeenRun], key: str) -> Groups:
    """Runs by their arm, or by the value of a setting.

    Whatever an arm's runs of one role differ in, but the seed and in tuning the learning rate, makes groups of their
    own, named by it as records name them: `layer_b8 batch_size=16`. By a setting, all alike in it are one group.
    """
    if key != ARM:
        return named(runs, lambda run: value_name(run, key))
    groups: Groups = {}
    known = list(runs)
    for role in dict.fromkeys(run.role for run in known):
        free = (SEED, RATE) if role == "tune" else (SEED,)
        of_role = [run for run in known if run.role == role]
        for label, same in apart(named(of_role, lambda run: run.arm), free).items():
            groups.setdefault(label, []).extend(same)
    names = apart_by(groups)
    return in_order({names[label]: same for label, same in groups.items()})


def among(groups: Groups, runs: Iterable[SeenRun]) -> Groups:
    """Of groups what is in these runs: their names, and so their colours, do not hang on what is shown just now."""
    names = {run.name for run in runs}
    found = {label: [run for run in group if run.name in names] for label, group in groups.items()}
    return {label: group for label, group in found.items() if group}


def value_name(run: SeenRun, key: str) -> str:
    """`layer` of a norm, `batch_size 8` or `data mnist` of anything else."""
    value = as_typed(run.config.get(key))
    return value if key == "norm" else f"{key.removesuffix('.name').rpartition('.')[2]} {value}"


def alike(runs: Iterable[SeenRun]) -> tuple[Groups, dict[str, settings.Settings]]:
    """Runs that differ in their seeds and tuned learning rates alone, and what each of these groups has in common."""
    free = (SEED, RATE, *UNSCIENTIFIC)
    common = {run.name: {key: value for key, value in run.config.items() if key not in free} for run in runs}
    groups = named(runs, lambda run: repr(common[run.name]))
    return groups, {label: common[group[0].name] for label, group in groups.items()}


def lines(runs: Sequence[SeenRun], key: str) -> Groups:
    """Runs that differ in a number, as lines over it: `batch`, `batch, normalize all`."""
    groups, common = alike(runs)
    over = settings.lines(common, key)
    return {label: [run for one in line.values() for run in groups[one]] for label, line in over.items()}


def numbers(runs: Sequence[SeenRun]) -> list[str]:
    """The numbers in which runs differ that are otherwise alike, the batch size first."""
    return settings.numbers(alike(runs)[1])


def norms(groups: Groups) -> dict[str, str]:
    """The norm of each group whose runs have one in common."""
    every = {label: {str(run.config.get("norm", "")) for run in runs} for label, runs in groups.items()}
    return {label: names.pop() for label, names in every.items() if len(names) == 1}


def named(runs: Iterable[SeenRun], name: Callable[[SeenRun], str]) -> Groups:
    groups: Groups = {}
    for run in runs:
        groups.setdefault(name(run), []).append(run)
    return in_order(groups)


def apart(groups: Groups, free: Sequence[str]) -> Groups:
    """Groups whose runs differ in free settings alone, named by the others as well."""
    found: Groups = {}
    for label, runs in groups.items():
        keys = [key for key in varied(runs) if key not in free]
        for run in runs:
            name = " ".join([label, *(setting(key, run.config.get(key)) for key in keys)])
            found.setdefault(name, []).append(run)
    return in_order(found)


def in_order(groups: Groups) -> Groups:
    return {label: groups[label] for label in sorted(groups, key=by_number)}


def pooled(groups: Groups) -> list[str]:
    """In what runs of one group differ: at best in their seeds alone."""
    return list(dict.fromkeys(key for runs in groups.values() for key in varied(runs)))
