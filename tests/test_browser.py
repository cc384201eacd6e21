"""The page in a real browser: Chromium without a window, driven over the DevTools protocol through two pipes.

Skipped where no Chromium is installed (apt-get install chromium), unless REQUIRE_BROWSER=1 is set.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.claims import Registry
from experiments.report import write_report
from experiments.verdicts import judge

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-extensions --remote-debugging-pipe"
)
PATIENCE = 20.0  # seconds for any single answer


class Browser:
    """One page of a browser. It reads commands on its file descriptor 3 and answers on 4, each JSON and a zero."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # The shell puts the pipes' ends where the browser expects them, wherever they are here.
        start = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", start, "bash", program, *OPTIONS.split(), f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # to end it with all its children
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.number, self.session = b"", 0, {}
        self.events: list[dict[str, Any]] = []
        try:
            self.attach()
        except BaseException:
            self.close()
            raise

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda message: message.get("id") == self.number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def wait(self, wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self.rest:
                line, _, self.rest = self.rest.partition(b"\0")
                message = json.loads(line)
                self.events += [message] if "method" in message else []
                if wanted(message):
                    return message
            ready, _, _ = select.select([self.into], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.into, 1 << 16) if ready else b""
            assert chunk, "the browser ended" if ready else f"no answer from the browser in {PATIENCE:g} s"
            self.rest += chunk

    def open(self, address: str, width: int = 1280, dark: bool = False) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for url in ("about:blank", address):  # from elsewhere: another fragment alone would not load it anew
            self.events.clear()
            self.call("Page.navigate", url=url)
            if not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.wait(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions, and whatever else the console shows as an error."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        errors = [event for event in self.events if event["params"].get("type") == "error"]  # console.error
        return errors + [event for event in self.events if event["method"] in kinds]

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self.out)
        os.close(self.into)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        reason = f"no browser ({', '.join(NAMES)}) is installed; apt-get install chromium"
        pytest.fail(reason) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(reason)
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def address(registry: Registry, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_report(registry, rows, judge(registry, rows), folder, "make reproduce")
    return (folder / "report.html").as_uri()


ROWS = "[...document.querySelectorAll('tr[data-claim]')].filter((row) => row.checkVisibility())"
SHOWN = f"{ROWS}.map((row) => row.dataset.claim.slice(0, 2))"
SECTIONS = "[...document.querySelectorAll('.claim')].filter((c) => c.checkVisibility()).map((c) => c.id.slice(0, 2))"
PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
ALL = ["G1", "G2", "G3", "G4", "G5", "G6", "G7"]


def press(browser: Browser, value: str) -> None:
    browser.run(f"document.querySelector('[data-value=\"{value}\"]').click()")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_the_page_is_whole_at_any_width(browser: Browser, address: str, width: int, dark: bool) -> None:
    browser.open(address, width, dark)
    browser.run(PAINTED)
    assert browser.run("document.documentElement.scrollWidth") <= browser.run("innerWidth") == width
    sizes = browser.run("""[...document.querySelectorAll('svg')].map((svg) => {
        const box = svg.getBoundingClientRect(), drawn = svg.getBBox();
        return [box.width, box.height, drawn.width, drawn.height];
    })""")
    assert len(sizes) > 15 and all(min(size) > 20 for size in sizes)
    smallest = "Math.min(...[...document.querySelectorAll('figure text')].map((t) => t.getBoundingClientRect().height))"
    assert browser.run(smallest) > 10
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark
    assert browser.complaints() == []


def test_a_figure_leads_to_its_runs_and_they_lead_back(browser: Browser, address: str) -> None:
    browser.open(address)
    link = browser.run("document.querySelector('#G1-better figcaption a[href$=\"-tune\"]').href")
    browser.open(link, width=390, dark=True)
    assert link.endswith("evidence/language.html#layer-tune")
    assert abs(browser.run("document.getElementById('layer-tune').getBoundingClientRect().top")) < 40
    assert browser.run("document.documentElement.scrollWidth") <= 390
    sizes = browser.run("""[...document.querySelectorAll('#layer .curve')].map((curve) => {
        return [curve.getBoundingClientRect().width, curve.getBBox().width];
    })""")
    assert len(sizes) == 8 and all(min(size) > 20 for size in sizes)
    assert browser.run("document.querySelector('#layer .claims a').href") == f"{address}#G1-better"
    assert browser.complaints() == []


def test_text_of_figures_stays_inside_them_and_apart(browser: Browser, address: str) -> None:
    browser.open(address, 390)
    clashes = browser.run("""[...document.querySelectorAll('figure svg')].flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
        const shared = (a, b) => [
            Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
        ];
        const inside = ([_, box]) => shared(box, frame)[0] > box.width - 1 && shared(box, frame)[1] > box.height - 1;
        const on = (a, b) => a !== b && shared(a[1], b[1])[0] > 1 && shared(a[1], b[1])[1] > 4;
        return texts.filter((text) => !inside(text) || texts.some((other) => on(text, other))).map(([name]) => name);
    })""")
    assert clashes == []


def test_the_filter_shows_what_is_asked_for_and_keeps_it_in_the_address(browser: Browser, address: str) -> None:
    browser.open(address)
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ALL
    press(browser, "contradicted")
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ["G2"]
    assert browser.run("location.hash") == "#verdict=contradicted"
    assert browser.run("document.querySelector('[data-value=\"contradicted\"]').ariaPressed") == "true"
    assert browser.run("document.getElementById('shown').textContent") == "1 of 7 claims"
    press(browser, "supported")
    assert browser.run(SHOWN) == ["G1", "G2", "G5", "G7"]
    press(browser, "A5")
    assert browser.run(SHOWN) == ["G7"]
    assert browser.run("location.hash") == "#verdict=contradicted&verdict=supported&source=A5"
    back = (
        "new Promise((done) => { addEventListener('popstate', () => setTimeout(done), {once: true}); history.back() })"
    )
    browser.run(back)
    assert browser.run(SHOWN) == ["G1", "G2", "G5", "G7"]
    press(browser, "supported")
    press(browser, "contradicted")
    assert (browser.run(SHOWN), browser.run("location.hash")) == (ALL, "")
    assert browser.complaints() == []


def test_a_shared_address_opens_filtered_and_a_link_leads_to_its_claim(browser: Browser, address: str) -> None:
    browser.open(f"{address}#verdict=supported&words=LAYER+norm")
    assert browser.run(SHOWN) == ["G1", "G7"]
    assert browser.run("document.getElementById('words').value") == "LAYER norm"
    browser.run("document.querySelector('form').reset()")
    assert (browser.run(SHOWN), browser.run("location.hash")) == (ALL, "")
    browser.open(f"{address}#G4-edge")
    assert browser.run(SHOWN) == ALL
    assert abs(browser.run("document.getElementById('G4-edge').getBoundingClientRect().top")) < 40


def test_words_can_be_searched(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.run("document.getElementById('words').focus()")
    browser.call("Input.insertText", text="high DIVERGES")
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ["G5"]
    assert browser.run("location.hash") == "#words=high+DIVERGES"
    browser.call("Input.insertText", text=" nowhere")
    assert browser.run(SHOWN) == []
    assert browser.run("document.getElementById('shown').textContent") == "0 of 7 claims"
