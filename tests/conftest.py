"""What tests of several files share; generated examples may take as long as a busy machine needs."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from experiments.records.table import Origin, rounded, write_table
from experiments.reports.marked_pages import README, VERDICTS
from experiments.reports.write import write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.verdicts import judge
from scripts.browser import NAMES, Browser, installed
from tests.dashboards.wandb_server import wandb_server  # noqa: F401 (a fixture)

GOLDEN = Path(__file__).parent / "golden"
ORIGIN = Origin("make reproduce", "2026-01-02T03:04:05+00:00")

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """As they are: a run in this process has had them taken as 0, in tests after it too."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The claims of the invented runs below."""
    return load_claims(GOLDEN / "claims.yaml")


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Invented runs that reach every verdict."""
    loaded: list[dict[str, Any]] = rounded(json.loads((GOLDEN / "rows.json").read_text(encoding="utf-8")))
    return loaded


@pytest.fixture(scope="session")
def verdicts(registry: Registry, rows: list[dict[str, Any]]) -> list[Verdict]:
    return judge(registry, rows)


@pytest.fixture(scope="session")
def report(
    registry: Registry,
    rows: list[dict[str, Any]],
    verdicts: list[Verdict],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder as make reproduce leaves it, of those runs; tests only read it."""
    folder = tmp_path_factory.mktemp("made") / "results"
    write_table(rows, folder, ORIGIN)
    write_report(registry, rows, verdicts, folder, ORIGIN)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; no test is run without, or fails where REQUIRE_BROWSER=1 asks for one."""
    program = installed()
    if program is None:
        reason = f"no browser ({', '.join(NAMES)}) is installed; apt-get install chromium"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


def with_markers(root: Path) -> None:
    """README.md and docs/verdicts.md with nothing but the places for what is found."""
    for page, names in ((README, ("summary", "counts")), (VERDICTS, ("verdicts",))):
        (root / page).parent.mkdir(exist_ok=True)
        (root / page).write_text("".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in names))
