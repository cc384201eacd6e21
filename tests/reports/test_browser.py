"""The page in a real browser. Skipped where no Chromium is installed, unless REQUIRE_BROWSER=1 is set."""

from pathlib import Path

import pytest

from scripts.browser import Browser


@pytest.fixture(scope="module")
def address(report: Path) -> str:
    return (report / "report.html").as_uri()


ROWS = "[...document.querySelectorAll('tr[data-claim]')].filter((row) => row.checkVisibility())"
SHOWN = f"{ROWS}.map((row) => row.dataset.claim.slice(0, 2)).sort()"
SECTIONS = "[...document.querySelectorAll('.claim')].filter((c) => c.checkVisibility()).map((c) => c.id.slice(0, 2))"
PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
ALL = ["G1", "G2", "G3", "G4", "G5", "G6", "G7"]


def press(browser: Browser, value: str) -> None:
    browser.run(f"document.querySelector('[data-value=\"{value}\"]').click()")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_the_page_is_whole_at_any_width(browser: Browser, address: str, width: int, dark: bool) -> None:
    browser.open(address, width, dark)
    browser.run(PAINTED)
    assert browser.run("document.documentElement.scrollWidth") <= browser.run("innerWidth") == width
    sizes = browser.run("""[...document.querySelectorAll('figure svg')].map((svg) => {
        const box = svg.getBoundingClientRect(), drawn = svg.getBBox();
        return [box.width, box.height, drawn.width, drawn.height];
    })""")
    assert len(sizes) > 10 and all(min(size) > 20 for size in sizes)
    smallest = "Math.min(...[...document.querySelectorAll('figure text')].map((t) => t.getBoundingClientRect().height))"
    assert browser.run(smallest) > 10
    width_of = "(svg) => svg.getBoundingClientRect().width"
    strips = browser.run(f"[...document.querySelectorAll('.finding svg')].map({width_of})")
    assert strips and min(strips) > 100
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark
    assert browser.complaints() == []


def test_a_figure_leads_to_its_runs_and_they_lead_back(browser: Browser, address: str) -> None:
    browser.open(address)
    link = browser.run("document.querySelector('#G1-better figcaption a[href$=\"-tune\"]').href")
    browser.open(link, width=390, dark=True)
    assert link.endswith("evidence/language.html#layer-tune")
    assert abs(browser.run("document.getElementById('layer-tune').getBoundingClientRect().top")) < 40
    assert browser.run("document.documentElement.scrollWidth") <= 390
    sizes = browser.run("""[...document.querySelectorAll('#layer .curve')].map((curve) => {
        return [curve.getBoundingClientRect().width, curve.getBBox().width];
    })""")
    assert len(sizes) == 8 and all(min(size) > 20 for size in sizes)
    assert browser.run("document.querySelector('#layer .claims a').href") == f"{address}#G1-better"
    assert browser.complaints() == []


def test_text_of_figures_stays_inside_them_and_apart(browser: Browser, address: str) -> None:
    browser.open(address, 390)
    clashes = browser.run("""[...document.querySelectorAll('figure svg')].flatMap((svg) => {
        const frame = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
        const shared = (a, b) => [
            Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
        ];
        const inside = ([_, box]) => shared(box, frame)[0] > box.width - 1 && shared(box, frame)[1] > box.height - 1;
        const on = (a, b) => a !== b && shared(a[1], b[1])[0] > 1 && shared(a[1], b[1])[1] > 4;
        return texts.filter((text) => !inside(text) || texts.some((other) => on(text, other))).map(([name]) => name);
    })""")
    assert clashes == []


def test_the_filter_shows_what_is_asked_for_and_keeps_it_in_the_address(browser: Browser, address: str) -> None:
    browser.open(address)
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ALL
    press(browser, "contradicted")
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ["G2"]
    assert browser.run("location.hash") == "#verdict=contradicted"
    assert browser.run("document.querySelector('[data-value=\"contradicted\"]').ariaPressed") == "true"
    assert browser.run("document.getElementById('shown').textContent") == "1 of 7 claims"
    press(browser, "supported")
    assert browser.run(SHOWN) == ["G1", "G2", "G5", "G7"]
    press(browser, "paper")
    assert browser.run(SHOWN) == ["G7"]
    assert browser.run("location.hash") == "#verdict=contradicted&verdict=supported&said=paper"
    back = (
        "new Promise((done) => { addEventListener('popstate', () => setTimeout(done), {once: true}); history.back() })"
    )
    browser.run(back)
    assert browser.run(SHOWN) == ["G1", "G2", "G5", "G7"]
    press(browser, "supported")
    press(browser, "contradicted")
    assert (browser.run(SHOWN), browser.run("location.hash")) == (ALL, "")
    assert browser.complaints() == []


def test_a_shared_address_opens_filtered_and_a_link_leads_to_its_claim(browser: Browser, address: str) -> None:
    browser.open(f"{address}#verdict=supported&words=LAYER+norm")
    assert browser.run(SHOWN) == ["G1", "G7"]
    assert browser.run("document.getElementById('words').value") == "LAYER norm"
    browser.run("document.querySelector('form').reset()")
    assert (browser.run(SHOWN), browser.run("location.hash")) == (ALL, "")
    browser.open(f"{address}#G4-edge")
    assert browser.run(SHOWN) == ALL
    assert abs(browser.run("document.getElementById('G4-edge').getBoundingClientRect().top")) < 40


def test_words_can_be_searched(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.run("document.getElementById('words').focus()")
    browser.call("Input.insertText", text="high DIVERGES")
    assert browser.run(SHOWN) == browser.run(SECTIONS) == ["G5"]
    assert browser.run("location.hash") == "#words=high+DIVERGES"
    browser.call("Input.insertText", text=" nowhere")
    assert browser.run(SHOWN) == []
    assert browser.run("document.getElementById('shown').textContent") == "0 of 7 claims"
