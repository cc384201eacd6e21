"""The cache: nothing unverified is used, nothing half-written is left, and no server or client is waited for long."""

import errno
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from data import cache
from tests.data.data_sets import digest_of, isolated, refused  # noqa: F401 (isolated: a fixture)


def source(content: bytes = b"good", calls: list[str] | None = None) -> cache.Source:
    def fetch(into: Path) -> None:
        (calls if calls is not None else []).append("fetched")
        time.sleep(0.02)
        (into / "file").write_bytes(content)

    return "source", fetch


KNOWN = {"file": sha256(b"good").hexdigest()}


def test_a_wrong_download_is_not_kept_and_the_next_source_is_tried() -> None:
    files = cache.ensure("name", KNOWN, [source(b"bad"), source(b"good")])
    assert files.mapped("file")[:] == b"good" and files.digest == digest_of(("file", b"good"))
    refused(lambda: cache.ensure("other", KNOWN, [source(b"bad")]), "expected hash ", " found ")
    assert not (cache.root() / "other" / "file").exists()


def test_a_file_without_a_known_hash_must_keep_the_one_it_had(caplog: pytest.LogCaptureFixture) -> None:
    path = cache.ensure("name", {"file": None}, [source(b"first")]).folder / "file"
    path.write_bytes(b"spoilt")
    cache.ensure("name", {"file": None}, [source(b"first")])
    assert path.read_bytes() == b"first" and sha256(b"spoilt").hexdigest() in caplog.text


def test_a_file_put_there_by_hand_is_verified_and_used() -> None:
    (cache.root() / "name").mkdir(parents=True)
    (cache.root() / "name" / "file").write_bytes(b"good")
    cache.ensure("name", KNOWN, [])


def test_a_file_is_hashed_again_only_when_it_may_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = cache.ensure("name", KNOWN, [source()])
    path, before = files.folder / "file", (files.folder / "file").stat()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "check", lambda *_: pytest.fail("hashed"))
        assert cache.ensure("name", KNOWN, []) == files
    path.write_bytes(b"evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as copying tools do
    refused(lambda: files.mapped("file"), str(path), "changed", "give the command again")
    assert cache.ensure("name", KNOWN, [source()]).mapped("file")[:] == b"good"


def test_several_processes_fetch_once() -> None:
    calls: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.ensure("name", KNOWN, [source(calls=calls)]), range(4)))
    assert calls == ["fetched"]


def test_what_was_interrupted_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupted_fetch(into: Path) -> None:
        source()[1](into)
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        cache.ensure("name", KNOWN, [("source", interrupted_fetch)])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        cache.write(cache.root() / "name" / cache.RECORD, b"{}")
    (cache.root() / "name" / f"{cache.RECORD}.123").touch()  # of a process that was killed
    assert not list(cache.root().rglob("file"))
    cache.ensure("name", KNOWN, [source()])
    assert {path.name for path in cache.root().rglob("*")} == {"name", "file", "lock", cache.RECORD}


def test_an_unwritable_cache_or_a_full_disk_names_the_folder_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    refused(lambda: cache.ensure("name", KNOWN, [("source", full)]), "cache/name: No space left", "set LAYERNORM_DATA")
    (cache.root() / "name" / "file").write_bytes(b"good")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "FileLock", full)
        cache.ensure("name", KNOWN, [])  # a sound cache may be read-only
        (cache.root() / "name" / "file").write_bytes(b"evil")
        refused(lambda: cache.ensure("name", KNOWN, []), "cache/name: No space left")
    (tmp_path / "a file").touch()
    monkeypatch.setenv("LAYERNORM_DATA", str(tmp_path / "a file"))
    refused(lambda: cache.ensure("name", KNOWN, [source()]), "a file/name: Not a directory", "set LAYERNORM_DATA")


def test_the_cache_respects_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERNORM_DATA", "~nosuchuser/data")
    refused(cache.root, "set LAYERNORM_DATA")
    monkeypatch.delenv("LAYERNORM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.root() == Path("/somewhere/layernorm-reproduced")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache" / "layernorm-reproduced"


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        for limit in ("CONNECT", "TIMEOUT"):
            monkeypatch.setattr(cache, "CONNECT", 5.0)
            monkeypatch.setattr(cache, "TIMEOUT", 5.0)
            monkeypatch.setattr(cache, limit, 0.2)
            started = time.monotonic()
            with pytest.raises(OSError, match=r"timed out|no answer within"):
                cache.download(address, tmp_path / "file", "")
            assert time.monotonic() - started < 2


def test_a_client_that_never_ends_is_given_up_with_all_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="no result after"):
        cache.run("sh", "-c", f"(sleep 0.4; touch '{tmp_path}/late') & sleep 30", seconds=0.1)
    assert time.monotonic() - started < 2
    time.sleep(0.5)
    assert not (tmp_path / "late").exists()
