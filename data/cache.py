"""Downloaded and prepared files, in a folder outside the package, never used unverified.

Hashing 55 MB takes longer than many a run, so a file is hashed when it is prepared and then recognised by its
size and time of modification, kept in `verified.json` beside it; whatever differs from that is hashed again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from signal import SIGKILL
from subprocess import PIPE, STDOUT, Popen, TimeoutExpired
from threading import Thread
from typing import TypeVar
from urllib.request import urlopen

from data import DataError

Digests = Mapping[str, str | None]
Source = tuple[str, Callable[[Path], None]]  # its name in messages; writes the files into the given folder
T = TypeVar("T")

CONNECT = 10.0  # seconds until a server must have answered, all its addresses and the resolver included
TIMEOUT = 10.0  # seconds that a single read may wait
DEADLINE = 1800.0  # seconds for one download as a whole
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
RECORD = "verified.json"
log = logging.getLogger(__name__)


def root() -> Path:
    """The cache folder: LAYERNORM_DATA, else layernorm-reproduced in the user's cache folder."""
    if chosen := os.environ.get("LAYERNORM_DATA"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layernorm-reproduced"


def ensure(name: str, digests: Digests, sources: Iterable[Source], *, thorough: bool = False) -> Path:
    """The cache's folder `name` with the verified files `digests`, from the first source that has them.

    `digests` gives the MD5 or SHA-256 of each file, or None where only the hash taken when it was prepared is
    known. `sources` is not iterated if nothing is missing. `thorough` hashes even files that were verified
    before. Raises DataError if no source can be had or the cache cannot be written.
    """
    folder = root() / name
    if not thorough and _known(folder, digests):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not _verify(folder, digests):
                _fetch(folder, digests, sources)
    except OSError as error:
        raise DataError(
            f"cannot write the data cache {folder}: {error.strerror or error}; "
            "make room there or set LAYERNORM_DATA to another folder"
        ) from error
    return folder


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The file's hash, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(path: Path, expected: str) -> str:
    """The file's hash; raises ValueError unless it is `expected` (32 digits: MD5, 64: SHA-256)."""
    found = digest_of(path, "md5" if len(expected) == 32 else "sha256")
    if found != expected:
        raise ValueError(f"{path.name}: expected hash {expected}, found {found}")
    return found


def download(url: str, target: Path, digest: str) -> None:
    """Download `url` to `target` and check its hash; raises OSError or ValueError, gives up at DEADLINE."""
    started = time.monotonic()
    log.info("downloading %s", url)
    with within(CONNECT, lambda: urlopen(url, timeout=TIMEOUT)) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        while block := response.read1(1 << 16):
            file.write(block)
            _show_progress(target.name, file.tell(), size)
            if time.monotonic() - started > DEADLINE:
                raise TimeoutError(f"not finished after {DEADLINE:.0f} s")
    check(target, digest)


def run(*command: str, seconds: float = 180.0) -> None:
    """Run a package client; raises ConnectionError with its own words if it fails or takes too long."""
    log.info("running %s", " ".join(command[:6]))
    with Popen(command, stdout=PIPE, stderr=STDOUT, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, SIGKILL)  # the client, and all it started
            if isinstance(error, TimeoutExpired):
                raise ConnectionError(f"no result after {seconds:.0f} s") from error
            raise
    if process.returncode:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines
        raise ConnectionError(telling[0] if telling else f"exit code {process.returncode}")


def within(seconds: float, call: Callable[[], T]) -> T:
    """`call()`, given up with TimeoutError after `seconds`.

    A socket's time-out is not enough: it holds for each of a host's addresses, and not for the resolver. The
    thread is a daemon, so a call that never returns does not keep the process from ending.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:.0f} s") from error


def write(path: Path, content: bytes) -> None:
    """Write a whole file at once: a reader finds the old content or the new, also after a crash."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    _replace(temporary, path)


def _fetch(folder: Path, digests: Digests, sources: Iterable[Source]) -> None:
    incoming = folder / "incoming"
    tried = []
    try:
        for source, fetch in sources:
            shutil.rmtree(incoming, ignore_errors=True)  # what a killed process left: we hold the lock
            incoming.mkdir()
            try:
                fetch(incoming)
                return _install(incoming, folder, digests)
            except (OSError, ValueError, ImportError, HTTPException) as error:
                if isinstance(error, OSError) and error.errno in STORAGE:
                    raise
                tried.append(f"{source} ({_one_line(error)})")
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    files = [*digests, RECORD] if None in digests.values() else [*digests]
    raise DataError(
        f"cannot fetch {folder.name}: tried {', '.join(tried)}; run `make data` where there is a network, "
        f"or put {', '.join(files)} into {folder}"
    )


def _install(incoming: Path, folder: Path, digests: Digests) -> None:
    found = {
        name: check(incoming / name, known) if known else digest_of(incoming / name) for name, known in digests.items()
    }
    for name in digests:
        _replace(incoming / name, folder / name)
    _record(folder, found)


def _verify(folder: Path, digests: Digests) -> bool:
    """Hash every file, drop those that are not what they should be; whether all are there."""
    recorded = _recorded(folder)
    sound: dict[str, str] = {}
    for name in digests:
        path, expected = folder / name, digests[name] or recorded.get(name, ("(unknown)", 0, 0))[0]
        try:
            sound[name] = check(path, expected)
        except FileNotFoundError:
            continue
        except ValueError as error:
            log.warning("corrupted file in %s: %s; removed, to be fetched again", folder, error)
            path.unlink()
    _record(folder, sound)
    return len(sound) == len(digests)


def _known(folder: Path, digests: Digests) -> bool:
    """Whether all files are those last verified, judged by size and time of modification."""
    recorded = _recorded(folder)
    for name, digest in digests.items():
        found = recorded.get(name)
        if found is None or digest not in (None, found[0]) or _stamp(folder / name) != found[1:]:
            return False
    return True


def _recorded(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Of each verified file: hash, size in bytes, time of modification in ns."""
    try:
        return {name: tuple(entry) for name, entry in json.loads((folder / RECORD).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _record(folder: Path, found: Mapping[str, str]) -> None:
    entries = {name: (digest, *(_stamp(folder / name) or ())) for name, digest in found.items()}
    write(folder / RECORD, json.dumps(entries, indent=1).encode())


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _replace(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; the kernel frees the lock of a process that dies."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _show_progress(name: str, done: int, size: int) -> None:
    if sys.stderr.isatty():
        share = f"{100 * done // size} %" if size else f"{done >> 20} MB"
        print(f"\r{name} {share} ", end="" if done != size else "\n", file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
