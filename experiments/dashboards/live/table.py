"""The table of an experiment's runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models.filters import AllIndices
from bokeh.models.sources import ColumnDataSource
from bokeh.models.widgets.tables import DataTable, HTMLTemplateFormatter, NumberFormatter, TableColumn
from markupsafe import escape

from experiments.dashboards.live.runs import SeenRun
from experiments.reports.settings import RATE, apart_by
from experiments.verdicts.units import heading, unit_of

FIRST = ("running", "failed", "stopped", "unreadable", "diverged", "undefined", "completed")
STATE = '<span class="state <%- value %>"><%- value %></span>'
BAR = '<span class="bar"><i style="width:<%- 100 * value %>%"></i></span><%- update %> of <%- updates %>'
TEXT = '<span title="<%- value %>"><%- value %></span>'
RATE_TEXT = '<%- value == null || isNaN(value) ? "" : +value.toPrecision(4) %>'
METRIC_TEXT = '<%- value == null || isNaN(value) ? "" : value.toPrecision(4) %>'
ROW = 28  # pixels


class RunTable:
    """What has to be looked after first, then what is done."""

    def __init__(self, looks: dict[str, Any]) -> None:
        self.source = ColumnDataSource()
        metric = HTMLTemplateFormatter(template=METRIC_TEXT)
        number = NumberFormatter(format="0", nan_format="")
        rate = HTMLTemplateFormatter(template=RATE_TEXT)
        self.last, self.result = (
            TableColumn(field=name, formatter=metric, width=width) for name, width in (("last", 180), ("result", 150))
        )
        columns = [
            TableColumn(field="state", title="state", formatter=HTMLTemplateFormatter(template=STATE), width=90),
            TableColumn(field="progress", title="updates", formatter=HTMLTemplateFormatter(template=BAR), width=175),
            TableColumn(field="arm", title="arm", formatter=HTMLTemplateFormatter(template=TEXT), width=160),
            TableColumn(field="batch", title="batch size", formatter=number, width=75),
            TableColumn(field="role", title="for", width=75),
            TableColumn(field="seed", title="seed", formatter=number, width=50),
            TableColumn(field="rate", title="learning rate", formatter=rate, width=95),
            self.last,
            self.result,
            TableColumn(field="note", title="run", formatter=HTMLTemplateFormatter(template=TEXT), width=175),
        ]
        self.view = DataTable(
            min_width=1190,
            name="table",
            source=self.source,
            columns=columns,
            index_position=None,
            row_height=ROW,
            height=400,
            **looks,
        )

    def show(self, runs: Sequence[SeenRun], metric: str, result: str, model: str) -> None:
        self.last.title, self.result.title = escape(heading(metric, model)), escape(heading(result, model))
        ordered = sorted(runs, key=lambda run: FIRST.index(run.state))
        names = apart_by({run.arm for run in runs if run.arm})
        rows = [{**row_of(run, metric, result), "arm": names.get(run.arm, "")} for run in ordered]
        self.source.data = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
        self.view.view.filter = AllIndices()  # new data alone the table in the browser does not take notice of
        self.view.visible = bool(rows)
        self.view.height = ROW * (min(len(rows), 14) + 1) + 14


def row_of(run: SeenRun, metric: str, result: str) -> dict[str, Any]:
    updates, update = run.config.get("updates", 0), run.curves.get("update", np.zeros(1))[-1]
    if run.ended and not run.curves:  # a measurement: done at once
        update = updates
    return {
        "state": run.state,
        "progress": update / updates if updates else 0.0,
        "update": f"{update:.0f}",
        "updates": updates,
        "role": run.role,
        "batch": run.config.get("batch_size", np.nan),
        "seed": run.config.get("seed", np.nan),
        "rate": run.config.get(RATE) or np.nan,
        "last": unit_of(metric).factor * run.last(metric),
        "result": unit_of(result).factor * run.last(result) if run.final else np.nan,
        "note": f"{run.name}: {run.reason}" if run.reason else run.name,
    }
