"""Downloads: slow ones arrive, broken ones are gone on with, and what is not the file asked for is never kept."""

import re
import socket
import sys
import time
from collections.abc import Iterator
from hashlib import md5, sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import pytest

from data import cache, downloads
from tests.data.data_sets import CLOSED, isolated, refused  # noqa: F401 (isolated: a fixture)
from tests.data.servers import Answer, says, sends, serving

CONTENT = bytes(range(256)) * 2
HASH = sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(downloads, "STALL", 0.3)


def fetched(folder: Path, *answers: Answer) -> Iterator[str]:
    """Download CONTENT from a server that answers so; the ranges that were asked for."""
    with serving(*answers) as server:
        try:
            downloads.download(server.url, folder / "file", HASH)
            assert (folder / "file").read_bytes() == CONTENT and len(list(folder.iterdir())) == 1
        finally:
            yield from (ranges for _, ranges, _ in server.asked)


@pytest.mark.parametrize(
    "answers, asked",
    [
        ([sends(CONTENT)], [""]),
        ([sends(CONTENT, first=100), sends(CONTENT)], ["", "bytes=100-"]),
        ([sends(CONTENT, first=100), says(503), sends(CONTENT)], ["", "bytes=100-", "bytes=100-"]),
        ([sends(CONTENT, first=100, stall=True), sends(CONTENT)], ["", "bytes=100-"]),
        ([sends(CONTENT, first=100)], ["", *(f"bytes={n}-" for n in range(100, 600, 100))]),
        ([sends(CONTENT, ranges=False, first=300), sends(CONTENT, ranges=False)], ["", "bytes=300-"]),
        ([says(500), says(429), sends(CONTENT)], ["", "", ""]),
        # The second server's file is another one: its end does not fit.
        ([sends(CONTENT, first=100), sends(CONTENT[::-1]), sends(CONTENT)], ["", "bytes=100-", ""]),
        ([sends(CONTENT, first=100), says(206, b"?", Content_Range="bytes 900-"), sends(CONTENT)], None),
        # It says that there is less, or answers a range with what comes before it.
        ([sends(CONTENT, first=100), says(206, CONTENT[50:], Content_Range="bytes 50-511/512")], ["", "bytes=100-"]),
    ],
    ids=[
        "whole",
        "dropped",
        "busy",
        "stalls",
        "drops-always",
        "no-ranges",
        "errors",
        "another-file",
        "far-range",
        "early-range",
    ],
)
def test_a_download_arrives_whole(tmp_path: Path, answers: list[Answer], asked: list[str] | None) -> None:
    ranges = list(fetched(tmp_path, *answers))
    assert asked is None or ranges == asked


def test_a_slow_download_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "STALL", 0.2)
    content = CONTENT[:30]
    with serving(sends(content, pause=0.02)) as server:  # three times as long as it may stall
        downloads.download(server.url, tmp_path / "file", sha256(content).hexdigest())


@pytest.mark.parametrize(
    "left, asked",
    [(CONTENT[:200], ["bytes=200-"]), (CONTENT, ["bytes=512-"]), (CONTENT * 2, ["bytes=1024-", ""]), (b"", [""])],
    ids=["part", "whole", "too-long", "empty"],
)
def test_another_process_goes_on_with_what_is_there(tmp_path: Path, left: bytes, asked: list[str]) -> None:
    (tmp_path / f"{HASH}.partial").write_bytes(left)
    assert list(fetched(tmp_path, sends(CONTENT))) == asked


def test_parts_that_make_up_another_file_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / f"{HASH}.partial").write_bytes(b"?" * 200)
    assert list(fetched(tmp_path, sends(CONTENT))) == ["bytes=200-", ""]
    assert caplog.messages == ["file: the parts do not make up the whole; downloading it anew"]


@pytest.mark.parametrize(
    "answers, requests, error",
    [
        ([says(403)], 1, "403"),
        ([says(404)], 1, "404"),
        ([says(302, Location="/")], 2, "302"),
        ([says(500)], 3, "500"),
        ([sends(CONTENT[::-1])], 1, f"file: expected hash {HASH}, found "),
        ([sends(CONTENT, first=100), sends(CONTENT[::-1])], 3, "file: expected hash"),
        ([sends(CONTENT[::-1], first=300)], 4, "file: expected hash"),
        ([says(200, CONTENT, length=100)], 1, "file: expected hash"),
        ([says(200, CONTENT, length=1000)], 2, "ended after 512 of 1,000 bytes"),
        ([sends(CONTENT, ranges=False, first=300)], 3, "ended after 300 of 512 bytes"),
        ([sends(CONTENT, first=100, stall=True), sends(CONTENT, first=0, stall=True)], 3, "timed out"),
        ([lambda request: request.wfile.write(b"SSH-2.0-OpenSSH")], 1, "SSH-2.0-OpenSSH"),
    ],
    ids=["403", "404", "loop", "500", "wrong", "parts", "always", "short", "long", "half", "stalls", "no-http"],
)
def test_a_download_that_fails_says_why(tmp_path: Path, answers: list[Answer], requests: int, error: str) -> None:
    with serving(*answers) as server:
        with pytest.raises((OSError, ValueError, HTTPException), match=error):
            downloads.download(server.url, tmp_path / "file", HASH)
        assert len(server.asked) >= requests and not (tmp_path / "file").exists()


def test_a_server_that_is_not_there_is_left_for_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (100.0, 100.0))
    (tmp_path / f"{HASH}.partial").write_bytes(CONTENT[:200])
    with pytest.raises(OSError, match="refused"):
        downloads.download(CLOSED, tmp_path / "file", HASH)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(downloads, "CONNECT", 0.2)
        with pytest.raises(OSError, match=r"timed out|no answer within"):
            downloads.download(f"http://127.0.0.1:{silent.getsockname()[1]}/", tmp_path / "file", HASH)
    assert list(fetched(tmp_path, sends(CONTENT))) == ["bytes=200-"]


def test_what_came_is_kept_for_the_next_source_and_the_next_command() -> None:
    def source(server_url: str) -> cache.Source:
        return server_url, lambda into: downloads.download(server_url, into / "file", HASH)

    with serving(sends(CONTENT, first=100), says(404)) as first, serving(says(500)) as second:
        refused(lambda: cache.ensure("name", {"file": HASH}, map(source, (first.url, second.url))), "404", "500")
        assert second.asked[0][1] == "bytes=100-"
        second.answers = [sends(CONTENT)]
        cache.ensure("name", {"file": HASH}, [source(second.url)])
        assert second.asked[-1][1] == "bytes=100-"
    assert {path.name for path in (cache.root() / "name").iterdir()} == {"file", "lock", cache.RECORD}


def test_a_file_without_a_hash_is_never_put_together_from_two_commands(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"of another day")
    with serving(sends(CONTENT)) as server:
        downloads.download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_password_is_for_its_host_alone_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(sends(CONTENT)) as other, serving(says(302, Location=other.url), says(404)) as server:
        caplog.set_level(0)
        address = server.url.replace("//", "//me:se%40cret@")
        downloads.download(address, tmp_path / "file", md5(CONTENT).hexdigest())
        with pytest.raises(HTTPError) as error:
            downloads.download(address, tmp_path / "file", HASH)
    assert server.asked[0][2] == "Basic bWU6c2VAY3JldA==" and other.asked[0][2] == ""
    assert "cret" not in caplog.text + str(error.value)


def test_a_terminal_shows_bytes_and_rate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with downloads._progress("a file", 250, 1000) as show:
        for done in (300, 400, 500):
            show(done)
            time.sleep(0.01)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"a file .*0\.5/1\.0 kB [\d.]+ k?B/s", shown), shown
