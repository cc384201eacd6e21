"""Cloze: who speaks next? Passages of Shakespeare's plays, in the manner of the questions of Hermann et al. (2015).

A case is a document, so many successive speeches of one scene, and a query, the speech after them, whose speaker is
sought: one of the document's, of whom there are 3 to 10. Of each speech the first words are read, after a symbol for
its speaker: an entity, or in the query a placeholder. Which speaker has which of ten entities is drawn anew each time a
training case is, and for evaluation once for all, so that a name tells nothing that the passage does not.

The plays are those of data=text, and so are those held out; nothing more is fetched. A Midsummer Night's Dream has no
part in this: its headings have no full stop, by which the others' are known.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data import Batch, DataError, Spec, cache, shakespeare

if TYPE_CHECKING:
    import torch

Integers: TypeAlias = NDArray[np.int16]
# By scene, of each speech the speaker, and the words, in small letters, with punctuation marks.
Scenes: TypeAlias = list[list[tuple[str, list[str]]]]
Cases: TypeAlias = tuple[Integers, Integers]  # of N cases: speakers (N, C + 1), words (N, C + 1, W)

FEWEST, ENTITIES = 3, 10  # speakers of a document
# Symbols: first the entities, then the placeholder, one for all rare words, and the others by how frequent they are.
PLACEHOLDER, RARE, WORDS = ENTITIES, ENTITIES + 1, ENTITIES + 2
PADDING = -1
SPLITS = {"train": 0, "validation": 1, "test": 2}
EVALUATION_BATCH = 1000
TITLE = "by William Shakespeare"  # on the title page: what follows up to the first act is no play
SCENE = re.compile(r"(ACT|Act|SCENE|Scene)\b")
HEADING = re.compile(r"(?=.{,24}$)([A-Z][A-Za-z]*(?:[ '][A-Za-z0-9]+){,3})\.\s*$", re.MULTILINE)
DIRECTION = re.compile(r"\[[^]]*\]|^\s*(?:Enter|Exit|Exeunt)\b.*", re.MULTILINE)
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[.,;:!?]")
GENERATED, GENERATED_SPEECHES = {"train": 40, "validation": 8, "test": 8}, 50  # scenes, and in each
DIGESTS: dict[str, str | None] = {  # SHA-256 of the speeches of each part
    "train.txt": "bda3c7c53aa74423fc41bf553b5eb744993c83e00e0a4dc551a509ea2040ff8c",
    "validation.txt": "f6b56919ffd238e64d9fc211a629026a09396f32800f1d08fe1981da9cb30cdf",
    "test.txt": "f236f04d5114210ba0d73c3dcb3dae367d1605eeb279900f6e44438f38e8196d",
}


@dataclass
class Config:
    """Options of the cloze."""

    name: str = "cloze"
    # C, of a document
    speeches: int = field(default=6, metadata={"minimum": FEWEST, "maximum": 100})
    # W, the first so many words and marks of each speech
    words: int = field(default=4, metadata={"maximum": 100})
    # so many words, the commonest of the training plays, are told apart
    vocabulary: int = field(default=1_500, metadata={"maximum": 20_000})
    # synthetic: generated speeches, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many cases of the plays for validation and of those for testing
    validation_size: int = 10_000
    test_size: int = 10_000


def load(config: Config, *, batch_size: int, seed: int) -> Cloze:
    """The cases as configured; raises DataError if the plays are not to be had, or a part of them has no case."""
    synthetic = config.source == "synthetic"
    parts, digest = _generated() if synthetic else _stored(cache.ensure("cloze", DIGESTS, _sources()))
    return Cloze(config, batch_size, seed, parts, digest)


def test_splits(config: Config) -> list[str]:
    return ["test"]


def prepare() -> str:
    """Fetch, parse and verify the plays; says what is where, and what guesses come to."""
    files = cache.ensure("cloze", DIGESTS, _sources(), thorough=True)
    found = Cloze(Config(), 1, 0, *_stored(files))
    errors = ", ".join(f"{name} {error:.3f}" for name, error in guesses(found.cases["test"][0]).items())
    return f"{found} in {files.folder}; test error of guesses: {errors}"


DOWNLOADS = {"cloze": prepare}


def guesses(speakers: Integers) -> dict[str, float]:
    """The error rate of guesses that read no word, of cases with these speakers (N, C + 1), the last the one sought.

    chance: any of the document's speakers; most_frequent: one of those with the most speeches; two_back: whoever spoke
    two speeches before.
    """
    document, sought = speakers[:, :-1], speakers[:, -1:]
    spoken = (document[:, :, None] == np.arange(ENTITIES)).sum(1)  # speeches of each speaker, (N, ENTITIES)

    def error(candidates: NDArray[np.bool_]) -> float:
        right = np.take_along_axis(candidates, sought, 1)[:, 0] / candidates.sum(1)
        return 1 - float(right.mean())

    return {
        "chance": error(spoken > 0),
        "most_frequent": error(spoken == spoken.max(1, keepdims=True)),
        "two_back": float((document[:, -2] != sought[:, 0]).mean()),
    }


class Cloze:
    """Batches x int64 (B, 2, C (W + 1)), document and query in symbols, PADDING after their ends; y int64 (B,).

    Each epoch visits the training cases in an order of its own, drawn from (seed, epoch), and drops what does not fill
    a last batch.
    """

    def __init__(self, config: Config, batch_size: int, seed: int, parts: Mapping[str, Scenes], digest: str) -> None:
        import torch

        self.batch_size, self.seed, self.digest = batch_size, seed, digest
        self.synthetic, self.test_splits, self.device = config.source == "synthetic", ["test"], torch.device("cpu")
        numbers = numbered(parts["train"], config.vocabulary)
        shape = 2, config.speeches * (config.words + 1)
        self.spec = Spec("cloze", shape, ENTITIES, symbols=WORDS + config.vocabulary)
        limits = {"validation": config.validation_size, "test": config.test_size}
        self.cases = {part: cases(scenes, config, numbers, limits.get(part)) for part, scenes in parts.items()}
        for part, (speakers, _) in self.cases.items():
            if not len(speakers):
                raise DataError(
                    f"data.speeches={config.speeches}: in the plays for {part} no scene has so many speeches and one "
                    f"more, by {FEWEST} to {ENTITIES} speakers; lower it"
                )
        self.count = len(self.cases["train"][0])
        if batch_size > self.count:
            raise DataError(f"batch_size={batch_size} exceeds the {self.count:,} training cases; lower it")

    def __str__(self) -> str:
        return f"{' + '.join(f'{len(speakers):,}' for speakers, _ in self.cases.values())} cases"

    def train_batch(self, step: int) -> Batch:
        """x, y of update `step`: its place in the epoch and its entities are drawn from (seed, epoch), (seed, step)."""
        epoch, place = divmod(step, self.count // self.batch_size)
        order = shuffled(self.count, self.seed, epoch)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return self.batch("train", chosen, drawn(len(chosen), SPLITS["train"], self.seed, step))

    def batches(self, split: str) -> Iterator[Batch]:
        """The split in the order of the plays, EVALUATION_BATCH cases at a time; the same entities for every seed."""
        every = np.arange(len(self.cases[split][0]))
        entities = drawn(len(every), SPLITS[split])
        for start in range(0, len(every), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            yield self.batch(split, every[rows], entities[rows])

    def carries_state(self, split: str) -> bool:
        """False: cases are independent."""
        return False

    def to(self, device: torch.device | str) -> Cloze:
        import torch

        self.device = torch.device(device)
        return self

    def batch(self, split: str, chosen: NDArray[np.int64], entities: NDArray[np.int64]) -> Batch:
        """These cases, each with entities (B, ENTITIES) of its own for its speakers."""
        import torch

        speakers, words = (part[chosen] for part in self.cases[split])
        named = np.take_along_axis(entities, speakers.astype(np.int64), 1)
        speeches = np.concatenate([named[..., None], words], 2)
        speeches[:, -1, 0] = PLACEHOLDER
        x = np.full((len(chosen), *self.spec.input_shape), PADDING)
        x[:, 0] = closed_up(speeches[:, :-1].reshape(len(chosen), -1))
        x[:, 1, : speeches.shape[2]] = speeches[:, -1]
        return torch.from_numpy(x).to(self.device), torch.from_numpy(named[:, -1].copy()).to(self.device)


def numbered(scenes: Scenes, vocabulary: int) -> dict[str, int]:
    """The symbol of each of the commonest words; of words as common the first in the alphabet."""
    counts = Counter(word for scene in scenes for _, words in scene for word in words)
    common = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    return {word: WORDS + place for place, word in enumerate(common)}


def cases(scenes: Scenes, config: Config, numbers: Mapping[str, int], limit: int | None = None) -> Cases:
    """The first `limit` cases; speakers are numbered in the order in which they first speak in the document."""
    length, first_words = config.speeches, config.words
    speakers, words = [], []
    for scene in scenes:
        symbols = [[numbers.get(word, RARE) for word in said[:first_words]] for _, said in scene]
        rows = [row + [PADDING] * (first_words - len(row)) for row in symbols]
        for end in range(length, len(scene)):
            names = [name for name, _ in scene[end - length : end + 1]]
            places = {name: place for place, name in enumerate(dict.fromkeys(names[:-1]))}
            if names[-1] in places and FEWEST <= len(places) <= ENTITIES:
                speakers.append([places[name] for name in names])
                words.append(rows[end - length : end + 1])
    return (
        np.array(speakers[:limit], np.int16).reshape(-1, length + 1),
        np.array(words[:limit], np.int16).reshape(-1, length + 1, first_words),
    )


def closed_up(symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (B, T) with their padding moved behind everything else."""
    return np.take_along_axis(symbols, (symbols == PADDING).argsort(1, kind="stable"), 1)


def drawn(count: int, *entropy: int) -> NDArray[np.int64]:
    """The entity of each speaker, of each case a permutation: (count, ENTITIES)."""
    return np.random.default_rng(entropy).random((count, ENTITIES)).argsort(1)


@functools.lru_cache(maxsize=1)
def shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


def parsed(plays: str) -> Scenes:
    """The speeches of plays, scene by scene.

    A speech begins with its speaker's name, with a full stop, on the first line of a paragraph, and goes on to the next
    such line or to the end of the scene. Stage directions are left out.
    """
    scenes: Scenes = []
    on_stage = False
    for paragraph in re.split(r"\n\s*\n", plays):
        lines = DIRECTION.sub("", paragraph).strip()
        if SCENE.match(lines):
            scenes.append([])
            on_stage = True
        elif lines == TITLE:
            on_stage = False
        elif on_stage and (heading := HEADING.match(lines)):
            scenes[-1].append((heading[1].upper(), WORD.findall(lines[heading.end() :].lower())))
        elif on_stage and scenes[-1]:
            scenes[-1][-1][1].extend(WORD.findall(lines.lower()))
    return [scene for scene in scenes if scene]


def _sources() -> Iterator[cache.Source]:
    yield "Shakespeare's works (data=text)", _from_text


def _from_text(into: Path) -> None:
    corpus = shakespeare.corpus()
    for part, ids in corpus.parts.items():
        scenes = parsed("".join(map(corpus.symbols.__getitem__, ids.tolist())))
        (into / f"{part}.txt").write_text(_written(scenes), encoding="ascii", newline="")


def _written(scenes: Scenes) -> str:
    """A line for each speech, a blank one after each scene."""
    return "".join("".join(f"{name}\t{' '.join(words)}\n" for name, words in scene) + "\n" for scene in scenes)


def _stored(files: cache.Files) -> tuple[dict[str, Scenes], str]:
    """The speeches of each part, and the digest of all."""
    written = {part: files.mapped(f"{part}.txt")[:].decode("ascii") for part in SPLITS}
    return {part: _speeches(content) for part, content in written.items()}, files.digest


def _speeches(written: str) -> Scenes:
    lines = [[line.split("\t") for line in scene.splitlines()] for scene in written.split("\n\n") if scene]
    return [[(name, words.split()) for name, words in scene] for scene in lines]


def _generated() -> tuple[dict[str, Scenes], str]:
    """Scenes of four who say random words; 7 times out of 10 whoever spoke two speeches before speaks again."""
    random = np.random.default_rng(0)
    parts = {part: [_scene(random) for _ in range(count)] for part, count in GENERATED.items()}
    content = "".join(map(_written, parts.values()))
    return parts, hashlib.sha256(content.encode()).hexdigest()


def _scene(random: np.random.Generator) -> list[tuple[str, list[str]]]:
    speakers = [0, 1]
    for answers in random.random(GENERATED_SPEECHES - 2) < 0.7:
        others = [speaker for speaker in range(4) if speaker not in speakers[-2:]]
        speakers.append(speakers[-2] if answers else int(random.choice(others)))
    words = random.integers(20, size=(len(speakers), 6))
    return [
        ("ABCD"[speaker], ["abcdefghijklmnopqrst"[word] for word in said])
        for speaker, said in zip(speakers, words, strict=True)
    ]
