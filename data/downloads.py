"""Files from the web, known by their hash: a download is given up when nothing comes, not because it takes long.

What has come is kept beside the target under the hash of the whole, so that the next attempt goes on with it: after a
dropped connection, in another process, from another server. Whether the pieces fit is known in the end, by that hash.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from data.cache import check, no_room, one_line

T = TypeVar("T")

CONNECT = 10.0  # seconds until a server must have answered, all its addresses and the resolver included
STALL = 20.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each new attempt, while none brings anything
BUSY = {408, 425, 429}  # answers, besides 5xx, that another time may be better
log = logging.getLogger(__name__)


def download(url: str, target: Path, digest: str = "", *, reach: Callable[..., Any] = urlopen) -> None:
    """Download `url` to `target`, of this hash (32 digits: MD5, 64: SHA-256; without one nothing is gone on with).

    `reach` opens an address as `urlopen` does. Raises OSError or HTTPException if it is not to be had, ValueError if it
    is another file.
    """
    log.info("downloading %s", without_secret(url)[0])
    partial = target.with_name(f"{digest or target.name}.partial")
    if not digest:
        partial.unlink(missing_ok=True)
    for last in (False, True):
        partial.touch()
        in_one_piece = not partial.stat().st_size
        in_one_piece &= _completed(url, partial, target.name, reach)
        partial.rename(target)
        try:
            if digest:
                check(target, digest)
            return
        except ValueError:
            target.unlink()
            if in_one_piece or last:
                raise
            log.warning("%s: the parts do not make up the whole; downloading it anew", target.name)


def opened(url: str, start: int = 0, *, reach: Callable[..., Any] = urlopen) -> Any:
    """The answer to a request for `url`, from byte `start` on; raises OSError or HTTPException."""
    address, secret = without_secret(url)
    request = Request(address)
    if secret:  # not for those whom the server sends us on to
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    if start:
        request.add_header("Range", f"bytes={start}-")
    return within(CONNECT, lambda: reach(request, timeout=STALL))


def without_secret(url: str) -> tuple[str, str]:
    """The address, and the "user:password" that it may have."""
    parts = urlsplit(url)
    secret, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), unquote(secret)


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


def _completed(url: str, partial: Path, name: str, reach: Callable[..., Any]) -> bool:
    """Attempt after attempt until `partial` has its end; whether one sufficed."""
    begun = furthest = partial.stat().st_size
    attempts, pauses = 0, iter(PAUSES)
    while True:
        attempts += 1
        try:
            _go_on(url, partial, name, reach)
            return attempts == 1
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError) and error.code == 416 and partial.stat().st_size:
                return False  # there is no more, or never was as much
            size = partial.stat().st_size
            if size > furthest:
                furthest, pauses = size, iter(PAUSES)
            pause = next(pauses, None)
            if pause is None or not _may_pass(error, answered=furthest > begun):
                raise
            log.info("%s: %s; going on after %s bytes", name, one_line(error), f"{size:,}")
            time.sleep(pause)


def _may_pass(error: Exception, *, answered: bool) -> bool:
    """Whether to try again: a server that is not there is left for the next source, one that was is waited for."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in BUSY
    return answered and not no_room(error)


def _go_on(url: str, partial: Path, name: str, reach: Callable[..., Any]) -> None:
    """One attempt: append what is missing; raises ConnectionError if less comes than was announced."""
    size = partial.stat().st_size
    with opened(url, size, reach=reach) as response, partial.open("r+b") as file:
        if response.status != 206:  # of a server that knows no ranges, or of a file
            size = 0
        given = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        file.truncate(file.seek(min(int(given[1]), size) if given else size))
        length = response.headers.get("Content-Length")
        total = file.tell() + int(length) if length else None
        with _progress(name, file.tell(), total) as show:
            while block := response.read1(1 << 16):
                file.write(block)
                show(file.tell())
        if total and file.tell() < total:
            raise ConnectionError(f"ended after {file.tell():,} of {total:,} bytes")


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """On a terminal shows how many bytes there are, how fast they come and how long it will take."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, completed=start, total=total)
        yield lambda done: progress.update(task, completed=done)
