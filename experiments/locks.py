"""One process a run: whoever trains it holds the lock in its folder, on this machine or another with the same disk.

The kernel gives a lock back when its holder ends, however it ends: no clock, no process id, nothing to clean up.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.records import RecordError, SuiteError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Busy(SuiteError):
    """Another process is at this run."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; raises Busy at once where another process has it."""
    try:
        with FileLock(folder / "lock", blocking=False, fallback_to_soft=False):
            yield
    except Timeout:
        raise Busy(f"{folder} is being run by another process; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise RecordError(
            f"the file system of {folder} has no file locks; choose another folder with results=<folder>"
        ) from error


def held(folder: Path) -> bool:
    """Whether a process is at the run of this folder just now."""
    if not (folder / "lock").exists():
        return False
    try:
        with hold(folder):
            return False
    except Busy:
        return True
