"""The compiled kernels: where they are, how they are made. `python -m models.kernels` makes them.

kernels/<digest>/layernorm_kernels.so     of these sources, this torch, this processor
                 lock                     held by the one process that compiles
                 build.../                its working folder
"""

import errno
import hashlib
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import inf
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from .compiler import SOURCES, CompilerError, compile_to, flags

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
COMMAND = f"`python -m {__package__}`"
AN_HOUR = 3600.0  # longer than any compiler takes
failure = ""  # why this process could not compile them


def root() -> Path:
    """The folder of all compiled kernels."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layernorm-reproduced" / "kernels"


def library() -> Path:
    """Where the compiled library of these sources, this torch and this processor is, or will be."""
    digest = hashlib.sha256(repr((torch.__version__, processor(), flags())).encode())
    for source in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    return root() / digest.hexdigest()[:16] / "layernorm_kernels.so"


def processor() -> str:
    """What the compiler's choice of instructions depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


@cache
def unavailable() -> str:
    """Why there is no native kernel on this machine, in one line; empty if there is. Loads it."""
    try:
        path = library()
    except RuntimeError as error:  # of Path.expanduser: no such user
        return f"no cache folder for the kernels: {error} set XDG_CACHE_HOME to a folder"
    if not path.exists():
        return failure or f"they are not compiled; {COMMAND} does it where there is a C++ compiler"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{path}: {error}; remove it and call {COMMAND}"
    return ""


def provide() -> str:
    """Compile the kernels unless they are there; why there are none after that, in one line, or nothing.

    One process compiles, those that share its cache wait, and nobody longer than KERNEL_SECONDS.
    """
    global failure
    if not unavailable():
        return ""
    try:
        compile_once(library(), time.monotonic() + seconds())
    except CompilerError as error:
        failure = f"{error}; {COMMAND} tries again"
    except OSError as error:
        failure = f"{root()}: {error.strerror or error}; XDG_CACHE_HOME chooses another folder"
    except RuntimeError:
        pass  # no folder, which `unavailable` says
    unavailable.cache_clear()
    return unavailable()


def seconds() -> float:
    given = os.environ.get("KERNEL_SECONDS") or "600"
    try:
        if 0 < float(given) < inf:
            return float(given)
    except ValueError:
        pass
    raise CompilerError(f"KERNEL_SECONDS={given} is not a number of seconds")


def compile_once(path: Path, deadline: float) -> None:
    """Compile the library, unless another process does meanwhile. The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.parent, deadline - time.monotonic()):
        if path.exists():
            return
        print("compiling the recurrent kernels for this processor (half a minute)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="build") as folder:
            draft = Path(folder) / path.name
            compile_to(draft, Path(folder), deadline)
            if library() != path:
                raise CompilerError("the sources changed while they were compiled")
            os.replace(draft, path)


@contextmanager
def held(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of a library's folder, in which whoever died there has left nothing then."""
    lock = FileLock(folder / "lock", timeout=max(0.0, seconds), fallback_to_soft=False)
    try:
        lock.acquire()
        remove(folder.glob("build*"))
    except Timeout:
        raise CompilerError(f"another process has compiled them for {seconds:.0f} s and is not done") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:  # without locks each process compiles its own
            raise
    try:
        yield
    finally:
        lock.release()


def remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def tidy() -> None:
    """Remove what killed processes have left of other versions, too; of those at work it leaves all."""
    for lock in root().glob("*/lock"):
        with suppress(CompilerError, OSError), held(lock.parent, 0):
            pass
    remove(old for old in root().glob("build*") if time.time() - old.stat().st_mtime > AN_HOUR)  # of earlier versions


def main() -> None:
    """Compile, unless done; exits with the reason in one line where that fails. Without kernels all else works."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # see models/__init__.py
    try:
        done = not unavailable()
        reason = provide()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    if reason:
        sys.exit(f"recurrent layers run on the slow reference implementation: {reason}")
    tidy()
    if not done:
        print(f"recurrent kernels: {library()}")
