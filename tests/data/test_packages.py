"""Package registries: their clients' own settings are kept to, and nothing of a package runs."""

import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from data import packages
from tests.data.data_sets import CLOSED, isolated, write_tar  # noqa: F401 (isolated: a fixture)
from tests.data.servers import says, serving

NAME = "project-1.tar.gz"


def page(*links: str) -> bytes:
    return "".join(f'<!-- --><a data-requires-python="&gt;=3" href="{link}">a file</a><br>' for link in links).encode()


def from_pypi(into: Path, content: bytes) -> None:
    packages.from_pypi("project", NAME, into, sha256(content).hexdigest())
    assert (into / NAME).read_bytes() == content


def test_nothing_of_a_source_archive_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program that is started is pip, asked for its settings; a build would import this setuptools."""
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "setuptools.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "poison"))
    write_tar(tmp_path / NAME, {"project-1/setup.py": f"open({str(tmp_path / 'ran')!r}, 'w')".encode()})
    content, started, popen = (tmp_path / NAME).read_bytes(), [], subprocess.Popen

    def watched(command: tuple[str, ...], **options: Any) -> Any:
        started.append(command)
        return popen(command, **options)

    monkeypatch.setattr(packages, "Popen", watched)
    with serving(says(200, page("project-1-py3-none-any.whl", NAME)), says(200, content)) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        from_pypi(tmp_path, content)
    assert started == [(sys.executable, "-m", "pip", "config", "list")] and not (tmp_path / "ran").exists()


def test_the_settings_of_pip_are_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes in their order, the password of one, the proxy; the environment over the section over the rest."""
    settings = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.delenv("PIP_INDEX_URL")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    with serving(says(404)) as first, serving(says(200, page(f"/files/{NAME}#sha256=0")), says(200, b"it")) as second:
        extra = second.url.replace("//", "//me:secret@")
        settings.write_text(f"[global]\nindex-url = {CLOSED}\nextra-index-url =\n  {CLOSED}\n  {extra}\n")
        with settings.open("a") as file:
            file.write(f"[download]\nindex-url = {first.url}\n")
        from_pypi(tmp_path, b"it")
        assert [path for path, _, _ in first.asked] == ["/project/"]
        assert [path for path, _, _ in second.asked] == ["/project/", f"/files/{NAME}"]
        assert {secret for _, _, secret in second.asked} == {"Basic bWU6c2VjcmV0"}
    with serving(says(200, page(f"http://files.invalid/{NAME}")), says(200, b"it")) as proxy:
        settings.write_text(f"[global]\nproxy = {proxy.url}\n[download]\nindex-url = {CLOSED}\n")
        monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
        from_pypi(tmp_path, b"it")
        assert [path for path, _, _ in proxy.asked] == [
            "http://index.invalid/simple/project/",
            f"http://files.invalid/{NAME}",
        ]
    settings.write_text(f"[global]\ncert = {tmp_path / 'none.pem'}\n")
    with pytest.raises(OSError, match="No such file"):
        from_pypi(tmp_path, b"it")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    settings.write_text("")
    with pytest.raises(ConnectionError, match=f"no index of pip's has {NAME}"):
        from_pypi(tmp_path, b"it")


def test_without_settings_the_index_is_the_one_that_pip_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        packages, "run", lambda *command: "(default 5 times)\n (default\n  https://an.index/simple). This"
    )
    assert packages._indexes({"extra-index-url": "a\nb"}) == ["https://an.index/simple", "a", "b"]
    monkeypatch.undo()
    [index] = packages._indexes({})
    assert index.startswith("https://") and index.endswith("/simple")


def test_an_environment_without_pip_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="this environment has no pip: python -m ensurepip"):
        from_pypi(tmp_path, b"")


def test_what_a_client_says_besides_is_no_part_of_its_answer() -> None:
    assert packages.run("sh", "-c", "echo a newer npm >&2; echo fine; echo is there >&2") == "fine\n"


def test_a_client_that_fails_is_quoted() -> None:
    with pytest.raises(ConnectionError, match=r"^ERROR: no such thing$"):
        packages.run("sh", "-c", "echo some words; echo ERROR: no such thing >&2; exit 3")
    with pytest.raises(ConnectionError, match=r"^exit code 3$"):
        packages.run(sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(FileNotFoundError, match="no-such-client"):
        packages.run("no-such-client")


def test_a_client_that_never_ends_is_given_up_with_all_it_started(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no result after"):
        packages.run("sh", "-c", f"(sleep 0.4; touch '{tmp_path}/late') & sleep 30", seconds=0.1)
    time.sleep(0.5)
    assert not (tmp_path / "late").exists()
