"""WikiText-2 (Merity et al. 2016), which has its own three parts: the files of one revision at the hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from data import cache
from data.characters import encoded
from data.downloads import download
from data.streams import Corpus

HUB, REVISION = "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3"
FOLDER = "wikitext-2-raw-v1"
FILES = {  # SHA-256 of the hub's files, which it shows beside them
    "train-00000-of-00001.parquet": "e83889baabc497075506f91975be5fac0d45c5290b6b20582c8cd1e853d0c9f7",
    "validation-00000-of-00001.parquet": "204929b7ff9d6184953f867dedb860e40aa69c078fc1e54b3baaa8fb28511c4c",
    "test-00000-of-00001.parquet": "5f1bea067869d04849c0f975a2b29c4ff47d867f484f5010ea5e861eab246d91",
}


def corpus() -> Corpus:
    """WikiText-2; raises DataError if it is neither cached nor to be had."""
    return _read(cache.ensure("wikitext", FILES, _sources()))


def prepare() -> str:
    """Fetch and verify WikiText-2; says what is where."""
    files = cache.ensure("wikitext", FILES, _sources(), thorough=True)
    return f"{_read(files)} in {files.folder}"


def _sources() -> Iterator[cache.Source]:
    yield f"the hub's own cache of {HUB}", _from_hubs_cache
    yield f"hub data set {HUB}", _from_hub


def _from_hubs_cache(into: Path) -> None:
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second, and only who fetches needs it

    for name in FILES:
        found = try_to_load_from_cache(HUB, f"{FOLDER}/{name}", revision=REVISION, repo_type="dataset")
        if not isinstance(found, str):
            raise FileNotFoundError("not there")
        shutil.copyfile(found, into / name)


def _from_hub(into: Path) -> None:
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(name, "").upper() in constants.ENV_VARS_TRUE_VALUES:
            raise ConnectionError(f"not asked, for {name}={os.environ[name]}")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    for name, digest in FILES.items():
        download(f"{hub}/datasets/{HUB}/resolve/{REVISION}/{FOLDER}/{name}", into / name, digest)


def _read(files: cache.Files) -> Corpus:
    from pyarrow import BufferReader, parquet

    tables = {name.split("-")[0]: parquet.read_table(BufferReader(files.mapped(name))) for name in FILES}
    texts = {part: "".join(table["text"].to_pylist()) for part, table in tables.items()}
    return encoded(files.folder.name, texts, files.digest)
