"""The live page: runs read as they change, their bands, and the page itself in a real browser."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document
from bokeh.models import LogScale
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import websocket_connect

from experiments import dashboard
from experiments.dashboards.live import curves, series, server, texts
from experiments.dashboards.live.groups import among, grouped, lines, numbers, varied
from experiments.dashboards.live.page import LOOKS, Page, styles_of
from experiments.dashboards.live.runs import LiveResults, SeenRun, names, results_below
from experiments.dashboards.live.server import PORTS, PortError, serve, started
from experiments.dashboards.sparklines import LossScale
from experiments.records.files import RecordError
from experiments.records.folder import FAILED, RESULT, RunFolder
from experiments.records.locks import hold
from experiments.records.table import read_table
from experiments.reports.scales import HUES, OTHERS, luminance
from experiments.reports.settings import RATE, apart_by, shared_by
from experiments.verdicts.units import heading
from scripts.browser import Browser
from scripts.live_speed import DRAWN, EXPERIMENT, NEWEST, append, begin, config, described, end, history, served, until

POINTS = 8


def only_run(live: LiveResults) -> SeenRun:
    live.look(EXPERIMENT)
    (run,) = live.runs(EXPERIMENT)
    return run


# ------------------------------------------------------------------------------------------------------ reading


def test_a_table_of_runs_shows_what_its_records_did() -> None:
    rows, _ = read_table("results/reference/laptop")
    kept = results_below(Path("results/reference/laptop"))
    assert kept.counts() == {"done": len(rows)} and kept.folders[kept.latest()]
    shown = {(name, run.name): run for name in kept.folders for run in kept.runs(name)}
    for row in rows:
        run = shown[row["experiment"], row["run"]]
        assert (run.state, run.arm, run.role) == (row["status"], row["arm"], row["role"])
        assert run.config[RATE] == row["learning_rate"] and run.final == (row["final"] or row["timing"])
        assert [point.get("validation_loss") for point in row["history"]] == [
            None if np.isnan(loss) else loss for loss in run.curves.get("validation_loss", ())
        ]


def test_a_run_in_progress_is_read_on_and_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    settings, live = config("layer", 8, 0, 80), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:2])
    assert only_run(live).curves["update"].tolist() == [10, 20]
    changes = live.changes[EXPERIMENT]
    half = json.dumps(rows[2])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(half[:20])
        file.flush()
        assert only_run(live).curves["update"].tolist() == [10, 20]
        file.write(half[20:] + "\nno JSON\n")
    append(folder, [rows[3] | {"validation_loss": None}])
    found = only_run(live).curves
    assert found["update"].tolist() == [10, 20, 30, 40] and live.changes[EXPERIMENT] > changes
    assert np.array_equal(found["validation_loss"], [r["validation_loss"] for r in rows[:3]] + [np.nan], equal_nan=True)


def test_a_run_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    settings, live = config("layer", 8, 0), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:3])
    only_run(live)
    (folder / "metrics.jsonl").unlink()
    append(folder, [row | {"seconds": 9.0} for row in rows[:5]])  # already longer than what was read
    assert only_run(live).curves["seconds"].tolist() == [9.0] * 5


def test_states_follow_the_folder_and_nothing_is_written(tmp_path: Path) -> None:
    settings, live = config("batch", 8, 3), LiveResults(tmp_path)
    rows = history(settings, POINTS)
    folder = begin(tmp_path, settings, rows[:1])
    before = sorted(tmp_path.rglob("*"))
    assert (only_run(live).state, only_run(live).arm, only_run(live).role) == ("stopped", "batch_b8", "evaluate")
    assert sorted(tmp_path.rglob("*")) == before
    with hold(folder):
        assert only_run(live).state == "running" and live.counts() == {"running": 1}
    (folder / FAILED).write_text(json.dumps({"sweep": "", "attempts": 1, "reason": "no <room>", "log": []}))
    assert (only_run(live).state, only_run(live).reason) == ("failed", "no <room>")
    end(tmp_path, settings, rows, "diverged")
    assert only_run(live).diverged and live.counts() == {"done": 1}
    end(tmp_path, settings, rows[:2])  # another record in its place
    assert only_run(live).state == "completed" and len(only_run(live).curves["update"]) == 2
    (folder / RESULT).write_text("{}")
    assert only_run(live).state == "unreadable"


def test_done_runs_are_read_once_and_only_where_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        settings = config("none", 2, seed)
        end(tmp_path, settings, history(settings, 2))
    read: list[Path] = []
    whole = RunFolder.record

    def noted(folder: RunFolder) -> dict[str, Any] | None:
        read.append(folder.path)
        return whole(folder)

    monkeypatch.setattr(RunFolder, "record", noted)
    live = LiveResults(tmp_path)
    live.look()
    assert live.counts() == {"done": 3} and live.latest() in ("", EXPERIMENT) and read == []
    for _ in range(3):
        live.look(EXPERIMENT)
    assert len(read) == 3 == len(live.runs(EXPERIMENT))


@pytest.mark.parametrize("made", ["", "runs", "runs/empty"])
def test_an_empty_folder_is_waited_for(tmp_path: Path, made: str) -> None:
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    live = LiveResults(tmp_path if made else tmp_path / "missing")
    live.look("anything")
    assert (live.counts().total(), live.runs("anything"), live.latest()) == (0, [], "")


# ------------------------------------------------------------------------------------------------------ bands


def read(results: Path) -> list[SeenRun]:
    live = LiveResults(results)
    live.look(EXPERIMENT)
    return live.runs(EXPERIMENT)


def test_a_band_is_numpys_of_the_records_values(tmp_path: Path) -> None:
    every = [config("layer", 8, seed, 80) for seed in range(5)]
    for settings in every:
        end(tmp_path, settings, history(settings, POINTS))
    losses = np.array([[row["validation_loss"] for row in history(settings, POINTS)] for settings in every])
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert found.x.tolist() == [10, 20, 30, 40, 50, 60, 70, 80] and set(found.runs) == {5}
    np.testing.assert_allclose(found.mean, losses.mean(axis=0), rtol=1e-15)
    assert np.array_equal(found.low, losses.min(axis=0)) and np.array_equal(found.high, losses.max(axis=0))


def test_a_band_is_of_those_that_came_so_far_and_ends_where_one_diverged(tmp_path: Path) -> None:
    first, second, third = (config("layer", 8, seed, 80) for seed in range(3))
    end(tmp_path, first, history(first, POINTS))
    begin(tmp_path, second, history(second, POINTS)[:5])
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert found.runs.tolist() == [2, 2, 2, 2, 2, 1, 1, 1] and np.isfinite(found.mean).all()
    end(
        tmp_path,
        third,
        [*history(third, POINTS)[:3], {"update": 40, "seconds": 1.0, "validation_loss": None}],
        "diverged",
    )
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert np.isfinite(found.mean).tolist() == np.isfinite(found.low).tolist() == [True] * 3 + [False] * 5


def test_runs_of_different_batch_sizes_meet_at_equal_samples(tmp_path: Path) -> None:
    for norm in ("layer", "batch"):
        for batch_size, updates in ((2, 320), (8, 80)):
            settings = config(norm, batch_size, 0, updates)
            end(tmp_path, settings, history(settings, POINTS))
    groups = grouped(read(tmp_path), "norm")
    assert list(groups) == ["batch", "layer"] and not curves.mixed(groups, "validation_loss", "samples")
    found = curves.band(groups["layer"], "validation_loss", "samples")
    losses = [
        [row["validation_loss"] for row in history(config("layer", *of), POINTS)] for of in ((2, 0, 320), (8, 0, 80))
    ]
    assert found.x.tolist() == [80 * k for k in range(1, 9)]
    np.testing.assert_allclose(found.mean, np.mean(losses, axis=0))
    assert curves.mixed(groups, "validation_loss", "update")
    seconds = curves.band(groups["layer"][:1], "validation_loss", "seconds")
    np.testing.assert_allclose(seconds.x, [0.01 * 40 * k for k in range(1, 9)])


def test_runs_can_be_grouped_by_whatever_differs_and_results_drawn_against_it(tmp_path: Path) -> None:
    for batch_size in (2, 8, 32):
        for seed, rate in ((0, 0.01), (1000, 0.01), (1000, 0.1)):
            settings = config("layer", batch_size, seed, optim={"learning_rate": rate})
            end(tmp_path, settings, history(settings, POINTS), "diverged" if rate == 0.1 else "completed")
    runs = read(tmp_path)
    differing = varied(runs)
    assert {"optim.learning_rate", "batch_size"} <= set(differing)
    assert "norm" not in differing and numbers(runs)[0] == "batch_size"
    assert list(grouped(runs, "batch_size")) == ["batch_size 2", "batch_size 8", "batch_size 32"]
    evaluated = [run for run in runs if run.role == "evaluate"]
    (line,) = series.end_results(lines(evaluated, "batch_size"), "batch_size", "test_loss").values()
    assert line.x.tolist() == [2, 8, 32]
    assert line.middle.tolist() == [run.final["test_loss"] for run in evaluated]
    tuning = grouped([run for run in runs if run.role == "tune"], "arm")
    found = series.end_results(tuning, RATE, "validation_loss")
    assert all(line.x.tolist() == [0.01, 0.1] and np.isnan(line.middle[1]) for line in found.values())
    assert all(series.chosen(line) == 0.01 for line in found.values())
    assert series.end_results(tuning, "norm", "validation_loss") == {}


def test_the_rate_that_is_marked_is_the_one_that_is_chosen(tmp_path: Path) -> None:
    """By the final validation loss, whatever is shown; a rate at which one seed diverged is not chosen."""
    for rate, level, status in ((0.01, 2.0, "completed"), (0.1, 1.0, "completed"), (1.0, 0.5, "diverged")):
        for seed in (1000, 1001):
            settings = config("layer", 8, seed, optim={"learning_rate": rate})
            row = {"update": 10, "seconds": 1.0, "validation_loss": level, "validation_error": -level}
            end(tmp_path, settings, [row], status if seed == 1000 else "completed")
    groups = grouped(read(tmp_path), "arm")
    for metric in ("validation_loss", "validation_error"):
        (line,) = series.end_results(groups, RATE, metric).values()
        assert series.chosen(line) == 0.1


def test_runs_of_one_arm_that_differ_are_apart_and_named_by_it(tmp_path: Path) -> None:
    """Whatever their records call them: a mean is over seeds, or it is said what else it is over."""
    for batch_size, data in ((8, "mnist"), (16, "mnist"), (16, "mine")):
        for seed in (0, 1):
            settings = config("layer", batch_size, seed, data={"name": data, "path": f"/{seed}"})
            folder = RunFolder(end(tmp_path, settings, history(settings, POINTS)))
            folder.finish({**(folder.record() or {}), "group": "layer"})
    for seed in (1000, 1001):
        for rate in (0.01, 0.1):
            settings = config("layer", 8, seed, optim={"learning_rate": rate})
            begin(tmp_path, settings, history(settings, 2))
    found = read(tmp_path)
    evaluated = grouped([run for run in found if run.role == "evaluate"], "arm")
    assert {label: len(runs) for label, runs in evaluated.items()} == {
        "layer batch_size=8 data.name=mnist": 2,
        "layer batch_size=16 data.name=mine": 2,
        "layer batch_size=16 data.name=mnist": 2,
    }
    assert texts.members(evaluated) == "the seeds of a group"
    every = grouped(found, "arm")
    assert len(every["layer_b8"]) == 4 and set(among(every, found[:1])) <= set(every)
    assert texts.members(every) == "runs of a group that differ in seed, learning rate"
    by_norm = grouped([run for run in found if run.role == "evaluate"], "norm")
    assert len(by_norm["layer"]) == 6
    assert texts.members(by_norm) == "runs of a group that differ in seed, batch size, data"


def test_arms_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    """Settings that all arms share stand in no name, and once beside them."""
    for norm, arm in (("layer", "layer model.depth=3 updates=80"), ("batch", "batch model.depth=3 updates=160")):
        folder = RunFolder(end(tmp_path, config(norm, 8, 0), history(config(norm, 8, 0), POINTS)))
        folder.finish({**(folder.record() or {}), "group": arm})
    page = Page(Document(), LiveResults(tmp_path))
    named = ["batch updates=160", "layer updates=80"]
    assert list(grouped(read(tmp_path), "arm")) == page.table.source.data["arm"] == named
    assert [label for _, label in page.widgets["only"].options] == named
    assert page.texts["about"].text.endswith("All arms with <code>model.depth=3</code>.")
    assert shared_by([]) == [] and apart_by(["layer a=1"]) == {"layer a=1": "layer"}


@pytest.mark.parametrize(
    ("ends", "axis"),
    [
        ([(8, 80)], "update"),
        ([(2, 80), (8, 80)], "update"),
        ([(2, 320), (8, 80)], "samples"),
        ([(2, 300), (8, 80), (16, 40)], "samples"),
    ],
)
def test_curves_are_compared_where_runs_end_together(ends: list[tuple[int, int]], axis: str, tmp_path: Path) -> None:
    for batch_size, updates in ends:
        settings = config("layer", batch_size, 0, updates)
        end(tmp_path, settings, history(settings, POINTS))
    page = Page(Document(), LiveResults(tmp_path))
    assert page.widgets["axis"].value == curves.fair_axis(read(tmp_path)) == axis
    page.widgets["axis"].value = "seconds"
    page.settle()
    assert page.widgets["axis"].value == "seconds" and curves.fair_axis([]) == "update"


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (0.05, "log"), (0.0, "linear")])
def test_losses_of_more_than_a_decade_open_on_a_logarithmic_scale(factor: float, scale: str, tmp_path: Path) -> None:
    """As in the terminal; where one of them is 0 there is no such scale."""
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    rows[-1]["validation_loss"] *= factor
    end(tmp_path, settings, rows)
    values = [row["validation_loss"] for row in rows]
    page = Page(Document(), LiveResults(tmp_path))
    assert page.widgets["scale"].value == scale == ("log" if LossScale.around(values).log else "linear")


def test_metrics_have_their_units_and_errors_are_per_cents(tmp_path: Path) -> None:
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    end(tmp_path, settings, rows)
    page = Page(Document(), LiveResults(tmp_path))

    def drawn() -> Any:
        return page.holders["curves"].children[0]

    def shown() -> Any:
        last: Any = page.curves.sources["means"].data["ys"]
        return drawn().title.text.text, page.table.last.title, last[0][-1]

    loss = rows[-1]["validation_loss"]
    assert shown() == ("validation loss, nats", "validation loss, nats", pytest.approx(loss))
    page.widgets["metric"].value = "validation_error"
    assert shown() == ("validation error, %", "validation error, %", pytest.approx(100 * loss / 5))
    assert page.table.source.data["last"] == [pytest.approx(100 * loss / 5)]
    assert page.table.source.data["batch"] == [8]
    page.widgets["axis"].value, page.widgets["scale"].value = "samples", "log"
    assert drawn().xaxis[0].axis_label.text == "samples" and isinstance(drawn().y_scale, LogScale)
    assert heading("validation_bits_per_character", "language_model") == "validation bits per character"
    assert heading("validation_loss", "order_embeddings") == "validation loss"


def test_the_metric_that_is_told_everywhere_comes_first(tmp_path: Path) -> None:
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    end(tmp_path, settings, rows)
    assert curves.metrics(read(tmp_path))[0] == "validation_loss"
    end(tmp_path, settings, [row | {"validation_bits_per_character": row["validation_loss"]} for row in rows])
    assert curves.metrics(read(tmp_path))[0] == "validation_bits_per_character"


def contrast(colour: str, ground: str) -> float:
    darker, lighter = sorted(map(luminance, (colour, ground)))
    return (lighter + 0.05) / (darker + 0.05)


def turned(colour: str) -> str:
    """What the dark page's filter, invert(1) hue-rotate(180deg), makes of a colour (Filter Effects 1, for sRGB)."""
    matrix = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    parts = matrix @ (1 - np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]))
    return "#" + "".join(f"{round(255 * part):02x}" for part in np.clip(parts, 0, 1))


@pytest.mark.parametrize("norm", [*HUES, *OTHERS])
def test_every_line_stands_out_from_the_ground_light_or_dark(norm: str) -> None:
    """Also the shades of many arms of one norm, and of groups that have none."""
    settings = config(norm if norm in HUES else "other", 8, 0)
    groups = {f"{norm} {place}": [SeenRun(norm, "done", config=settings)] for place in range(8)}
    styles = styles_of(groups)
    assert len({*styles.values()}) == len(groups)
    for colour, _ in styles.values():
        assert contrast(colour, "#ffffff") >= 3 and contrast(turned(colour), "#14171b") >= 3, colour


def test_the_filter_that_the_contrast_is_computed_of_is_the_pages() -> None:
    assert "--turned: invert(1) hue-rotate(180deg)" in LOOKS and "--ground: #14171b" in LOOKS
    assert [turned(grey) for grey in ("#ffffff", "#000000", "#6b6b6b")] == ["#000000", "#ffffff", "#949494"]


def test_lines_are_runs_that_differ_only_in_the_number(tmp_path: Path) -> None:
    """Fewer updates at larger batches belong to the number; another kind of layer is another line."""
    for norm, kind in (("layer", "hidden"), ("batch", "hidden"), ("batch", "all")):
        for batch_size in (2, 8):
            settings = config(norm, batch_size, 0, 320 // batch_size, model={"name": "mlp", "normalize": kind})
            end(tmp_path, settings, history(settings, 2))
    found = read(tmp_path)
    assert {label: len(runs) for label, runs in lines(found, "batch_size").items()} == {
        "batch, normalize all": 2,
        "batch, normalize hidden": 2,
        "layer": 2,
    }
    assert numbers(found) == ["batch_size"]


def test_what_comes_from_files_is_escaped_and_missing_verdicts_are_told(tmp_path: Path) -> None:
    assert "&lt;b&gt;" in texts.waiting(Path("<b>"))
    assert "make reproduce writes it" in texts.verdicts(tmp_path)[0]
    (tmp_path / "claims.json").write_text("{")
    assert "claims.json" in texts.verdicts(tmp_path)[0] and texts.verdicts(tmp_path)[1] == ()


def test_when_verdicts_were_made_is_what_their_file_says(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text("[]")  # just written, of unknown age
    assert texts.verdicts(tmp_path)[0] == "As judged by make reproduce; not recomputed here."
    made = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat(timespec="seconds")
    path.write_text(json.dumps({"made": made, "command": "make reproduce", "verdicts": []}))
    assert texts.verdicts(tmp_path)[0].startswith("As judged by make reproduce 3 days ago (")


# ------------------------------------------------------------------------------------------------------ serving


def test_a_taken_port_is_passed_over_and_one_that_cannot_be_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = started(LiveResults(tmp_path), port)
        assert server.port is not None and port < server.port < port + PORTS
        server.stop()
    with pytest.raises(PortError, match="--port 70000"):
        serve(tmp_path, 70000)


def test_where_bokeh_is_not_installed_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("bokeh", "experiments.dashboards.live"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setattr(sys, "argv", ["dashboard"])
    with pytest.raises(SystemExit, match="error: bokeh is not installed"):
        dashboard.main()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of two arms, one of them in progress."""
    folder = tmp_path_factory.mktemp("results")
    for norm in ("layer", "batch"):
        for seed in range(2):
            settings = config(norm, 8, seed, 80)
            end(folder, settings, history(settings, POINTS))
    settings = config("none", 8, 0, 80)
    begin(folder, settings, history(settings, POINTS)[:3])
    return folder


@pytest.fixture(scope="module")
def address(browser: Browser, results: Path) -> Iterator[str]:
    process, address = served(results, "--allow", "proxied.example")
    yield address
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


TEXT = """(() => {
    const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => e.shadowRoot ? [e, ...all(e.shadowRoot)] : [e])
    return all(document).filter((e) => e.matches('%s')).map((e) => e.textContent.trim())
})()"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_is_whole_at_any_width(browser: Browser, address: str, width: int, dark: bool) -> None:
    browser.open(address, width, dark)
    until(browser, DRAWN)
    assert browser.run("document.documentElement.scrollWidth") <= browser.run("innerWidth") == width
    assert browser.run(TEXT % ".entry") == ["batch_b8 2", "layer_b8 2", "none_b8 1"]
    assert browser.run(TEXT % ".count")[:4] == ["4 done", "0 running", "0 failed", "1 stopped"]
    assert browser.run("['table', 'verdicts_text'].every((id) => document.getElementById(id).tabIndex === 0)")
    assert browser.run(
        "[...document.querySelectorAll('.pair > div')].every((place) => place.hidden)"
    )  # no charts there
    assert browser.complaints() == []


def test_new_points_and_choices_are_drawn(browser: Browser, address: str, results: Path) -> None:
    browser.open(f"{address}/?group=norm&seeds=every")
    until(browser, DRAWN)
    assert browser.run(TEXT % ".entry") == ["batch 2", "layer 2", "none 1"]
    settings = config("none", 8, 0, 160)
    begin(results, settings, history(settings, 2 * POINTS))
    until(browser, f"{NEWEST} == 160")
    until(browser, f"{TEXT % '.entry'}.at(-1) == 'none 2'")
    until(browser, f"{TEXT % '.slick-row'}.some((row) => row.includes('160 of 160'))")
    assert any("30 of 80" in row for row in browser.run(TEXT % ".slick-row"))
    pick = "Bokeh.documents[0].get_model_by_name('axis').value = 'samples'"
    browser.run(pick)
    until(browser, f"{NEWEST} == 1280")
    assert "axis=samples" in browser.run("location.search") and "group=norm" in browser.run("location.search")
    assert browser.complaints() == []


def answer(address: str, path: str, host: str, origin: str = "") -> int:
    """The status of a GET, or of a request to open a socket, that says it is for this host and from this place."""
    name, port = address.removeprefix("http://").split(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *([f"Origin: {origin}"] if origin else [])]
    if path == "/ws":
        lines += ["Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
    with socket.create_connection((name, int(port))) as line:
        line.sendall("\r\n".join([*lines, f"Connection: {'Upgrade' if path == '/ws' else 'close'}", "", ""]).encode())
        return int(line.recv(100).split()[1])


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1:1", True),  # another port: of a tunnel
        ("LOCALHOST", True),
        ("[::1]:5006", True),
        ("proxied.example", True),
        ("elsewhere.example", False),
        ("localhost.elsewhere.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_it_answers_to_names_of_this_machine_and_those_allowed(address: str, host: str, served: bool) -> None:
    assert answer(address, "/", host) == (200 if served else 403)
    assert answer(address, "/ws", host, f"http://{host}") == (101 if served else 403)
    assert answer(address, "/static/js/bokeh.min.js", host) == (200 if served else 403)


def test_no_other_site_may_talk_to_it(address: str) -> None:
    host = address.removeprefix("http://")
    origins = {f"http://{host}": 101, "https://proxied.example": 101, "http://elsewhere.example": 403}
    origins |= {"http://localhost:1": 403, f"http://{host}.elsewhere.example": 403, "null": 403}
    assert {origin: answer(address, "/ws", host, origin) for origin in origins} == origins


def test_nothing_else_is_served(address: str) -> None:
    host = address.removeprefix("http://")
    for path in ("/autoload.js", "/metadata", "/static/extensions/x", "/static/js/../../tornado.py", "/x"):
        assert answer(address, path, host) in (403, 404), path


def test_a_page_is_made_when_its_socket_opens_and_there_are_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Document] = []
    monkeypatch.setattr(server, "Page", lambda document, live: made.append(document))
    monkeypatch.setattr(server, "MOST", 2)

    async def visit() -> list[int]:
        running = started(LiveResults(tmp_path), 15000)
        place, told = f"127.0.0.1:{running.port}", []
        for _ in range(4):
            page = (await AsyncHTTPClient().fetch(f"http://{place}/")).body.decode()
            token = page.split('data-token="')[1].split('"')[0]
            opened = await websocket_connect(f"ws://{place}/ws", subprotocols=["bokeh", token])
            await opened.read_message()
            told.append(len(made))
            if len(made) == 2:
                with pytest.raises(HTTPClientError, match="503"):
                    await websocket_connect(f"ws://{place}/ws", subprotocols=["bokeh", token])
                break
        for _ in range(5):
            await AsyncHTTPClient().fetch(f"http://{place}/")
        running.stop()
        return [*told, len(made)]

    assert asyncio.run(visit()) == [1, 2, 2]


# ------------------------------------------------------------------------------------------------------ odd folders

RIGHT = config("layer", 8, 0)


def test_odd_folders_stop_nothing(tmp_path: Path) -> None:
    texts = ("", "null", "[]", "3", "\0", '{"a":', "9" * 5000)
    changes: list[dict[str, Any]] = [
        {"config": None},
        {"config": []},
        {"run": 3},
        {"group": None},
        {"role": "x"},
        {"role": []},
        {},
    ]
    lines = ("[]", "3\nnull", '{"update": 1e999}', '{"update": "x"}', '{"update": 1, "x": [1]}', "{}")
    failed = {"failed.json": '{"sweep": 1, "attempts": null, "reason": [], "log": 3}'}
    written = [{"config.json": text} for text in texts] + [{"changes": json.dumps(change)} for change in changes]
    for seed, files in enumerate([*written, *({"metrics.jsonl": text} for text in lines), failed]):
        known = described(config("layer", 8, seed))
        known |= json.loads(files.pop("changes", "{}"))
        folder = tmp_path / "runs" / EXPERIMENT / described(config("layer", 8, seed))["run"]
        folder.mkdir(parents=True)
        for name, text in ({"config.json": json.dumps(known)} | files).items():
            (folder / name).write_text(text)
    assert_shown(tmp_path)


def test_odd_configurations_stop_nothing(tmp_path: Path) -> None:
    """Their hash is right: whoever wrote them meant it."""
    for key in ("seed", "batch_size", "updates", "norm", "evaluations", "model", "data", "optim"):
        values: tuple[Any, ...] = (None, [], {}, "x", 1e999, -1, 10**100, True, {"learning_rate": "x", "path": 10**400})
        for value in values:
            with suppress(TypeError, AttributeError, RecordError):  # nothing that has a name, or too long a one
                begin(tmp_path, RIGHT | {key: value}, history(RIGHT, POINTS))
    assert len(names(tmp_path / "runs" / EXPERIMENT)) > 50
    assert_shown(tmp_path)


def test_odd_records_stop_nothing(tmp_path: Path) -> None:
    for place, key in enumerate(("status", "history", "final", "timing", "role", "group")):
        for seed, value in enumerate((None, [3], "x", {"x": "y", "loss_at_rate_x": 1.0}, 10**400)):
            settings = config("layer", 8, 10 * place + seed)
            folder = RunFolder(end(tmp_path, settings, history(settings, POINTS)))
            folder.finish({**(folder.record() or {}), key: value})
    assert_shown(tmp_path)


def test_links_in_a_circle_and_files_in_the_place_of_folders_stop_nothing(tmp_path: Path) -> None:
    within = begin(tmp_path, RIGHT, [])
    for folder in (tmp_path / "runs", within.parent):
        (folder / "circle").symlink_to(folder / "circle")
        (folder / "file").write_bytes(bytes(range(256)))
    for name in ("result.json", "metrics.jsonl", "failed.json", "lock"):
        (within / name).unlink(missing_ok=True)
        (within / name).mkdir()
    assert_shown(tmp_path)


def assert_shown(results: Path) -> None:
    """A run that is well is drawn; the others as far as they can be, or as unreadable."""
    settings = config("batch", 8, 0, 80)
    well = end(results, settings, history(settings, POINTS)).name
    page = Page(Document(), LiveResults(results))
    runs = {run.name: run.state for run in page.results.runs(EXPERIMENT)}
    assert runs[well] == "completed" and well in page.table.source.data["note"]
    assert len(runs) > 1 and set(runs.values()) <= {"completed", "unreadable", "stopped", "failed", "diverged"}
    for name, widget in page.widgets.items():  # every choice there is
        for option in getattr(widget, "options", ()):
            widget.value = [option[0]] if name == "only" else option[0]
            assert page.curves.sources["dots"].data["x"].size or name in ("role", "only")


@pytest.mark.parametrize(
    "text", ["[3]", '[{"id": 3}]', "[" * 100_000, '{"made": 3, "verdicts": []}', '{"made": "x", "verdicts": []}']
)
def test_odd_verdicts_stop_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.json").write_text(text)
    told, verdicts = texts.verdicts(tmp_path)
    assert "claims.json" in told and "\n" not in told and verdicts == ()
    entry = json.loads(Path("tests/golden/claims.json").read_text())["verdicts"][0]
    for key in entry.keys() - {"reason"}:
        (tmp_path / "claims.json").write_text(json.dumps([entry | {key: {"x": [1]}}]))
        told, verdicts = texts.verdicts(tmp_path)
        assert verdicts or key in told
        texts.verdict_table(verdicts)
