"""Test the kernels under the address and undefined-behaviour sanitizers, also as compiled for other processors.

    python scripts/sanitize.py [--march haswell] [--optimized]

--march: vectors as wide as that processor's, which this one must be able to run: haswell for AVX2, x86-64-v2 for SSE.
--optimized: without sanitizers, as a user has it. Each build is kept in the cache; the first finding ends the tests.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SANITIZERS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"


def preloaded() -> str:
    """The sanitizer's allocator has to come before Python's, and what throws C++ exceptions along with it."""
    names = ("libasan.so", "libstdc++.so")
    compiler = os.environ.get("CXX", "c++")
    return " ".join(
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip() for name in names
    )


def environment(march: str, optimized: bool) -> dict[str, str]:
    if optimized:
        return {"KERNEL_FLAGS": f"-march={march}"}
    return {
        "KERNEL_FLAGS": f"-march={march} {SANITIZERS}",
        "LD_PRELOAD": preloaded(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees nothing at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--march", default="native")
    parser.add_argument("--optimized", action="store_true")
    changed = os.environ | environment(**vars(parser.parse_args()))
    names = ("kernels", "kernel_forms", "kernel_overflow", "updates", "recurrent_updates", "cnn_updates")
    files = [f"tests/models/test_{name}.py" for name in names]
    tests = ["pytest", "-q", "-x", "-s", "-p", "no:faulthandler", *files]
    for module in (["models.kernels"], tests):
        status = subprocess.run([sys.executable, "-m", *module], cwd=ROOT, env=changed).returncode
        if status:
            sys.exit(f"error: {module[0]} ended with status {status}")


if __name__ == "__main__":
    main()
