"""The cache: nothing unverified is used, and nothing half-written is left."""

import errno
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from ssl import SSLError
from threading import Event

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


@pytest.mark.parametrize("error", [SSLError(1, "bad record"), PermissionError(13, "Permission denied", "/hub/file")])
def test_what_a_source_cannot_read_is_not_taken_for_a_cache_that_cannot_be_written(error: OSError) -> None:
    def failing(into: Path) -> None:
        raise error

    line = refused(lambda: cache.ensure("name", KNOWN, [("this source", failing)]), "this source", str(error.strerror))
    assert "cannot write" not in line
    cache.ensure("name", KNOWN, [("this source", failing), source()])


def test_who_waits_for_another_process_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    started, gone_on = Event(), Event()

    def slow(into: Path) -> None:
        started.set()
        assert gone_on.wait(10)
        source()[1](into)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.ensure, "name", KNOWN, [("slow", slow)])
        assert started.wait(10)
        second = pool.submit(cache.ensure, "name", KNOWN, [])
        while not caplog.messages:
            time.sleep(0.01)
        gone_on.set()
        assert first.result() == second.result()
    assert caplog.messages == [f"another process prepares {cache.root() / 'name'}; waiting for it"]


def test_what_a_killed_process_left_is_swept() -> None:
    incoming = cache.root() / "name" / "incoming"
    (incoming / "unpacked").mkdir(parents=True)
    for name in ("unpacked/file", "archive", "empty.partial"):
        (incoming / name).touch()
    (incoming / "abc.partial").write_bytes(b"gone on with")
    refused(lambda: cache.ensure("name", KNOWN, [source(b"bad")]), "expected hash")
    assert [path.name for path in incoming.iterdir()] == ["abc.partial"]
    cache.ensure("name", KNOWN, [source()])
    assert not incoming.exists()
    (incoming / "unpacked").mkdir(parents=True)  # killed between the last file and this
    cache.ensure("name", KNOWN, [], thorough=True)
    assert not incoming.exists()
