"""Whatever lies in a results folder, every command that reads one ends well or in one line, and no number is wrong."""

import argparse
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("bokeh")

from bokeh.document import Document

from experiments import reproduce, status, verify
from experiments.dashboards.live.page import Page
from experiments.dashboards.live.runs import results_below
from experiments.dashboards.wandb import mirror, places
from experiments.dashboards.wandb.run import concluded, described, identifier, logged
from experiments.records.folder import RESULT, RunFolder, checksum
from experiments.run import recorded
from experiments.sweeps.arms import run_tuned
from experiments.training import schema
from experiments.training.errors import told_in_one_line
from experiments.training.schema import Config, Optim, Tuning
from experiments.verdicts.claims import Registry
from scripts import freeze
from tests.conftest import with_markers
from tests.invented import claim
from tests.training.test_run import tiny

CLAIM = claim(id="C", experiment="tiny", labels=("layer", "none"), margin=0.5, tuned=True)
REGISTRY = Registry(0.05, 2, (CLAIM,))
STUDY = freeze.Study()
ASKED = {"claim": None, "claims": None, "config_dir": None, "all": False, "experiment": ["tiny"]}
OPTIONS = argparse.Namespace(scale="smoke", overrides=[], watch=False, **ASKED)
EXAMPLES = int(os.environ.get("GARBAGE", "15"))


def arms(results: Path) -> dict[tuple[str, str], Config]:
    tuned = {"optim": Optim(), "tuning": Tuning([1e-3, 1e-2], [1000], []), "seeds": 2}
    return {("tiny", norm): tiny(results, norm=norm, arm=norm, **tuned) for norm in ("layer", "none")}


class InThisProcess:
    def at_once(self, missing: int, config: Config) -> int:
        return 1

    def run_arms(self, configs: list[Config]) -> None:
        for config in configs:
            run_tuned(config)


class Shown:
    """A run in wandb without wandb: everything is asked that is to be told."""

    def __init__(self, record: dict[str, Any], claims: list[str], options: dict[str, Any]) -> None:
        self.record, self.options = record, options
        json.dumps(described(record, claims))

    def log(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            logged(self.record, row)

    def finish(self, record: dict[str, Any], version: str) -> Path:
        self.log(record["history"])
        json.dumps(concluded(record))
        return left(self.options, identifier(record["experiment"], record["run"]))

    def interrupt(self) -> None: ...


def left(options: dict[str, Any], name: str) -> Path:
    made = Path(options["dir"]) / "wandb" / f"offline-run-20260101_000000-{name}"
    made.mkdir(parents=True, exist_ok=True)
    return made


def shown_verdicts(
    verdicts: list[dict[str, Any]], results: Path, name: str, version: str, options: dict[str, Any]
) -> Path:
    json.dumps([(verdict["id"], verdict["verdict"], verdict["reason"]) for verdict in verdicts])
    return left(options, name)


@pytest.fixture(scope="module", autouse=True)
def patched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as change:
        for module in (reproduce, status, freeze):
            change.setattr(module, "composed_arms", lambda *asked: arms(Path(PLACE.results)))
        for module in (reproduce, status, freeze, verify, mirror):
            change.setattr(module, "load_claims", lambda *path: REGISTRY)
        for module in (reproduce, freeze):
            change.setattr(module, "check_against", lambda *declared: None)
        change.setattr(reproduce, "launcher", lambda asked: InThisProcess())
        change.setattr(mirror, "WandbRun", Shown)
        change.setattr(Page, "arrange", lambda page, document: None)  # what it holds counts here, not where
        change.setattr(mirror, "show_verdicts", shown_verdicts)
        change.setenv("WANDB_MODE", "offline")
        yield


PLACE = SimpleNamespace(results="")  # of the example at hand
NAMES: list[str] = []  # of the template's runs


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, patched: None) -> Path:
    """A results folder with all there can be: runs that are done, failed, stopped and missing, and their report."""
    results = tmp_path_factory.mktemp("garbage") / "results"
    PLACE.results = results
    reproduce.reproduce(OPTIONS)
    mirrored(results)
    done = sorted(results.glob("runs/tiny/*-s[01]-*"))
    for source, failed in ((done[0], True), (done[-1], False)):
        record = json.loads((source / RESULT).read_text())
        (source / RESULT).unlink()
        folder = RunFolder(source)
        options = schema.at(arms(results)["tiny", record["config"]["norm"]], record["config"]["seed"], None)
        folder.begin({**record, "options": dataclasses.asdict(options)})
        (source / "checkpoint.pt").write_bytes(b"PK")
        (source / "lock").touch()
        if failed:
            folder.fail({"sweep": "s", "attempts": 2, "reason": "why", "log": ["line"]})
    NAMES[:] = [path.name for path in results.glob("runs/*/*")]
    return results


# -------------------------------------------------------------------------------------------------------- garbage

JUNK = st.sampled_from(
    [
        b"",
        b"\0" * 99,
        b"\xff\xfe\x80",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"1e999",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"9" * 5_000,
        b"{" + b'"config": null,' * 9 + b'"config": null}',
        b"a,b\n" * 50,
        b"x" * 200_000,
    ]
)
VALUES = st.sampled_from(
    [
        *(None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf")),
        *("", "text", "../../x", "<b>", "\n", "é\0"),
        *([], {}, [[1]], {"a": {"b": 1}}, [None], {"": 0}),
    ]
)
Change = Callable[[Path, Path], None]  # of a file, given another of the folder


def junk(content: bytes, path: Path, other: Path) -> None:
    path.write_bytes(content)


def cut(share: float, path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flipped(share: float, bit: int, path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(share * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


def swapped(path: Path, other: Path) -> None:
    if other.is_file():
        mine, its = path.read_bytes(), other.read_bytes()
        path.write_bytes(its)
        other.write_bytes(mine)


def doubled(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def is_folder(path: Path, other: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def is_loop(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def is_closed(path: Path, other: Path) -> None:
    path.chmod(0)


def is_gone(path: Path, other: Path) -> None:
    path.unlink()


def folder_is_file(path: Path, other: Path) -> None:
    folder = path.parent
    shutil.rmtree(folder)
    folder.write_bytes(b"a file")


def elsewhere(path: Path, other: Path) -> None:
    """The whole folder once more, under another name."""
    shutil.copytree(path.parent, path.parent.with_name("copy"), symlinks=True, dirs_exist_ok=True)


def mistyped(place: int, value: Any, path: Path, other: Path) -> None:
    """Another value somewhere in the JSON of a file, or in a cell of a table; what has a checksum gets it anew."""
    text = path.read_text(errors="replace")
    if path.suffix == ".csv":
        lines = text.split("\n")
        cells = lines[place % len(lines)].split(",")
        cells[place % len(cells)] = str(value).split("\n")[0][:40]
        lines[place % len(lines)] = ",".join(cells)
        path.write_text("\n".join(lines))
        return
    try:
        plain = json.loads(text)
    except ValueError:
        return
    spots = list(spots_of(plain))
    if spots:
        inside, key = spots[place % len(spots)]
        inside[key] = value
    body = json.dumps(plain, indent=1)
    if path.name == RESULT and isinstance(plain, dict):
        plain.pop("sha256", None)
        body = json.dumps(plain, indent=1)[1:] + "\n"
        body = checksum(body) + body
    path.write_text(body)


def spots_of(plain: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(plain.items() if isinstance(plain, dict) else enumerate(plain)):
        yield plain, key
        if isinstance(value, dict | list):
            yield from spots_of(value)


WRECKS: st.SearchStrategy[Change] = st.one_of(
    st.builds(partial, st.just(junk), JUNK),
    st.builds(partial, st.just(cut), st.floats(0, 1)),
    st.builds(partial, st.just(flipped), st.floats(0, 1), st.integers(0, 7)),
    st.sampled_from([swapped, doubled, is_folder, is_loop, is_closed, is_gone, folder_is_file, elsewhere]),
)
FORGERIES: st.SearchStrategy[Change] = st.builds(partial, st.just(mistyped), st.integers(0, 400), VALUES)


def files_of(results: Path) -> list[Path]:
    """All there are, those whose content is read more often than drawings."""
    every = sorted(path for path in results.rglob("*") if path.is_file())
    return [path.relative_to(results) for path in every for _ in range(1 if path.suffix in (".svg", ".html") else 4)]


# ----------------------------------------------------------------------------------------------------- the commands


def mirrored(results: Path) -> None:
    with places.place(results, online=False) as place:
        mirror.show_all(mirror.Mirror(place), results)


def kept(results: Path) -> None:
    reference = results.parent / "reference"
    with_markers(results.parent)
    try:
        freeze.keep(freeze.recorded(results, REGISTRY, STUDY), reference, Path(), results.parent, STUDY)
    except ValueError as error:
        assert "\n" not in str(error)


def page(results: Path) -> None:
    seen = Page(Document(), results_below(results))
    for experiment in list(seen.results.folders):
        seen.results.look(experiment)
        seen.results.runs(experiment)


def ended_well(command: Callable[[], object]) -> None:
    """Without a traceback: with nothing to say, or in one line."""
    try:
        told_in_one_line(lambda: print(command()))
    except SystemExit as end:
        assert isinstance(end.code, str) and end.code.startswith("error: ") and "\n" not in end.code, end.code


def resumed(results: Path) -> None:
    for name in NAMES:
        ended_well(partial(recorded, str(results), name))


def numbers(results: Path) -> dict[Path, Any]:
    """The record of each run, where it is to be believed."""
    folders = [RunFolder(path) for path in results.glob("runs/*/*")]
    return {folder.path.relative_to(results): folder.record() for folder in folders if folder.state == "done"}


COMMANDS: dict[str, Callable[[Path], None]] = {
    "status": lambda results: status.status(OPTIONS),
    "reproduce": lambda results: reproduce.reproduce(OPTIONS),
    "verify": lambda results: print(verify.verify(results, Path())),
    "freeze": kept,
    "page": page,
    "page of a table": lambda results: page(table_alone(results)),
    "mirror": mirrored,
    "mirror of a table": lambda results: mirrored(table_alone(results)),
    "resume": resumed,
}


def table_alone(results: Path) -> Path:
    shutil.rmtree(results / "runs", ignore_errors=True)
    return results


def walk(template: Path, results: Path, name: str, changes: list[tuple[Change, Path, Path]], *, honest: bool) -> None:
    """Change a copy of the template, and give a command: no run is taken for another, none that is whole for broken."""
    shutil.rmtree(results.parent, ignore_errors=True)
    shutil.copytree(template, results)
    PLACE.results = results
    before, touched = numbers(results), set()
    for change, path, other in changes:
        if (results / path).is_file():
            touched |= {path.parent, *([other.parent] if change is swapped else [])}
            change(results / path, results / other)
    after = numbers(results)
    assert all(after.get(place) == record for place, record in before.items() if not touched & {place, *place.parents})
    if honest:
        assert all(before.get(place) == record for place, record in after.items())
    ended_well(partial(COMMANDS[name], results))


FAST = settings(
    max_examples=EXAMPLES,
    derandomize="GARBAGE" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


def walk_through(data: st.DataObject, template: Path, changes: Any, suffixes: tuple[str, ...], honest: bool) -> None:
    """One command over some changes of some files of a kind."""
    files = st.sampled_from([path for path in files_of(template) if not suffixes or path.suffix in suffixes])
    drawn = data.draw(st.lists(st.tuples(changes, files, files), min_size=1, max_size=4))
    place = template.parent / ("wrecked" if honest else "forged") / "results"
    walk(template, place, data.draw(st.sampled_from(list(COMMANDS))), drawn, honest=honest)


@FAST
@given(data=st.data())
def test_a_wrecked_folder_is_read_without_a_traceback_or_a_wrong_number(data: st.DataObject, template: Path) -> None:
    walk_through(data, template, WRECKS, (), honest=True)


@FAST
@given(data=st.data())
def test_what_only_looks_whole_is_read_without_a_traceback(data: st.DataObject, template: Path) -> None:
    walk_through(data, template, FORGERIES, (".json", ".csv", ".jsonl"), honest=False)
