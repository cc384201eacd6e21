"""Downloaded and prepared files, in a folder outside the package, never used unverified.

Hashing 55 MB takes longer than many a run, so a file is hashed when it is prepared and then recognised by its stamp:
its size and the times of its last change, of content and of status (which no program can set), kept in `verified.json`
beside it. Whatever differs is hashed again, and what is read is the opened file that has this stamp.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from signal import SIGKILL
from subprocess import PIPE, STDOUT, Popen, TimeoutExpired
from threading import Thread
from typing import TypeVar
from urllib.request import urlopen
from uuid import uuid4

from filelock import FileLock

from data import DataError

Digests = Mapping[str, str | None]
Source = tuple[str, Callable[[Path], None]]  # its name in messages; writes the files into the given folder
Stamp = tuple[int, int, int]  # size in bytes; times of the last change, of content and of status, in ns
T = TypeVar("T")

CONNECT = 10.0  # seconds until a server must have answered, all its addresses and the resolver included
TIMEOUT = 10.0  # seconds that a single read may wait
DEADLINE = 1800.0  # seconds for one download as a whole
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
RECORD = "verified.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Verified files of one folder: of each its SHA-256 and the stamp it had then."""

    folder: Path
    found: Mapping[str, tuple[str, Stamp]]

    @property
    def digest(self) -> str:
        """One SHA-256 for all, as `sha256sum FILES | sha256sum` prints it for the files in the order of their names."""
        lines = (f"{digest}  {name}\n" for name, (digest, _) in sorted(self.found.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def mapped(self, name: str) -> mmap:
        """The file's bytes, which are those of its digest; processes share the memory, not writes."""
        path = self.folder / name
        with path.open("rb") as file:
            if _stamp(file.fileno()) != self.found[name][1]:
                raise DataError(f"{path} was changed just now; give the command again")
            return mmap(file.fileno(), 0, access=ACCESS_COPY)


def root() -> Path:
    """The cache folder: LAYERNORM_DATA, else layernorm-reproduced in the user's cache folder."""
    chosen = os.environ.get("LAYERNORM_DATA")
    try:
        caches = Path(chosen or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:  # no such user, or none of this process
        raise DataError(f"no cache folder for data: {_one_line(error)}; set LAYERNORM_DATA to a folder") from error
    return caches if chosen else caches / "layernorm-reproduced"


def ensure(name: str, digests: Digests, sources: Iterable[Source], *, thorough: bool = False) -> Files:
    """The verified files `digests` of the cache's folder `name`, from the first source that has them.

    `digests` gives the SHA-256 of each file, or None where only the one taken when it was prepared is known. `sources`
    is not iterated if nothing is missing. `thorough` hashes even files that were verified before. Raises DataError if
    no source can be had or the cache cannot be written.
    """
    folder = root() / name
    if not thorough and (known := _known(folder, digests)):
        return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", fallback_to_soft=False):
            for draft in folder.glob(f"{RECORD}.*"):  # what a killed process left: we hold the lock
                draft.unlink()
            return _verified(folder, digests) or _fetched(folder, digests, sources)
    except OSError as error:
        if sound := _sound(folder, digests):  # a cache that may only be read
            return sound
        raise DataError(
            f"cannot write the data cache {folder}: {error.strerror or error}; "
            "make room there or set LAYERNORM_DATA to another folder"
        ) from error


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
    """Write a whole file or nothing: a reader finds the old content or the new, also after a crash."""
    draft = path.with_name(f"{path.name}.{uuid4().hex[:8]}")
    try:
        draft.write_bytes(content)
        _replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _fetched(folder: Path, digests: Digests, sources: Iterable[Source]) -> Files:
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


def _install(incoming: Path, folder: Path, digests: Digests) -> Files:
    found = {
        name: check(incoming / name, known) if known else digest_of(incoming / name) for name, known in digests.items()
    }
    for name in digests:
        _replace(incoming / name, folder / name)
    return _record(folder, {name: (digest, _stamp(folder / name)) for name, digest in found.items()})


def _verified(folder: Path, digests: Digests) -> Files | None:
    """The files, hashed; None if one is missing or, not being what it should be, was removed."""
    found = {}
    for name, expected in _expected(folder, digests).items():
        path = folder / name
        try:
            stamp = _stamp(path)
            found[name] = check(path, expected), stamp
        except FileNotFoundError:
            continue
        except ValueError as error:
            log.warning("corrupted file in %s: %s; removed, to be fetched again", folder, error)
            path.unlink()
    files = _record(folder, found)
    return files if len(found) == len(digests) else None


def _sound(folder: Path, digests: Digests) -> Files | None:
    """The files, hashed but left as they are; None if one is missing or not what it should be."""
    try:
        expected = _expected(folder, digests).items()
        stamps = {name: _stamp(folder / name) for name in digests}
        return Files(folder, {name: (check(folder / name, digest), stamps[name]) for name, digest in expected})
    except (OSError, ValueError):
        return None


def _known(folder: Path, digests: Digests) -> Files | None:
    """The files, if all have the stamp they had when they were verified."""
    recorded = _recorded(folder)
    try:
        if all(
            digest in (None, recorded[name][0]) and _stamp(folder / name) == recorded[name][1]
            for name, digest in digests.items()
        ):
            return Files(folder, {name: recorded[name] for name in digests})
    except (OSError, KeyError):
        pass
    return None


def _expected(folder: Path, digests: Digests) -> dict[str, str]:
    recorded = _recorded(folder)
    return {name: digest or recorded.get(name, ("(unknown)",))[0] for name, digest in digests.items()}


def _recorded(folder: Path) -> dict[str, tuple[str, Stamp]]:
    """Of each verified file its SHA-256 and its stamp."""
    try:
        recorded = json.loads((folder / RECORD).read_text())
        return {name: (str(digest), tuple(stamp)) for name, (digest, *stamp) in recorded.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _record(folder: Path, found: Mapping[str, tuple[str, Stamp]]) -> Files:
    entries = {name: (digest, *stamp) for name, (digest, stamp) in found.items()}
    write(folder / RECORD, json.dumps(entries, indent=1).encode())
    return Files(folder, found)


def _stamp(file: Path | int) -> Stamp:
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _replace(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _show_progress(name: str, done: int, size: int) -> None:
    if sys.stderr.isatty():
        share = f"{100 * done // size} %" if size else f"{done >> 20} MB"
        print(f"\r{name} {share} ", end="" if done != size else "\n", file=sys.stderr, flush=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
