"""`layernorm <command>`: the suite's commands from any directory, of the clone that this package is installed from.

Relative paths, also that of results/, are those of the directory it is called in.
"""

import runpy
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]


def main() -> None:
    if not (CLONE / "experiments" / "__main__.py").exists():
        sys.exit(
            "error: only the layers are installed here; layernorm's commands need a clone of the suite: make setup"
        )
    sys.path.insert(0, str(CLONE))
    sys.argv[0] = "-m"  # as `python -m experiments` would have it: its modules tell by this who calls
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)
