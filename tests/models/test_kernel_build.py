"""How the kernels are compiled: in any path, in time, by one process at a time, and what is told where it fails.

The compiler here is a script that makes an empty library; what is compiled is the concern of test_kernels.py.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.kernels import library
from models.kernels.compiler import CompilerError, reason

ODD = "a 'quoted' \"path\" with $HOME (and) ünïcode"
COMPILES = """
for last; do :; done
case " $* " in *" -shared "*) exec c++ -shared -x c /dev/null -o "$last" ;; *) : > "$last" ;; esac"""
HANGS = "sleep 1000 & wait"
ROOT = Path(library.__file__).parents[2]

Compiler = Callable[[str], Path]


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Makes the script with which kernels are compiled from now on, into a cache of their own, all in an odd path."""
    place = tmp_path / ODD
    place.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    monkeypatch.setattr(library, "unavailable", library.unavailable.__wrapped__)  # what is remembered stays
    monkeypatch.setattr(library.unavailable, "cache_clear", lambda: None, raising=False)
    monkeypatch.setattr(library, "failure", "")

    def make(script: str) -> Path:
        path = place / "compiler"
        path.write_text(f'#!/bin/sh\necho "$*" >> {str(tmp_path)!r}/calls\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    return make


def left() -> list[str]:
    return sorted(str(path.relative_to(library.root())) for path in library.root().rglob("*") if path.name != "lock")


def test_any_path_will_do_and_nothing_is_left_beside_the_library(compiler: Compiler, tmp_path: Path) -> None:
    compiler(COMPILES)
    assert library.provide() == ""
    folder = library.library().parent.name
    assert left() == [folder, f"{folder}/layernorm_kernels.so"]
    calls = len((tmp_path / "calls").read_text().splitlines())
    assert library.provide() == "" and len((tmp_path / "calls").read_text().splitlines()) == calls


@pytest.mark.parametrize(
    "said, told",
    [
        (
            "x.cpp:1:2: warning: old\nx.cpp:3:4: error: expected ;\nmake: *** [x] Error 1",
            "x.cpp:3:4: error: expected ;",
        ),
        ("/bin/ld: cannot find -lc10\ncollect2: error: ld returned 1 exit status", "/bin/ld: cannot find -lc10"),
        ("x.o: undefined reference to `f'\ncollect2: error: ld", "x.o: undefined reference to `f'"),
        ("c++: fatal error: no input files", "c++: fatal error: no input files"),
        ("killed", "killed"),
        ("", "c++ ended with status 1"),
    ],
)
def test_the_reason_is_the_compilers_own_line(said: str, told: str) -> None:
    assert reason("c++", 1, said) == told


def test_what_a_compiler_says_is_told_with_the_remedy_in_one_line(compiler: Compiler) -> None:
    compiler("echo 'ld: cannot find -lthat' >&2; exit 1")
    assert library.provide() == "ld: cannot find -lthat; `python -m models.kernels` tries again"
    assert library.unavailable() == library.provide() and left() == [library.library().parent.name]


def test_a_compiler_that_hangs_is_ended_with_all_it_has_started(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compiler(HANGS)
    monkeypatch.setenv("KERNEL_SECONDS", "0.3")
    assert library.provide().startswith(f"{path} was not done in time; KERNEL_SECONDS=<seconds> gives it more")
    running = subprocess.run(["pgrep", "-f", str(path)], capture_output=True, text=True).stdout
    assert running == "" and left() == [library.library().parent.name]


@pytest.mark.parametrize("value", ["abc", "0", "-1", "inf", "nan"])
def test_a_time_limit_must_be_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEL_SECONDS", value)
    with pytest.raises(CompilerError, match=f"^KERNEL_SECONDS={value} is not a number of seconds$"):
        library.seconds()


def test_without_a_compiler_or_a_folder_one_line_says_so(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert library.provide().startswith("no C++ compiler no-such-compiler: install g++, or name another in CXX")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert library.provide().endswith("Not a directory; XDG_CACHE_HOME chooses another folder")


def test_of_several_processes_one_compiles_and_the_others_wait_for_it(compiler: Compiler, tmp_path: Path) -> None:
    compiler(f"sleep 0.3{COMPILES}")
    command = [sys.executable, "-m", "models.kernels"]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("-shared" in call for call in calls) == 1


def test_who_waits_does_so_no_longer_than_the_limit(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(COMPILES)
    monkeypatch.setenv("KERNEL_SECONDS", "0.2")
    folder = library.library().parent
    folder.mkdir(parents=True)
    with library.held(folder, 0):
        assert library.provide().startswith("another process has compiled them for 0 s and is not done")


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(compiler: Compiler) -> None:
    compiler(COMPILES)
    assert library.provide() == ""
    dead, living = library.library().parent / "build-dead", library.root() / "other" / "build-living"
    old, new = library.root() / "build-old", library.root() / "build-new"
    for folder in (dead, living, old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, time.time() - 2 * library.AN_HOUR))
    with library.held(living.parent, 0):
        living.mkdir(exist_ok=True)
        library.tidy()
        assert living.exists()
    assert not dead.exists() and not old.exists() and new.exists()
    library.tidy()
    assert not living.exists()
