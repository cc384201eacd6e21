"""No claim is younger than the runs that judge it: as it is now, it stood in the commit by which they were made."""

import subprocess
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.records.studies import REFERENCE, studies
from experiments.records.table import read_table
from experiments.verdicts.claims_file import CLAIMS, LOADER, load_claims

ROOT = Path(__file__).resolve().parents[1]
# What decides a claim; its words may become clearer afterwards.
DECIDES = ("kind", "contrast", "arms", "metric", "direction", "margin", "scale", "summary", "against", "target")
BOUNDS = ("at_most", "at_least", "better", "tuned")
SEEN = "laptop"  # whose seeds had been seen when the second edition was declared: docs/editions.md


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def known(commit: str) -> bool:
    """Not in a clone without the history."""
    found = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True)
    return found.returncode == 0


def declared(read: Callable[[str], str]) -> dict[str, dict[str, Any]]:
    """What decides each claim, by the files of the folder of claims."""
    family = yaml.load(read("family.yaml"), Loader=LOADER)
    entries = chain.from_iterable(yaml.load(read(f"{name}.yaml"), Loader=LOADER) for name in family["files"])
    return {entry["id"]: {key: entry.get(key) for key in (*DECIDES, *BOUNDS)} for entry in entries}


@cache
def declared_at(commit: str) -> dict[str, dict[str, Any]]:
    return declared(lambda name: git("show", f"{commit}:configs/claims/{name}"))


def younger(study: Path) -> list[str]:
    """The claims that were not declared as they are when one of their evaluation runs was made."""
    made: dict[tuple[str, str], set[str]] = {}
    for row in read_table(study)[0]:
        if row["role"] == "evaluate":
            commit = str(row["environment"]["commit"]).removesuffix("-dirty")
            made.setdefault((row["experiment"], row["arm"]), set()).add(commit)
    if unknown := [commit for commits in made.values() for commit in commits if not known(commit)]:
        pytest.skip(f"this clone has no history that reaches {unknown[0]}")
    now = declared(lambda name: (CLAIMS / name).read_text())
    claims = {
        claim.id: {commit for arm in claim.arms() for commit in made.get(arm, ())} for claim in load_claims().claims
    }
    return [
        name
        for name, commits in claims.items()
        if any(declared_at(commit).get(name) != now[name] for commit in commits)
    ]


@pytest.mark.parametrize("study", [study for study in studies(REFERENCE) if study.name != SEEN], ids=lambda s: s.name)
def test_no_claim_is_younger_than_its_evaluation_runs(study: Path) -> None:
    assert younger(study) == []


def test_where_claims_are_younger_it_is_said() -> None:
    """The other test can fail: of the laptop's seeds the first edition's runs judge claims of the second."""
    found = younger(REFERENCE / SEEN)
    page = (ROOT / "docs" / "editions.md").read_text()
    assert "A2-layer-stretched" in found and "B4-lstm-better" not in found
    assert [name for name in found if f"| {name} |" not in page] == []
