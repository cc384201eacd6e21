"""What one visitor of the live page has chosen and sees.

page.html.jinja is its structure, page.css its looks, page.js what the browser does: it opens a socket, and only then is
a `Page` made, the parts of which appear in the structure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bokeh.document import Document
from bokeh.models.css import InlineStyleSheet
from bokeh.models.layouts import Column
from bokeh.models.widgets.inputs import MultiChoice, Select
from bokeh.models.widgets.markups import Div
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from experiments.dashboards.live import curves, series, texts
from experiments.dashboards.live.curves import AXES
from experiments.dashboards.live.groups import ARM, Groups, among, grouped, lines, norms, numbers, varied
from experiments.dashboards.live.plots import CurvesChart, ResultsChart
from experiments.dashboards.live.runs import SEED, LiveResults, SeenRun
from experiments.dashboards.live.series import Series
from experiments.dashboards.live.table import RunTable
from experiments.records.printable import printable
from experiments.reports.scales import BLACK, Styles, arm_styles, legible
from experiments.reports.settings import RATE, apart_by, shared_by
from experiments.verdicts.units import heading, unit_of
from experiments.verdicts.wording import by_number

Choice = dict[str, Any]  # by the name of the widget
HERE = Path(__file__).parent
A_LOOK = 1000  # milliseconds between two looks at the folder
ROLES = {"evaluate": "evaluation", "tune": "tuning of learning rates"}
EVERY = {"mean": "mean and band", "every": "and every seed"}
SELECTS = {  # by the name in the page's address
    "experiment": "Experiment",
    "role": "Runs",
    "metric": "Metric",
    "axis": "Against",
    "scale": "Scale",
    "group": "Grouped by",
    "seeds": "Lines",
    "number": "Against",
    "result": "Result at the end",
    "claims": "Claims",
}
TEXTS = ("counts", "waiting", "legend", "about", "rates", "results", "runs", "judged", "verdicts")
LOOKS, SCRIPT = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
CHARTS = ("curves", "rates", "results")
# The parts of a page, in the order in which they are put into its document.
PARTS = (*SELECTS, "only", *(f"{name}_text" for name in TEXTS), *(f"{name}_chart" for name in CHARTS), "table")


def html(results: LiveResults, token: str) -> str:
    """The empty page, which opens its socket with this token."""
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True).get_template(
        "page.html.jinja"
    )
    return template.render(
        results=printable(str(results.path)),
        waiting=not results.folders,
        token=token,
        parts=PARTS,
        looks=LOOKS,
        script=SCRIPT,
    )


class Page:
    """Widgets, charts and texts; a look at the folder every second."""

    def __init__(self, document: Document, results: LiveResults) -> None:
        self.results, self.experiment, self.drawn, self.settling = results, "", -1, False
        self.choice: Choice = {}  # with which the charts were drawn
        self.looks = InlineStyleSheet(css=LOOKS)
        self.widgets: dict[str, Any] = {name: self.select(name, title) for name, title in SELECTS.items()}
        self.widgets["only"] = MultiChoice(name="only", title="Only these arms", placeholder="all", **self.fluid())
        self.texts = {name: Div(name=f"{name}_text", disable_math=True, **self.fluid()) for name in TEXTS}
        self.curves = CurvesChart()
        self.charts = {"rates": ResultsChart(ring=True), "results": ResultsChart(ring=False)}
        self.holders = {name: Column(name=f"{name}_chart", **self.fluid()) for name in CHARTS}
        self.table = RunTable(self.fluid())
        self.picks = asked(document)
        self.results.look()
        self.look()
        for name, widget in self.widgets.items():
            widget.on_change("value", partial(self.picked, name))
        self.arrange(document)
        document.add_periodic_callback(self.look, A_LOOK)

    def arrange(self, document: Document) -> None:
        """Put everything into the page."""
        parts = (*self.widgets.values(), *self.texts.values(), *self.holders.values(), self.table.view)
        for part in sorted(parts, key=lambda part: PARTS.index(part.name)):
            document.add_root(part)
        document.title = f"{printable(str(self.results.path))} live"
        document.config.update(notify_connection_status=False, reconnect_session=False)  # the page does both itself

    def fluid(self) -> dict[str, Any]:
        return {"sizing_mode": "stretch_width", "stylesheets": [self.looks], "margin": 0}

    def select(self, name: str, title: str) -> Select:
        return Select(name=name, title=title, **self.fluid())

    # ------------------------------------------------------------------------------------------ as time goes on

    def look(self) -> None:
        """See what has changed, and show it."""
        self.results.look(self.experiment)
        experiments = list(self.results.folders)
        if self.experiment not in experiments:
            wanted = self.picks.get("experiment", "")
            self.experiment = wanted if wanted in experiments else self.results.latest()
            self.results.look(self.experiment)
        self.say("counts", texts.counts(self.results.counts()))
        self.say("waiting", "" if experiments else texts.waiting(self.results.path))
        self.show_verdicts()
        if self.results.changes[self.experiment] != self.drawn:
            self.settle()

    def show_verdicts(self) -> None:
        about, verdicts = texts.verdicts(self.results.path)
        ours = [verdict for verdict in verdicts if verdict.experiment == self.experiment]
        offered = {"all": f"all {len(verdicts)}", "these": f"{len(ours)} of this experiment"}
        self.choose("claims", offered)
        self.widgets["claims"].visible = bool(verdicts)
        self.say("judged", escape(about))
        self.say("verdicts", texts.verdict_table(ours if self.widgets["claims"].value == "these" else verdicts))

    def say(self, name: str, text: str) -> None:
        if self.texts[name].text != str(text) or self.texts[name].visible != bool(text):
            self.texts[name].update(text=str(text), visible=bool(text))

    # ------------------------------------------------------------------------------------------ as one chooses

    def picked(self, name: str, attribute: str, old: Any, new: Any) -> None:
        if self.settling:
            return
        self.picks[name] = new
        if name == "experiment":
            self.experiment = new
            self.picks.pop("only", None)
            self.results.look(new)
        self.show_verdicts()
        self.settle()

    def settle(self) -> None:
        """Offer what there is to choose, then draw: new figures where another choice is made, else new data."""
        self.drawn = self.results.changes[self.experiment]
        runs = [run for run in self.results.runs(self.experiment) if run.config]
        self.settling = True
        self.offer(runs)
        self.settling = False
        before, self.choice = self.choice, {name: widget.value for name, widget in self.widgets.items()}
        choice, anew = self.choice, self.choice != before
        shown = [run for run in runs if not choice["only"] or run.arm in choice["only"]]
        self.draw_curves(runs, shown, choice, anew)
        self.draw_rates(runs, shown, choice, anew)
        self.draw_results(runs, shown, choice, anew)
        self.say("runs", texts.counts(self.results.counts(self.experiment), always=()))
        rest = [run for run in self.results.runs(self.experiment) if not run.config]
        self.table.show([*rest, *shown], choice["metric"], choice["result"], curves.model_of(runs))

    def offer(self, runs: Sequence[SeenRun]) -> None:
        """What can be chosen; what was picked, or the first, is."""
        self.choose("experiment", {name: self.title(name) for name in self.results.folders}, self.experiment)
        self.choose("role", {role: text for role, text in ROLES.items() if any(run.role == role for run in runs)})
        of_role = [run for run in runs if run.role == self.widgets["role"].value]
        self.choose("metric", spoken(curves.metrics(of_role)))
        self.choose("axis", AXES, curves.fair_axis(of_role))
        spread = curves.spans_decades(of_role, self.widgets["metric"].value)
        self.choose("scale", {"linear": "linear", "log": "logarithmic"}, "log" if spread else "linear")
        self.choose("group", {key: key for key in (ARM, *varied(of_role))})
        self.choose("seeds", EVERY)
        finals = dict.fromkeys(name for run in runs for name in run.final)
        self.choose("number", {key: key for key in numbers([run for run in runs if run.role == "evaluate"])})
        self.choose("result", spoken(finals), series.end_metric(self.widgets["metric"].value, runs))
        arms = sorted({run.arm for run in runs}, key=by_number)
        # What this one offers, it shows as HTML.
        self.widgets["only"].options = [(arm, str(escape(name))) for arm, name in apart_by(arms).items()]
        wanted = self.picks.get("only", [])
        wanted = wanted.split(",") if isinstance(wanted, str) else wanted
        self.widgets["only"].value = [arm for arm in wanted if arm in arms]

    def title(self, experiment: str) -> str:
        """Its name, and what one has to know before looking at it."""
        counts = self.results.counts(experiment)
        return ", ".join([printable(experiment), *(state for state in ("running", "failed") if counts[state])])

    def choose(self, name: str, options: Mapping[str, str], default: str = "") -> None:
        widget = self.widgets[name]
        offered = list(options.items())
        if widget.options != offered:
            widget.update(options=offered, disabled=not offered)
        default = default if default in options else next(iter(options), "")
        wanted = self.picks.get(name, "")
        widget.value = wanted if wanted in options and name != "experiment" else default

    # ------------------------------------------------------------------------------------------ drawing

    def draw_curves(self, runs: Sequence[SeenRun], shown: Sequence[SeenRun], choice: Choice, anew: bool) -> None:
        metric, axis = choice["metric"], choice["axis"]
        every = grouped(runs, choice["group"])
        styles = styles_of(every)
        groups = among(every, [run for run in shown if run.role == choice["role"] and metric in run.curves])
        chart, log = self.curves, choice["scale"] == "log"
        each = chart.update(groups, styles, metric, axis, choice["seeds"] == "every", log)
        self.place(
            "curves", bool(groups), anew, partial(chart.figure, heading(metric, curves.model_of(runs)), axis, log)
        )
        self.say("legend", texts.legend(groups, styles))
        about = texts.about_curves(groups, metric, axis, each) if groups else texts.no_curves(runs)
        self.say("about", f"{about}{texts.shared(shared_by({run.arm for run in runs}))}")

    def draw_rates(self, runs: Sequence[SeenRun], shown: Sequence[SeenRun], choice: Choice, anew: bool) -> None:
        """How the end of tuning runs depends on their learning rate."""
        every = grouped(runs, choice["group"] if choice["group"] not in (SEED, RATE) else ARM)
        groups = among(every, [run for run in shown if run.role == "tune"])
        drawn, metric = series.end_results(groups, RATE, choice["metric"]), choice["metric"]
        if not drawn:
            drawn, metric = series.measured_rates(among(every, shown)), "validation_loss"
        self.draw_series("rates", drawn, styles_of(every), RATE, metric, anew)

    def draw_results(self, runs: Sequence[SeenRun], shown: Sequence[SeenRun], choice: Choice, anew: bool) -> None:
        """How the result of evaluation runs depends on a number in which they differ."""
        every = lines([run for run in runs if run.role == "evaluate"], choice["number"])
        drawn = series.end_results(among(every, shown), choice["number"], choice["result"])
        self.draw_series("results", drawn, styles_of(every), choice["number"], choice["result"], anew)
        self.widgets["number"].visible = bool(drawn)

    def draw_series(
        self, name: str, drawn: Mapping[str, Series], styles: Styles, key: str, metric: str, anew: bool
    ) -> None:
        chart = self.charts[name]
        fits = chart.update(drawn, styles, unit_of(metric).factor)
        model = curves.model_of(run for line in drawn.values() for run in line.runs)
        self.place(name, bool(drawn), anew or not fits, partial(chart.figure, key, heading(metric, model)))
        self.say(name, texts.results(name, drawn, styles, key, metric) if drawn else "")

    def place(self, name: str, there: bool, anew: bool, figure: Callable[[], Any]) -> None:
        """Put a chart on the page, a new figure where another choice is made; or take it off."""
        holder = self.holders[name]
        holder.visible = there
        if not there:
            holder.children = []
        elif anew or not holder.children:
            holder.children = [figure()]


def styles_of(groups: Groups) -> Styles:
    """Every colour stands out from the ground of the page, and so do all its shades."""
    styles = arm_styles(groups, norms(groups), BLACK)
    return {label: (legible(colour), dashes) for label, (colour, dashes) in styles.items()}


def asked(document: Document) -> dict[str, Any]:
    """What the page's address asks for."""
    request = getattr(document.session_context, "request", None)
    return {name: values[0].decode(errors="replace") for name, values in request.arguments.items()} if request else {}


def spoken(names: Iterable[str]) -> dict[str, str]:
    return {name: texts.short(name) for name in names}
