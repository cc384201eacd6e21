"""What is told of a metric has its unit, whichever unit it was recorded in."""

import pytest

from experiments.verdicts.claims_file import load_claims
from experiments.verdicts.units import declared, heading, told, unit_of

PURE = {"border_rate_ratio", "layer_over_none", "later_deviation_ratio", "test_mean_rank"}  # compared as factors


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("test_bits_per_character", "-0.0611 bits/character [-0.0690, -0.0530]"),
        ("mean_validation_loss", "-0.0611 nats [-0.0690, -0.0530]"),
        ("test_error", "-6.11 points [-6.90, -5.30]"),
        ("test_rows_30_error_increase", "-6.11 points [-6.90, -5.30]"),
        ("log10_highest_rate", "-0.0611 decades [-0.0690, -0.0530]"),
        ("gradient_law_deviation", "-0.0611 [-0.0690, -0.0530]"),
    ],
)
def test_a_difference_is_told_in_the_unit_of_its_metric(metric: str, text: str) -> None:
    assert told(-0.0611, metric, (-0.069, -0.053)) == text


def test_every_claim_about_a_difference_has_a_unit() -> None:
    compared = {claim.metric for claim in load_claims().claims if claim.kind != "bound"}
    assert {metric for metric in compared if not unit_of(metric).name} == PURE


def test_margins_and_headings() -> None:
    assert declared(0.002, "test_error", "raw") == "0.2 points"
    assert declared(0.1, "test_loss", "log") == "0.1"
    assert heading("test_error") == "test error, %"
    assert heading("validation_loss") == "validation loss, nats"
    assert heading("validation_loss", "order_embeddings") == "validation loss"
    assert told(None, "test_error") == "-"
