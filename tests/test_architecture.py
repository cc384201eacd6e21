"""Who may import whom: training never needs analysis, and analysis needs neither torch, hydra nor wandb."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANALYSIS = (
    "records",
    "stats",
    "wording",
    "claims",
    "claims_file",
    "evidence",
    "more_seeds",
    "run_table",
    "verdicts",
    "tables",
    "sparklines",
    "plotting",
    "figures",
    "panel",
    "series",
    "sections",
    "page",
    "run_pages",
    "report",
    "verify",
)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def reachable(module: str, seen: set[str]) -> set[str]:
    """Everything a module imports, through our own modules."""
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    if module in seen or not path.exists():
        return seen | {module}
    seen = seen | {module}
    for name in imports(path):
        seen = reachable(name, seen)
    return seen


@pytest.mark.parametrize("module", [*ANALYSIS, "live.server"])
def test_analysis_runs_anywhere(module: str) -> None:
    tops = {name.split(".")[0] for name in reachable(f"experiments.{module}", set())}
    assert not tops & {"torch", "torchvision", "hydra", "omegaconf", "wandb", "datasets", "models", "data"}


def test_verdicts_can_be_verified_with_a_handful_of_packages() -> None:
    others = {name.split(".")[0] for name in reachable("experiments.verify", set())} - set(sys.stdlib_module_names)
    assert others <= {
        "experiments",
        "numpy",
        "scipy",
        "matplotlib",
        "yaml",
        "pydantic",
        "rich",
        "jinja2",
        "markupsafe",
    }  # jinja2's


@pytest.mark.parametrize("module", ["train", "machine", "probes", "schema", "tracking"])
def test_training_never_imports_analysis(module: str) -> None:
    ours = {name.removeprefix("experiments.") for name in reachable(f"experiments.{module}", set())}
    assert not ours & (set(ANALYSIS) - {"records"})


@pytest.mark.parametrize("module", [*ANALYSIS, "run", "sweep", "reproduce", "status"])
def test_nothing_needs_a_dashboard(module: str) -> None:
    assert not {
        name for name in reachable(f"experiments.{module}", set()) if name.startswith(("experiments.live", "bokeh"))
    }


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("wandb", {"wandb_run.py", "workspace.py"}),
        ("wandb_workspaces", {"workspace.py"}),
        ("submitit", {"slurm.py"}),
        ("bokeh", {"live/plots.py", "live/page.py", "live/table.py", "live/server.py"}),
        ("hydra", {"run.py", "errors.py", "schema.py", "compose.py", "sweep_launcher.py"}),
    ],
)
def test_large_libraries_stay_in_their_files(package: str, files: set[str]) -> None:
    rooms = [ROOT / room for room in ("data", "models", "experiments", "hydra_plugins")]
    ours = {str(path.relative_to(room)): path for room in rooms for path in room.rglob("*.py")}
    assert {name for name, path in ours.items() if any(n.split(".")[0] == package for n in imports(path))} <= files


def test_models_know_only_torch() -> None:
    for path in (ROOT / "models").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"data", "experiments", "hydra", "omegaconf"}
