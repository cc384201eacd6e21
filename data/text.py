"""Text, one symbol per character: Shakespeare, WikiText-2, your own file, or a generated text.

A file is cut into its first 90 %, the next 5 % and the last 5 %. In every corpus, characters found less than RARE times
in the training part share one symbol (characters.py); where they are more than a few, that is told.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from data import DataError, shakespeare, wikitext
from data.characters import PARTS, RARE, encoded
from data.streams import Corpus, Streams

NOTABLE = 0.001  # share of UNKNOWN in a part
CORPORA = ("shakespeare", "wikitext", "file", "synthetic")


@dataclass
class Config:
    """Options of text."""

    name: str = "text"
    corpus: str = field(default="shakespeare", metadata={"choices": CORPORA})
    # your own text, UTF-8; if given, it is the corpus: `file`
    path: str = ""
    # SHA-256 of that text, filled in: the file's content, not its name, makes a run what it is; no other is then read
    digest: str = ""
    # steps of truncated backpropagation through time
    sequence_length: int = 40
    # if not 0: a further test split, test_long, of independent pieces of this length
    test_length: int = field(default=0, metadata={"minimum": 0})
    # evaluate on the first so many characters of the validation and of the test part
    validation_size: int = 25_000
    test_size: int = 130_000


def check(config: Config) -> None:
    """Refuse what would have no effect; the default corpus gives way to `path`, for it cannot be told from none."""
    if config.corpus not in CORPORA:
        raise DataError(f"there is no corpus {config.corpus!r}; choose one of: {', '.join(CORPORA)}")
    if config.corpus == "file" and not config.path:
        raise DataError("data.corpus=file needs data.path=<a text file>")
    if config.digest and not config.path:
        raise DataError(f"data.digest={config.digest}: it is taken from the file data.path; leave it out")
    if config.path and config.corpus not in ("file", Config.corpus):
        raise DataError(f"data.path={config.path} and data.corpus={config.corpus} are two texts; leave one of them out")


def identified(config: Config) -> Config:
    """The configuration with the absolute path and the digest of the file it names, by which every later load reads
    the same text; raises DataError if it cannot be read or is another than it was."""
    if not config.path:
        return config
    return replace(config, corpus="file", path=str(_path(config)), digest=_own(config)[1])


def test_splits(config: Config) -> list[str]:
    return ["test", "test_long"] if config.test_length else ["test"]


def load(config: Config, *, batch_size: int, seed: int) -> Streams:
    """The text as configured; raises DataError if it is not to be had, not readable, too short or of one symbol."""
    corpus = _corpus(config)
    streams = Streams(
        corpus,
        sequence_length=config.sequence_length,
        batch_size=batch_size,
        seed=seed,
        limits={"validation": config.validation_size, "test": config.test_size},
        test_length=config.test_length,
        synthetic=config.corpus == "synthetic",
    )
    rest = streams.alphabet["rest_share"]
    if config.path or max(rest.values()) >= NOTABLE:
        shares = ", ".join(f"{100 * share:.2g} % of {part}" for part, share in rest.items())
        _tell(
            f"{corpus.name}: {corpus.kept:,} characters are found {RARE} times or more in train and are symbols; "
            f"all others share one more: {shares}"
        )
    return streams


@functools.cache
def _tell(line: str) -> None:
    """Say it once; in a process that another one started, that one has said it."""
    if parent_process() is None:
        print(line, file=sys.stderr)


DOWNLOADS = {"text": shakespeare.prepare, "wikitext": wikitext.prepare}


def _corpus(config: Config) -> Corpus:
    if config.path:
        return _from_file(config)
    match config.corpus:
        case "shakespeare":
            return shakespeare.corpus()
        case "wikitext":
            return wikitext.corpus()
        case _:
            text = _generated()
            return encoded("synthetic", _cut(text), hashlib.sha256(text.encode()).hexdigest())


def _path(config: Config) -> Path:
    return Path(os.path.expanduser(config.path)).absolute()  # Path's own raises for a user that does not exist


def _from_file(config: Config) -> Corpus:
    path, (content, digest) = _path(config), _own(config)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data.path={path} is not UTF-8 (byte {error.start:,}); convert it first") from error
    if not text:
        raise DataError(f"data.path={path} is empty; give a text file")
    return encoded(f"data.path={path}", _cut(text.replace("\r\n", "\n")), digest)


def _own(config: Config) -> tuple[bytes, str]:
    """The user's file and its SHA-256; raises DataError if it is not the text that the configuration was made for."""
    path = _path(config)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device never ends
            raise ValueError("not a file")
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", error)
        raise DataError(f"cannot read data.path={config.path}: {reason}; give a text file") from error
    found = hashlib.sha256(content).hexdigest()
    if config.digest not in ("", found):
        raise DataError(
            f"data.path={path} is another text than this run was made for (SHA-256 {config.digest[:12]}... expected, "
            f"{found[:12]}... found); give the command again, without resume, for runs of the new one"
        )
    return content, found


def _cut(text: str) -> dict[str, str]:
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return dict(zip(PARTS, (text[:first], text[first:second], text[second:]), strict=True))


def _generated(length: int = 60_000) -> str:
    """A text in which the last two of 16 symbols decide the next, 7 times out of 10."""
    random = np.random.default_rng(0)
    followers = random.integers(16, size=(16, 16, 4)).tolist()
    choices = random.choice(4, size=length, p=[0.7, 0.1, 0.1, 0.1]).tolist()
    ids = [0, 1]
    for choice in choices[2:]:
        ids.append(followers[ids[-2]][ids[-1]][choice])
    return "".join("abcdefghijklmno "[i] for i in ids)
