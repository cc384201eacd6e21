"""The live page served, in a real browser."""

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import websocket_connect

from experiments import dashboard
from experiments.dashboards.live import server
from experiments.dashboards.live.runs import LiveResults
from experiments.dashboards.live.server import PORTS, PortError, serve, started
from scripts.browser import Browser
from scripts.live_speed import DRAWN, NEWEST, begin, config, end, history, served, until
from tests.dashboards.seen import POINTS


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
