"""The dashboard in wandb: every panel shows what runs have, side by side, and is made once however often it is made."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from experiments import dashboard, wandb_run, workspace
from experiments.claims import Registry
from experiments.claims_file import load_claims
from experiments.outline import Outline, outlines
from experiments.plotting import HUES
from experiments.run_table import read_table
from experiments.verdicts import VERDICTS
from experiments.workspace import TITLE, VIEW, WorkspaceError
from tests.wandb_server import ENTITY, NOWHERE, WandbServer

ROOT = Path(__file__).parent.parent
CLOSED = "http://127.0.0.1:9"  # where nobody answers
Json = dict[str, Any]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_claims()


@pytest.fixture(scope="module")
def rows() -> list[Json]:
    return read_table(ROOT / "results" / "reference")[0]


@pytest.fixture(scope="module")
def shown(rows: list[Json], registry: Registry) -> list[Outline]:
    return outlines(rows, registry)


@pytest.fixture(scope="module")
def spec(shown: list[Outline]) -> Json:
    """What would be sent, in wandb's own words."""
    return spec_of(workspace.workspace("me", "project", shown))


@pytest.fixture(scope="module")
def grids(shown: list[Outline]) -> list[Json]:
    """The panel grids of the report: that of the verdicts, then one for each experiment."""
    blocks = spec_of(workspace.report("me", "project", shown))["blocks"]
    return [block["metadata"] for block in blocks if block["type"] == "panel-grid"]


@pytest.fixture(scope="module")
def mirrored(rows: list[Json]) -> dict[tuple[str, str], set[str]]:
    """What the runs of an experiment have in wandb: the keys of `history`, `summary` and `config`."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        record = {**row, "group": row["arm"]}
        kept = {
            "history": {key for point in row["history"] for key in wandb_run.logged(record, point)},
            "summary": set(wandb_run.concluded(record)),
            "config": set(flat(wandb_run.described(record, ())["config"])),
        }
        for part, keys in kept.items():
            found.setdefault((row["experiment"], part), set()).update(keys)
    return found


def spec_of(made: Any) -> Json:
    loaded: Json = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    return loaded


def flat(config: Json, above: str = "") -> Iterator[str]:
    """Keys as wandb's panels name them: `optim.learning_rate` is `optim.value.learning_rate`."""
    for key, value in config.items():
        name = f"{above}.{key}" if above else f"{key}.value"
        yield from flat(value, name) if isinstance(value, dict) else [name]


def sections(spec: Json) -> dict[str, Json]:
    return {section["name"]: section for section in spec["section"]["panelBankConfig"]["sections"]}


def kind(section: Json, view: str) -> list[Json]:
    return [panel["config"] for panel in section["panels"] if panel["viewType"] == view]


def filters(runs: Json) -> list[tuple[str, str, str]]:
    return [(item["key"]["name"], item["op"], item["value"]) for item in runs["filters"]["filters"]]


def test_verdicts_come_first_then_trainings_then_measurements(spec: Json, rows: list[Json]) -> None:
    first, *names = sections(spec)
    assert first == "Verdicts" and sections(spec)[first]["pinned"] and sections(spec)[first]["isOpen"]
    trained = {row["experiment"] for row in rows if row["history"]}
    measured = {row["experiment"] for row in rows if row["final"]} - trained  # the times of step_time are no metrics
    assert names == sorted(trained) + sorted(measured)


def test_every_metric_a_panel_names_is_one_that_runs_have(
    spec: Json, mirrored: dict[tuple[str, str], set[str]], registry: Registry
) -> None:
    for name, section in list(sections(spec).items())[1:]:
        for panel in kind(section, "Run History Line Plot"):
            assert {panel["xAxis"], *panel["metrics"]} <= mirrored[name, "history"]
        for panel in kind(section, "Bar Chart"):
            assert set(panel["metrics"]) <= mirrored[name, "summary"]
        for panel in kind(section, "Scatter Plot"):
            setting, metric = panel["xAxis"].removeprefix("config:"), panel["yAxis"].removeprefix("summary:")
            assert setting in mirrored[name, "config"] and metric in mirrored[name, "summary"]
        for panel in kind(section, "Media Browser"):
            claims = {claim.id for claim in registry.claims if name in {experiment for experiment, _ in claim.arms()}}
            assert set(panel["mediaKeys"]) == {f"figures/{claim}" for claim in claims}


def test_the_verdicts_are_those_of_the_run_that_mirrors_them(spec: Json) -> None:
    section = sections(spec)["Verdicts"]
    assert kind(section, "Bar Chart")[0]["metrics"] == [f"verdicts/{verdict}" for verdict in VERDICTS]
    assert kind(section, "Media Browser")[0]["mediaKeys"] == ["report"]
    assert '"verdicts"' in json.dumps(kind(section, "Weave"))


def test_a_training_shows_curves_rates_and_ends(spec: Json, rows: list[Json]) -> None:
    for name in {row["experiment"] for row in rows if row["history"]}:
        here = [row for row in rows if row["experiment"] == name]
        section, by_batch = sections(spec)[name], len({row["config"]["batch_size"] for row in here}) > 1
        main, seconds, train = kind(section, "Run History Line Plot")
        assert main["metrics"] == seconds["metrics"] and train["metrics"] == [f"{name}/train_loss"]
        assert "tuning" not in main["metrics"][0] and main["metrics"][0].startswith(f"{name}/validation_")
        axes = {wandb_run.axis({"group": row["arm"]}) for row in here}
        assert {main["xAxis"]} == {train["xAxis"]} == axes == {"samples" if by_batch else "update"}
        assert seconds["xAxis"] == "seconds"
        tuning, *batches = kind(section, "Scatter Plot")
        assert tuning["xAxis"] == "config:optim.value.learning_rate" and tuning["xAxisLogScale"]
        assert tuning["yAxis"] == f"summary:{name}/tuning/validation_loss"
        assert [panel["xAxis"] for panel in batches] == ["config:batch_size.value"] * by_batch
        for panel in (main, seconds, train, *kind(section, "Bar Chart")):
            assert (panel["groupAgg"], panel["groupArea"]) == ("mean", "minmax")
            assert panel["limit"] > len({(row["arm"], row["learning_rate"]) for row in rows})


def test_lines_are_arms_in_the_colours_of_all_figures(spec: Json, shown: list[Outline], rows: list[Json]) -> None:
    section = spec["section"]
    assert section["settings"]["useRunsTableGroupingInPanels"]
    grouping = [(key["section"], key["name"]) for key in section["runSets"][0]["grouping"]]
    assert grouping == [("run", "group"), ("config", "optim.value.learning_rate")]
    colours = dict(pair for outline in shown for pair in workspace._coloured(outline))
    assert len(section["customRunColors"]) == len(colours)
    groups = {tuple(path) for path in colours}
    named = {(f"{row['experiment']}/{row['arm']}", row["learning_rate"]) for row in rows if row["final"]}
    assert {(group,) for group, _ in named} <= groups
    assert {(group, f"{rate:g}") for group, rate in named if rate is not None} <= groups
    for norm in ("none", "batch", "layer"):
        assert colours[workspace.ws.GroupPath(f"lm_lstm/{norm}")] == HUES[norm]


def test_the_report_has_a_grid_for_each_experiment_of_its_runs_alone(grids: list[Json], spec: Json) -> None:
    verdicts, *others = grids
    assert filters(verdicts["runSets"][0]) == [("jobType", "=", "verdicts")]
    for grid, (name, section) in zip(others, list(sections(spec).items())[1:], strict=True):
        runs, *tuning = grid["runSets"]
        here = ("experiment", "=", name)
        assert filters(runs) == [here, ("jobType", "!=", "tune"), ("jobType", "=", "verdicts")]  # of these the figures
        assert [key["name"] for key in runs["grouping"]] == ["arm.value"]
        assert [filters(dots) for dots in tuning] == [[here, ("jobType", "=", "tune")]] * bool(
            kind(section, "Run History Line Plot")
        )
        told = grid["panelBankSectionConfig"]["panels"]
        assert [panel["config"] for panel in told] == [panel["config"] for panel in section["panels"]]


def test_in_the_report_each_arm_and_each_of_its_tuning_runs_has_its_colour(
    grids: list[Json], shown: list[Outline], rows: list[Json]
) -> None:
    for grid, outline in zip(grids[1:], shown, strict=True):
        first = grid["runSets"][0]["id"]
        arms = {f"{first}-config:arm.value:{arm}": colour for arm, colour in outline.colours.items()}
        tuned = [row for row in rows if row["experiment"] == outline.experiment and row["role"] == "tune"]
        dots = {wandb_run.identifier(row): outline.colours[row["arm"]] for row in tuned}
        assert grid["customRunColors"] == arms | dots


def test_no_panel_lies_on_another(spec: Json, grids: list[Json]) -> None:
    placed = [section["panels"] for section in sections(spec).values()]
    for panels in placed + [grid["panelBankSectionConfig"]["panels"] for grid in grids]:
        cells = [
            {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            for at in (panel["layout"] for panel in panels)
        ]
        assert all(cells) and not any(one & other for one, other in combinations(cells, 2))
        assert max(x for cell in cells for x, _ in cell) < 24


def test_sections_show_all_their_panels_on_one_page(spec: Json) -> None:
    for section in sections(spec).values():
        page = section["flowConfig"]
        assert len(section["panels"]) <= page["columnsPerPage"] * page["rowsPerPage"]


def test_made_again_it_is_made_anew_not_twice(wandb_server: WandbServer, rows: list[Json], registry: Registry) -> None:
    few = [row for row in rows if row["experiment"] == "lm_lstm"]
    first = list(workspace.publish(ENTITY, "project", few, registry))
    view, page = wandb_server.views.values()
    assert (view["type"], view["name"]) == ("project-view", VIEW) and page["type"] == "runs"
    assert list(sections(json.loads(view["spec"]))) == ["Verdicts", "lm_lstm"]
    assert first == [
        f"workspace: {wandb_server.url}/{ENTITY}/project?nw=layernorm",
        f"report: {wandb_server.url}/{ENTITY}/project/reports/{TITLE.replace(' ', '-')}--{page['id']}",
    ]
    more = few + [row for row in rows if row["experiment"] == "lm_gru"]
    assert list(workspace.publish(ENTITY, "project", more, registry)) == first
    view, page = wandb_server.views.values()
    assert list(sections(json.loads(view["spec"]))) == ["Verdicts", "lm_gru", "lm_lstm"]
    assert '"text":"lm_gru"' in page["spec"].replace(" ", "")


def test_where_reports_are_not_allowed_the_workspace_remains(
    wandb_server: WandbServer, rows: list[Json], registry: Registry
) -> None:
    wandb_server.denied.add("upsertView")
    made, refused = workspace.publish(ENTITY, "project", rows[:1], registry)
    assert made.startswith("workspace: ") and "did not take the report" in refused and "permission denied" in refused
    assert [view["type"] for view in wandb_server.views.values()] == ["project-view"]


def test_a_project_that_is_not_there_and_a_refused_key_are_told_in_one_line(
    wandb_server: WandbServer, rows: list[Json], registry: Registry
) -> None:
    with pytest.raises(WorkspaceError, match=rf"^wandb has no project {ENTITY}/{NOWHERE}.*wandb sync.*--project.*$"):
        list(workspace.publish(ENTITY, NOWHERE, rows[:1], registry))
    wandb_server.refuse = 401
    with pytest.raises(WorkspaceError, match=r"^wandb did not take the workspace: .*refused$"):
        list(workspace.publish(ENTITY, "project", rows[:1], registry))
    assert not wandb_server.views


def test_without_a_key_or_a_server_the_command_ends_with_a_line(
    wandb_server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**dashboard.WANDB, "HOME": str(tmp_path), "WANDB_BASE_URL": CLOSED}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["dashboard", "--entity", ENTITY])
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(SystemExit, match=r"^error: wandb has no API key: `wandb login` .*WANDB_API_KEY[^\n]*$"):
        dashboard.main()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(SystemExit, match=r"^error: wandb did not take .*http://127.0.0.1:9.*connection refused[^\n]*$"):
        dashboard.main()


def test_without_the_library_the_command_says_so() -> None:
    script = "import sys; sys.modules['wandb_workspaces'] = None; from experiments.dashboard import main; main()"
    command = [sys.executable, "-c", script, "--entity", ENTITY]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1 and told.stderr.count("\n") == 1
    assert told.stderr.startswith("error: wandb_workspaces is not installed; make setup")
