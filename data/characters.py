"""The characters of a text as numbers: those found often enough in its training part, and one symbol for all others."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data import DataError, cache
from data.streams import Corpus

RARE = 10
MOST = 2**15 - 1  # symbols that int16 can number, UNKNOWN besides
UNKNOWN = "\ufffd"
PARTS = ("train", "validation", "test")


def encoded(name: str, parts: Mapping[str, str], digest: str) -> Corpus:
    """Number the characters by their code points; UNKNOWN, if there are others, comes last."""
    import torch

    codes = {part: np.frombuffer(text.encode("utf-32-le"), np.uint32) for part, text in parts.items()}
    counts = np.bincount(codes["train"], minlength=sys.maxunicode + 1)
    known = np.flatnonzero(counts >= RARE)
    if len(known) > MOST:
        raise DataError(
            f"{name}: {len(known):,} different characters are found {RARE} times or more, and {MOST:,} can be symbols; "
            "take a text of fewer"
        )
    table = np.full(counts.shape, len(known), dtype=np.int16)
    table[known] = np.arange(len(known))
    ids = {part: torch.from_numpy(table[code]) for part, code in codes.items()}
    unknown = any((part == len(known)).any() for part in ids.values())
    return Corpus(name, "".join(map(chr, known)) + UNKNOWN * unknown, len(known), ids, digest)


def store(corpus: Corpus, into: Path) -> None:
    for part, ids in corpus.parts.items():
        ids.numpy().astype("<i2").tofile(into / f"{part}.i16")
    (into / "symbols.json").write_text(json.dumps(corpus.symbols))


def stored(files: cache.Files) -> Corpus:
    import torch

    symbols = json.loads(files.mapped("symbols.json")[:])
    parts = {part: torch.frombuffer(files.mapped(f"{part}.i16"), dtype=torch.int16) for part in PARTS}
    return Corpus(files.folder.name, symbols, len(symbols.rstrip(UNKNOWN)), parts, files.digest)
