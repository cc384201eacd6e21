"""`layernorm <command>`: the suite's commands from any directory, of the clone that this package is installed from.

Relative paths, also that of results/, are those of the directory it is called in.
"""

import os
import runpy
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]


def main() -> None:
    """The console script. Ends in one line where there is no clone."""
    if not (CLONE / "experiments" / "__main__.py").exists():
        sys.exit(
            "error: only the layers are installed here; the commands need a clone of the suite, and make setup there"
        )
    sys.path.insert(0, str(CLONE))
    # for the processes that a command starts: mirrors, tasks of a cluster
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CLONE), os.environ.get("PYTHONPATH")]))
    sys.argv[0] = "-m"  # as `python -m experiments` has it while modules are looked for, which tell by it who calls
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)
