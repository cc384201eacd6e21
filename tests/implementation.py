"""Which implementation the recurrent layers of a test run on."""

import os
import shutil

import pytest

from models import kernels


def on(kernel: str) -> None:
    """Choose it. Only where nothing could compile the kernels are their tests skipped; elsewhere they fail."""
    if kernel == "native" and kernels.unavailable() and shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip(f"no C++ compiler: {kernels.unavailable()}")
    kernels.use(kernel)
