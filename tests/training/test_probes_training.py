"""Probes that train: learning rates on a small problem, and the border of maps on maps made by hand."""

from math import log
from typing import Any

import pytest
import torch

import data
from data import mnist
from experiments.training import schema
from experiments.training.probes import border, learning_rates
from models import cnn, mlp
from models.norms import NORMS

IMAGES = mnist.Config(source="synthetic", validation_size=50)
SGD = schema.Optim("sgd", 0.03, momentum=0.0, schedule="constant")


def rates(norm: str) -> dict[str, float]:
    model = mlp.Config(hidden_sizes=[16, 16])
    config = schema.Config(norm=norm, seed=100, model=model, optim=SGD, updates=15)
    return learning_rates.measure(config, data.load(IMAGES, batch_size=32, seed=100))


@pytest.mark.parametrize("norm", NORMS)
def test_losses_at_all_rates_are_finite_and_at_most_chance(norm: str) -> None:
    row, chance = rates(norm), log(10)
    losses = [row[f"loss_at_{rate:g}"] for rate in learning_rates.RATES]
    assert row.keys() == set(learning_rates.METRICS) and all(0 < loss <= chance for loss in losses)
    assert row["best_loss"] == min(losses) and row["failed_share"] == pytest.approx(losses.count(chance) / len(losses))
    assert row["mean_excess_loss"] == pytest.approx(sum(losses) / len(losses) - min(losses))
    if 0 < row["failed_share"] < 1:
        highest = max(rate for rate, loss in zip(learning_rates.RATES, losses, strict=True) if loss < chance)
        assert 10 ** row["log10_highest_rate"] == pytest.approx(highest)
    assert rates(norm) == row


def test_without_a_norm_the_highest_rates_fail_which_batch_norm_bears() -> None:
    assert rates("none")["log10_highest_rate"] < rates("batch")["log10_highest_rate"]
    assert rates("none")["loss_at_10"] == log(10)


@pytest.mark.parametrize(("loss", "counted"), [(float("nan"), 2.0), (float("inf"), 2.0), (3.0, 2.0), (1.5, 1.5)])
def test_a_loss_that_is_no_number_or_above_chance_counts_as_chance(loss: float, counted: float) -> None:
    assert learning_rates.capped(loss, 2.0) == counted


# The border of maps


def maps(cases: int = 3, channels: int = 4, size: int = 8) -> torch.Tensor:
    return torch.randn(cases, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_border_and_interior_leave_one_ring_between_them() -> None:
    edge, interior = border.regions(6, 7)
    assert int(edge.sum()) == 22 and int(interior.sum()) == 6
    assert not (edge & interior).any() and edge[0].all() and interior[2:4, 2:5].all()


def test_a_border_that_explains_everything_has_the_whole_share() -> None:
    edge, _ = border.regions(8, 8)
    sums = edge.float().expand(3, 4, 8, 8)
    row = border.of_layer(sums, sums)
    assert row["border_share"] == pytest.approx(1) and row["channel_share"] == pytest.approx(0, abs=1e-12)
    assert row["border_rate_ratio"] > 1e2  # always on at the border and never inside


def test_channels_that_explain_everything_have_the_whole_share() -> None:
    sums = torch.arange(4.0)[:, None, None].expand(3, 4, 8, 8)
    row = border.of_layer(sums, sums)
    assert row["channel_share"] == pytest.approx(1)
    assert row["border_share"] < 1e-12 and row["border_mean_difference"] < 1e-12
    assert row["border_rate_ratio"] == 1


def test_borders_that_cancel_between_channels_are_seen_within_them() -> None:
    edge, interior = border.regions(8, 8)
    sign = torch.tensor([1.0, -1, 1, -1])[:, None, None]
    sums = (sign * (edge.float() / edge.sum() - interior.float() / interior.sum())).expand(3, 4, 8, 8)
    row = border.of_layer(sums, sums)
    assert row["border_share"] < 1e-12 and row["channel_share"] < 1e-12
    assert row["border_in_channel_share"] == pytest.approx(1)


def test_noise_has_small_shares_and_shares_add_up_to_less_than_one() -> None:
    sums = maps(cases=50)
    row = border.of_layer(sums, sums)
    assert row["border_share"] + row["border_in_channel_share"] + row["channel_share"] < 0.1
    assert row["border_rate_ratio"] == pytest.approx(1, abs=0.1) and row["border_mean_difference"] < 0.1


def test_shares_are_of_each_case_on_its_own() -> None:
    """As layer norm has them: cases of another scale or mean change nothing."""
    sums = maps()
    moved = sums * torch.tensor([1.0, 10, 0.1])[:, None, None, None] + torch.tensor([0.0, 3, -5])[:, None, None, None]
    for name in ("border_share", "channel_share", "border_in_channel_share"):
        assert border.of_layer(moved, sums)[name] == pytest.approx(border.of_layer(sums, sums)[name], rel=1e-4)


def test_images_move_around_the_torus_whole() -> None:
    images = maps(cases=40)
    moved = border.around_the_torus(images, torch.Generator().manual_seed(1))
    assert torch.equal(moved.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    assert not torch.equal(moved, images)
    assert torch.equal(moved, border.around_the_torus(images, torch.Generator().manual_seed(1)))


def look(norm: str, padding: str) -> dict[str, Any]:
    model = cnn.Config(depth=2, width=4, padding=padding)
    config = schema.Config(norm=norm, seed=100, model=model, optim=SGD, updates=3)
    return border.measure(config, data.load(IMAGES, batch_size=8, seed=100))


@pytest.mark.parametrize("norm", NORMS)
def test_the_border_of_a_net_is_measured_with_every_norm(norm: str) -> None:
    row = look(norm, "zeros")
    histograms = row.pop("histograms")
    assert row.keys() == set(border.METRICS) and all(0 <= value < 1e3 for value in row.values())
    for counts, edges in histograms.values():
        assert len(edges) == len(counts) + 1 and sum(counts) > 1000
    torch.manual_seed(7)
    assert look(norm, "zeros") == {**row, "histograms": histograms}


def test_on_a_torus_no_position_is_special() -> None:
    """Circular padding and images anywhere: what is left are differences by chance, over 50 images."""
    for norm in ("none", "batch", "layer"):
        torus, zeros = look(norm, "circular"), look(norm, "zeros")
        assert torus["shifted_border_rate_ratio"] == pytest.approx(1, abs=0.1)
        assert torus["shifted_border_mean_difference"] < zeros["shifted_border_mean_difference"] / 2
