"""Pen strokes: paths of an SVG as curves, curves as points, points as lines that keep to their split."""

import zipfile
from hashlib import sha256
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import data
from data import cache, strokes
from tests.data.data_sets import digest_of, isolated, load, refused  # noqa: F401 (isolated: a fixture)
from tests.data.servers import says, serving

REAL = cache.root() / "kanjivg"  # before a test has a cache of its own
TINY = strokes.Config(source="synthetic", sequence_length=60, validation_size=10, test_size=12)


# Paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("M10,20C11,22,13,24,15,26", [[10 + 20j, 11 + 22j, 13 + 24j, 15 + 26j]]),
        ("M10,20c1,2,3,4,5,6", [[10 + 20j, 11 + 22j, 13 + 24j, 15 + 26j]]),
        ("M 1 2 L 3,4\n l1-1", [[1 + 2j, 1 + 2j, 3 + 4j, 3 + 4j], [3 + 4j, 3 + 4j, 4 + 3j, 4 + 3j]]),
        # After a move further points are lines, after another command they are that again.
        ("M1 1 2 0", [[1 + 1j, 1 + 1j, 2 + 0j, 2 + 0j]]),
        ("m1,1,2,0", [[1 + 1j, 1 + 1j, 3 + 1j, 3 + 1j]]),
        ("M0,0c0,1,1,1,1,0,0-1,1-1,1,0", [[0, 1j, 1 + 1j, 1], [1, 1 - 1j, 2 - 1j, 2]]),
        # A smooth curve begins as the one before ended; after a line, where the pen is.
        ("M0,0C1,1,2,1,3,0s2-1,3,0", [[0, 1 + 1j, 2 + 1j, 3], [3, 4 - 1j, 5 - 1j, 6]]),
        ("M0,0C1,1,2,1,3,0S5-1,6,0", [[0, 1 + 1j, 2 + 1j, 3], [3, 4 - 1j, 5 - 1j, 6]]),
        ("M0,0L4,0S5,1,6,0", [[0, 0, 4, 4], [4, 4, 5 + 1j, 6]]),
        # Numbers run into one another where a sign or a point tells them apart.
        ("M.5-.3L.25.75", [[0.5 - 0.3j, 0.5 - 0.3j, 0.25 + 0.75j, 0.25 + 0.75j]]),
        ("M-1.5.5-2-.5", [[-1.5 + 0.5j, -1.5 + 0.5j, -2 - 0.5j, -2 - 0.5j]]),
    ],
)
def test_a_path_is_read_as_curves(path: str, expected: list[list[complex]]) -> None:
    assert np.allclose(strokes.curves(path), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "path",
    ["", "M1,1", "M0,0L1,1M2,2L3,3", "L1,1", "M1", "M0,0C1,1,2,2", "M0,0Q1,1,2,2", "M0,0L1,1Z", "M0,0L1e3,2", "M0,0L"],
)
def test_another_grammar_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path of M, L, C and S"):
        strokes.curves(path)


def test_points_are_evenly_spaced_and_hold_both_ends() -> None:
    assert np.allclose(strokes.sampled("M2,1l12,16"), [2 + 1j + step * (12 + 16j) / 5 for step in range(6)])
    assert np.allclose(strokes.sampled("M2,1l.6,.8"), [2 + 1j, 2.6 + 1.8j]), "at least two points"
    # By hand: at t = 1/2 this arch is at (6, 4.5), an eighth of 0 + 3 * 6 + 3 * 6 + 0 high; it is 15.9 long.
    arch = strokes.sampled("M0,0C0,6,12,6,12,0")
    assert len(arch) == 5 and np.allclose(arch[[0, 2, 4]], [0, 6 + 4.5j, 12])
    assert np.allclose(arch[1].real + arch[3].real, 12) and np.allclose(arch[1].imag, arch[3].imag)
    # A quarter of a circle of radius 40, to a few thousandths.
    k = 40 * 0.5522847498
    quarter = strokes.sampled(f"M40,0C40,{k},{k},40,0,40")
    assert len(quarter) == round(40 * np.pi / 2 / strokes.SPACING) + 1
    assert np.allclose(np.abs(quarter), 40, atol=0.05)
    assert np.allclose(np.angle(quarter), np.linspace(0, np.pi / 2, len(quarter)), atol=0.002)


def test_characters_survive_their_storage() -> None:
    drawn = [[np.array([1 + 2j, 3.015625 + 4j]), np.array([5 + 6j, 7 + 8j, -9.5 + 1j])], [np.array([0j, 1j])]]
    first, second = strokes.unpacked(strokes.packed(drawn))
    assert first.tolist() == [[1, 2, 0], [3.015625, 4, 1], [5, 6, 0], [7, 8, 0], [-9.5, 1, 1]]
    assert second.tolist() == [[0, 0, 0], [0, 1, 1]]


# Lines


def comb(points: int, characters: int) -> list[strokes.Character]:
    """Characters of one stroke that goes on into the next one's, every step of one length, SIDE / points."""
    x = np.arange(points) * strokes.SIDE / points
    stroke = np.stack([x, np.zeros(points), np.arange(points) == points - 1], 1)
    return [stroke] * characters


def built(characters: dict[str, list[strokes.Character]]) -> strokes.Strokes:
    return strokes.Strokes(TINY, characters, batch_size=4, seed=0, digest="")


def test_no_line_crosses_splits() -> None:
    """Here every step, that into the next character too, says whose it is."""
    points = {"train": 27, "validation": 18, "test": 12}
    found = built({split: comb(count, 90) for split, count in points.items()})
    batches = {split: list(found.batches(split)) for split in ("validation", "test")}
    for split, some in {**batches, "train": [found.train_batch(step) for step in range(20)]}.items():
        for _, y in some:
            steps = y[..., 0] * strokes.OFFSET - strokes.SIDE / points[split]
            assert steps.abs().max() <= 2 * strokes.JITTER + 1e-5


def test_a_line_is_whole_characters_side_by_side_but_for_its_last() -> None:
    characters = strokes.unpacked(strokes.generated(0, 20))
    made, left = list(strokes.lines(characters, 60)), iter(characters)
    for line in made:
        assert line.shape == (61, 3)
        place = 0
        while len(line):
            character = next(left) + np.array([strokes.SIDE * place, 0, 0])
            assert np.array_equal(line[: len(character)], character[: len(line)])
            line, place = line[len(character) :], place + 1
    assert len(made) > 5 and sum(map(len, left)) <= 60


def test_training_takes_no_character_twice_in_a_batch() -> None:
    """Of these, each has a length of its own, read off between the ends of strokes."""
    characters = [comb(points, 1)[0] for points in range(10, 70)]
    found = built({"train": characters, "validation": comb(9, 200), "test": comb(9, 200)})
    for step in range(10):
        _, y = found.train_batch(step)
        ends = [[-2, *row[:, 2].nonzero().flatten().tolist()] for row in y]  # the first point is the end of no step
        lengths = [after - before for row in ends for before, after in pairwise(row)]
        assert lengths and len({*lengths}) == len(lengths) and {*lengths} <= {*range(10, 70)}


def test_points_are_moved_by_less_than_the_jitter_and_else_the_drawings() -> None:
    held_out = strokes.unpacked(strokes.generated(0, 60))
    found = built({"train": held_out * 2, "validation": held_out, "test": held_out})
    plain = np.stack(list(strokes.lines(held_out, 60)))[:10]
    ((_, y),) = found.batches("validation")
    moved = y[..., :2].double().numpy() * strokes.OFFSET - np.diff(plain[..., :2], axis=1)
    assert np.array_equal(y[..., 2].numpy(), plain[:, 1:, 2])
    assert 0.9 < np.abs(moved).max() <= 2 * strokes.JITTER + 1e-4
    # The difference of two uniform variables; what the line was moved by in all stays below the bound.
    assert moved.std() == pytest.approx(2 * strokes.JITTER / 6**0.5, rel=0.05)
    assert np.abs(moved.cumsum(1)).max() <= 2 * strokes.JITTER + 1e-4


# What every data set promises


def test_batches_have_the_declared_form() -> None:
    found = load(TINY).to("cpu")
    assert found.synthetic and found.spec == data.Spec("strokes", (60, 3), 3)
    assert data.test_splits(TINY) == found.test_splits == ["test"]
    assert [sum(len(x) for x, _ in found.batches(split)) for split in ("validation", "test")] == [10, 12]
    for x, y in [found.train_batch(0), *found.batches("validation"), *found.batches("test")]:
        assert x.shape == y.shape and x.shape[1:] == (60, 3) and x.dtype == y.dtype == torch.float32
        assert torch.equal(x[:, 1:], y[:, :-1]) and not x[:, 0].any()
        assert set(y[..., 2].unique().tolist()) == {0, 1}
    assert not found.carries_state("validation")
    assert not cache.root().exists(), "synthetic data needs no cache"


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    straight, resumed = load(TINY), load(TINY)
    seen = [straight.train_batch(step) for step in range(5)]
    for step in (4, 0, 3):
        assert all(torch.equal(a, b) for a, b in zip(resumed.train_batch(step), seen[step], strict=True))
    others = [seen[1], load(TINY, seed=1).train_batch(0)]
    assert not any(torch.equal(seen[0][1], y) for _, y in others)
    for split in ("validation", "test"):
        for a, b in zip(straight.batches(split), load(TINY, 2, seed=1).batches(split), strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert straight.digest == load(TINY, 2, seed=1).digest


def test_too_few_characters_are_refused() -> None:
    few = strokes.Config(source="synthetic", sequence_length=60, validation_size=10, test_size=10)
    refused(lambda: load(few, 900), "batch_size=900 with data.sequence_length=60: 1,000 training characters", "lower")
    few.test_size = 5000
    refused(lambda: load(few), "data.test_size=5000: 2,000 characters give ", "lines of data.sequence_length=60; lower")


def test_synthetic_characters_suffice_for_the_defaults() -> None:
    assert load(strokes.Config(source="synthetic"), 32).train_batch(0)[0].shape == (32, 500, 3)


# The archive


def drawing(*paths: str) -> str:
    return "<svg>" + "".join(f'<path id="a" kvg:type="b/c" d="{path}"/>\n' for path in paths) + "</svg>"


DRAWINGS = {
    "kanji/03042.svg": drawing("M0,0l1,0"),  # a hiragana
    **{f"kanji/04e0{number}.svg": drawing(f"M0,0l{8 * number},0", "M0,9l4,0") for number in range(1, 8)},
    "kanji/04e01-Kaisho.svg": drawing("M0,0l1,0"),
    "kanji/0fa11.svg": drawing("M0,0l1,0"),  # a compatibility ideograph
    "kanjivg-20260714.dist-info/METADATA": "",
}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive, of whose characters 2 and 2 are held out; the hash of the real one is replaced by its."""
    path = tmp_path / strokes.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in DRAWINGS.items():
            archive.writestr(name, content)
    monkeypatch.setattr(strokes, "WHEEL_HASH", sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(strokes, "HELD_OUT", 2)
    monkeypatch.setattr(strokes, "DIGESTS", dict.fromkeys(strokes.DIGESTS))
    return path


def served(wheel: Path, monkeypatch: pytest.MonkeyPatch, config: strokes.Config) -> Any:
    page = f'<a href="../{strokes.WHEEL}#sha256=...">{strokes.WHEEL}</a>'.encode()
    with serving(says(200, page), says(200, wheel.read_bytes())) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        return load(config, 1)


CONFIG = strokes.Config(sequence_length=4, validation_size=1, test_size=1)


def test_the_strokes_come_from_their_archive_once(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = served(wheel, monkeypatch, CONFIG)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    assert load(CONFIG, 1).digest == found.digest and not found.synthetic
    contents = {name: (cache.root() / "kanjivg" / name).read_bytes() for name in strokes.DIGESTS}
    assert found.digest == digest_of(*contents.items())
    assert "3 + 2 + 2 characters of KanjiVG (Ulrich Apel, CC BY-SA 3.0)" in strokes.prepare()
    # By the length of their first strokes, each character is in one split.
    parts = [np.frombuffer(content, "<i2").reshape(-1, 3) for content in contents.values()]
    lengths = [[character[:, 0].max() for character in strokes.unpacked(part)] for part in parts]
    assert [len(found) for found in lengths] == [3, 2, 2]
    assert sorted(chain.from_iterable(lengths)) == [8 * number for number in range(1, 8)]


def test_another_archive_and_another_result_are_refused(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strokes, "DIGESTS", dict.fromkeys(strokes.DIGESTS, "0" * 64))
    refused(lambda: served(wheel, monkeypatch, CONFIG), "train.i16: expected hash 000", "make data")
    monkeypatch.setattr(strokes, "WHEEL_HASH", "0" * 64)
    refused(lambda: served(wheel, monkeypatch, CONFIG), f"{strokes.WHEEL}: expected hash 000")


@pytest.mark.skipif(not REAL.exists(), reason="the strokes are not in the cache: python -m data strokes")
def test_the_real_strokes_are_as_many_as_they_are() -> None:
    parts = {part: np.fromfile(REAL / f"{part}.i16", "<i2").reshape(-1, 3) for part in strokes.PARTS}
    characters = {part: strokes.unpacked(points) for part, points in parts.items()}
    assert [len(found) for found in characters.values()] == [5213, 600, 600]
    assert sum(int((points[:, 2] != strokes.INSIDE).sum()) for points in parts.values()) == 79_040
    for held_out in ("validation", "test"):
        seen = {character.tobytes() for character in characters["train"]}
        assert not seen & {character.tobytes() for character in characters[held_out]}
    made = np.stack(list(strokes.lines(characters["train"], 500)))
    assert np.diff(made[..., :2], axis=1).std() == pytest.approx(strokes.OFFSET, rel=0.05)
