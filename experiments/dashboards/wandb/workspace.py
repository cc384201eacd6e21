"""The wandb dashboard as code: a saved view of a project, with a section for each experiment.

The only file that imports wandb_workspaces. What there is to show is said by outline.py.

A section of a workspace cannot choose its runs, so the names of metrics do: `<experiment>/validation_loss` is of
evaluation runs alone, `<experiment>/tuning/validation_loss` of tuning runs. Panels follow the grouping of the runs'
table, first by arm, then by learning rate: a line is an arm over its seeds, a dot an arm at one rate. That is also
the only way to give groups colours.

wandb finds a view by its address alone and makes up that of a new one, so a file keeps the address.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from experiments.dashboards.wandb.outline import Outline
from experiments.dashboards.wandb.places import ACCOUNT, told
from experiments.records import files
from experiments.reports.settings import RATE
from experiments.verdicts.verdict import VERDICTS

TITLE = "Layer Normalization, reproduced"
GRID = 24  # columns of wandb's grid
REMEDY = "`wandb sync` of runs makes a project, another --entity or --project chooses one that is there; " + ACCOUNT
MOST = 1000  # groups or runs in a panel; wandb shows 10 unless told


def publish(entity: str, project: str, outlines: Sequence[Outline], kept: Path) -> str:
    """Save the view whose address is in the file `kept`, or a new one, whose address is then kept; what was done.

    Raises SuiteError where wandb does not take it.
    """
    with told(REMEDY):
        before = earlier(entity, project, kept)
    view = before or ws.Workspace(entity=entity, project=project)
    lay_out(view, outlines)
    with told(REMEDY):
        address = str(view.save().url)  # type: ignore[no-untyped-call]
    if not before:
        files.write(kept, address + "\n")
    return f"the workspace is {'renewed' if before else 'a new saved view of the project'}: {address}"


def earlier(entity: str, project: str, kept: Path) -> ws.Workspace | None:
    """The view of an earlier time, if it is of this project and still there."""
    address = kept.read_text().strip() if kept.exists() else ""
    if f"/{entity}/{project}?" not in address:
        return None
    try:
        view: ws.Workspace = ws.Workspace.from_url(address)
        return view
    except ValueError:  # it was deleted
        return None


def lay_out(view: ws.Workspace, outlines: Sequence[Outline]) -> None:
    """A pinned section of verdicts, then one for each experiment; nothing is sent anywhere."""
    verdicts = section("Verdicts", verdict_panels(), 1, is_open=True, pinned=True)
    view.name = TITLE
    view.sections = [verdicts, *(section(outline.experiment, panels(outline), 3) for outline in outlines)]
    view.settings = ws.WorkspaceSettings(x_axis="update", max_runs=MOST)
    view.runset_settings = ws.RunsetSettings(
        groupby=[expr.Metric("Group"), expr.Config(RATE)],
        group_colors={path: colour for outline in outlines for path, colour in coloured(outline)},
    )


def section(name: str, shown: list[Any], columns: int, **options: Any) -> ws.Section:
    """Each panel in a cell of its own, for what has no place is piled up; all on one page, where none hides."""
    width, height = GRID // columns, 10 if columns == 1 else 6
    for place, panel in enumerate(shown):
        row, column = divmod(place, columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)
    pages = ws.SectionLayoutSettings(columns=columns, rows=-(-len(shown) // columns))
    return ws.Section(name=name, panels=shown, layout_settings=pages, **options)


def coloured(outline: Outline) -> Iterable[tuple[ws.GroupPath, str]]:
    """The colour of each arm, as a whole and at each learning rate."""
    for arm, colour in outline.colours.items():
        group = f"{outline.experiment}/{arm}"
        yield ws.GroupPath(group), colour
        yield from ((ws.GroupPath(group, f"{rate:g}"), colour) for rate in sorted(outline.rates[arm]))


def panels(outline: Outline) -> list[Any]:
    """Curves, what learning rate and batch size do, the ends, the figures of its claims."""
    axis, name = "samples" if outline.by_batch else "update", outline.experiment
    found: list[Any] = []
    if outline.curves:
        main, train = outline.curves
        found += [curve(name, main, axis), curve(name, main, "seconds"), curve(name, train, axis)]
    if outline.tuned:
        found.append(dots(f"{name}/tuning/validation_loss", RATE, "tuning: validation loss by learning rate"))
    if outline.by_batch:
        metric = outline.finals[0]
        found.append(dots(f"{name}/{metric}", "batch_size", f"{spaced(metric)} by batch size"))
    found += [ends(name, metric) for metric in outline.finals]
    if outline.claims:
        drawn = [f"figures/{claim}" for claim in outline.claims]
        found.append(wr.MediaBrowser(title="figures of its claims", media_keys=drawn))
    return found


def curve(experiment: str, metric: str, axis: str) -> Any:
    return wr.LinePlot(
        title=f"{spaced(metric)} by {axis}",
        x=axis,
        y=[f"{experiment}/{metric}"],
        title_x=axis,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        smoothing_type="none",
        max_runs_to_show=MOST,
    )


def dots(metric: str, setting: str, title: str) -> Any:
    """Rates far too high must not press the differences that count into one line: both axes are logarithmic."""
    return wr.ScatterPlot(title=title, x=wr.Config(setting), y=wr.SummaryMetric(metric), log_x=True, log_y=True)


def ends(experiment: str, metric: str) -> Any:
    return wr.BarPlot(
        title=spaced(metric),
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
    return [table, counts, wr.MediaBrowser(title="report", media_keys=["report"])]


def spaced(metric: str) -> str:
    return metric.replace("_", " ")
