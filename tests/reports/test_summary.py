"""What is told first follows from the verdicts, whichever way they fall, and leaves no sentence out."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from experiments.reports.marked_pages import README, VERDICTS, overview, replace_marked, update_pages
from experiments.reports.strips import effects_picture, places, strip
from experiments.reports.summary import groups, in_words, summary
from experiments.reports.tables import alike, markdown_table
from experiments.verdicts.claims import ClaimError, Registry
from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.verdict import Verdict
from tests.conftest import GOLDEN, with_markers


def test_every_sentence_with_a_claim_is_in_one_finding() -> None:
    registry = load_claims()
    found = [said for finding in registry.findings for said in finding.sentences]
    assert sorted(found) == sorted(sentence.id for sentence in registry.sentences if registry.on(sentence))
    assert sum(finding.first for finding in registry.findings) == 8


def test_findings_have_words_for_either_sign() -> None:
    claims = {claim.id: claim for claim in load_claims().claims}
    for finding in load_claims().findings:
        if finding.claim and claims[finding.claim].scale == "raw" and "{value}" not in finding.found:
            assert finding.found.count("|") == 1, finding.topic


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": ["B4.9"]}, r"summary.yaml: Bits: sentence 'B4.9' is unknown; did you mean 'B4.5' or"),
        ({"claim": "G3-same-loss"}, "Bits: claim 'G3-same-loss' is unknown; valid: G1-better"),
        ({"found": "It is so."}, "found: 'It is so.' should tell effect or ratio or value in braces"),
        ({"found": "{effekt} so."}, "should tell effect or ratio or value in braces"),
    ],
)
def test_a_mistake_in_a_finding_is_one_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    first, *_ = yaml.safe_load((GOLDEN / "summary.yaml").read_text())
    (tmp_path / "summary.yaml").write_text(yaml.safe_dump([first | change]))
    (tmp_path / "claims.yaml").write_text((GOLDEN / "claims.yaml").read_text())
    with pytest.raises(ClaimError, match=message) as told:
        load_claims(tmp_path / "claims.yaml")
    assert "\n" not in str(told.value)


def test_a_number_is_told_with_the_word_for_its_sign(registry: Registry, verdicts: list[Verdict]) -> None:
    finding, claim = registry.findings[0], registry.claims[0]
    verdict = next(verdict for verdict in verdicts if verdict.id == claim.id)
    below = replace(verdict, estimate=-0.5, interval=(-0.75, 0.25))
    assert in_words(finding, claim, below) == "Layer norm ends 0.500 bits/character [-0.250, 0.750] below no norm."
    above = replace(verdict, estimate=0.5, interval=(-0.25, 0.75))
    assert in_words(finding, claim, above) == "Layer norm ends 0.500 bits/character [-0.250, 0.750] above no norm."
    against = replace(claim, weights=(1.0,), labels=("layer",), against=3.0)
    value = replace(finding, found="It comes to {value}.")
    assert in_words(value, against, below) == "It comes to 2.50 bits/character [2.25, 3.25]."


def test_a_summary_has_what_was_answered(registry: Registry, verdicts: list[Verdict]) -> None:
    lines = {line.finding.topic: line for line in summary(registry, verdicts)}
    assert list(lines) == [
        "Bits",
        "Twice the data",
        "High rates",
        "Invariance",
    ], "not those of runs that are missing"
    assert lines["Invariance"].text == "1 of 1 hold." and lines["Invariance"].outcome == "supported"
    assert lines["Twice the data"].text.startswith("With twice the data the loss is 0.990 [")
    assert lines["High rates"].text == "Without a norm a high learning rate diverges. -∞."
    broken = [replace(v, verdict="contradicted") if v.kind == "bound" else v for v in verdicts]
    assert {line.finding.topic: line.outcome for line in summary(registry, broken)}["Invariance"] == "contradicted"


def test_every_verdict_is_in_one_group(registry: Registry, verdicts: list[Verdict]) -> None:
    found = groups(registry, verdicts)
    assert sorted(v.id for of_topic in found.values() for v in of_topic) == sorted(v.id for v in verdicts)
    assert [v.id for v in found["What later literature adds"]] == ["G2-batch-better"]


def test_strips_turn_what_is_claimed_to_the_right(registry: Registry, verdicts: list[Verdict]) -> None:
    claim, verdict = registry.claims[0], verdicts[0]  # less is claimed, and was found
    assert min(places(claim, verdict)) > 1
    assert max(places(replace(claim, direction="greater"), verdict)) < -1
    assert not places(replace(claim, margin=0.0), verdict), "no effect is the smallest that counts"
    assert places(claim, replace(verdict, estimate=-claim.margin, interval=None)) == [pytest.approx(0.8814, abs=1e-4)]
    infinite = next(v for v in verdicts if v.id == "G5-diverges")
    assert strip(registry.claims[4], infinite) is None
    lines = [line for line in summary(registry, verdicts) if line.finding.topic == "Bits"]
    drawn = effects_picture(lines, {claim.id: claim}, "summary")
    assert "Bits: -0.292 bits/character [-0.320, -0.264], supported" in drawn.gist


def test_seeds_alike_are_counted(verdicts: list[Verdict]) -> None:
    found = {verdict.id: alike(verdict) for verdict in verdicts}
    assert found["G1-better"] == "8 of 8" and found["G5-diverges"] == "-" and found["G6-missing"] == "-"
    one = replace(verdicts[0], differences=(-0.1, 0.1, -0.2), estimate=-0.07)
    assert alike(one) == "2 of 3"
    assert alike(replace(one, verdict="equivalent", margin=0.15)) == "2 of 3"


def test_the_overview_tells_first_what_does_not_hold(registry: Registry, verdicts: list[Verdict]) -> None:
    notable, every = overview(verdicts, registry.places, "report.md").split("## All")
    assert notable.count("](report.md#") == sum(verdict.verdict != "supported" for verdict in verdicts)
    assert markdown_table(verdicts, registry.places, "report.md") in every


def test_pages_get_what_stands_between_their_markers_from_claims_json_alone(registry: Registry, tmp_path: Path) -> None:
    with_markers(tmp_path)
    found = {"laptop": read_verdicts(GOLDEN / "claims.json")}
    for _ in range(2):  # again changes nothing
        update_pages(tmp_path, registry, found, "laptop")
        readme, verdicts = ((tmp_path / page).read_text(encoding="utf-8") for page in (README, VERDICTS))
        assert readme.startswith("<!-- summary:begin -->\n- ✔ [Bits](results/reference/laptop/report.md#g1-better): ")
        assert "\n- ✔ [Invariance](results/reference/laptop/report.md#g7-invariant): 1 of 1 hold. (1 ✔)\n" in readme
        assert readme.count("\n- ") == 2, "those told first alone"
        assert readme.count("said by") == 1 and verdicts.count("## All 7\n") == 1
    assert "[G1-better](../results/reference/laptop/report.md#g1-better)" in verdicts


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "README.md does not exist"),
        ("no markers", "README.md: the markers <!-- counts:begin --> and <!-- counts:end --> are missing"),
        ("<!-- counts:begin -->", "README.md: the markers"),
    ],
)
def test_a_page_without_markers_is_left_alone(page: str | None, message: str, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    if page is not None:
        readme.write_text(page)
    with pytest.raises(ValueError, match=message):
        replace_marked(readme, "counts", "new")
    assert not readme.exists() or readme.read_text() == page
