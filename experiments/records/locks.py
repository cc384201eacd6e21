"""One process a folder: whoever works on it holds its lock, on this machine or another with the same disk.

The kernel gives a lock back when its holder ends, however it ends: no clock, no process id, nothing to clean up.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.records.files import RecordError, SuiteError

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
A_LOOK = 0.5  # seconds, longer than anybody holds a lock only to see whether it is free


class Busy(SuiteError):
    """Another process is at this run."""


@contextmanager
def hold(folder: Path, *, seconds: float = A_LOOK) -> Iterator[None]:
    """Hold the lock of a folder; raises Busy where another process has it for longer than `seconds`."""
    lock = FileLock(folder / LOCK, timeout=seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(f"{folder} is being run by another process; wait for it, or stop it") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise RecordError(
            f"the file system of {folder} has no file locks; choose another folder with results=<folder>"
        ) from error
    try:
        yield
    finally:
        lock.release()


def held(folder: Path) -> bool:
    """Whether a process holds the lock of this folder just now, as far as can be seen.

    A look that writes nothing and that another look does not take for a process at work: the lock is asked for shared.
    """
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:  # none there; removed on another machine; another user's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in TAKEN
    finally:
        os.close(lock)
