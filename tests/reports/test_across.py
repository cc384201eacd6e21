"""Studies side by side: every sentence, every claim once, and what a replication moved."""

from pathlib import Path

from experiments.records.studies import studies
from experiments.reports.across import PAGE, write_across
from experiments.verdicts.claims import Registry, Sentence
from experiments.verdicts.verdict import Verdict
from tests.invented import SEEDS, arms, claim, spread, verdict

SAID = (
    Sentence("B4.1", "note", "note B", "You cannot."),
    Sentence("6.4", "paper", "section 6.4", "twice as fast", "Figure 4, two curves.", "not built here."),
)
CLAIMS = (claim(id="better", says=("B4.1",)), claim(id="suites", said_by="suite", metric="validation_loss"))


def found(first_seed: int, *ends: float) -> list[Verdict]:
    """Of a study whose layer arms end at these losses, against 1."""
    made = []
    for one, end in zip(CLAIMS, ends, strict=True):
        rows = arms(spread(end), [1.0] * SEEDS)
        for row in rows:
            row["seed"] += first_seed
        made.append(verdict(rows, one))
    return made


def test_what_the_studies_say_stands_by_sentence_and_a_replication_by_what_it_moved(tmp_path: Path) -> None:
    registry = Registry(0.05, SEEDS, CLAIMS, sentences=SAID)
    together = {"evening": found(0, 0.9, 0.9), "laptop": found(0, 1.0, 0.9)[:1], "evening-100": found(100, 1.1, 0.8)}
    write_across(registry, together, [], tmp_path)
    page = (tmp_path / PAGE).read_text()
    said, later = page.partition("### 6.4")[::2]
    assert "> You cannot. (note B)" in said and "| claim | evening | laptop | evening-100 |" in said
    line = next(line for line in said.splitlines() if line.startswith("| better: s"))
    assert [cell.split("]")[0].split(" [")[-1] for cell in line.split("|")[2:5]] == [
        "✔ supported",
        "≈ equivalent",
        "✘ contradicted",
    ]
    assert "In the paper: Figure 4, two curves.\n\nNot tested: not built here." in later
    assert "| claim | evening | evening-100 |" in later and "| suites: s" in later  # the laptop has no run of it
    assert "of 2 tests 1 have the same verdict, 0 moved and 1 changed sides. Of 2 effects" in " ".join(later.split())
    assert "0 of 2 whose arms all got the same learning rate again, 0 of 0 where" in " ".join(later.split())
    moved = later.partition("Those that moved:")[2].partition("##")[0]
    assert "| better |" in moved and "suites" not in moved


def test_a_scale_that_asks_some_claims_alone_has_a_table_of_its_own(tmp_path: Path) -> None:
    registry = Registry(0.05, SEEDS, CLAIMS, sentences=SAID, only={"wide": ("better",)})
    write_across(registry, {"evening": found(0, 0.9, 0.9), "laptop": [], "wide": found(0, 1.1, 0.9)[:1]}, [], tmp_path)
    said, _, wider = (tmp_path / PAGE).read_text().partition("## Of other nets")
    assert (
        "wide" not in said
        and "| laptop" not in said
        and "| claim | evening | wide |" in wider
        and "suites" not in wider
    )
    cells = next(line for line in wider.splitlines() if line.startswith("| better: s")).split("|")
    assert "supported" in cells[2] and "contradicted" in cells[3]


def test_a_scale_with_claims_of_its_own_stands_among_the_others(tmp_path: Path) -> None:
    """Also where it asks some of theirs again."""
    own = (CLAIMS[0], claim(id="own", asked_at="apart", says=("6.4",), metric="validation_loss"))
    registry = Registry(0.05, SEEDS, own, sentences=SAID, only={"apart": ("better",)})
    write_across(registry, {"evening": found(0, 0.9, 0.9)[:1], "apart": found(0, 1.1, 0.9)[:1]}, [], tmp_path)
    said = (tmp_path / PAGE).read_text()
    assert "| claim | evening | apart |" in said and "Of other nets" not in said


def test_longer_studies_come_first_and_replications_last(tmp_path: Path) -> None:
    for name in ("laptop", "evening-100", "mine", "evening", ".evening.draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "configs.json").touch()
    assert [study.name for study in studies(tmp_path)] == ["evening", "laptop", "mine", "evening-100"]
