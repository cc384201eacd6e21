"""What of this machine a process may use: processors and memory, as its affinity and its control groups allow.

A container, a Slurm task or a systemd unit has its quota in a control group (version 1 or 2), and so may each group
above it; the least counts.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """How many processors this process may keep busy; half of one counts as one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, least("cpu", cpu_quota))))


def memory() -> float:
    """Bytes; infinite where the system does not tell."""
    try:
        physical: float = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = math.inf
    return min(physical, least("memory", memory_limit))


def least(controller: str, quota: Callable[[Path], float]) -> float:
    return min(map(quota, folders(controller)), default=math.inf)


def folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those above it, of both versions."""
    for line in text(OWN).splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        # In a container the path may be that outside of it: then what is mounted is the group itself.
        root = GROUPS / ("unified" if (GROUPS / "unified").is_dir() else "") if number == "0" else GROUPS / controller
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def cpu_quota(folder: Path) -> float:
    """Processors' worth of time; infinite without a limit."""
    quota, period, *_ = [*text(folder / "cpu.max").split(), *[""] * 2]
    if not quota:
        quota, period = text(folder / "cpu.cfs_quota_us"), text(folder / "cpu.cfs_period_us")
    limit, every = number(quota), number(period)
    return limit / every if limit > 0 and 0 < every < math.inf else math.inf


def memory_limit(folder: Path) -> float:
    return number(text(folder / "memory.max") or text(folder / "memory.limit_in_bytes"))


def number(written: str) -> float:
    """Infinite for `max`, and for what is no number."""
    with suppress(ValueError):
        return float(written)
    return math.inf


def text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
