"""Runs as the live page reads them, for its tests."""

from pathlib import Path

from experiments.dashboards.live.runs import LiveResults, SeenRun
from scripts.live_speed import EXPERIMENT

POINTS = 8


def only_run(live: LiveResults) -> SeenRun:
    live.look(EXPERIMENT)
    (run,) = live.runs(EXPERIMENT)
    return run


def read(results: Path) -> list[SeenRun]:
    live = LiveResults(results)
    live.look(EXPERIMENT)
    return live.runs(EXPERIMENT)
