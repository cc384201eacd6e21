"""Dashboards over the recorded runs. `python -m experiments.dashboard --help`."""

import argparse
import sys
from pathlib import Path

from experiments.records import SuiteError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.dashboard", description="The live page of a sweep.")
    parser.add_argument("results", nargs="?", default="results", type=Path, help="the folder with runs/ (results)")
    parser.add_argument("--port", default=5006, type=int, help="of 127.0.0.1; if taken, the next that is free (5006)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    options = parser.parse_args()
    try:
        from experiments.live.server import serve
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        sys.exit(f"error: {package} is not installed, which the page is made with; make setup installs it")
    try:
        serve(options.results, options.port, options.open)
    except SuiteError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
