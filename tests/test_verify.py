"""A report is what its table of runs and the claims lead to, or verify says where it is not."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import verify
from experiments.records.table import rounded, write_table
from experiments.reports.write import update_readme, write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import judge, read_verdicts

GOLDEN = Path(__file__).parent / "golden"
COMMAND = "make reproduce"

# A machine with nothing but what reading a table and drawing needs; `models` and `data` would bring in torch.
ISOLATED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "hydra", "omegaconf", "wandb", "datasets", "models", "data"}:
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from experiments.verify import verify
print(verify(*map(Path, sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def made(registry: Registry, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as make reproduce leaves it, of the golden runs, and a page with its verdicts."""
    folder = tmp_path_factory.mktemp("made") / "results"
    rows = rounded(rows)
    write_table(rows, folder, COMMAND)
    write_report(registry, rows, judge(registry, rows), folder, COMMAND)
    page = folder.parent / "README.md"
    page.write_text("<!-- verdicts:begin -->\n<!-- verdicts:end -->\n")
    update_readme(page, read_verdicts(folder / "claims.json"))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results"


def found(folder: Path) -> list[str]:
    return verify.verify(folder, GOLDEN / "claims.yaml", folder.parent / "README.md")[1]


def test_an_untouched_report_is_the_same_whatever_lies_beside_it(folder: Path) -> None:
    (folder / "bench.csv").write_text("of another command")
    (folder / "runs").mkdir()
    before = {path: path.read_bytes() for path in verify.files(folder)}
    done, differing = verify.verify(folder, GOLDEN / "claims.yaml", folder.parent / "README.md")
    assert differing == [] and done.startswith("7 claims judged anew from 93 runs in ")
    assert {path: path.read_bytes() for path in verify.files(folder)} == before


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("claims.json", replaced('"supported"', '"contradicted"'), ": contradicted → supported"),
        ("report.md", replaced("**supported**", "**contradicted**"), ": contradicted → supported"),
        ("report.md", lambda text: text + "\n\n", " lines"),
        ("report.md", lambda text: text[:-1], " lines"),
        ("README.md", replaced("✔ supported", "✘ contradicted"), ": ✘ → ✔"),
        ("configs.json", replaced('"layout": 1', '"layout":  1'), ", line 2:  1, → 1,"),
    ],
)
def test_a_change_is_told_by_file_line_and_word(
    name: str, change: Callable[[str], str], message: str, folder: Path
) -> None:
    path = folder.parent / name if name == "README.md" else folder / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    (told,) = found(folder)
    assert told.startswith(str(path)) and told.endswith(message) and "\n" not in told


def test_a_number_of_the_table_moves_the_verdict_of_its_claim(folder: Path) -> None:
    lines = (folder / "runs.csv").read_text().splitlines(keepends=True)
    place = next(k for k, line in enumerate(lines) if ",evaluate," in line and ",completed," in line)
    cells = lines[place].split(",")
    cells[lines[0].strip().split(",").index("test_loss")] = "9.75"
    lines[place] = ",".join(cells)
    (folder / "runs.csv").write_text("".join(lines))
    told = {Path(line.split(", line ")[0]).name for line in found(folder)}
    assert {"claims.json", "report.md"} <= told


def test_missing_and_surplus_files_are_told(folder: Path) -> None:
    figure = verify.files(folder / "figures")[0]
    figure.rename(figure.with_name("of-no-claim.svg"))
    (folder / "report.md").unlink()
    page = verify.files(folder / "evidence")[0]
    page.rename(page.with_name("of-no-run.html"))
    told = found(folder)
    assert f"{page} is missing" in told and f"{page.with_name('of-no-run.html')} belongs to no run" in told
    assert f"{figure} is missing" in told and f"{folder / 'report.md'} is missing" in told
    assert f"{figure.with_name('of-no-claim.svg')} belongs to no claim" in told


def test_a_long_line_is_told_in_short(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("same\n" + "x " * 500 + "1.25 end " + "y" * 500)
    new.write_text("same\n" + "x " * 500 + "1.26 end " + "y" * 500)
    (told,) = verify.changes(old, new)
    assert told == f"{old}, line 2: 1.25 → 1.26"
    old.write_text("")
    (told,) = verify.changes(old, new)
    assert told == f"{old}, line 1:  → same"


def test_nothing_of_training_is_needed(folder: Path) -> None:
    command = [sys.executable, "-c", ISOLATED, folder, GOLDEN / "claims.yaml", folder.parent / "README.md"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=verify.ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(", [])\n")


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments.verify", *map(str, arguments)])
    verify.main()


def test_the_command_ends_with_0_or_says_what_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "CLAIMS", GOLDEN / "claims.yaml")
    run_main(monkeypatch, folder)
    assert "all of" in capsys.readouterr().out
    (folder / "report.md").write_text("other\n")
    with pytest.raises(SystemExit, match="not the same") as stop:
        run_main(monkeypatch, folder)
    assert isinstance(stop.value.code, str) and "report.md, line 1: " in capsys.readouterr().out
    (folder / "runs.csv").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*runs\.csv does not exist; make reproduce"):
        run_main(monkeypatch, folder)
