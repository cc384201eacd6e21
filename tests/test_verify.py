"""A report is what its table of runs and the claims lead to, or verify says where it is not."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import verify
from experiments.reports.across import PAGE
from experiments.reports.marked_pages import PAGES
from tests.conftest import GOLDEN, with_markers


@pytest.fixture
def folder(report: Path, tmp_path: Path) -> Path:
    """A folder as make reproduce leaves it, of the golden runs, and a page with its verdicts."""
    shutil.copytree(report, tmp_path / "laptop")
    return tmp_path / "laptop"


@pytest.fixture
def root(folder: Path) -> Path:
    """Pages that tell what it says, and what it says with others."""
    with_markers(folder.parent)
    verify.across(folder.parent, GOLDEN / "claims.yaml", folder.parent, folder.parent)
    return folder.parent


def found(folder: Path) -> list[str]:
    return verify.verify(folder, GOLDEN / "claims.yaml")[1]


def test_an_untouched_report_is_the_same_whatever_lies_beside_it(folder: Path) -> None:
    (folder / "bench.csv").write_text("of another command")
    (folder / "runs").mkdir()
    before = {path: path.read_bytes() for path in verify.files(folder)}
    done, differing = verify.verify(folder, GOLDEN / "claims.yaml")
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
        ("configs.json", replaced('"layout": 1', '"layout":  1'), ", line 2:  1, → 1,"),
    ],
)
def test_a_change_is_told_by_file_line_and_word(
    name: str, change: Callable[[str], str], message: str, folder: Path
) -> None:
    path = folder / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    (told,) = found(folder)
    assert told.startswith(str(path)) and told.endswith(message) and "\n" not in told


def test_a_number_of_the_table_moves_the_verdict_of_its_claim(folder: Path) -> None:
    lines = (folder / "runs.csv").read_text().splitlines(keepends=True)
    place = next(k for k, line in enumerate(lines) if line.startswith("high_rate,layer,evaluate,"))
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


def test_every_study_of_a_folder_is_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "CLAIMS", GOLDEN / "claims.yaml")
    shutil.copytree(folder, folder.with_name("evening-100"))
    shutil.copytree(folder, folder.with_name(".laptop.draft"))
    run_main(monkeypatch, folder.parent)
    assert [line.split(";")[1].split()[2] for line in capsys.readouterr().out.splitlines()] == [
        str(folder),
        str(folder.with_name("evening-100")),
    ]
    (folder / "report.md").write_text("other\n")
    with pytest.raises(SystemExit, match=f"not the same: 1 files of {folder}$"):
        run_main(monkeypatch, folder.parent)
    assert f"all of {folder.with_name('evening-100')} is the same" in capsys.readouterr().out


@pytest.mark.parametrize("name", [PAGE, *PAGES])
def test_what_the_studies_say_together_is_verified_too(name: str, root: Path) -> None:
    claims, page = GOLDEN / "claims.yaml", root / name
    assert verify.verify_across(root, claims, root) == []
    assert "✔" in page.read_text()
    page.write_text(page.read_text().replace("✔", "✘", 1))
    (told,) = verify.verify_across(root, claims, root)
    assert told.startswith(f"{page}, line ") and told.endswith(": ✘ → ✔")


def test_a_long_line_is_told_in_short(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("same\n" + "x " * 500 + "1.25 end " + "y" * 500)
    new.write_text("same\n" + "x " * 500 + "1.26 end " + "y" * 500)
    (told,) = verify.changes(old, new)
    assert told == f"{old}, line 2: 1.25 → 1.26"
    old.write_text("")
    (told,) = verify.changes(old, new)
    assert told == f"{old}, line 1:  → same"


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
