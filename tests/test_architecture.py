"""Who may import whom, held over every file; and what may happen only in certain rooms."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
OURS = ("data", "models", "experiments", "hydra_plugins", "scripts", "tests")
# What each room may enter, itself aside.
ROOMS = {
    "data": set(),
    "models": set(),
    "records": set(),
    "verdicts": {"records"},
    "reports": {"verdicts", "records"},
    "dashboards": {"reports", "verdicts", "records"},
    "training": {"records", "models", "data"},
    "sweeps": {"training", "records", "models", "data"},
}
JOIN = {"commands", "hydra_plugins", "scripts", "tests"}  # they may enter every room, and nobody enters them
# Where a library may be imported at all, folders and files.
LIBRARIES = {
    "torch": ("models", "data", "experiments/training", "experiments/sweeps", "scripts", "tests"),
    "torchvision": ("data", "tests"),
    "hydra": ("experiments/training", "experiments/sweeps", "experiments/run.py", "hydra_plugins", "tests"),
    "omegaconf": ("experiments/training", "experiments/sweeps", "experiments/run.py", "hydra_plugins", "data", "tests"),
    "wandb": ("experiments/dashboards/wandb", "tests"),
    "wandb_workspaces": ("experiments/dashboards/wandb", "tests"),
    "bokeh": ("experiments/dashboards/live", "tests"),
    "submitit": ("experiments/sweeps/slurm.py",),
    "resvg_py": ("experiments/reports/png.py",),
    "filelock": ("experiments/records/locks.py", "data/cache.py", "models/kernels/library.py"),
}
# Parameters of training/ and sweeps/ that nothing is known of, and why: file, function.parameter.
UNTYPED = {
    "experiments/sweeps/workers.py": {
        "opened.handle": "multiprocessing has no public type for a descriptor on its way to another process",
    },
}


def files() -> list[Path]:
    return [path for top in OURS for path in sorted((ROOT / top).rglob("*.py"))]


FILES = files()
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def room_of(name: str) -> str:
    """The room of a file or a module: the first folder, or the second below experiments/."""
    parts = name.removesuffix(".py").replace(".", "/").split("/")
    if parts[0] != "experiments":
        return parts[0]
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "commands"


@cache
def imports(path: Path) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """Module, names taken from it, and whether it is imported as soon as the file is."""
    tree = ast.parse(path.read_text())
    late = {child for node in ast.walk(tree) if is_late(node) for child in ast.walk(node)}
    found: list[tuple[str, tuple[str, ...], bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, (), node not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package_of(path))
            found.append((module, tuple(alias.name for alias in node.names), node not in late))
    return tuple(found)


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def is_late(node: ast.AST) -> bool:
    """What is imported inside a function, or for types alone."""
    typed = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return typed or isinstance(node, FUNCTIONS)


def modules(path: Path, *, late: bool = True) -> Iterator[str]:
    """Those of our own modules that a file imports."""
    for module, names, early in imports(path):
        if module.split(".")[0] in OURS and (early or late):
            inner = [f"{module}.{name}" for name in names if is_module(f"{module}.{name}")]
            yield from inner or [module]


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_room_is_entered_only_by_those_who_may(name: str) -> None:
    room = room_of(name)
    entered = {room_of(module) for module in modules(ROOT / name)} - {room}
    if room in JOIN:
        allowed = {*ROOMS, "scripts", "commands"} if room == "tests" else {*ROOMS}
        assert entered <= allowed | ({"commands"} if room == "scripts" else set()), entered - allowed
    else:
        assert entered <= ROOMS[room], entered - ROOMS[room]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("tests/")])
def test_libraries_stay_where_they_belong(name: str) -> None:
    for module, _, _ in imports(ROOT / name):
        places = LIBRARIES.get(module.split(".")[0])
        assert not places or any(name == place or name.startswith(f"{place}/") for place in places), module


def test_no_circle() -> None:
    """Nothing that a file imports, at once or later, leads back to it."""
    graph = {name_of(path): {*modules(path)} - {name_of(path)} for path in FILES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle
    assert set(graph) <= set(order)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_private_stays_in_its_file(name: str) -> None:
    ours = [names for module, names, _ in imports(ROOT / name) if module.split(".")[0] in OURS]
    assert not [own for names in ours for own in names if own.startswith("_")]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("tests/", "scripts/"))])
def test_files_are_replaced_and_locked_in_records_alone(name: str) -> None:
    nodes = ast.walk(ast.parse((ROOT / name).read_text()))
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    # models and data are of use without the suite: what they keep in caches they write themselves
    if not name.startswith(("experiments/records/", "models/kernels/library.py", "data/cache.py")):
        assert not calls & {"os.replace", "fcntl.flock", "FileLock"}


@pytest.mark.parametrize("name", [name for name in NAMES if room_of(name) in ("training", "sweeps")])
def test_parameters_are_typed(name: str) -> None:
    """mypy holds that each has an annotation; here, that it says something. No exception outlives its parameter."""
    functions = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, FUNCTIONS)]
    untyped = {f"{function.name}.{given.arg}" for function in functions for given in untyped_of(function.args)}
    assert untyped == set(UNTYPED.get(name, {}))


def untyped_of(arguments: ast.arguments) -> Iterator[ast.arg]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    for given in every:
        if given is not None and given.annotation is not None and "Any" in ast.unparse(given.annotation).split(" | "):
            yield given


def test_no_file_that_is_gone_has_untyped_parameters() -> None:
    assert set(UNTYPED) <= set(NAMES)


def reached(module: str, seen: set[str]) -> set[str]:
    """Everything that importing a module imports at once, ours and others'."""
    if module in seen:
        return seen
    seen.add(module)
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module.split(".")[0] in OURS and path.exists():
        for inner in modules(path, late=False):
            reached(inner, seen)
        seen |= {name for name, _, early in imports(path) if early and name.split(".")[0] not in OURS}
    return seen


def test_verdicts_can_be_verified_with_a_handful_of_packages() -> None:
    tops = {name.split(".")[0] for name in reached("experiments.verify", set())} - set(sys.stdlib_module_names)
    assert tops <= {"experiments", "numpy", "scipy", "matplotlib", "yaml", "rich", "jinja2", "markupsafe", "pydantic"}


def test_the_layers_need_what_their_package_declares() -> None:
    tops = {name.split(".")[0] for name in reached("models.layers", set())} - set(sys.stdlib_module_names) - {"models"}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert tops == {name.partition(">")[0] for name in declared}


@pytest.mark.parametrize("command", ["run", "reproduce", "status", "verify"])
def test_nothing_needs_a_dashboards_library(command: str) -> None:
    tops = {name.split(".")[0] for name in reached(f"experiments.{command}", set())}
    assert not tops & {"wandb", "wandb_workspaces", "bokeh"}


def test_who_trains_nothing_does_without_torch() -> None:
    """A second of every command that lists options, counts runs, or finds all of them done."""
    asks = "import data, models, sys; from experiments import reproduce, run, status"
    lists = "from experiments.sweeps import help, options; options.register(); help.short_help()"
    composes = "from experiments.sweeps.compose import compose_arms, launcher; launcher(['experiment=lm_lstm'])"
    code = f"{asks}; {lists}; {composes}; print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
