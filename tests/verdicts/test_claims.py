"""The registry's mistakes are told in one line, before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.verdicts.claims import OWN, Claim, ClaimError, Registry, check_against
from experiments.verdicts.claims_file import CLAIMS, load_claims, stated
from experiments.verdicts.stats import holm
from tests.invented import SEEDS, claim

ENTRY: dict[str, Any] = {
    "id": "B4-better",
    "says": ["B4.4"],
    "statement": "Layer norm helps.",
    "experiment": "lm",
    "kind": "difference",
    "contrast": {"layer": 1, "none": -1},
    "metric": "test_loss",
    "direction": "less",
    "margin": 0.02,
    "refuted": "Layer norm hurts.",
    "expected": "helps",
    "deviations": "small",
}
NOT_BOUND = ("contrast", "direction", "margin", "refuted")
BOUND = {key: value for key, value in ENTRY.items() if key not in NOT_BOUND} | {
    "kind": "bound",
    "experiment": "exact_mlp",
    "arms": ["layer"],
    "at_most": "1e-9",
}


def load(tmp_path: Path, *entries: dict[str, Any], **family: Any) -> Registry:
    document = {"family": {"alpha": 0.05, "seeds": SEEDS} | family, "claims": list(entries)}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_claims(path)


def test_a_claim_is_read_whole(tmp_path: Path) -> None:
    registry = load(tmp_path, ENTRY | {"scale": "log", "contrast": {"layer": 1, "mlp/none": -1}}, BOUND | {"id": "x"})
    first, exact = registry.claims
    assert (registry.alpha, registry.seeds) == (0.05, SEEDS)
    assert first.arms() == [("lm", "layer"), ("mlp", "none")]
    assert (first.tuned, first.summary, first.better, first.subject()) == (
        True,
        "mean",
        "less",
        "log(layer / mlp/none)",
    )
    assert (exact.limit(), exact.at_least, exact.tuned) == (1e-9, None, False)  # YAML reads 1e-9 as a string


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margn": 1}, "claim 'B4-better': key 'margn' is unknown; did you mean 'margin'? valid: "),
        ({"kind": "trend"}, "claim 'B4-better': kind: 'trend' should be 'difference', 'equivalence' or 'bound'"),
        ({"direction": "up"}, "claim 'B4-better': direction: 'up' should be 'less' or 'greater'"),
        ({"scale": "ln"}, "claim 'B4-better': scale: 'ln' should be 'raw' or 'log'"),
        ({"summary": 3}, "claim 'B4-better': summary: 3 should be 'mean' or 'median'"),
        ({"margin": "small"}, "claim 'B4-better': margin: 'small' should be a valid number"),
        ({"margin": -1}, "claim 'B4-better': margin: -1 should be greater than or equal to 0"),
        ({"margin": True}, "claim 'B4-better': margin: True should be a number"),
        ({"tuned": "yes"}, "claim 'B4-better': tuned: 'yes' should be a valid boolean"),
        ({"contrast": {"layer": 1, "none": -2}}, "a contrast should sum to 0, or it is `against` a constant"),
        ({"contrast": {"layer": 1}}, "a contrast should sum to 0, or it is `against` a constant"),
        ({"contrast": {}}, "contrast: {} should have at least 1 item"),
        ({"contrast": {"layer": 1, "none": 0}}, "should have no 0"),
        ({"contrast": {"layer": 1}, "against": 0, "scale": "log"}, "against: 0 has no logarithm"),
        ({"says": ["B4.9"]}, "claim 'B4-better': says 'B4.9' is unknown; did you mean 'B4.5' or 'B4.4' or 'B4.3'?"),
        ({"says": []}, "a claim needs either `says`, sentences of configs/sentences.yaml, or `said_by`"),
        ({"said_by": "suite"}, "a claim needs either `says`, sentences of configs/sentences.yaml, or `said_by`"),
        ({"contrast": {"a/b/c": 1, "none": -1}}, "'a/b/c' should be written `arm` or `experiment/arm`"),
        ({"id": "a b"}, "should be made of letters, digits, '.' and '-'"),
        ({"statement": ""}, "claim 'B4-better': statement: '' should not be empty"),
        ({"kind": "equivalence"}, "claim 'B4-better': key 'direction' is unknown"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaimError) as error:
        load(tmp_path, ENTRY | change)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(ENTRY.keys() - {"margin", "says"}))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    entry = ENTRY | {"experiment": "custom"}  # which states no deviations
    with pytest.raises(ClaimError, match=f"key '{key}' is missing"):
        load(tmp_path, {name: value for name, value in entry.items() if name != key})


def test_other_mistakes_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="exactly one of at_most, at_least"):
        load(tmp_path, BOUND | {"at_least": 0})
    with pytest.raises(ClaimError, match=r"'lm' should be exact_\.\.\.: use `against` for what varies by seed"):
        load(tmp_path, BOUND | {"experiment": "lm"})
    with pytest.raises(ClaimError, match="'B4-better': the id is used more than once"):
        load(tmp_path, ENTRY, BOUND)
    with pytest.raises(ClaimError, match="family: alpha: 2 should be less than 1"):
        load(tmp_path, ENTRY, alpha=2)
    (tmp_path / "broken.yaml").write_text("claims: [")
    with pytest.raises(ClaimError, match="not valid YAML"):
        load_claims(tmp_path / "broken.yaml")


def test_a_scale_may_ask_some_claims_alone(tmp_path: Path) -> None:
    """And a claim may be asked nowhere else; neither makes a test easier, nor those elsewhere one harder."""
    apart = ENTRY | {"id": "apart", "experiment": "draw", "asked_at": "section6"}
    written = [ENTRY, BOUND | {"id": "x"}, ENTRY | {"id": "y", "metric": "test_error"}, apart]
    path = tmp_path / "claims.yaml"
    document = {"family": {"alpha": 0.05, "seeds": SEEDS}, "claims": written}
    document["only"] = {"wide": ["B4-better"], "section6": ["y"]}
    path.write_text(yaml.safe_dump(document))
    asked = {scale: load_claims(path).at(scale) for scale in ("laptop", "wide", "section6")}
    assert {scale: [claim.id for claim in some.claims] for scale, some in asked.items()} == {
        "laptop": ["B4-better", "x", "y"],
        "wide": ["B4-better"],
        "section6": ["y", "apart"],
    }
    assert {scale: some.tests("added") + some.tests("said") for scale, some in asked.items()} == {
        "laptop": 2,
        "wide": 2,
        "section6": 3,
    }
    arms = [("lm", "layer"), ("exact_mlp", "layer"), ("lm", "unclaimed"), ("draw", "layer"), ("draw", "unclaimed")]
    run = {scale: some.covered(dict.fromkeys(arms)) for scale, some in asked.items()}
    covered = {scale: [arm in found for arm in arms] for scale, found in run.items()}
    assert covered == {
        "laptop": [True, True, True, False, False],
        "wide": [True, False, False, False, False],
        "section6": [True, False, False, True, False],
    }
    with pytest.raises(ClaimError, match="claim 'x' is unknown"):
        asked["wide"].select(["x"])
    with pytest.raises(ClaimError, match=r"claim 'apart' is asked at scale section6 alone \(make: SCALE=section6\)"):
        asked["laptop"].select(["apart"])
    path.write_text(yaml.safe_dump(document | {"only": {"wide": ["B4-bettr"], "section6": []}}))
    with pytest.raises(ClaimError, match="only: wide: claim 'B4-bettr' is unknown; did you mean 'B4-better'"):
        load_claims(path)
    path.write_text(yaml.safe_dump(document | {"only": {}}))
    with pytest.raises(ClaimError, match="claim 'apart': asked_at, a scale below only:, 'section6' is unknown"):
        load_claims(path)


def test_a_folder_is_read_in_the_order_its_family_names(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump([ENTRY | {"id": f"{name}-1", "metric": f"test_{name}"}]))
    (tmp_path / "family.yaml").write_text("family: {alpha: 0.05, seeds: 10}\nfiles: [B, A]")
    assert [c.id for c in load_claims(tmp_path).claims] == ["B-1", "A-1"]
    (tmp_path / "A.yaml").write_text("id: A-1")
    with pytest.raises(ClaimError, match=r"A\.yaml: claims: .* should be a valid list"):
        load_claims(tmp_path)


def test_every_file_of_claims_is_in_the_family_and_named_by_its_ids() -> None:
    family = yaml.safe_load((CLAIMS / "family.yaml").read_text())
    assert sorted(["family", "summary", *family["files"]]) == sorted(path.stem for path in CLAIMS.glob("*.yaml"))
    for name in family["files"]:
        assert {claim["id"].split("-")[0] for claim in yaml.safe_load((CLAIMS / f"{name}.yaml").read_text())} == {name}


def test_deviations_of_an_experiment_are_said_once(tmp_path: Path) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "deviations"} | {"experiment": "lm_lstm"}
    shared = load(tmp_path, entry).claims[0].deviations
    assert shared.startswith("Shakespeare in characters")
    assert load(tmp_path, entry | {"deviations": "Its own."}).claims[0].deviations == "Its own."
    with pytest.raises(ClaimError, match="experiment 'lm_lstn' is unknown; did you mean 'lm_lstm'"):
        load(tmp_path, entry | {"experiment": "lm_lstn"})
    for path in CLAIMS.glob("[A-Z]*.yaml"):
        for declared in yaml.safe_load(path.read_text()):
            own = " ".join(declared.get("deviations", "").split())
            assert own != " ".join(stated(declared["experiment"]).get("deviations", "").split()), declared["id"]


def test_a_comparison_is_one_claim(tmp_path: Path) -> None:
    turned = {"contrast": {"none": 1, "layer": -1}, "direction": "greater"}
    for other in (ENTRY, ENTRY | turned):
        with pytest.raises(
            ClaimError, match="claim 'x': compares what 'B4-better' compares; one comparison is one claim"
        ):
            load(tmp_path, ENTRY, other | {"id": "x"})
    other = ENTRY | {"id": "x"}
    for change in ({"metric": "test_error"}, {"scale": "log"}, {"against": 1}, {"contrast": {"layer": 1, "rms": -1}}):
        assert len(load(tmp_path, ENTRY, other | change).claims) == 2


def test_no_claim_of_the_suite_is_its_users() -> None:
    assert OWN not in {claim.said_by for claim in load_claims().claims}


def test_every_sentence_has_a_claim_or_a_reason_why_not() -> None:
    registry = load_claims()
    tested = {said for claim in registry.claims for said in claim.says}
    for sentence in registry.sentences:
        assert (sentence.id in tested) != bool(sentence.untested), sentence.id
    assert {sentence.said_by for sentence in registry.sentences} == {"paper", "note"}


def test_what_a_refutation_would_mean_is_said_of_every_side_it_can_fall_on() -> None:
    for each in load_claims().claims:
        sides = {"bound": set(), "equivalence": {"less", "greater"}}.get(
            each.kind, {"less", "greater"} - {each.direction}
        )
        assert set(each.refuted) == sides, each.id


def test_select_suggests_near_names_and_keeps_the_family() -> None:
    registry = Registry(0.05, SEEDS, (claim(id="B4-lstm"), claim(id="B4-gru")))
    assert [c.id for c in registry.select(["B4-gru"]).claims] == ["B4-gru"]
    assert len(registry.select(["B4-gru"]).family) == 2
    with pytest.raises(ClaimError, match="claim 'B4-ltsm' is unknown; did you mean 'B4-lstm'"):
        registry.select(["B4-ltsm"])


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["B4*"], {"B4-lstm", "B4-gru"}),
        (["*gru", "P-border"], {"B4-gru", "P-border"}),
        (["paper"], {"P-border"}),
        (["note"], {"B4-lstm"}),
        (["6.7b"], {"P-border"}),
        (["6.7"], {"P-border"}),  # the section
        (["cnn_gap"], {"P-border", "L-group"}),  # also where it is that of one arm alone
        (["lm_*"], {"B4-lstm", "B4-gru", "L-group"}),
        (["literature", "B4.1"], {"B4-gru", "L-group", "B4-lstm"}),
    ],
)
def test_claims_are_found_by_id_source_experiment_and_pattern(words: list[str], chosen: set[str]) -> None:
    registry = Registry(
        0.05,
        SEEDS,
        (
            claim(id="B4-lstm", says=("B4.1",), experiment="lm_lstm"),
            claim(id="B4-gru", said_by="literature", experiment="lm_gru"),
            claim(id="P-border", said_by="paper", says=("6.7b",), experiment="cnn_gap"),
            claim(id="L-group", said_by="literature", experiment="lm_tanh", labels=("cnn_gap/group", "none")),
        ),
    )
    assert {found.id for found in registry.select(words).claims} == chosen


@pytest.mark.parametrize(("word", "near"), [("b4*", "B4-lstm"), ("6.8", "6.7"), ("lm_ltsm", "lm_lstm"), ("", "B4")])
def test_what_means_no_claim_is_told_with_the_nearest_words(word: str, near: str) -> None:
    registry = Registry(0.05, SEEDS, (claim(id="B4-lstm", said_by="paper", says=("6.7b",), experiment="lm_lstm"),))
    with pytest.raises(ClaimError) as told:
        registry.select([word])
    assert f"claim {word!r} is unknown; did you mean " in str(told.value) and near in str(told.value)
    assert "\n" not in str(told.value)


def test_claims_are_checked_against_what_exists() -> None:
    registry = Registry(0.05, SEEDS, (claim(tuned=True),))
    known = {"lm": {"layer", "none"}}, {"lm": {"test_loss"}}
    grids = {("lm", "layer"): 4, ("lm", "none"): 3}
    check_against(registry, *known, grids)
    with pytest.raises(ClaimError, match="experiment 'lm' is unknown"):
        check_against(registry, {"lms": set()}, {}, grids)
    with pytest.raises(ClaimError, match=r"arm of lm 'none' is unknown; .*valid: layer"):
        check_against(registry, {"lm": {"layer"}}, known[1], grids)
    with pytest.raises(ClaimError, match="metric of lm 'test_loss' is unknown; did you mean 'test_los'"):
        check_against(registry, known[0], {"lm": {"test_los"}}, grids)
    with pytest.raises(ClaimError, match="'none' of lm tries 2 learning rates"):
        check_against(registry, *known, grids | {("lm", "none"): 2})
    check_against(Registry(0.05, SEEDS, (claim(),)), *known, {})  # not tuned: no grid needed


def family(differences: int, equivalences: int = 0, bounds: int = 0, said_by: str = "note") -> tuple[Claim, ...]:
    kinds = ["difference"] * differences + ["equivalence"] * equivalences + ["bound"] * bounds
    return tuple(claim(id=f"c{place}", kind=kind, said_by=said_by) for place, kind in enumerate(kinds))


@pytest.mark.parametrize(
    ("claims", "tests"), [(family(51), 51), (family(0, 25), 50), (family(49, 1, 9), 51), (family(0, 0, 99), 0)]
)
def test_a_family_may_be_as_large_as_its_seeds_allow(claims: tuple[Claim, ...], tests: int) -> None:
    registry = Registry(0.05, SEEDS, claims)
    check_against(registry, {"lm": {"layer", "none"}}, {"lm": {"test_loss"}}, {})
    assert registry.tests("said") == tests and max(holm([2.0**-SEEDS] * tests), default=0.0) < registry.alpha
    others = Registry(0.05, SEEDS, (*claims, *family(51, said_by="suite")))  # a family of their own
    check_against(others, {"lm": {"layer", "none"}}, {"lm": {"test_loss"}}, {})
    assert (others.tests("said"), others.tests("added")) == (tests, 51)


@pytest.mark.parametrize(
    ("claims", "seeds", "tests", "needed"),
    [(family(52), SEEDS, 52, 11), (family(50, 1), SEEDS, 52, 11), (family(0, 26), SEEDS, 52, 11), (family(1), 4, 1, 5)],
)
def test_a_family_too_large_for_its_seeds_is_refused(
    claims: tuple[Claim, ...], seeds: int, tests: int, needed: int
) -> None:
    for registry in (Registry(0.05, seeds, claims), Registry(0.05, seeds, claims).select(["c0"])):
        with pytest.raises(ClaimError) as error:
            check_against(registry, {"lm": {"layer", "none"}}, {"lm": {"test_loss"}}, {})
        assert f"{tests} tests are too many for {seeds} seeds" in str(error.value)
        assert str(error.value).endswith(f"declare at least {needed} seeds") and "\n" not in str(error.value)
    assert min(holm([2.0**-seeds] * tests)) >= 0.05 > min(holm([2.0**-needed] * tests))


def test_a_family_exactly_at_alpha_is_refused() -> None:
    with pytest.raises(ClaimError, match=r"2 x 2\^-5 = 0\.0625, is not below alpha = 0\.0625,"):
        check_against(Registry(2 * 2.0**-5, 5, family(2)), {}, {}, {})
