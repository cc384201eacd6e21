"""Pen strokes of KanjiVG: lines of characters as a pen writes them, point by point, to be predicted.

KanjiVG (Ulrich Apel, https://kanjivg.tagaini.net, CC BY-SA 3.0) draws each stroke as a path, in the order and the
direction of writing. It comes as the PyPI package kanjivg, whose archive is read and not installed. Of its drawings
those are taken that are of a CJK unified ideograph and no variant: 6,413 characters, of which, in an order drawn once,
600 are for validation, 600 for testing and all others for training. A stroke becomes points evenly spaced along its
path, SPACING apart in a box of SIDE x SIDE, and at least its two ends.

A line is characters side by side, as many as its steps take, the last one cut. A step is (dx, dy, end), as Graves
(2013) has it: the way to the next point, in units of OFFSET, and 1 where that point is the last of its stroke. Drawn
strokes, unlike written ones, have steps that hardly vary, and their predicted density would grow without bound. So
every point is moved by up to JITTER in x and in y, at random, which nobody can foresee: the expected loss of a step
cannot be lower than -2 log(OFFSET / (2 JITTER)) nats.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data import Batch, DataError, Spec, cache
from data.packages import from_pypi

if TYPE_CHECKING:
    import torch

# Of characters one after the other (N, 3): x and y, of which FINE are a unit of the drawing, and what the point is.
Packed: TypeAlias = NDArray[np.int16]
# x and y in units of the drawing, and 1 where a stroke ends, else 0: (points, 3).
Character: TypeAlias = NDArray[np.float64]
Stroke: TypeAlias = NDArray[np.complex128]  # points x + iy

PARTS = ("train", "validation", "test")
HELD_OUT = 600  # characters for validation, and as many for testing
ORDER = 2013  # seed of the characters' order
SIDE, SPACING, JITTER = 109, 4.0, 0.5  # units of the drawing
OFFSET = 10.0  # of it, about the standard deviation of dx and dy
FINE = 64
INSIDE, LAST_OF_STROKE, LAST_OF_CHARACTER = range(3)
CHORDS = 16  # by which a curve is measured
EVALUATION_BATCH = 32
WHEEL = "kanjivg-20260714-py3-none-any.whl"
WHEEL_HASH = "5190e7ec4eb513dbe6865b2ed52c58287fc10ea514b9409e4cf66ce7db41644d"
DRAWING = r"kanji/0([0-9a-f]{4})\.svg"  # the code point; the name of a variant goes on
IDEOGRAPHS = range(0x4E00, 0xA000)
STROKE = r'<path\b[^>]*?\sd="([^"]*)"'
COMMAND, NUMBER = r"([A-Za-z])([^A-Za-z]*)", r"-?(?:\d+\.?\d*|\.\d+)"
POINTS = {"M": 1, "L": 1, "C": 3, "S": 2}  # that a command of a path takes, again and again
SYNTHETIC = {"train": 1000, "validation": 1000, "test": 2000}  # characters
DIGESTS = {  # SHA-256 of the prepared files
    "train.i16": "75cad3016ca054c0a76069109854efa3a38eab131c62f182a992dc87bca5ee9c",
    "validation.i16": "36cec6135d7e8559c93b30c818e8ecbe561e0967556b8cc75c279c3b9232110a",
    "test.i16": "5c18aa7c15d786ef509fed921b93b686056c5639e375ce823e14034a449b34f4",
}


@dataclass
class Config:
    """Options of pen strokes."""

    name: str = "strokes"
    # steps of a line
    sequence_length: int = 500
    # synthetic: 1,000 + 1,000 + 2,000 characters made of arcs, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many lines of the 600 validation and of the 600 test characters
    validation_size: int = 64
    test_size: int = 128


def load(config: Config, *, batch_size: int, seed: int) -> Strokes:
    """Lines as configured; raises DataError if the characters are too few for them or not to be had."""
    if config.source == "synthetic":
        parts = {part: generated(number, count) for number, (part, count) in enumerate(SYNTHETIC.items())}
        digest = hashlib.sha256(b"".join(points.tobytes() for points in parts.values())).hexdigest()
    else:
        files = cache.ensure("kanjivg", DIGESTS, _sources())
        parts, digest = _read(files), files.digest
    characters = {part: unpacked(points) for part, points in parts.items()}
    return Strokes(config, characters, batch_size=batch_size, seed=seed, digest=digest)


def test_splits(config: Config) -> list[str]:
    return ["test"]


def prepare() -> str:
    """Fetch, prepare and verify the strokes; says what is where, and whose work it is."""
    files = cache.ensure("kanjivg", DIGESTS, _sources(), thorough=True)
    counts = " + ".join(f"{len(unpacked(points)):,}" for points in _read(files).values())
    return f"{counts} characters of KanjiVG (Ulrich Apel, CC BY-SA 3.0) in {files.folder}"


DOWNLOADS = {"strokes": prepare}


class Strokes:
    """Batches (x, y), float32 (B, T, 3) each: y the steps (dx, dy, end) of a line, x those before, from zeros on.

    A training line's characters, and what its points are moved by, are drawn from (seed, step), no character twice in
    a batch; the lines of an evaluation are always the same.
    """

    def __init__(
        self, config: Config, characters: Mapping[str, Sequence[Character]], *, batch_size: int, seed: int, digest: str
    ) -> None:
        import torch

        self.steps, self.batch_size, self.seed = config.sequence_length, batch_size, seed
        self.spec, self.test_splits = Spec("strokes", (self.steps, 3), 3), test_splits(config)
        self.synthetic, self.digest = config.source == "synthetic", digest
        self.device = torch.device("cpu")
        self.characters = characters["train"]
        lengths = [len(character) for character in self.characters]
        if batch_size * (self.steps + max(lengths)) > sum(lengths):  # a line may leave all of a character but a point
            raise DataError(
                f"batch_size={batch_size} with data.sequence_length={self.steps}: {len(lengths):,} training characters "
                f"of {sum(lengths):,} points are too few for such a batch; lower one of them"
            )
        sizes = {"validation": config.validation_size, "test": config.test_size}
        self.held_out = {split: self.first(split, characters[split], size) for split, size in sizes.items()}

    def first(self, split: str, characters: Sequence[Character], size: int) -> list[Character]:
        """So many lines of a split's characters, in their order."""
        found = list(islice(lines(characters, self.steps), size))
        if len(found) < size:
            raise DataError(
                f"data.{split}_size={size}: {len(characters):,} characters give {len(found):,} lines of "
                f"data.sequence_length={self.steps}; lower one of them"
            )
        return found

    def train_batch(self, step: int) -> Batch:
        """x, y of update `step`, drawn from (seed, step)."""
        random = np.random.default_rng((self.seed, step))
        drawn = (self.characters[number] for number in random.permutation(len(self.characters)))
        return self.batch(list(islice(lines(drawn, self.steps), self.batch_size)), random)

    def batches(self, split: str) -> Iterator[Batch]:
        """The same lines for every seed, EVALUATION_BATCH at a time."""
        random = np.random.default_rng(PARTS.index(split))
        for start in range(0, len(self.held_out[split]), EVALUATION_BATCH):
            yield self.batch(self.held_out[split][start : start + EVALUATION_BATCH], random)

    def carries_state(self, split: str) -> bool:
        """False: each line is a sequence of its own."""
        return False

    def to(self, device: torch.device | str) -> Strokes:
        import torch

        self.device = torch.device(device)
        return self

    def batch(self, chosen: Sequence[Character], random: np.random.Generator) -> Batch:
        """Lines of T + 1 points, each moved, as T steps."""
        import torch

        points = np.stack(chosen)
        points[..., :2] += random.uniform(-JITTER, JITTER, (*points.shape[:2], 2))
        steps = np.concatenate([np.diff(points[..., :2], axis=1) / OFFSET, points[:, 1:, 2:]], 2)
        y = torch.from_numpy(steps).float()
        x = torch.cat([torch.zeros_like(y[:, :1]), y[:, :-1]], 1)
        return x.to(self.device), y.to(self.device)


def lines(characters: Iterable[Character], steps: int) -> Iterator[Character]:
    """Lines of steps + 1 points, of as many characters as that takes, side by side.

    What is left of a character that was cut is in no line, and neither are those at the end that fill none.
    """
    line: list[Character] = []
    for character in characters:
        line.append(character + np.array([SIDE * len(line), 0, 0]))
        if sum(map(len, line)) > steps:
            yield np.concatenate(line)[: steps + 1]
            line = []


def unpacked(points: Packed) -> list[Character]:
    """The characters of a part, each by itself."""
    found = np.concatenate([points[:, :2] / FINE, points[:, 2:] != INSIDE], 1)
    return np.split(found, np.flatnonzero(points[:-1, 2] == LAST_OF_CHARACTER) + 1)


def packed(characters: Iterable[Sequence[Stroke]]) -> Packed:
    """Characters as they are kept, one after the other."""
    parts = []
    for strokes in characters:
        kinds = [np.where(np.arange(len(stroke)) < len(stroke) - 1, INSIDE, LAST_OF_STROKE) for stroke in strokes]
        kinds[-1][-1] = LAST_OF_CHARACTER
        points = np.concatenate(strokes) * FINE
        parts.append(np.stack([points.real.round(), points.imag.round(), np.concatenate(kinds)], 1))
    return np.concatenate(parts).astype("<i2")


def sampled(path: str) -> Stroke:
    """Points about SPACING apart along a path, evenly spaced, its ends among them."""
    a, b, c, d = curves(path).T[..., None]
    t = np.linspace(0, 1, CHORDS + 1)
    fine = ((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d).ravel()
    along = np.cumsum(np.abs(np.diff(fine, prepend=fine[:1])))
    count = max(round(along[-1] / SPACING), 1) + 1
    points: Stroke = np.interp(np.linspace(0, along[-1], count), along, fine)
    return points


def curves(path: str) -> NDArray[np.complex128]:
    """The cubic Bezier curves of an SVG path, x + iy of four control points each: (curves, 4). Lines are curves, too.

    A small letter's points are relative to where the pen is; further points after a command are the command again (of
    M: L), and S begins as the curve before it ended. Raises ValueError for any other grammar, and where the pen moves
    again.
    """
    found: list[list[complex]] = []
    pen = handle = 0j
    for place, (command, text) in enumerate(re.findall(COMMAND, path)):
        kind, numbers = command.upper(), [float(number) for number in re.findall(NUMBER, text)]
        size = POINTS.get(kind, 0)
        if not numbers or not size or len(numbers) % (2 * size) or (kind == "M") != (place == 0):
            raise ValueError(f"no path of M, L, C and S: {path}")
        points = [complex(*numbers[start : start + 2]) for start in range(0, len(numbers), 2)]
        for start in range(0, len(points), size):
            *handles, end = [point + pen * command.islower() for point in points[start : start + size]]
            if kind == "M" and not start:
                pen = handle = end
                continue
            first = {"C": [], "S": [2 * pen - handle]}.get(kind, [pen, end])
            found.append([pen, *first, *handles, end])
            pen, handle = end, found[-1][2]
    if not found:
        raise ValueError(f"no path of M, L, C and S: {path}")
    return np.array(found)


@functools.cache
def generated(seed: int, count: int) -> Packed:
    """Characters of 3 to 7 strokes, each an arc of 3 to 11 points."""
    random = np.random.default_rng(seed)

    def arc() -> Stroke:
        start, heading, bend = complex(*random.uniform(20, 90, 2)), random.uniform(0, 6.28), random.uniform(-0.3, 0.3)
        directions = np.exp(1j * (heading + bend * np.arange(random.integers(2, 11))))
        return np.array(start + SPACING * np.cumsum([0, *directions]), np.complex128)

    return packed([arc() for _ in range(random.integers(3, 8))] for _ in range(count))


def _sources() -> Iterator[cache.Source]:
    yield f"PyPI package {WHEEL}", _from_pypi


def _from_pypi(into: Path) -> None:
    from_pypi("kanjivg", WHEEL, into, WHEEL_HASH)
    with zipfile.ZipFile(into / WHEEL) as archive:
        names = [name for name in sorted(archive.namelist()) if is_ideograph(name)]
        drawings = [archive.read(name).decode() for name in names]
    drawn = [[sampled(path) for path in re.findall(STROKE, drawing)] for drawing in drawings]
    order = np.random.default_rng(ORDER).permutation(len(drawn))
    held_out = {"validation": order[:HELD_OUT], "test": order[HELD_OUT : 2 * HELD_OUT]}
    for part, chosen in {**held_out, "train": order[2 * HELD_OUT :]}.items():
        packed(drawn[number] for number in chosen).tofile(into / f"{part}.i16")


def is_ideograph(name: str) -> bool:
    found = re.fullmatch(DRAWING, name)
    return found is not None and int(found[1], 16) in IDEOGRAPHS


def _read(files: cache.Files) -> dict[str, Packed]:
    return {part: np.frombuffer(files.mapped(f"{part}.i16"), "<i2").reshape(-1, 3) for part in PARTS}
