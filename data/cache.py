"""Fetched and prepared files, in a folder outside the package, never used unverified.

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
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from ssl import SSLError
from uuid import uuid4

from filelock import FileLock, Timeout

from data import DataError

Digests = Mapping[str, str | None]
Source = tuple[str, Callable[[Path], None]]  # its name in messages; writes the files into the given folder
Stamp = tuple[int, int, int]  # size in bytes; times of the last change, of content and of status, in ns

STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
RECORD, INCOMING = "verified.json", "incoming"
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
    try:
        chosen = os.environ.get("LAYERNORM_DATA")
        return Path(chosen).expanduser() if chosen else of_user()
    except RuntimeError as error:  # no such user, or none of this process
        raise DataError(f"no cache folder for data: {one_line(error)}; set LAYERNORM_DATA to a folder") from error


def of_user() -> Path:
    """This suite's folder among the user's caches. Raises RuntimeError where there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layernorm-reproduced"


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
        with _alone(folder):
            for draft in folder.glob(f"{RECORD}.*"):  # what a killed process left
                draft.unlink()
            files = _verified(folder, digests) or _fetched(folder, digests, sources)
            shutil.rmtree(folder / INCOMING, ignore_errors=True)
            return files
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


def no_room(error: Exception) -> bool:
    """Whether it says that a file cannot be written."""
    return isinstance(error, OSError) and not isinstance(error, SSLError) and error.errno in STORAGE


def one_line(error: Exception) -> str:
    """What an error says, in at most 200 characters."""
    reason = getattr(error, "reason", None)  # urllib's own words say less
    said = str(reason if isinstance(reason, Exception) else error)
    return " ".join(said.split())[:200] or type(error).__name__


def write(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: a reader finds the old content or the new, also after a crash."""
    draft = path.with_name(f"{path.name}.{uuid4().hex[:8]}")
    try:
        draft.write_bytes(content)
        _replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _alone(folder: Path) -> AbstractContextManager[object]:
    """The folder's lock, held until the context is left; it goes with the process."""
    lock = FileLock(folder / "lock", fallback_to_soft=False)
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        log.info("another process prepares %s; waiting for it", folder)
        return lock.acquire()


def _fetched(folder: Path, digests: Digests, sources: Iterable[Source]) -> Files:
    incoming = folder / INCOMING
    incoming.mkdir(exist_ok=True)
    tried = []
    try:
        for source, fetch in sources:
            _sweep(incoming)  # after a killed process, or the source before
            try:
                fetch(incoming)
                return _install(incoming, folder, digests)
            except (OSError, ValueError, ImportError, HTTPException) as error:
                if no_room(error) and str(getattr(error, "filename", None) or folder).startswith(str(folder)):
                    raise  # a file of ours; another source is no remedy
                tried.append(f"{source} ({one_line(error)})")
    finally:
        _sweep(incoming)
    files = [*digests, RECORD] if None in digests.values() else [*digests]
    raise DataError(
        f"cannot fetch {folder.name}: tried {', '.join(tried)}; run `make data` (with DATA=<name> for one "
        "beyond the laptop's) where there is a network, "
        f"or put {', '.join(files)} into {folder}"
    )


def _sweep(incoming: Path) -> None:
    """Remove everything but what a download can go on with."""
    for path in incoming.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".partial" or not path.stat().st_size:
            path.unlink()


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
