"""One hostile text in every field of records, tables and claims: whatever shows it, nothing of it is run or obeyed."""

import io
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from experiments import verify
from experiments.dashboards.terminal import Terminal
from experiments.records import files
from experiments.records.folder import FAILED, RunFolder
from experiments.records.printable import MOVING
from experiments.records.table import TableError, read_table, write_table
from experiments.reports.tables import verdict_table
from experiments.reports.write import write_report
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.verdicts import judge
from scripts.browser import PATIENCE, Browser
from scripts.live_speed import DRAWN, append, config, described, end, history, served, until
from tests.conftest import GOLDEN, ORIGIN

pytest.importorskip("bokeh")

RUN = "hacked=1"  # without a dot: of a dotted name only the end is shown
TAGS = f"<img src=x onerror={RUN}><script>{RUN}</script></script></style><svg onload={RUN}>"
MATH = rf"$$\href{{javascript:{RUN}}}{{x}}$$ [x](javascript:{RUN}) {{{{7*7}}}} {{% x %}} `x` ${{{RUN}}} <%= {RUN} %>"
MOVES = "\x1b[2J\x1b]0;x\x07\r\n\x00\x9b2J\u202e\u2066\ufeff"
TEXT = f"\"'>{TAGS}{MATH}{MOVES}*/;}}"
HALF = TEXT + "\ud800"  # JSON can hold half a character, nothing else can
WORD = f"\"'><script>{RUN}<x>`{{{{7*7}}}}\x1b[2J\u202e*;}}"  # without blanks and slashes, as labels are
NAME = "\"'><img src=x onerror=hacked=1>\x1b[2J\r\n\u202e"  # of a folder


def hostile(value: Any, text: str = HALF) -> Any:
    """The same with every text replaced, and one more key in every mapping."""
    if isinstance(value, dict):
        return {key: hostile(one, text) for key, one in value.items()} | {text: text}
    if isinstance(value, list):
        return [hostile(one, text) for one in value]
    return text if isinstance(value, str) else value


def unharmed(browser: Browser) -> bool:
    """Nothing ran, nothing tried to: what a page's policy had to refuse is among the complaints."""
    return browser.run("window.hacked === undefined") and browser.complaints() == []


# --------------------------------------------------------------------------------------------------- the live page


TIMING = {HALF: 1.0, "wall_seconds": 1.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in progress, one that failed and a record, hostile in all their fields, among runs that are well."""
    folder = tmp_path_factory.mktemp("results")
    for seed in range(2):
        settings = config("layer", 8, seed, 80)
        end(folder, settings, history(settings, 8))
    for seed, norm in enumerate((NAME, "batch", "none")):
        settings = config(norm, 8, seed, 80)
        settings |= {key: hostile(settings[key]) for key in ("model", "data", "optim")} | {"method": HALF, HALF: HALF}
        start = described(settings) | {"group": HALF, "scale": HALF, "options": {HALF: HALF}, HALF: HALF}
        run = RunFolder(folder / "runs" / "invented" / files.run_id(settings))
        rows = [row | {HALF: 1.0} for row in history(config("layer", 8, seed, 80), 8)]
        if norm == "none":
            record = {
                "record_version": files.VERSION,
                **start,
                "status": "completed",
                "history": rows,
                "synthetic": True,
            }
            run.finish(record | {"final": {HALF: 1.0}, "timing": TIMING, "environment": {HALF: HALF}})
            continue
        run.begin(start)
        append(run.path, rows)
        if norm == "batch":
            (run.path / FAILED).write_text(json.dumps({"sweep": HALF, "attempts": 1, "reason": HALF, "log": [HALF]}))
    odd = RunFolder(folder / "runs" / NAME / files.run_id(config("layer", 8, 0)))
    odd.begin(described(config("layer", 8, 0)) | {"experiment": NAME})
    claims = json.loads((GOLDEN / "claims.json").read_text())
    for entry in claims["verdicts"]:
        entry |= {key: TEXT for key in ("id", "source", "statement", "kind", "metric", "reason")}
        entry |= {"runs": [TEXT], "arms": {TEXT: {TEXT: TEXT}}, "experiment": "invented"}
    (folder / "claims.json").write_text(json.dumps(claims | {"command": TEXT}))
    return folder


@pytest.fixture(scope="module")
def address(browser: Browser, results: Path) -> Iterator[str]:
    process, address = served(results)
    yield address
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


SHOWN = """(() => {
    const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => e.shadowRoot ? [e, ...all(e.shadowRoot)] : [e])
    return all(document).filter((e) => e.matches('%s'))
})()"""


# Where the dot of a hostile arm is, in a chart that is scrolled to.
POINTED = """(() => {
    const column = ({data}, name) => data instanceof Map ? data.get(name) : data[name];
    const models = [...Bokeh.documents[0]._all_models.values()];
    const dots = models.find((model) => model.type == 'ColumnDataSource' && column(model, 'low'));
    const at = column(dots, 'label').findIndex((label) => label.includes('onerror')) + 3;
    const figures = models.filter((model) => model.type == 'Figure');
    const ours = figures.filter((figure) => figure.renderers.some((one) => one.data_source == dots));
    // those that were replaced have no view, or one that is on no page
    const views = ours.map((figure) => Bokeh.index.find_one(figure));
    const view = views.findLast((view) => view?.frame && view.el.isConnected);
    if (!view) return null;
    view.el.scrollIntoView();
    const box = view.canvas_view.el.getBoundingClientRect();
    const [x, y] = ['x', 'mean'].map((name) => column(dots, name)[at]);
    return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)];
})()"""


def test_the_live_page_runs_nothing_and_shows_all(browser: Browser, address: str) -> None:
    browser.open(f"{address}/?experiment=invented&seeds=every&role=evaluate")
    until(browser, DRAWN)
    options = browser.run("Bokeh.documents[0].get_model_by_name('group').options.map(([value]) => value)")
    metrics = browser.run("Bokeh.documents[0].get_model_by_name('metric').options.map(([value]) => value)")
    assert len(options) > 3 and len(metrics) > 3
    for name, values in (("metric", metrics), ("group", [*options, "arm"])):
        for value in values:
            browser.run(f"Bokeh.documents[0].get_model_by_name('{name}').value = {json.dumps(value)}")
            until(browser, DRAWN)
    tooltip = f"{SHOWN % '.bk-Tooltip'}.some((e) => e.shadowRoot.textContent.includes('onerror'))"
    deadline = time.monotonic() + PATIENCE
    while not browser.run(tooltip) and time.monotonic() < deadline:  # a chart that is just drawn anew may not notice
        for away in (60, 0) if (place := browser.run(POINTED)) else ():
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0] + away, y=place[1] + away)
            time.sleep(0.1)
    until(browser, tooltip)
    browser.run(f"{SHOWN % '.choices__input--cloned'}[0].focus()")
    browser.run(f"{SHOWN % '.choices__inner'}[0].click()")
    offered = browser.run(f"{SHOWN % '.choices__item--choice'}.map((e) => e.textContent)")
    assert "layer_b8" in offered and any("onerror" in text for text in offered)
    rows = browser.run(f"{SHOWN % '.slick-row'}.map((e) => e.textContent)")
    assert sum("layer_b8" in row and "80 of 80" in row for row in rows) == 2 and len(rows) == 5
    assert len(browser.run(f"{SHOWN % '.badge'}.map((e) => e.textContent)")) == 7
    assert browser.run("document.documentElement.scrollWidth") <= browser.run("innerWidth")
    assert unharmed(browser)
    browser.run(f"Bokeh.documents[0].get_model_by_name('experiment').value = {json.dumps(NAME)}")
    until(browser, f"{SHOWN % '.slick-row'}.length == 1")
    assert unharmed(browser)


# ------------------------------------------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def report(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden runs and claims, hostile in every text that is no name of an experiment or one of a few words."""
    rows = deepcopy(rows)
    for row in rows:
        row |= {"arm": row["arm"] + WORD, "run": row["run"] + TEXT}
        plain = {"batch_size": 8, "updates": 9, "evaluations": 0, "method": TEXT, "norm": row["arm"]}
        plain |= {part: {"name": TEXT, WORD: TEXT} for part in ("model", "data")}
        optim = {"name": TEXT, "schedule": TEXT, "clip_norm": 0.0, "learning_rate": row["learning_rate"]}
        row["config"] = plain | {"seed": row["seed"], "optim": optim}
        row["environment"] = {name: TEXT for name in ("torch", "device", "commit", "kernel", TEXT)}
        for part in ("final", "timing"):
            row[part] = {f"{key}{WORD}" if "loss" not in key else key: v for key, v in row[part].items()} | {TEXT: 1.0}
        row["history"] = [point | {TEXT: 1.0} for point in row["history"]]
    claims = yaml.safe_load((GOLDEN / "claims.yaml").read_text())
    for claim in claims["claims"]:
        claim |= {key: f"{claim[key]} {TEXT}" for key in ("statement", "expected", "deviations")}
        if "loss" not in claim["metric"]:
            claim["metric"] += WORD
        if "contrast" in claim:
            claim["contrast"] = {label + WORD: weight for label, weight in claim["contrast"].items()}
        else:
            claim["arms"] = [label + WORD for label in claim["arms"]]
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "claims.yaml").write_text(json.dumps(claims))  # JSON is YAML
    findings = yaml.safe_load((GOLDEN / "summary.yaml").read_text())
    (folder / "summary.yaml").write_text(json.dumps([found | {"topic": found["topic"] + TEXT} for found in findings]))
    registry = load_claims(folder / "claims.yaml")
    write_table(rows, folder, ORIGIN)
    read, origin = read_table(folder)
    write_report(registry, read, judge(registry, read), folder, origin)
    return folder


@pytest.mark.parametrize("page", ["report.html", "evidence/language.html"])
def test_a_document_runs_nothing_and_is_whole(browser: Browser, report: Path, page: str) -> None:
    browser.open((report / page).as_uri(), width=1280)
    assert browser.run("document.querySelectorAll('.claim, .arm').length") == (7 if page == "report.html" else 4)
    assert browser.run("document.querySelectorAll('img, script[src], [onerror], [onload]').length") == 0
    assert browser.run("document.scripts.length") == (page == "report.html")
    assert browser.run("[...document.links].every((link) => !link.href.startsWith('javascript'))")
    assert "onerror" in browser.run("document.body.innerText")
    assert unharmed(browser)


def test_what_a_page_is_not_made_of_does_not_run_in_it(browser: Browser, report: Path, tmp_path: Path) -> None:
    """The second wall: were something not escaped, the page's policy would refuse it."""
    page = (report / "report.html").read_text(encoding="utf-8").replace("<main>", f"<main>{TAGS}", 1)
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    browser.open((tmp_path / "report.html").as_uri())
    assert browser.run("window.hacked === undefined") and browser.complaints()


def test_documents_and_figures_hold_no_tag_and_no_control_character(report: Path) -> None:
    written = [path for path in report.rglob("*") if path.suffix in (".md", ".html", ".svg", ".json")]
    assert len(written) > 10
    for path in written:
        if path.name != "configs.json":
            assert not MOVING.search(path.read_text(encoding="utf-8").replace("\n", "")), path
        if path.suffix == ".svg":
            ElementTree.parse(path)
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert not re.search("<[a-z/]", markdown) and "| [G2-batch-better](#g2-batch-better) |" in markdown
    assert len(read_verdicts(report / "claims.json")) == 7


# ---------------------------------------------------------------------------------------------------- the terminal


def test_a_terminal_gets_nothing_but_text(report: Path) -> None:
    told = io.StringIO()
    terminal = Terminal(file=told, width=200, force_terminal=True, color_system=None)
    terminal.print(verdict_table(read_verdicts(report / "claims.json")))
    terminal.print(f"[bold]{TEXT}[/bold] {HALF}")
    assert not MOVING.search(told.getvalue().replace("\n", "")) and "[bold]" in told.getvalue()


@pytest.mark.parametrize("place", ["runs.csv", "report.md"])
def test_an_error_gets_nothing_through_to_the_terminal(
    report: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results\x1b[2J"
    folder.mkdir()
    for name in ("runs.csv", "curves.csv", "configs.json"):
        (folder / name).write_bytes((report / name).read_bytes())
    if place == "runs.csv":
        (folder / place).write_bytes((report / place).read_bytes().replace(b"completed", TEXT.encode(), 1))
    (folder / "report.md").write_text(TEXT)
    monkeypatch.setattr(verify, "CLAIMS", report / "claims.yaml")
    monkeypatch.setattr(sys, "argv", ["verify", str(folder)])
    with pytest.raises(SystemExit) as stop:
        verify.main()
    printed = f"{capsys.readouterr().out}{stop.value}"
    assert printed and not MOVING.search(printed.replace("\n", ""))


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", ".hidden", TEXT, ""])
def test_no_table_names_a_file_elsewhere(report: Path, tmp_path: Path, name: str) -> None:
    rows, origin = read_table(report)
    write_table([row | {"experiment": name} for row in rows], tmp_path, origin)
    with pytest.raises(TableError, match="is not the name of one"):
        read_table(tmp_path)


def test_every_console_is_the_terminal() -> None:
    makers = [
        path.name
        for path in Path("experiments").rglob("*.py")
        if re.search(r"= Console\(|\(Console\)", path.read_text())
    ]
    assert makers == ["terminal.py"]
