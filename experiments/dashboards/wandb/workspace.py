"""The wandb dashboard as code: a workspace and a report with a part for each experiment.

The only file that imports wandb_workspaces. What there is to show is said by outline.py.

A section of a workspace cannot choose its runs, so the names of metrics do: `<experiment>/validation_loss` is of
evaluation runs alone, `<experiment>/tuning/validation_loss` of tuning runs. Panels follow the grouping of the runs'
table, first by arm, then by learning rate: a line is an arm over its seeds, a dot an arm at one rate. That is also
the only way to give groups colours. In the report every part has run sets of its own, and each tuning run its dot.

What begins with an underscore in wandb_workspaces is needed to find the pages again; requirements.in holds its version.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import wandb
import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb_workspaces import expr
from wandb_workspaces._graphql import execute_graphql

from experiments.dashboards.wandb.outline import Outline, outlines
from experiments.records.files import SuiteError
from experiments.records.rows import Row
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import VERDICTS

TITLE = "Layer Normalization, reproduced"
VIEW = "nw-layernorm-v"  # the view's name on the server, by which it is found again
GRID = 24  # columns of wandb's grid
MOST = 1000  # groups or runs in a panel; wandb shows 10 unless told
RATE = "optim.learning_rate"
VERDICT_RUNS = expr.Metric("JobType") == "verdicts"

FIND = """query Views($entityName: String, $name: String, $viewType: String) {
    project(name: $name, entityName: $entityName) {
        allViews(viewType: $viewType, first: 100) { edges { node { id name displayName } } }
    }
}"""


class WorkspaceError(SuiteError):
    """wandb did not take the dashboard: what it said and the remedy."""


# ----------------------------------------------------------------------------------------------------- panels


def panels(outline: Outline) -> list[Any]:
    """Curves, what learning rate and batch size do, the ends, the figures of its claims; in rows of three."""
    axis, name = "samples" if outline.by_batch else "update", outline.experiment
    found: list[Any] = []
    if outline.curves:
        main, train = outline.curves
        found += [_curve(name, main, axis), _curve(name, main, "seconds"), _curve(name, train, axis)]
    if outline.trials:
        found.append(_dots(f"{name}/tuning/validation_loss", RATE, "tuning: validation loss by learning rate"))
    if outline.by_batch:
        metric = outline.finals[0]
        found.append(_dots(f"{name}/{metric}", "batch_size", f"{_words(metric)} by batch size"))
    found += [_bar(name, metric) for metric in outline.finals]
    if outline.claims:
        drawn = [f"figures/{claim.id}" for claim in outline.claims]
        found.append(wr.MediaBrowser(title="figures of its claims", media_keys=drawn))
    return placed(found, 3, 6)


def _curve(experiment: str, metric: str, axis: str) -> Any:
    return wr.LinePlot(
        title=f"{_words(metric)} by {axis}",
        x=axis,
        y=[f"{experiment}/{metric}"],
        title_x=axis,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        smoothing_type="none",
        max_runs_to_show=MOST,
    )


def _dots(metric: str, setting: str, title: str) -> Any:
    """Rates far too high must not press the differences that count into one line: both axes are logarithmic."""
    return wr.ScatterPlot(title=title, x=wr.Config(setting), y=wr.SummaryMetric(metric), log_x=True, log_y=True)


def _bar(experiment: str, metric: str) -> Any:
    return wr.BarPlot(
        title=_words(metric),
        metrics=[f"{experiment}/{metric}"],
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST,
        max_bars_to_show=MOST,
    )


def verdict_panels() -> list[Any]:
    """The table of verdicts, how many there are of each, and the report, all from the run that mirrors them."""
    table = wr.WeavePanelSummaryTable(table_name="verdicts")
    counts = wr.BarPlot(title="claims by verdict", metrics=[f"verdicts/{verdict}" for verdict in VERDICTS])
    return placed([table, counts, wr.MediaBrowser(title="report", media_keys=["report"])], 1, 10)


def placed(panels: Sequence[Any], columns: int, height: int) -> list[Any]:
    """Each panel in a cell of its own, row by row; what has no layout is piled up at the top left."""
    width = GRID // columns
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)
    return list(panels)


def _words(metric: str) -> str:
    return metric.replace("_", " ")


# --------------------------------------------------------------------------------------- workspace and report


def workspace(entity: str, project: str, shown: Sequence[Outline]) -> ws.Workspace:
    """A pinned section of verdicts, then one for each experiment; nothing is sent anywhere."""
    verdicts = _section("Verdicts", verdict_panels(), 1, is_open=True, pinned=True)
    view = ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[verdicts, *(_section(outline.experiment, panels(outline), 3) for outline in shown)],
        settings=ws.WorkspaceSettings(x_axis="update", max_runs=MOST),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Metric("Group"), expr.Config(RATE)],
            group_colors={path: colour for outline in shown for path, colour in _coloured(outline)},
        ),
    )
    view._internal_name = VIEW
    return view


def _section(name: str, shown: list[Any], columns: int, **options: Any) -> ws.Section:
    """On one page, so that no panel hides behind a page turn."""
    pages = ws.SectionLayoutSettings(columns=columns, rows=-(-len(shown) // columns))
    return ws.Section(name=name, panels=shown, layout_settings=pages, **options)


def _coloured(outline: Outline) -> Iterable[tuple[ws.GroupPath, str]]:
    """The colour of each arm, as a whole and at each learning rate."""
    for arm, colour in outline.colours.items():
        group = f"{outline.experiment}/{arm}"
        yield ws.GroupPath(group), colour
        yield from ((ws.GroupPath(group, f"{rate:g}"), colour) for rate in sorted(outline.rates[arm]))


def report(entity: str, project: str, shown: Sequence[Outline]) -> wr.Report:
    """The same as a page to read: for each experiment its claims, and panels that see its runs alone."""
    judged = wr.Runset(name="verdicts", filters=expr.And(VERDICT_RUNS))
    table = wr.PanelGrid(runsets=[judged], panels=verdict_panels())
    blocks = [block for outline in shown for block in _chapter(outline)]
    return wr.Report(
        entity=entity,
        project=project,
        title=TITLE,
        description="Every claim, its verdict and the runs behind it.",
        width="fluid",
        blocks=[wr.TableOfContents(), wr.H1("Verdicts"), table, wr.H1("Experiments"), *blocks],
    )


def _chapter(outline: Outline) -> list[Any]:
    claims: list[Any] = [f"{claim.id}: {claim.statement}" for claim in outline.claims]
    colours: dict[Any, Any] = {
        wr.RunsetGroup(outline.experiment, (wr.RunsetGroupKey(wr.Config("arm"), arm),)): colour
        for arm, colour in outline.colours.items()
    }
    grid = wr.PanelGrid(runsets=list(_runsets(outline)), panels=panels(outline), custom_run_colors=colours)
    return [wr.H2(outline.experiment), *([wr.UnorderedList(claims)] if claims else []), grid]


def _runsets(outline: Outline) -> Iterator[wr.Runset]:
    """Evaluations, an arm a line, with the figures; tuning runs, each a dot. Without a project: the report's own."""
    here, tuning = expr.Config("experiment") == outline.experiment, expr.Metric("JobType")
    yield wr.Runset(
        name=outline.experiment,
        filters=expr.Or(expr.And(here, tuning != "tune"), VERDICT_RUNS),
        groupby=["config.arm"],
    )
    if outline.trials:
        dots = {run: wr.RunSettings(color=outline.colours[arm]) for run, arm in outline.trials.items()}
        yield wr.Runset(name="tuning", filters=expr.And(here, tuning == "tune"), run_settings=dots)


# ----------------------------------------------------------------------------------------------------- saving


def publish(entity: str, project: str, rows: Iterable[Row], registry: Registry) -> Iterator[str]:
    """Create the workspace and the report, or replace those of an earlier time; a line for each, with its address.

    Raises WorkspaceError where the workspace cannot be saved; a report that cannot leaves it standing.
    """
    shown = outlines(rows, registry)
    view = workspace(entity, project, shown)
    with _told("the workspace"):
        api = wandb.Api()
        view._internal_id = _known(api, view, "project-view", "name", VIEW)
        address = _saved(view)
    yield f"workspace: {address}"
    page = report(entity, project, shown)
    try:
        with _told("the report"):
            page.id = _known(api, view, "runs", "displayName", TITLE)
            address = _saved(page)
        yield f"report: {address}"
    except WorkspaceError as error:
        yield str(error)


def _saved(made: Any) -> str:
    return str(made.save().url)


def _known(api: wandb.Api, view: ws.Workspace, kind: str, key: str, value: str) -> str:
    """The id of the view that is already there; empty if there is none."""
    asked = {"entityName": view.entity, "name": view.project, "viewType": kind}
    project = execute_graphql(api, FIND, asked)["project"]
    if project is None:
        raise WorkspaceError(
            f"wandb has no project {view.entity}/{view.project}, or not for you: `wandb sync` of runs makes it, another"
            " --entity or --project chooses one that is there"
        )
    edges = project["allViews"]["edges"]
    return next((str(edge["node"]["id"]) for edge in edges if edge["node"][key] == value), "")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """wandb's errors in one line; its own have no class in common."""
    try:
        yield
    except wandb.errors.UsageError:
        raise WorkspaceError("wandb has no API key: `wandb login` asks for it, WANDB_API_KEY=<key> gives it") from None
    except (wandb.errors.Error, WandbApiFailedError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WorkspaceError(f"wandb did not take {what}: {reason}") from error
