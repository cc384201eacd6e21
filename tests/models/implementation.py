"""Which implementation the recurrent layers of a test run on."""

import os
import shutil
import sys

import pytest

from models import kernels


def on(kernel: str) -> None:
    """Choose it. Only where nothing could compile the kernels are their tests skipped; with gcc they fail."""
    able = sys.platform == "linux" and shutil.which(os.environ.get("CXX", "c++")) is not None
    if kernel == "native" and kernels.unavailable() and not able:
        pytest.skip(kernels.unavailable())
    kernels.use(kernel)
