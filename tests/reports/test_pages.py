"""report.html and the pages of the runs: well-formed, whole in themselves, escaped, and linked with each other."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.records.arm_rows import group_runs
from experiments.records.files import as_typed, flat
from experiments.records.table import Origin, read_table, write_table
from experiments.reports.page import contents, html, marked
from experiments.reports.run_pages import curve_of, run_pages
from experiments.reports.scales import ALARM, FRAME, HUES, INK, OTHERS, SIZE, Scale, on_dark
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdict import Verdict
from experiments.verdicts.verdicts import judge
from tests import invented
from tests.conftest import ORIGIN

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "br", "img", "input", "hr"}
Attributes = dict[str, str | None]
CONFIG: dict[str, Any] = {
    "method": "train",
    "norm": "",
    "batch_size": 16,
    "evaluations": 2,
    "model": {"name": "language_model", "cell": "lstm", "hidden_size": 64, "gain": None, "variant": "paper"},
    "optim": {"name": "adam", "learning_rate": 0.01},
}


class Document(HTMLParser):
    """Every element with its attributes; fails at a tag that is never closed, or closed but not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def with_attribute(self, name: str) -> Iterator[Attributes]:
        return (attributes for _, attributes in self.elements if name in attributes)


@pytest.fixture(scope="module")
def pages(report: Path) -> dict[Path, Document]:
    return {path: Document(path.read_text(encoding="utf-8")) for path in report.rglob("*.html")}


@pytest.fixture(scope="module")
def page(report: Path, pages: dict[Path, Document]) -> Document:
    return pages[report / "report.html"]


def test_ids_are_unique_and_every_link_has_its_target(pages: dict[Path, Document]) -> None:
    ids = {path: Counter(e["id"] for e in document.with_attribute("id")) for path, document in pages.items()}
    assert len(pages) == 5 and all(set(found.values()) == {1} for found in ids.values())
    for path, document in pages.items():
        for element in document.with_attribute("href"):
            file, _, fragment = (element["href"] or "").partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target in pages and (not fragment or fragment in ids[target]), element["href"]


def test_nothing_is_loaded_from_elsewhere_and_on_pages_of_runs_nothing_runs(pages: dict[Path, Document]) -> None:
    for path, document in pages.items():
        text = path.read_text(encoding="utf-8")
        tags = {tag for tag, _ in document.elements}
        assert not list(document.with_attribute("src")) and not {"link", "img", "iframe"} & tags
        assert not any(loaded in text for loaded in ("url(", "@import", "fetch("))
        assert ("script" in tags) == (path.name == "report.html")


def test_what_the_filter_reads_is_there(verdicts: list[Verdict], page: Document) -> None:
    listed = [(e["data-claim"], e["data-verdict"], e["data-said"]) for e in page.with_attribute("data-claim")]
    assert sorted(listed) == sorted((v.id, v.verdict, v.said_by) for v in verdicts)
    assert {claim for claim, _, _ in listed} <= {element["id"] for element in page.with_attribute("id")}
    offered = {(e["data-key"], e["data-value"]) for e in page.with_attribute("data-key")}
    assert offered == {("verdict", v.verdict) for v in verdicts} | {("said", v.said_by) for v in verdicts}


def test_every_drawing_says_what_it_shows_and_every_table_has_headings(page: Document) -> None:
    tags = Counter(tag for tag, _ in page.elements)
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawings) >= tags["figure"] > 0 and tags["figcaption"] == tags["figure"]
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert tags["table"] == tags["thead"] and tags["h1"] == 1


def test_every_run_is_listed_once_on_the_page_of_its_experiment_and_behind_its_claims(
    rows: list[dict[str, Any]], verdicts: list[Verdict], pages: dict[Path, Document], page: Document
) -> None:
    every = [(path.stem, tag, found) for path, d in pages.items() for tag, found in d.elements if "id" in found]
    listed = Counter((name, found["id"]) for name, tag, found in every if tag == "tr")
    assert listed == Counter((row["experiment"], row["run"]) for row in rows)
    words = " ".join(page.words)
    assert all(run in words for verdict in verdicts for run in verdict.runs)


def made(registry: Registry, rows: list[dict[str, Any]]) -> str:
    return html(contents(registry, group_runs(rows), judge(registry, rows), ORIGIN, {}))


def test_whatever_a_claim_says_is_text(registry: Registry, rows: list[dict[str, Any]]) -> None:
    nasty = '<script>alert("1 & 2")</script>'
    claims = tuple(replace(claim, statement=nasty, expected=nasty) for claim in registry.claims)
    text = made(replace(registry, claims=claims), rows)
    assert nasty not in text and "alert(&#34;1 &amp; 2&#34;)" in text
    Document(text)


def test_a_page_without_runs_is_a_page(registry: Registry) -> None:
    document = Document(made(registry, []))
    assert sum(attributes.get("data-verdict") == "incomplete" for _, attributes in document.elements) == 7
    assert not any(tag == "svg" for tag, _ in document.elements)


def test_a_figure_leads_to_the_arms_it_draws(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    claim = text.split('<section id="G1-better"')[1].split("</section>")[0]
    tuned = '<a href="evidence/language.html#{0}-tune">{0}</a> (6)'
    measured = '<a href="evidence/language.html#{0}">{0}</a> (8)'
    curves, differences, tuning = (part.split("</figcaption>")[0] for part in claim.split("<figcaption>")[1:])
    for caption, link in ((curves, measured), (differences, measured), (tuning, tuned)):
        assert caption.endswith(f"Runs: {link.format('layer')}, {link.format('none')}</span>")


def page_of(*rows: dict[str, Any]) -> str:
    registry = Registry(0.05, invented.SEEDS, (invented.claim(),))
    return run_pages(registry, group_runs(rows), judge(registry, rows), ORIGIN)["lm.html"]


def test_the_command_of_an_experiment_of_ones_own_names_its_folder() -> None:
    rows = [invented.row("layer", seed, 1.0, config=CONFIG | {"norm": "layer", "seed": seed}) for seed in (0, 1)]
    origin = Origin("make reproduce", own={"CLAIMS": "of mine/my.yaml", "CONFIGS": "of mine"})
    page = run_pages(Registry(0.05, 2, ()), group_runs(rows), [], origin)["lm.html"]
    assert "layernorm run -m --config-dir &#39;of mine&#39; experiment=lm " in page
    assert '<a href="../report.html">my: what the evidence says</a>' in page


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
    command = "layernorm run -m experiment=lm norm=none model.cell=lstm &#39;seed=range(0,3)&#39;</code>"
    assert command in text and "norm=layer model.cell=lstm model.variant=paper" in text


def test_the_command_of_a_replication_tunes_on_its_seeds() -> None:
    config = CONFIG | {"norm": "layer"}
    rows = [invented.row("layer", seed, 1.0, config=config | {"seed": seed}) for seed in range(100, 103)]
    tuning = [row | {"role": "tune", "run": f"t{row['run']}", "seed": row["seed"] + 1000} for row in rows]
    command = "first_seed=100 norm=layer model.cell=lstm model.variant=paper &#39;seed=range(100,103)&#39;</code>"
    assert command in page_of(*rows, *tuning)
    assert "first_seed" not in page_of(*rows)  # of what has a rate


def test_rows_of_records_and_rows_of_the_table_make_the_same_page(tmp_path: Path) -> None:
    config = CONFIG | {"norm": "layer", "optim": {"learning_rate": 0.01, "name": "adam"}}
    history = [{"update": update, "validation_loss": 2.0 / update} for update in (1, 2)]
    final = {"test_loss": 2.0, "mean_validation_loss": 1.5, "validation_loss": 1.0, "validation_error": 0.5}
    timing = {"wall_seconds": 2.0, "cpu_seconds": 1.0, "seconds_per_update": 0.5}
    made = {"history": history, "final": final, "timing": timing}
    runs = [invented.row("layer", seed, 0.0, config=config | {"seed": seed}, **made) for seed in range(3)]
    runs += [row | {"role": "tune", "arm": "tuned", "run": f"tuned-{row['run']}"} for row in runs]
    write_table(runs, tmp_path, ORIGIN)
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


def test_the_commands_of_our_own_runs_have_all_that_makes_their_arms() -> None:
    rows, _ = read_table(ROOT / "results" / "reference" / "laptop")
    pages = run_pages(Registry(0.05, 12, ()), group_runs(rows), [], ORIGIN)
    for experiment in sorted({row["experiment"] for row in rows}):
        arms = yaml.safe_load((ROOT / f"configs/experiment/{experiment}.yaml").read_text())["arms"]
        sections = pages[f"{experiment}.html"].split('<section id="')[1:]
        commands = {part.split('"')[0]: part.split('class="command">')[1].split("</code>")[0] for part in sections}
        assert commands.keys() == arms.keys()
        for arm, command in commands.items():
            words = shlex.split(command.replace("&#39;", "'"))
            given = dict(word.split("=", 1) for word in words if "=" in word)
            for key, value in flat(arms[arm]).items():
                assert given[key] == as_typed(value) or float(given[key]) == float(value), f"{experiment}/{arm}"


def test_marks_of_markdown() -> None:
    assert marked("**a** `b<c` & d") == "<strong>a</strong> <code>b&lt;c</code> &amp; d"


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [*HUES.values(), *OTHERS, INK, FRAME, ALARM, SIZE])
def test_colours_can_be_told_from_a_dark_ground(colour: str) -> None:
    assert (luminance(on_dark(colour)) + 0.05) / (luminance("#14171b") + 0.05) > 3  # WCAG 1.4.11
