"""What a run sets on its machine before it starts, and what it was made with.

Nothing that is set changes a number beyond the rounding of float32.
"""

import ctypes
import platform
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

import models
from data import Spec
from experiments.training import limits
from experiments.training.code import commit
from experiments.training.schema import Config, ConfigError
from models import kernels
from models.options import RecurrentConfig

BACKENDS: Any = torch.backends  # whose modules have few types
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
SMALLEST_BATCH = 32  # below it oneDNN's product was the slower one on every CPU tried
LARGEST_ERROR = 1e-6  # of a float32 product; true ones come to 3e-7 or 4e-7, those of bfloat16 to 3e-3
SHAPES = ((32, 256, 64), (128, 500, 100), (33, 65, 17))  # (m, k, n) of the products tried


def prepare(threads: int, batch_size: int, kernel: str = "auto") -> dict[str, Any]:
    """Set threads, memory, matrix products and recurrent kernels for a run; says what was done, for its record."""
    torch.set_num_threads(threads)
    kernels.use(kernel)
    # Gradients that vanish end as subnormal numbers, and some CPUs take a hundred cycles for an operation on one: an
    # LSTM without a norm at a high rate trained 8 times slower on them. Taken as 0 they change no loss.
    torch.set_flush_denormal(True)
    return {
        "threads": threads,
        "allocation": "kept" if keep_memory() else "default",
        "product": choose_product(batch_size),
    }


def keep_memory() -> bool:
    """Let freed blocks stay with the process: every step takes the same ones again.

    glibc gives large blocks back to the kernel, which then maps and clears thousands of pages anew at each step.
    False where the C library has no such switch (macOS, musl, Windows).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def choose_product(batch_size: int) -> str:
    """Use oneDNN's matrix product, "onednn", where MKL is slow and the result is true float32; else "default".

    torch has no switch but to allow bfloat16 inside float32 products: these then go to oneDNN, which uses bfloat16
    only on CPUs with matrix units for it. So the result is tested. Which one is faster is not timed but known from
    the CPU: a choice by timing would let the last bits of a run depend on what else the machine was doing.
    """
    matmul = BACKENDS.mkldnn.matmul
    matmul.fp32_precision = "none"
    if batch_size < SMALLEST_BATCH or not mkl_is_slow():
        return "default"
    matmul.fp32_precision = "bf16"
    if largest_error() <= LARGEST_ERROR:
        return "onednn"
    matmul.fp32_precision = "none"
    return "default"


def mkl_is_slow() -> bool:
    """Whether torch multiplies with MKL on a CPU of another maker than MKL's, where it uses less than the CPU has."""
    both = BACKENDS.mkl.is_available() and BACKENDS.mkldnn.is_available()
    return both and cpu_maker() not in ("", "GenuineIntel")


def cpu_maker() -> str:
    """The CPU's maker as the CPU names it, such as AuthenticAMD; empty where only other systems than Linux know."""
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"vendor_id\s*:\s*(\w+)", file.read(1000))
    except OSError:
        return ""
    return found[1] if found else ""


def largest_error(product: Callable[[Tensor, Tensor], Tensor] = torch.matmul) -> float:
    """Of float32 products, plain and transposed, against float64: the norm of the difference, relative."""
    draw = torch.Generator().manual_seed(0)
    errors = []
    for m, k, n in SHAPES:
        a, b = torch.rand(m, k, generator=draw) - 0.5, torch.rand(k, n, generator=draw) - 0.5
        exact = a.double() @ b.double()
        for right in (b, b.t().contiguous().t()):
            errors.append(float((product(a, right) - exact).norm() / exact.norm()))
    return max(errors)


def check_memory(config: models.Options, norm: str, spec: Spec, at_once: int = 1) -> None:
    """Refuse models whose weights, gradients and Adam's two averages exceed what memory there is, so many at once."""
    try:
        with torch.device("meta"):  # of tensors only the shapes
            model = models.build(config, norm, spec, seed=0)
        numbers = sum(4 * p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        numbers = 2**62  # more bytes than 64 bits can count
    needed, had = 4 * numbers / 2**30, limits.memory() / 2**30
    if at_once * needed <= had:
        return
    key, value = max(vars(config).items(), key=lambda option: size(option[1]))
    asked = f"model={config.name} with model.{key}={value}"
    if needed > had:
        raise models.ModelError(f"{asked}: training takes {needed:,.0f} GB, there are {had:,.0f} GB; lower it")
    room = f"{at_once} at a time take {at_once * needed:,.0f} GB, there are {had:,.0f} GB"
    raise models.ModelError(f"{asked}: {room}; lower n_jobs to {int(had / needed)}")


def size(option: object) -> int:
    return max(option, default=0) if isinstance(option, list) else option if isinstance(option, int) else 0


def environment() -> dict[str, Any]:
    """The versions a run was made with, for its record."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "hydra": version("hydra-core"),
        "machine": platform.machine(),
        # Without AVX2 a CPU draws initial weights that differ by an ulp.
        "capability": torch.backends.cpu.get_cpu_capability(),
        "commit": commit(),
    }


def check_kernel(config: Config) -> None:
    """Refuse a run that demands kernels this machine has not; say so where it only has to do without."""
    if config.kernel == "reference":
        return
    on_cpu = pick_device(config.device).type == "cpu"
    reason = kernels.unavailable() if on_cpu else f"no kernel for device={config.device}"
    if reason and config.kernel == "native":
        raise ConfigError(f"kernel=native: {reason}")
    if reason and on_cpu:
        parts = "recurrent layers" if isinstance(config.model, RecurrentConfig) else "updates of this model"
        warn_once(f"{parts} run on the slow reference implementation: {reason}")


@cache
def warn_once(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch sees no CUDA device here; use device=cpu or device=auto")
    return torch.device(name)
