"""Download, verify and prepare data sets; without names, those that the laptop scale needs."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from data import DataError, modules, tell_of_downloads

LAPTOP = ["mnist", "text"]


def main(arguments: list[str] | None = None) -> int:
    """Prepare each data set and say what is where; 1 if any cannot be had."""
    downloads: dict[str, Callable[[], str]] = {}
    for module in modules().values():
        downloads |= getattr(module, "DOWNLOADS", {})
    parser = argparse.ArgumentParser(prog="layernorm data", description=__doc__)
    choices = f"{', '.join(downloads)} (default: {' '.join(LAPTOP)})"
    parser.add_argument("names", nargs="*", metavar="name", help=choices)
    names = parser.parse_args(arguments).names or LAPTOP
    if unknown := [name for name in names if name not in downloads]:
        parser.error(f"nothing to download for {', '.join(unknown)}; choose from: {', '.join(downloads)}")
    tell_of_downloads()
    return max(_prepare(name, downloads[name]) for name in names)


def _prepare(name: str, download: Callable[[], str]) -> int:
    try:
        print(f"{name}: {download()}", flush=True)
    except DataError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on with what has come", file=sys.stderr)
        sys.exit(130)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see data/__init__.py
    sys.exit(main())
