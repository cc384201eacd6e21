"""What the figures have in common; that they are drawn is tested with the report."""

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.records.files import as_typed
from experiments.reports.scales import HUES, Scale, arm_styles, fitting, linear, logarithmic
from experiments.reports.series_figures import series_pictures
from experiments.reports.settings import differing, lines, numbers
from experiments.reports.svg import WIDTH, Drawing, Panel, level


def elements(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.inline("gist"))


def test_a_norm_has_one_hue_everywhere() -> None:
    arms = {"plain": "none", "b4": "layer", "other/b8": "layer", "rms": "rms", "mystery": "new", "again": "newer"}
    styles = arm_styles([*arms, "group"], arms)
    assert (styles["plain"][0], styles["b4"][0], styles["rms"][0]) == (HUES["none"], HUES["layer"], HUES["rms"])
    assert styles["mystery"][0] not in HUES.values() and styles["group"][0] == HUES["group"]
    many = arm_styles(map(str, range(12)), {str(place): "layer" for place in range(12)})
    for drawn in (styles, many):
        assert len(set(drawn.values())) == len(drawn)  # no two arms look the same


def test_scales() -> None:
    assert Scale(1, 3)([1, 2, 3, math.inf]) == pytest.approx([0, 0.5, 1, math.nan], nan_ok=True)
    assert Scale(1, 100, log=True)([1, 10, 100, 0]) == pytest.approx([0, 0.5, 1, math.nan], nan_ok=True)
    assert fitting([1.0, 200.0, math.nan]).log and not fitting([1.0, 9.0]).log and not fitting([0.0, 1e6]).log
    assert fitting([2.0, 2.0])([2.0]) == pytest.approx([0.5])
    assert fitting([math.nan]).high > fitting([]).low  # nothing to show is a scale too
    assert list(logarithmic([0.1, 0.001, 0.01]).ticks.values()) == ["0.001", "0.01", "0.1"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-0.11, 0.31, ["-0.1", "0", "0.1", "0.2", "0.3"]),
        (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (1e-8, 3e-8, ["1e-8", "1.5e-8", "2e-8", "2.5e-8", "3e-8"]),
        (1.9, 2.9, ["2", "2.2", "2.4", "2.6", "2.8"]),
        (-700, -120, ["-600", "-400", "-200"]),
    ],
)
def test_a_linear_scale_has_round_ticks(low: float, high: float, ticks: list[str]) -> None:
    assert list(linear(low, high).ticks.values()) == ticks


def test_a_panel_is_small_xml_without_ids_in_which_names_stay_whole() -> None:
    panel = Panel("a < b & 0.00012345", linear(0, 1), linear(0, 1), "label", legend=arm_styles(["none", "layer"]))
    panel.line([0, 0.123456, 1], [0, np.nan, 1], HUES["layer"], 1)
    panel.marks("diamond", [0.5, math.inf], [0.5, 0.5], "#b00020", 5)
    drawing = panel.drawing()
    root = elements(drawing)
    assert "a < b & 0.00012345" in [element.text for element in root] and root.get("aria-label") == "gist"
    text = drawing.elements
    assert " id=" not in text and "<g" not in text and "nan" not in text and len(text) < 3000
    assert drawing.colours >= {HUES["layer"], "#b00020"}


def test_a_file_of_its_own_is_readable_on_light_and_on_dark_grounds() -> None:
    panel = Panel("", linear(0, 1), linear(0, 1))
    panel.line([0, 1], [0, 1], HUES["layer"], 1)
    file = panel.drawing().standalone("a < b")
    root = ElementTree.fromstring(file)
    title, style, ground = root[:3]
    assert title.text == "a < b" and ground.get("class") == "ground"
    assert style.text is not None and style.text.count("c0072b2{color:") == style.text.count(".ground{color:") == 2
    used = {name for element in root for name in (element.get("class") or "").split()}
    assert all(f".{name}" in style.text for name in used)


def test_the_files_of_a_row_are_equally_tall() -> None:
    low, tall = (Panel("", linear(0, 1), linear(0, 1), label).drawing() for label in ("", "label"))
    assert low.height < tall.height
    assert {drawing.height for drawing in level([low, tall])} == {tall.height} and level([]) == []


def test_a_legend_stays_in_its_panel() -> None:
    labels = [f"some_experiment/batch_b{size}" for size in (2, 4, 8, 16, 32, 64)]
    drawing = Panel("", linear(0, 1), linear(0, 1), legend=arm_styles(labels)).drawing()
    texts = [element for element in elements(drawing) if element.text in labels]
    assert len(texts) == len(labels)
    assert all(float(text.get("x", 0)) + 4.3 * len(text.text or "") < WIDTH for text in texts)
    assert all(0 < float(text.get("y", 0)) < drawing.height for text in texts)


# ------------------------------------------------------------------------------------------------- settings, series


def config(norm: str, batch: int, **more: Any) -> dict[str, Any]:
    return {"norm": norm, "batch_size": batch, "updates": 64 // batch, **more}


def test_arms_are_told_apart_by_their_configurations() -> None:
    assert differing([{"norm": "layer", "updates": 3}]) == ["norm"]
    assert differing([{"norm": "layer", "updates": 3}, {"norm": "layer"}]) == ["norm", "updates"]
    assert [as_typed(value) for value in (True, None, 0.5, [1, 2], "a")] == ["true", "null", "0.5", "[1, 2]", "a"]


def test_lines_are_arms_that_differ_in_a_number_and_what_goes_with_it() -> None:
    arms = {"a": config("batch", 2, where="all"), "b": config("batch", 8, where="all"), "c": config("batch", 8)}
    arms |= {"d": config("layer", 2), "e": config("layer", 8), "f": config("none", 8)}
    assert numbers(arms) == ["batch_size"]  # updates follow from it
    found = lines(arms, "batch_size")
    assert found["layer"] == {2.0: "d", 8.0: "e"} and found["none"] == {8.0: "f"}
    assert found["batch, where all"] == {2.0: "a", 8.0: "b"} and len(found) == 4
    assert numbers({"a": config("layer", 2), "b": config("batch", 4)}) == []  # no two are otherwise alike
    assert numbers({"a": {"norm": "layer", "tied": True}, "b": {"norm": "layer", "tied": False}}) == []


def test_one_process_is_a_number_of_processes() -> None:
    arms = {"alone": config("batch", 8), "two": config("batch", 8, ranks=2)}
    assert numbers(arms) == ["ranks"] and lines(arms, "ranks") == {"batch": {1.0: "alone", 2.0: "two"}}


def arm(settings: dict[str, Any], *values: float | None, metric: str = "test_loss") -> list[dict[str, Any]]:
    return [{"final": {metric: value}, "config": settings} for value in values]


def test_arms_that_differ_in_a_number_make_a_series() -> None:
    arms = {"x": arm(config("batch", 2), 2.0, 2.2), "y": arm(config("batch", 32), 1.0, 1.1)}
    arms |= {"z": arm(config("layer", 2), 1.0, None), "plain": arm(config("none", 64), 3.0)}
    (picture,) = series_pictures(arms)
    assert picture.name == "by-batch_size" and "batch from 2.10 at 2 to 1.05 at 32" in picture.gist
    assert ">batch size<" in picture.drawing.elements and picture.arms == ("x", "y", "z", "plain")
    assert series_pictures({name: arm(rows[0]["config"], 1.0, metric="own") for name, rows in arms.items()}) == []
    assert series_pictures({"layer_b2": arm({}, 1.0), "layer_b4": arm({}, 1.0)}) == []  # names say nothing


def test_losses_at_learning_rates_make_a_series_of_each_arm() -> None:
    finals = {"layer": {"loss_at_0.1": 1.0, "loss_at_1": 2.0}, "none": {"loss_at_0.1": 3.0, "loss_at_1": None}}
    (picture,) = series_pictures({name: [{"final": final}] for name, final in finals.items()})
    assert picture.name == "by-rate" and "layer from 1.00 at 0.1 to 2.00 at 1" in picture.gist


def test_batch_norm_is_drawn_with_each_of_its_statistics() -> None:
    def tested(norm: str, batch: int, loss: float, own: float) -> list[dict[str, Any]]:
        anew = loss + 0.5  # own statistics were measured on other cases: what counts is what they add to anew
        final = {"test_loss": loss, "test_reestimated_loss": anew, "test_batch_loss": 7.0}
        return [{"final": final | {"test_batch_loss_increase": own - anew}, "config": config(norm, batch)}]

    arms = {"small": tested("batch", 2, 2.0, 9.0), "large": tested("batch", 8, 1.0, 4.0)}
    by_norm, by_statistics = series_pictures(arms | {"other": tested("layer", 2, 1.0, 1.0)})
    assert (by_norm.name, by_statistics.name) == ("by-batch_size", "statistics-by-batch_size")
    assert "batch, own from 9.00 at 2 to 4.00 at 8" in by_statistics.gist and "layer" not in by_statistics.gist


def test_no_figure_of_the_reference_has_a_number_that_is_none() -> None:
    """A bound of 0 lies on the edge of an axis of logarithms."""
    reference = Path(__file__).parents[2] / "results" / "reference" / "laptop"
    pages = [*(reference / "figures").glob("*.svg"), reference / "report.html"]
    undrawn = re.compile(r' (d|cx|cy|x|y)="[^"]*(nan|inf)')
    assert len(pages) > 100 and not [path.name for path in pages if undrawn.search(path.read_text())]
