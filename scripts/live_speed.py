"""How quick the live page is, in a real Chromium, with runs that are invented. Nothing is trained.

python scripts/live_speed.py [runs] [points]       (500 runs of 1,000 evaluations)
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records import files
from experiments.records.folder import RunFolder
from scripts.browser import Browser, installed

NORMS, BATCHES, SEEDS = ("none", "batch", "layer", "rms", "group"), (2, 8, 32, 128), 25
PATIENCE = 60.0  # seconds
EXPERIMENT = "invented"
PAGE = "window.Bokeh?.documents[0]?.roots().length && Bokeh.documents[0]"
DRAWN = f"(() => {{const page = {PAGE}; return page && page.is_idle && [...page._all_models.values()]" + (
    ".filter(model => model.type == 'MultiLine').length > 0})()"
)
NEWEST = """Math.max(...[...Bokeh.documents[0]._all_models.values()].filter(model => model.type == 'ColumnDataSource')
    .flatMap(source => [...(source.data instanceof Map ? source.data.get('x') : source.data.x) ?? []]))"""


def config(norm: str, batch_size: int, seed: int, updates: int = 1000, **changes: Any) -> dict[str, Any]:
    """The settings of a run, as far as they matter here."""
    plain: dict[str, Any] = {"method": "train", "norm": norm, "seed": seed, "batch_size": batch_size}
    plain |= {"updates": updates, "evaluations": updates, "model": {"name": "mlp"}, "data": {"name": "mnist"}}
    return plain | {"optim": {"learning_rate": 0.01}} | changes


def described(settings: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run before it starts; seeds from 1000 on tune."""
    group, role = f"{settings['norm']}_b{settings['batch_size']}", "tune" if settings["seed"] >= 1000 else "evaluate"
    run = {"run": files.run_id(settings), "experiment": EXPERIMENT, "scale": "smoke"}
    return run | {"role": role, "group": group, "config": settings}


def history(settings: dict[str, Any], points: int) -> list[dict[str, Any]]:
    """A loss that falls, other for each norm and batch size, and a little for each seed."""
    level = 0.1 * NORMS.index(settings["norm"]) + 0.5 / settings["batch_size"]
    rows = []
    for point in range(1, points + 1):
        update = point * settings["updates"] // points
        loss = level + 2 / math.sqrt(update) + 0.05 * math.sin(7 * settings["seed"] + point / 9)
        row = {"update": update, "seconds": 0.01 * update, "train_loss": 0.9 * loss, "validation_loss": loss}
        rows.append(row | {"validation_error": loss / 5})
    return rows


def folder_of(results: Path, settings: dict[str, Any]) -> RunFolder:
    return RunFolder(files.run_folder(results, settings | {"experiment": EXPERIMENT}))


def begin(results: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """A run in progress, as far as these evaluations."""
    folder = folder_of(results, settings)
    folder.begin(described(settings))
    append(folder.path, rows)
    return folder.path


def append(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def end(results: Path, settings: dict[str, Any], rows: list[dict[str, Any]], status: str = "completed") -> Path:
    """A run that is done."""
    folder = folder_of(results, settings)
    record = {"record_version": files.VERSION, **described(settings), "status": status, "synthetic": False}
    final = {"validation_loss": rows[-1]["validation_loss"], "test_loss": rows[-1]["validation_loss"]}
    folder.finish(
        record
        | {"history": rows, "final": final, "timing": {"cpu_seconds": 1.0, "wall_seconds": 1.0}, "environment": {}}
    )
    return folder.path


def invent(results: Path, runs: int, points: int) -> None:
    arms = [(norm, size) for norm in NORMS for size in BATCHES]
    for place in range(runs):
        settings = config(*arms[place % len(arms)], place // len(arms), points)
        end(results, settings, history(settings, points))


def timed(told: str, began: float) -> None:
    print(f"{time.perf_counter() - began:6.2f} s  {told}", flush=True)


def until(browser: Browser, wanted: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not browser.run(wanted):
        assert time.monotonic() < deadline, f"never: {wanted}"
        time.sleep(0.01)


def served(results: Path, *options: str, where: Path = ROOT) -> tuple[subprocess.Popen[str], str]:
    """The dashboard of a folder, started in the folder `where`, on a port of its own, and its address."""
    command = [sys.executable, "-m", "experiments.dashboard", str(results), "--port", str(20000 + os.getpid() % 20000)]
    command += options
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=where, env=path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split(" shown at ")[1].split(",")[0]


def measure(results: Path, points: int) -> None:
    program = installed()
    assert program, "no Chromium is installed"
    browser = Browser(program, Path(tempfile.mkdtemp(prefix="profile-")))
    began = time.perf_counter()
    process, address = served(results)
    timed("from the command to the page served", began)
    try:
        for visit in ("first visit, at once", "second visit"):
            began = time.perf_counter()
            browser.open(address)
            until(browser, DRAWN)
            timed(f"from navigation to curves drawn, {visit}", began)
        settings = config("layer", 8, 999, 2 * points)
        folder = begin(results, settings, history(settings, 2 * points)[:points])
        for rows in (history(settings, 2 * points)[points + k : points + k + 1] for k in range(5)):
            time.sleep(1.3)
            append(folder, rows)
            began = time.perf_counter()
            until(browser, f"{NEWEST} >= {rows[-1]['update']}")
            timed("from a new evaluation to its point on the page", began)
        assert not browser.complaints(), browser.complaints()
    finally:
        browser.close()
        process.send_signal(signal.SIGTERM)
        process.wait(10)


if __name__ == "__main__":
    runs, points = (int(word) for word in (sys.argv[1:] or (500, 1000)))
    with tempfile.TemporaryDirectory(prefix="live-") as folder:
        invent(Path(folder), runs, points)
        measure(Path(folder), points)
