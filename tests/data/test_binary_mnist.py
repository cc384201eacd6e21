"""Binarised MNIST: the bits, the splits and the keys. Needs no network."""

import numpy as np
import pytest
import torch

import data
from data import binary_mnist, cache, mnist
from data.binary_mnist import PIXELS, Config, binarised, keys
from data.cases import synthetic_images
from tests.data.data_sets import isolated, load, refused  # noqa: F401 (isolated: a fixture)

SYNTHETIC = Config(source="synthetic", validation_size=300, test_size=200)


def test_batches_are_black_and_white_images_with_a_key_each() -> None:
    found = load(SYNTHETIC, 16)
    assert found.synthetic and found.spec == data.Spec("binary_image", (28, 28), 2)
    for x, y in [found.train_batch(0), *found.batches("validation"), *found.batches("test")]:
        assert x.dtype == torch.float32 and x.shape[1:] == (28, 28) and x.unique().tolist() == [0, 1]
        assert y.dtype == torch.int64 and y.shape == x.shape[:1] and bool((y >= 0).all())
    assert [sum(len(y) for _, y in found.batches(split)) for split in ("validation", "test")] == [300, 200]


def test_a_pixel_is_one_with_the_probability_of_its_grey_value() -> None:
    grey = np.tile(np.repeat([0, 51, 204, 255], PIXELS // 4).astype(np.uint8), (50, 1))
    share = np.unpackbits(binarised(grey)).reshape(50, 4, -1).mean((0, 2))
    assert share[0] == 0 and share[3] == 1 and share[1:3] == pytest.approx([0.2, 0.8], abs=0.02)


def test_the_bits_are_those_of_one_draw_in_the_order_of_all_pixels() -> None:
    """However the images are divided: the SHA-256 of MNIST's bits rests on this."""
    grey = np.random.default_rng(0).integers(256, size=(30, PIXELS)).astype(np.uint8)
    expected = np.random.Generator(np.random.PCG64(2016)).random((30, PIXELS)) < grey / 255
    for first in (0, 11, 30):
        assert np.array_equal(np.unpackbits(binarised(grey[:first], grey[first:])), expected.reshape(-1))


def test_the_first_images_train_the_last_of_the_training_files_validate_and_none_does_both() -> None:
    grey = np.concatenate([part.numpy().reshape(-1, PIXELS) for part in _greys()])
    bits = np.unpackbits(binarised(grey)).reshape(-1, 28, 28)
    found = load(Config(source="synthetic"), 2_000)
    training = {image.tobytes() for image in found.train_batch(0)[0].numpy().astype(np.uint8)}
    assert training == {image.tobytes() for image in bits[:2_000]}  # an epoch in one batch
    for split, part in (("validation", bits[2_000:2_500]), ("test", bits[2_500:])):
        (x, _), *_ = found.batches(split)
        assert np.array_equal(x.numpy(), part) and not training & {image.tobytes() for image in part}


def _greys() -> tuple[torch.Tensor, torch.Tensor]:
    whole = synthetic_images(1, 28)
    return whole.train[0], whole.test[0]


def test_a_key_follows_from_seed_step_and_place_in_training_and_never_changes_in_evaluation() -> None:
    found, again, other = load(SYNTHETIC, 16), load(SYNTHETIC, 16), load(SYNTHETIC, 16, seed=1)
    seen = [found.train_batch(step) for step in (0, 1, 125)]  # the last one of the second epoch
    assert len(torch.cat([y for _, y in seen]).unique()) == 48
    assert torch.equal(again.train_batch(125)[1], seen[2][1]) and not torch.equal(other.train_batch(0)[1], seen[0][1])
    assert torch.equal(load(SYNTHETIC, 4).train_batch(0)[1], seen[0][1][:4])
    fixed = [torch.cat([y for _, y in source.batches("validation")]) for source in (found, other)]
    assert torch.equal(*fixed) and torch.equal(fixed[0], keys(300, "validation"))
    assert torch.equal(keys(1000, "test")[:200], keys(200, "test"))
    assert not set(keys(10_000, "validation").tolist()) & set(keys(10_000, "test").tolist())


def test_without_mnist_the_error_is_its_own() -> None:
    refused(lambda: load(Config()), "cannot fetch mnist", "make data")


def test_bits_that_are_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = synthetic_images(1, 28)
    monkeypatch.setattr(mnist, "published", lambda: grey)
    refused(lambda: load(Config()), "cannot fetch binary_mnist", "images.bits: expected hash 231eabb5")


CACHED = cache.root() / "mnist" / "t10k-images-idx3-ubyte"


@pytest.mark.skipif(not CACHED.exists(), reason="MNIST is not in the cache")
def test_mnist_has_seventy_thousand_images_an_eighth_of_whose_pixels_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERNORM_DATA", str(CACHED.parents[1]))
    found = load(Config(), 1_000)
    for split in ("validation", "test"):
        x = torch.cat([x for x, _ in found.batches(split)])
        assert len(x) == 10_000 and x.mean().item() == pytest.approx(0.13, abs=0.005)
    assert len(found.train_batch(49)[0]) == 1_000 and binary_mnist.prepare().startswith("50,000 + 10,000 + 10,000")
