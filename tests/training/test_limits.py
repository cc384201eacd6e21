"""Processors and memory, as a container's, a task's or a unit's control group allows."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.training import limits

Tree = Callable[[str, dict[str, str]], None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Makes up what the system says of this process's control groups, on a machine of 8 processors."""

    def make(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content + "\n")
        monkeypatch.setattr(limits, "OWN", tmp_path / "own")
        monkeypatch.setattr(limits, "GROUPS", tmp_path / "groups")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    return make


V1 = "5:memory:/a/b\n4:cpu,cpuacct:/a/b\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/a/b", {"a/b/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "250000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/outside/of/the/container", {"cpu.max": "400000 100000"}, 4),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "200000", "cpu/a/b/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "9900000 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "what is this"}, 8),
        ("", {}, 8),
    ],
)
def test_the_least_of_affinity_and_every_quota_counts(own: str, files: dict[str, str], cores: int, tree: Tree) -> None:
    tree(own, files)
    assert limits.cores() == cores


GB = 2**30


@pytest.mark.parametrize(
    ("own", "files", "memory"),
    [
        ("0::/a/b", {"a/b/memory.max": f"{GB}"}, GB),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": f"{GB // 2}"}, GB // 2),
        ("0::/a/b", {"a/b/memory.max": "max"}, math.inf),
        (V1, {"memory/a/b/memory.limit_in_bytes": f"{GB}"}, GB),
        (V1, {"memory/a/b/memory.limit_in_bytes": f"{2**63 - 4096}"}, math.inf),
    ],
)
def test_the_least_of_memory_and_every_limit_counts(own: str, files: dict[str, str], memory: float, tree: Tree) -> None:
    tree(own, files)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert limits.memory() == min(memory, physical)
