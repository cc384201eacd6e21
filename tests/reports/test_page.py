"""The page as HTML: well-formed, whole in itself, escaped, and with what its filter reads."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from experiments.records.rows import Runs, group_runs
from experiments.reports.claim_figures import claim_pictures
from experiments.reports.page import marked, page
from experiments.reports.scales import ALARM, FRAME, HUES, INK, OTHERS, SIZE, on_dark
from experiments.reports.sentences import trained_arms
from experiments.reports.series_figures import series_pictures
from experiments.verdicts.claims import Registry
from experiments.verdicts.verdicts import Verdict, judge

VOID = {"meta", "link", "br", "img", "input", "hr"}
Attributes = dict[str, str | None]


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


def pictures(registry: Registry, verdicts: list[Verdict], runs: Runs) -> dict[str, Any]:
    claims = {claim.id: claim for claim in registry.family}
    drawn: dict[str, Any] = {verdict.id: claim_pictures(claims[verdict.id], verdict, runs) for verdict in verdicts}
    return drawn | {name: series_pictures(arms) for name, arms in trained_arms(runs).items()}


def made(registry: Registry, rows: list[dict[str, Any]]) -> str:
    runs, verdicts = group_runs(rows), judge(registry, rows)
    return page(registry, runs, verdicts, "make reproduce", pictures(registry, verdicts, runs))


@pytest.fixture(scope="module")
def text(registry: Registry, rows: list[dict[str, Any]]) -> str:
    return made(registry, rows)


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)


def test_ids_are_unique_and_every_internal_link_has_its_target(document: Document) -> None:
    ids = Counter(element["id"] for element in document.with_attribute("id"))
    assert set(ids.values()) == {1}
    links = [element["href"] or "" for element in document.with_attribute("href")]
    assert links and all(link[1:] in ids for link in links if not link.startswith("evidence/"))  # see test_run_pages.py


def test_nothing_is_loaded_from_elsewhere(text: str, document: Document) -> None:
    assert not list(document.with_attribute("src")) and not {"link", "img", "iframe"} & {
        t for t, _ in document.elements
    }
    assert "url(" not in text and "@import" not in text and "fetch(" not in text


def test_what_the_filter_reads_is_there(registry: Registry, rows: list[dict[str, Any]], document: Document) -> None:
    ids = {element["id"] for element in document.with_attribute("id")}
    listed = [(e["data-claim"], e["data-verdict"], e["data-source"]) for e in document.with_attribute("data-claim")]
    verdicts = judge(registry, rows)
    assert listed == [(v.id, v.verdict, v.source) for v in verdicts]
    assert {claim for claim, _, _ in listed} <= ids
    offered = {(e["data-key"], e["data-value"]) for e in document.with_attribute("data-key")}
    assert offered == {("verdict", v.verdict) for v in verdicts} | {("source", v.source) for v in verdicts}


def test_every_drawing_says_what_it_shows_and_every_table_has_headings(document: Document) -> None:
    tags = Counter(tag for tag, _ in document.elements)
    drawings = [attributes for tag, attributes in document.elements if tag == "svg"]
    assert len(drawings) >= tags["figure"] > 0 and tags["figcaption"] == tags["figure"]
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert tags["table"] == tags["thead"] and tags["h1"] == 1


def test_every_number_leads_to_its_runs(registry: Registry, rows: list[dict[str, Any]], document: Document) -> None:
    words = " ".join(document.words)
    assert all(run in words for verdict in judge(registry, rows) for run in verdict.runs)


def test_whatever_a_claim_says_is_text(registry: Registry, rows: list[dict[str, Any]]) -> None:
    nasty = '<script>alert("1 & 2")</script>'
    claims = tuple(replace(claim, statement=nasty, expected=nasty) for claim in registry.claims)
    changed = replace(registry, claims=claims)
    text = made(changed, rows)
    assert nasty not in text and "alert(&#34;1 &amp; 2&#34;)" in text
    Document(text)


def test_a_page_without_runs_is_a_page(registry: Registry) -> None:
    document = Document(made(registry, []))
    assert sum(attributes.get("data-verdict") == "incomplete" for _, attributes in document.elements) == 7
    assert not any(tag == "svg" for tag, _ in document.elements)


def test_marks_of_markdown() -> None:
    assert marked("**a** `b<c` & d") == "<strong>a</strong> <code>b&lt;c</code> &amp; d"


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [*HUES.values(), *OTHERS, INK, FRAME, ALARM, SIZE])
def test_colours_can_be_told_from_a_dark_ground(colour: str) -> None:
    assert (luminance(on_dark(colour)) + 0.05) / (luminance("#14171b") + 0.05) > 3  # WCAG 1.4.11
