"""The compiled kernels: where they are, how they are made. `python -m models.kernels.library` makes them."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import torch

SOURCES = Path(__file__).resolve().parent
# No -ffast-math: it gives non-finite outputs for saturated gates. Loops are marked for vectorisation instead. gcc would
# use half of each register of a processor with AVX-512.
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-mprefer-vector-width=512")


def library(flags: tuple[str, ...] = ("-march=native",)) -> Path:
    """Where the compiled library of these sources, this torch and this processor is, or will be."""
    digest = hashlib.sha256(repr((torch.__version__, processor(), FLAGS, flags)).encode())
    for source in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layernorm-reproduced"
    return root / "kernels" / digest.hexdigest()[:16] / "layernorm_kernels.so"


def processor() -> str:
    """What the compiler's choice of instructions depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def build(flags: tuple[str, ...] = ("-march=native",)) -> Path:
    """Compile and load the library; the file appears in the cache whole or not at all."""
    from torch.utils.cpp_extension import load  # slow to import

    path = library(flags)
    os.environ["PATH"] += os.pathsep + sysconfig.get_path("scripts")  # where pip puts ninja
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix="build") as folder:
        sources = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
        options = [*FLAGS, *flags]
        load(path.stem, sources, options, extra_ldflags=["-fopenmp"], build_directory=folder, is_python_module=False)
        os.replace(Path(folder) / path.name, path)
    return path


@cache
def unavailable() -> str:
    """Why there is no native kernel on this machine, in one line; empty if there is. Loads it."""
    path = library()
    if not path.exists():
        return "the kernels are not compiled; `make setup` does it where there is a C++ compiler"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{path}: {error}; remove it and call `make setup`"
    return ""


def main() -> None:
    """Compile, unless done, and say in one line what recurrent layers will run on."""
    if not library().exists():
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            print("no C++ compiler: recurrent layers use the reference implementation, several times slower")
            return
        print("compiling the recurrent kernels for this processor (about a minute)", flush=True)
        try:
            build()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            sys.exit(f"error: the recurrent kernels do not compile ({lines[0]})")
    print("recurrent kernels: " + (unavailable() or str(library())))


if __name__ == "__main__":
    main()
