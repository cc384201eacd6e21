"""The pictures of docs/dashboards.md, as a real Chromium shows the pages: docs/dashboard.png and docs/report.png.

python scripts/pictures.py [results] [experiment]

The first is of the live page of an experiment (lstm_batch) whose runs are in a folder (results/reference/laptop).
"""

import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.browser import Browser, installed
from scripts.live_speed import DRAWN, served, until

PAINTED = (
    "new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(true), 500)), 1000))"
)
WIDTH = 1280


def picture(browser: Browser, name: str, height: int) -> None:
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.run(PAINTED)
    path = ROOT / "docs" / name
    path.parent.mkdir(exist_ok=True)
    browser.screenshot(path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def main(results: str, experiment: str) -> None:
    program = installed()
    assert program, "no Chromium is installed"
    browser = Browser(program, Path(tempfile.mkdtemp(prefix="profile-")))
    process, address = served(Path(results), where=ROOT)
    try:
        browser.open(f"{address}/?experiment={experiment}&claims=these", WIDTH)
        until(browser, DRAWN)
        picture(browser, "dashboard.png", 1250)
        browser.open((ROOT / "results" / "reference" / "evening" / "report.html").as_uri(), WIDTH)
        picture(browser, "report.png", 900)
    finally:
        browser.close()
        process.send_signal(signal.SIGTERM)
        process.wait(10)


if __name__ == "__main__":
    main(*(sys.argv[1:2] or ["results/reference/laptop"]), *(sys.argv[2:3] or ["lstm_batch"]))
