"""The pages of the runs: whole, each run once, and all links between them and the report lead somewhere."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.records.rows import group_runs
from experiments.records.table import read_table, write_table
from experiments.reports.run_pages import curve_of, differing, plain, run_pages
from experiments.reports.scales import Scale
from experiments.reports.write import write_report
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import judge
from tests import invented
from tests.reports.test_page import Document

ROOT = Path(__file__).parent.parent
CONFIG: dict[str, Any] = {
    "method": "train",
    "norm": "",
    "batch_size": 16,
    "evaluations": 2,
    "model": {"name": "language_model", "cell": "lstm", "hidden_size": 64, "gain": None, "variant": "paper"},
    "optim": {"name": "adam", "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def folder(registry: Registry, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report")
    write_report(registry, rows, judge(registry, rows), target, "make reproduce")
    return target


@pytest.fixture(scope="module")
def documents(folder: Path) -> dict[Path, Document]:
    return {path: Document(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_every_link_has_its_target(folder: Path, documents: dict[Path, Document]) -> None:
    ids = {path: Counter(e["id"] for e in document.with_attribute("id")) for path, document in documents.items()}
    assert len(documents) == 5 and all(set(found.values()) == {1} for found in ids.values())
    for path, document in documents.items():
        for element in document.with_attribute("href"):
            file, _, fragment = (element["href"] or "").partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target in documents and (not fragment or fragment in ids[target]), element["href"]


def test_every_run_is_listed_once_on_the_page_of_its_experiment(
    rows: list[dict[str, Any]], documents: dict[Path, Document]
) -> None:
    listed = Counter(
        (path.stem, attributes["id"])
        for path, d in documents.items()
        for t, attributes in d.elements
        if t == "tr" and "id" in attributes
    )
    assert listed == Counter((row["experiment"], row["run"]) for row in rows)


def test_nothing_is_loaded_and_nothing_runs(documents: dict[Path, Document]) -> None:
    for path, document in documents.items():
        if path.name != "report.html":
            assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in document.elements}


def test_a_figure_leads_to_the_arms_it_draws(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    claim = text.split('<section id="G1-better"')[1].split("</section>")[0]
    tuned = '<a href="evidence/language.html#{0}-tune">{0}</a> (6)'
    measured = '<a href="evidence/language.html#{0}">{0}</a> (8)'
    curves, differences, tuning = (part.split("</figcaption>")[0] for part in claim.split("<figcaption>")[1:])
    for caption, link in ((curves, measured), (differences, measured), (tuning, tuned)):
        assert caption.endswith(f"Runs: {link.format('layer')}, {link.format('none')}</span>")


def page_of(*rows: dict[str, Any]) -> str:
    registry = Registry(0.05, invented.SEEDS, (invented.claim(),))
    return run_pages(registry, group_runs(rows), judge(registry, rows))["lm.html"]


def test_what_arms_differ_in_stands_out_and_makes_the_command() -> None:
    layer, none = (CONFIG | {"norm": norm} for norm in ("layer", "none"))
    group = CONFIG | {"norm": "group", "model": CONFIG["model"] | {"groups": 4}}
    runs = [
        invented.row(config["norm"], seed, 1.0, config=config | {"seed": seed})
        for config in (layer, none, group)
        for seed in range(3)
    ]
    text = page_of(*runs)
    assert "<dt>run</dt><dd><code>method=train</code> <code>batch_size=16</code>" in text
    assert "gain" not in text  # does nothing
    own = [part.split("</p>")[0] for part in text.split('<p class="own">')[1:]]
    assert own == [
        "<code>norm=group</code> <code>model.groups=4</code> ",
        "<code>norm=layer</code> ",
        "<code>norm=none</code> ",
    ]
    command = "python -m experiments.run -m experiment=lm norm=none model.cell=lstm &#39;seed=range(0,3)&#39;</code>"
    assert command in text and "norm=layer model.cell=lstm model.variant=paper" in text


def test_rows_of_records_and_rows_of_the_table_make_the_same_page(tmp_path: Path) -> None:
    config = CONFIG | {"norm": "layer", "optim": {"learning_rate": 0.01, "name": "adam"}}
    history = [{"update": update, "validation_loss": 2.0 / update} for update in (1, 2)]
    final = {"test_loss": 2.0, "mean_validation_loss": 1.5, "validation_loss": 1.0, "validation_error": 0.5}
    timing = {"wall_seconds": 2.0, "cpu_seconds": 1.0, "seconds_per_update": 0.5}
    made = {"history": history, "final": final, "timing": timing}
    runs = [invented.row("layer", seed, 0.0, config=config | {"seed": seed}, **made) for seed in range(3)]
    runs += [row | {"role": "tune", "arm": "tuned", "run": f"tuned-{row['run']}"} for row in runs]
    write_table(runs, tmp_path, "make reproduce")
    text = page_of(*runs)
    assert text == page_of(*read_table(tmp_path)[0]) and "learning_rate=0.01" in text


def test_an_arm_leads_back_to_the_claims_that_rest_on_it() -> None:
    text = page_of(*invented.arms(invented.spread(1.0), invented.spread(2.0)), invented.row("batch", 0, 1.0))
    batch, layer, none = text.split('<section id="')[1:]
    assert '<a href="../report.html#c">c</a>' in layer and '<a href="../report.html#c">c</a>' in none
    assert "Claims" not in batch and "supported" in layer


def test_what_diverged_is_told_and_the_chosen_rate_marked() -> None:
    losses: dict[float, float | None] = {0.01: 2.0, 0.03: 1.0, 0.1: None}
    text = page_of(*invented.tuning("layer", losses))
    assert text.count('class="chosen"') == 2 and "learning rate chosen by validation loss: 0.03" in text
    text = page_of(invented.row("layer", 0, None, status="diverged"))
    assert '<td class="failed">diverged</td>' in text


def test_a_curve_has_gaps_where_the_loss_is_not_finite() -> None:
    history = [
        {"update": update, "validation_loss": loss} for update, loss in ((1, 3.0), (2, None), (3, 2.0), (4, 1.0))
    ]
    drawn = curve_of(invented.row("layer", 0, 1.0, history=history), Scale(1.0, 3.0))
    assert 'd="M28 0.0M82 11.0L110 22.0"' in drawn and "from 3.00 to 1.00" in drawn
    assert not curve_of(invented.row("layer", 0, 1.0, history=history[:1]), Scale(1.0, 3.0))


def test_the_norm_always_counts_as_what_arms_differ_in() -> None:
    assert differing([{"norm": "layer", "updates": 3}]) == ["norm"]
    assert differing([{"norm": "layer", "updates": 3}, {"norm": "layer"}]) == ["norm", "updates"]
    assert [plain(value) for value in (True, None, 0.5, [1, 2], "a")] == ["true", "null", "0.5", "[1, 2]", "a"]


def test_the_commands_of_our_own_runs_have_all_that_makes_their_arms() -> None:
    rows, _ = read_table(ROOT / "results" / "reference")
    pages = run_pages(Registry(0.05, 12, ()), group_runs(rows), [])
    for experiment in sorted({row["experiment"] for row in rows}):
        arms = yaml.safe_load((ROOT / f"configs/experiment/{experiment}.yaml").read_text())["arms"]
        sections = pages[f"{experiment}.html"].split('<section id="')[1:]
        commands = {part.split('"')[0]: part.split('class="command">')[1].split("</code>")[0] for part in sections}
        assert commands.keys() == arms.keys()
        for arm, command in commands.items():
            words = shlex.split(command.replace("&#39;", "'"))
            given = dict(word.split("=", 1) for word in words if "=" in word)
            for key, value in (override.split("=") for override in arms[arm].split()):
                assert given[key] == value or float(given[key]) == float(value), f"{experiment}/{arm}"
