"""The C++ compiler, called without a shell or a build tool: paths may have spaces, quotes or anything in them."""

import os
import platform
import re
import shlex
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import torch

SOURCES = Path(__file__).resolve().parent
TORCH = Path(torch.__file__).parent
# No -ffast-math: it gives non-finite outputs for saturated gates. Loops are marked for vectorisation instead. gcc would
# use half of each register of a processor with AVX-512.
FLAGS = ["-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS += ["-mprefer-vector-width=512"]
HEADERS = [f"-isystem{TORCH / 'include'}", f"-isystem{TORCH / 'include/torch/csrc/api/include'}"]
LIBRARIES = [f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch"]
EMPTY = re.compile(r"warning:|collect2:|linker command failed", re.IGNORECASE)  # what goes before or after says more
TELLING = [re.compile(words, re.IGNORECASE) for words in (r"\b(error|fatal):", r"\bld\S*: |undefined |cannot find")]


class CompilerError(RuntimeError):
    """Kernels that cannot be compiled: why, in one line."""


def flags() -> list[str]:
    """FLAGS and those for this processor; KERNEL_FLAGS has others in their place (scripts/sanitize.py)."""
    return [*FLAGS, *os.environ.get("KERNEL_FLAGS", "-march=native").split()]


def compiler() -> list[str]:
    """CXX, which may be a path or a command with arguments such as `ccache g++`, else c++."""
    chosen = os.environ.get("CXX") or "c++"
    try:
        words = [chosen] if shutil.which(chosen) else shlex.split(chosen)
    except ValueError:
        words = []
    if not words or not shutil.which(words[0]):
        raise CompilerError(f"no C++ compiler {chosen}: install g++, or name another in CXX")
    return words


def compile_to(library: Path, folder: Path, deadline: float) -> None:
    """Make the library in an empty folder of its own; raises CompilerError, at the latest at `deadline` (monotonic)."""
    command = [*compiler(), *flags()]
    objects = {source: folder / f"{source.stem}.o" for source in sorted(SOURCES.glob("*.cpp"))}
    run([[*command, "-fPIC", *HEADERS, "-c", str(s), "-o", str(o)] for s, o in objects.items()], folder, deadline)
    run([[*command, "-shared", *map(str, objects.values()), *LIBRARIES, "-o", str(library)]], folder, deadline)


def run(commands: Sequence[list[str]], folder: Path, deadline: float) -> None:
    """Run commands side by side. None of the processes they start outlives an error, a deadline or an interruption."""
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)}  # what it says is in English, what it leaves goes
    started: list[Popen[bytes]] = []
    log = folder / "log"
    try:
        with log.open("ab") as file:
            for command in commands:
                started.append(Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True))
        for process in started:
            if status := process.wait(max(0, deadline - time.monotonic())):
                raise CompilerError(reason(commands[0][0], status, log.read_text(errors="replace")))
    except TimeoutExpired:
        raise CompilerError(f"{commands[0][0]} was not done in time; KERNEL_SECONDS=<seconds> gives it more") from None
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def reason(compiler: str, status: int, log: str) -> str:
    """The line in which a compiler or linker says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if not EMPTY.search(line)]
    for telling in TELLING:
        for line in told:
            if telling.search(line):
                return line
    return (told or lines or [f"{compiler} ended with status {status}"])[-1]
