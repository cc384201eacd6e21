"""Every script can be imported, and those that have options can say which."""

import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.py"))
WITH_OPTIONS = [path for path in SCRIPTS if re.search(r"(ArgumentParser|Arguments)\(", path.read_text())]


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_finds_all_it_imports(path: Path) -> None:
    import_module(f"scripts.{path.stem}")


@pytest.mark.parametrize("path", WITH_OPTIONS, ids=name)
def test_a_script_tells_its_options(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # which scripts add to
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: {path.name}")
