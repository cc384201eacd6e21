"""What the figures have in common; that they are drawn is tested with the report."""

import math
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.reports.panel import WIDTH, Panel, standalone
from experiments.reports.scales import HUES, Scale, arm_styles, fitting, linear, logarithmic
from experiments.reports.series_figures import series_pictures


def test_a_norm_has_one_hue_everywhere() -> None:
    styles = arm_styles(["none", "layer_b4", "other/layer_b128", "rms_batch_size_8", "mystery", "Layer"])
    assert (styles["none"][0], styles["layer_b4"][0]) == (HUES["none"], HUES["layer"])
    assert styles["rms_batch_size_8"][0] == HUES["rms"]
    assert styles["mystery"][0] not in HUES.values()
    assert len(set(map(str, styles.values()))) == 6  # and no two arms look the same


def test_scales() -> None:
    assert Scale(1, 3)([1, 2, 3, math.inf]) == pytest.approx([0, 0.5, 1, math.nan], nan_ok=True)
    assert Scale(1, 100, log=True)([1, 10, 100, 0]) == pytest.approx([0, 0.5, 1, math.nan], nan_ok=True)
    assert fitting([1.0, 200.0, math.nan]).log and not fitting([1.0, 9.0]).log and not fitting([0.0, 1e6]).log
    assert fitting([2.0, 2.0])([2.0]) == pytest.approx([0.5])
    assert fitting([math.nan]).high > fitting([]).low  # nothing to show is a scale too
    assert list(linear(-0.11, 0.31, 5).ticks.values()) == ["-0.1", "0", "0.1", "0.2", "0.3"]
    assert list(logarithmic([0.1, 0.001, 0.01]).ticks.values()) == ["0.001", "0.01", "0.1"]


def test_a_panel_is_small_xml_without_ids_in_which_names_stay_whole() -> None:
    panel = Panel("a < b & 0.00012345", linear(0, 1), linear(0, 1), "label", legend=arm_styles(["none", "layer"]))
    panel.line([0, 0.123456, 1], [0, np.nan, 1], "#0072b2", 1)
    panel.marks("diamond", [0.5, math.inf], [0.5, 0.5], "#b00020", 5)
    svg = panel.svg()
    root = ElementTree.fromstring(svg)
    assert "a < b & 0.00012345" in [element.text for element in root]
    assert ' id="' not in svg and "<g" not in svg and "e-0" not in svg and len(svg) < 4000


def test_the_files_of_a_row_are_equally_tall() -> None:
    low, tall = (Panel("", linear(0, 1), linear(0, 1), label).svg() for label in ("", "label"))
    files = [ElementTree.fromstring(file) for file in standalone([low, tall])]
    assert ElementTree.fromstring(low).get("height") != ElementTree.fromstring(tall).get("height")
    assert {(file.get("height"), file.get("viewBox")) for file in files} == {("150.5pt", "0 0 230 150.5")}
    assert standalone([]) == []


def test_a_legend_stays_in_its_panel() -> None:
    labels = [f"some_experiment/batch_b{size}" for size in (2, 4, 8, 16, 32, 64)]
    root = ElementTree.fromstring(Panel("", linear(0, 1), linear(0, 1), legend=arm_styles(labels)).svg())
    texts = [element for element in root if element.text in labels]
    assert len(texts) == len(labels)
    assert all(float(text.get("x", 0)) + 4.3 * len(text.text or "") < WIDTH for text in texts)


def arm(*values: float | None, metric: str = "test_loss") -> list[dict[str, Any]]:
    return [{"final": {metric: value}} for value in values]


def test_arms_that_differ_in_a_number_make_a_series() -> None:
    arms = {"batch_b2": arm(2.0, 2.2), "batch_b32": arm(1.0, 1.1), "layer_b2": arm(1.0, None), "none": arm(3.0)}
    (picture,) = series_pictures(arms)
    assert picture.name == "by-b" and "batch from 2.10 at 2 to 1.05 at 32" in picture.gist
    assert ">batch size<" in picture.svg and ">none<" not in picture.svg
    scaled = {"layer_x0.5": arm(1.0), "layer_x10": arm(2.0), "layer_gain0.1": arm(1.0), "layer_gain1": arm(1.0)}
    assert [picture.name for picture in series_pictures(scaled)] == ["by-gain", "by-x"]


def test_single_numbers_make_none() -> None:
    assert series_pictures({"layer_b2": arm(1.0), "batch_b4": arm(1.0), "batch_all": arm(1.0)}) == []
    assert series_pictures({"layer_b2": arm(1.0, metric="own"), "layer_b4": arm(1.0, metric="own")}) == []


def test_losses_at_learning_rates_make_a_series_of_each_arm() -> None:
    finals = {"layer": {"loss_at_0.1": 1.0, "loss_at_1": 2.0}, "none": {"loss_at_0.1": 3.0, "loss_at_1": None}}
    (picture,) = series_pictures({name: [{"final": final}] for name, final in finals.items()})
    assert picture.name == "by-rate" and "layer from 1.00 at 0.1 to 2.00 at 1" in picture.gist


def test_batch_norm_is_drawn_with_each_of_its_statistics() -> None:
    def tested(loss: float, own: float) -> list[dict[str, Any]]:
        anew = loss + 0.5  # own statistics were measured on other cases: what counts is what they add to anew
        final = {"test_loss": loss, "test_reestimated_loss": anew, "test_batch_loss": 7.0}
        return [{"final": final | {"test_batch_loss_increase": own - anew}}]

    arms = {"batch_b2": tested(2.0, 9.0), "batch_b8": tested(1.0, 4.0), "layer_b2": tested(1.0, 1.0)}
    by_norm, by_statistics = series_pictures(arms)
    assert (by_norm.name, by_statistics.name) == ("by-b", "statistics-by-b")
    assert "batch, own from 9.00 at 2 to 4.00 at 8" in by_statistics.gist and "layer" not in by_statistics.gist
