"""The compiled kernels: where they are, how they are made. `python -m models.kernels` makes them."""

import hashlib
import logging
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
FLAGS = ["-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS += ["-mprefer-vector-width=512"]


def flags() -> list[str]:
    """FLAGS and those for this processor; KERNEL_FLAGS has others in their place (scripts/sanitize.py)."""
    return [*FLAGS, *os.environ.get("KERNEL_FLAGS", "-march=native").split()]


def library() -> Path:
    """Where the compiled library of these sources, this torch and this processor is, or will be."""
    digest = hashlib.sha256(repr((torch.__version__, processor(), flags())).encode())
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


def build() -> Path:
    """Compile and load the library; the file appears in the cache whole or not at all."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no word about CUDA, which takes no part
    from torch.utils.cpp_extension import load  # slow to import

    path = library()
    os.environ["PATH"] += os.pathsep + sysconfig.get_path("scripts")  # where pip puts ninja
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent.parent, prefix="build") as folder:
        sources = [str(source) for source in sorted(SOURCES.glob("*.cpp"))]
        load(path.stem, sources, flags(), extra_ldflags=flags(), build_directory=folder, is_python_module=False)
        if library() != path:
            raise RuntimeError("the sources changed while they were compiled")
        os.replace(Path(folder) / path.name, path)
    return path


@cache
def unavailable() -> str:
    """Why there is no native kernel on this machine, in one line; empty if there is. Loads it."""
    path = library()
    if not path.exists():
        return "the kernels are not compiled; `python -m models.kernels` does it where there is a C++ compiler"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{path}: {error}; remove it and call `python -m models.kernels`"
    return ""


def main() -> None:
    """Compile, unless done; exits with the reason in one line where that fails. Without kernels all else works."""
    if not unavailable():
        return
    try:
        if shutil.which(os.environ.get("CXX", "c++")) is None:
            raise RuntimeError("no C++ compiler")
        print("compiling the recurrent kernels for this processor (half a minute)", flush=True)
        build()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "error:" in line), lines[0])
        sys.exit(f"recurrent layers run on the slow reference implementation: {reason}")
    print(f"recurrent kernels: {library()}")
