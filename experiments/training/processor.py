"""The processor a run was made on, for its record: the same seeds on another are almost other seeds.

No run goes through this: it changes no number.
"""

import platform
import re
from functools import cache
from pathlib import Path

from experiments.training import limits

CPUINFO = Path("/proc/cpuinfo")


@cache
def processor() -> dict[str, str | int]:
    """Its model, as it names itself, and how many cores of it a process may use."""
    return {"processor": named(limits.text(CPUINFO)) or platform.processor() or "unknown", "cores": limits.cores()}


def named(cpuinfo: str) -> str:
    """The model in what Linux tells of a processor; empty where it tells none, as on many ARMs."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""
