"""What is kept is complete, real and verified, and never half there."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.records.rows import Row
from experiments.records.table import read_table
from experiments.sweeps.arm import Name
from experiments.training.run import run
from experiments.verdicts.claims import Registry
from experiments.verdicts.claims_json import read_claims
from experiments.verify import files, headline
from scripts import freeze
from scripts.freeze import Study
from tests.conftest import GOLDEN, with_markers
from tests.training.test_run import tiny

LAPTOP, EVENING = Study(), Study("evening")


@pytest.fixture
def laptop(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The invented runs, as if they could be kept."""
    return [row | {"synthetic": False, "scale": "laptop"} for row in rows]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A page, claims that all have their runs, and a reference with a benchmark and an old study."""
    declared = yaml.safe_load((GOLDEN / "claims.yaml").read_text(encoding="utf-8"))
    declared["claims"] = [claim for claim in declared["claims"] if claim["id"] != "G6-missing"]
    told = yaml.safe_load((GOLDEN / "summary.yaml").read_text(encoding="utf-8"))
    told = [finding for finding in told if finding.get("claim") != "G6-missing"]
    (tmp_path / "summary.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
    with_markers(tmp_path)
    (tmp_path / "reference" / "laptop").mkdir(parents=True)
    (tmp_path / "reference" / "bench.csv").write_text("times")
    (tmp_path / "reference" / "laptop" / "old.md").write_text("of the last run")
    return tmp_path


def keep(rows: Sequence[Row], place: Path, study: Study = LAPTOP, arms: Collection[Name] = ()) -> str:
    fresh = freeze.Recorded(rows, arms or {freeze.name_of(row) for row in rows})
    return freeze.keep(fresh, place / "reference", place / "claims.yaml", place, study)


def told(place: Path) -> set[str]:
    """The studies that the page leads to."""
    page = (place / "docs" / "verdicts.md").read_text(encoding="utf-8")
    return set(re.findall(r"results/reference/([\w-]+)/report.md", page))


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files(place)}


def test_a_complete_run_is_kept_with_its_table_and_the_benchmark(place: Path, laptop: list[dict[str, Any]]) -> None:
    assert keep(laptop, place).startswith("6 claims judged anew from 93 runs")
    names = {path.name for path in (place / "reference" / "laptop").iterdir()}
    made = {"runs.csv", "curves.csv", "configs.json", "claims.json", "report.md", "report.html", "figures", "evidence"}
    together = {"bench.csv", "studies.md", "summary.svg", "laptop"}
    assert names == made and {path.name for path in (place / "reference").iterdir()} == together
    assert told(place) == {"laptop"}


def test_what_is_incomplete_or_synthetic_is_refused_and_nothing_is_touched(
    place: Path, laptop: list[dict[str, Any]]
) -> None:
    before, first = contents(place), laptop[0]
    for rows, why in (
        ([*laptop[1:], first | {"synthetic": True}], f"synthetic data are not kept: {first['experiment']}$"),
        ([row | {"scale": "smoke"} for row in laptop], "^runs of scale smoke are not kept, only those of laptop"),
        ([], r"^6 claims are incomplete: G1-better, .* \.\.\.; run make reproduce"),
    ):
        with pytest.raises(ValueError, match=why):
            keep(rows, place)
    assert contents(place) == before


def test_a_kill_between_the_renames_loses_nothing(place: Path, laptop: list[dict[str, Any]]) -> None:
    keep(laptop, place)
    study = place / "reference" / "laptop"
    study.rename(freeze.aside(study))
    one = [row for row in laptop if row["experiment"] == laptop[0]["experiment"]]
    keep(one, place, replace(LAPTOP, experiments=(one[0]["experiment"],)), {freeze.name_of(row) for row in laptop})
    assert len(read_table(study)[0]) == len(laptop) and not list(study.parent.glob(".*"))


def test_experiments_kept_one_by_one_come_to_the_study_of_all(place: Path, laptop: list[dict[str, Any]]) -> None:
    arms = {freeze.name_of(row) for row in laptop}
    experiments = sorted({row["experiment"] for row in laptop})
    assert len(experiments) > 1
    for experiment in experiments:
        study = replace(LAPTOP, experiments=(experiment,))
        keep([row for row in laptop if row["experiment"] == experiment], place, study, arms)
    parts = contents(place / "reference" / "laptop")
    keep(laptop, place)
    whole = contents(place / "reference" / "laptop")
    assert parts.keys() == whole.keys()
    made = re.compile(rb"\d+-\d+-\d+T\d+:\d+:\d+")  # when
    assert all(made.sub(b"", parts[path]) == made.sub(b"", whole[path]) for path in whole)


def test_what_was_kept_before_is_replaced_arm_by_arm_and_told(place: Path, laptop: list[dict[str, Any]]) -> None:
    keep(laptop, place)
    first, arms = freeze.name_of(laptop[0]), {freeze.name_of(row) for row in laptop}
    some = replace(LAPTOP, experiments=(first[0],))
    fresh = [row for row in laptop if freeze.name_of(row) == first]
    assert "\n" not in keep(fresh, place, some, arms)  # nothing has changed
    fresh[0] = fresh[0] | {"final": {**fresh[0]["final"], "test_loss": 9.75}}
    said, _ = keep(fresh, place, some, arms).split("\n")
    assert said == "1 runs that were kept with other numbers are replaced"
    rows = read_table(place / "reference" / "laptop")[0]
    assert len(rows) == len(laptop) and [row["final"].get("test_loss") for row in rows].count(9.75) == 1
    gone = max(arms - {first})
    said, _ = keep(fresh, place, some, arms - {gone}).split("\n")
    assert said == f"gone, for they are declared no longer: {' '.join(gone)}"
    assert gone not in map(freeze.name_of, read_table(place / "reference" / "laptop")[0])


def test_the_page_tells_an_evening_once_it_answers_every_claim(place: Path, laptop: list[dict[str, Any]]) -> None:
    evening = [row | {"scale": "evening"} for row in laptop]
    arms = {freeze.name_of(row) for row in laptop}
    keep(laptop, place)
    some = [row for row in evening if row["experiment"] == evening[0]["experiment"]]
    keep(some, place, replace(EVENING, experiments=(some[0]["experiment"],)), arms)
    assert told(place) == {"laptop"} and headline(place / "reference").name == "laptop"
    page = place / "reference" / "evening" / "claims.json"
    assert read_claims(page)[1].command == "make reproduce SCALE=evening"
    keep(evening, place, EVENING)
    assert told(place) == {"evening"} and read_claims(page)[1].command == "make reproduce SCALE=evening ALL=1"
    keep(laptop, place)
    again = [row | {"seed": row["seed"] + 100, "run": f"{row['run']}-again"} for row in evening]
    keep(again, place, replace(EVENING, first_seed=100))
    assert told(place) == {"evening"}
    assert {path.name for path in (place / "reference").iterdir()} == {
        "bench.csv",
        "studies.md",
        "summary.svg",
        "laptop",
        "evening",
        "evening-100",
    }


def test_of_some_experiments_the_arms_are_kept_that_have_all_their_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {("tiny", arm): tiny(place, experiment="tiny", seeds=seeds) for arm, seeds in (("one", 1), ("two", 2))}
    run(configs["tiny", "one"])
    monkeypatch.setattr(freeze, "composed_arms", lambda options: configs)
    monkeypatch.setattr(freeze, "check_against", lambda *declared: None)
    registry = Registry(0.05, 12, ())
    found = freeze.recorded(place, registry, Study(experiments=("tiny",)))
    assert [row["arm"] for row in found.rows] == ["one"] and set(found.arms) == set(configs)
    assert found.told == ["left out, for they lack runs: tiny two"]
    for study, why in (
        (Study(), "^1 arms lack runs, tiny two for one; run make reproduce SCALE=laptop ALL=1 first$"),
        (Study(experiments=("huge",)), "^--experiment huge: there is none of this name"),
    ):
        with pytest.raises(ValueError, match=why):
            freeze.recorded(place, registry, study)
