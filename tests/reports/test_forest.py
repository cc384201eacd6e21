"""Effects beside those of others: each on one scale, in the direction of its claim."""

import math

import pytest

from experiments.reports.forest import Published, entries, forest, published, relative
from experiments.verdicts.claims import ClaimError, Registry
from experiments.verdicts.claims_file import load_claims
from tests.invented import SEEDS, arms, claim, spread, verdict


def test_a_difference_is_drawn_as_the_share_of_its_control_a_ratio_as_it_is() -> None:
    rows = arms(spread(1.8), [2.0] * SEEDS)
    plain, logged = claim(), claim(scale="log")
    turned = claim(labels=("none", "layer"), weights=(-1.0, 1.0))
    for one in (plain, turned, logged):
        found = relative(one, verdict(rows, one))
        assert found is not None and found[0] == pytest.approx(math.log(0.9), abs=2e-4)
        assert found[1] < found[0] < found[2]


def test_what_has_no_ratio_or_no_interval_is_not_drawn() -> None:
    four = claim(labels=("layer", "none", "x/layer", "x/none"), weights=(1.0, -1.0, -1.0, 1.0))
    rows = arms(spread(1.8), [2.0] * SEEDS)
    both = rows + arms(spread(1.0), [2.0] * SEEDS, experiment="x")
    assert relative(four, verdict(both, four)) is None
    assert relative(claim(), verdict(rows[:3])) is None
    assert relative(claim(), verdict(arms([None] * SEEDS, [1.0] * SEEDS))) is None


def test_every_study_has_its_row_and_small_and_large_effects_their_own_picture() -> None:
    registry = Registry(0.05, SEEDS, (claim(id="small"), claim(id="large")))
    near, far = (
        verdict(arms(spread(at), [2.0] * SEEDS), claim(id=name)) for at, name in ((1.9, "small"), (0.9, "large"))
    )
    studies = {"laptop": [near, far], "evening": [near]}
    assert [entry.name for entry in entries(registry.claims[0], studies)] == ["here, laptop", "here, evening"]
    others = [Published(claim=c.id, study="S", data="d", unit="bits", first=0.9, second=1.0) for c in registry.claims]
    small, large = forest(registry, studies, others)
    assert (small.name, large.name) == ("forest-small", "forest-large")
    assert "here, evening: × 0.950" in small.gist and "S, d: × 0.900" in small.gist
    assert "here, laptop: × 0.450" in large.gist and "here, evening" not in large.gist
    with pytest.raises(ClaimError, match="claim 'smal' is unknown; did you mean 'small'"):
        forest(registry, studies, [others[0].model_copy(update={"claim": "smal"})])


def test_what_others_measured_is_of_claims_that_compare_two_arms() -> None:
    declared = {one.id: one for one in load_claims().claims}
    for other in published():
        assert other.claim in declared, other.claim
        assert sorted(declared[other.claim].weights) == [-1, 1] and other.first > 0 < other.second
