"""What the tests of data sets share: caches of their own, no network, errors of one line."""

import io
import logging
import os
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import data
from data import DataError

CLOSED = "http://127.0.0.1:9/"  # nobody listens there


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, ours and the hub client's, and package clients and sources that find nothing."""
    ours = "PIP_", "NPM_", "LAYERNORM_", "HF_", "TRANSFORMERS_"
    for name in [name for name in os.environ if name.upper().startswith(ours)]:
        monkeypatch.delenv(name)
    places = {"LAYERNORM_DATA": str(tmp_path / "cache"), "npm_config_cache": str(tmp_path / "npm")}
    servers = dict.fromkeys(("npm_config_registry", "PIP_INDEX_URL", "HF_ENDPOINT"), CLOSED)
    for name, value in {**places, **servers, "NO_PROXY": "*", "no_proxy": "*", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    logging.getLogger("data").setLevel(logging.NOTSET)  # what another test may have let be told


def load(config: Any, batch_size: int = 4, seed: int = 0) -> Any:
    return data.load(config, batch_size=batch_size, seed=seed)


def refused(call: Callable[[], object], *parts: str) -> str:
    """The one line with which a call ends; all `parts` are in it."""
    with pytest.raises(DataError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line and all(part in line for part in parts), line
    return line


def digest_of(*files: tuple[str, bytes]) -> str:
    """What `sha256sum FILES | sha256sum` prints."""
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files)]
    return sha256("".join(lines).encode()).hexdigest()


def write_tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
