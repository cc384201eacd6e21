"""What the live page draws: bands of groups, results against a number, and what it says of them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bokeh")

from bokeh.document import Document
from bokeh.models import LogScale

from experiments.dashboards.live import curves, series, texts
from experiments.dashboards.live.groups import among, grouped, lines, numbers, varied
from experiments.dashboards.live.page import LOOKS, Page, styles_of
from experiments.dashboards.live.runs import LiveResults, SeenRun
from experiments.dashboards.sparklines import LossScale
from experiments.records.folder import RunFolder
from experiments.reports.scales import HUES, OTHERS, luminance
from experiments.reports.settings import RATE, apart_by, shared_by
from experiments.verdicts.units import heading
from scripts.live_speed import begin, config, end, history
from tests.dashboards.seen import POINTS, read


def test_a_band_is_numpys_of_the_records_values(tmp_path: Path) -> None:
    every = [config("layer", 8, seed, 80) for seed in range(5)]
    for settings in every:
        end(tmp_path, settings, history(settings, POINTS))
    losses = np.array([[row["validation_loss"] for row in history(settings, POINTS)] for settings in every])
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert found.x.tolist() == [10, 20, 30, 40, 50, 60, 70, 80] and set(found.runs) == {5}
    np.testing.assert_allclose(found.mean, losses.mean(axis=0), rtol=1e-15)
    assert np.array_equal(found.low, losses.min(axis=0)) and np.array_equal(found.high, losses.max(axis=0))


def test_a_band_is_of_those_that_came_so_far_and_ends_where_one_diverged(tmp_path: Path) -> None:
    first, second, third = (config("layer", 8, seed, 80) for seed in range(3))
    end(tmp_path, first, history(first, POINTS))
    begin(tmp_path, second, history(second, POINTS)[:5])
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert found.runs.tolist() == [2, 2, 2, 2, 2, 1, 1, 1] and np.isfinite(found.mean).all()
    end(
        tmp_path,
        third,
        [*history(third, POINTS)[:3], {"update": 40, "seconds": 1.0, "validation_loss": None}],
        "diverged",
    )
    found = curves.band(read(tmp_path), "validation_loss", "update")
    assert np.isfinite(found.mean).tolist() == np.isfinite(found.low).tolist() == [True] * 3 + [False] * 5


def test_runs_of_different_batch_sizes_meet_at_equal_samples(tmp_path: Path) -> None:
    for norm in ("layer", "batch"):
        for batch_size, updates in ((2, 320), (8, 80)):
            settings = config(norm, batch_size, 0, updates)
            end(tmp_path, settings, history(settings, POINTS))
    groups = grouped(read(tmp_path), "norm")
    assert list(groups) == ["batch", "layer"] and not curves.mixed(groups, "validation_loss", "samples")
    found = curves.band(groups["layer"], "validation_loss", "samples")
    losses = [
        [row["validation_loss"] for row in history(config("layer", *of), POINTS)] for of in ((2, 0, 320), (8, 0, 80))
    ]
    assert found.x.tolist() == [80 * k for k in range(1, 9)]
    np.testing.assert_allclose(found.mean, np.mean(losses, axis=0))
    assert curves.mixed(groups, "validation_loss", "update")
    seconds = curves.band(groups["layer"][:1], "validation_loss", "seconds")
    np.testing.assert_allclose(seconds.x, [0.01 * 40 * k for k in range(1, 9)])


def test_runs_can_be_grouped_by_whatever_differs_and_results_drawn_against_it(tmp_path: Path) -> None:
    for batch_size in (2, 8, 32):
        for seed, rate in ((0, 0.01), (1000, 0.01), (1000, 0.1)):
            settings = config("layer", batch_size, seed, optim={"learning_rate": rate})
            end(tmp_path, settings, history(settings, POINTS), "diverged" if rate == 0.1 else "completed")
    runs = read(tmp_path)
    differing = varied(runs)
    assert {"optim.learning_rate", "batch_size"} <= set(differing)
    assert "norm" not in differing and numbers(runs)[0] == "batch_size"
    assert list(grouped(runs, "batch_size")) == ["batch_size 2", "batch_size 8", "batch_size 32"]
    evaluated = [run for run in runs if run.role == "evaluate"]
    (line,) = series.end_results(lines(evaluated, "batch_size"), "batch_size", "test_loss").values()
    assert line.x.tolist() == [2, 8, 32]
    assert line.middle.tolist() == [run.final["test_loss"] for run in evaluated]
    tuning = grouped([run for run in runs if run.role == "tune"], "arm")
    found = series.end_results(tuning, RATE, "validation_loss")
    assert all(line.x.tolist() == [0.01, 0.1] and np.isnan(line.middle[1]) for line in found.values())
    assert all(series.chosen(line) == 0.01 for line in found.values())
    assert series.end_results(tuning, "norm", "validation_loss") == {}


def test_the_rate_that_is_marked_is_the_one_that_is_chosen(tmp_path: Path) -> None:
    """By the final validation loss, whatever is shown; a rate at which one seed diverged is not chosen."""
    for rate, level, status in ((0.01, 2.0, "completed"), (0.1, 1.0, "completed"), (1.0, 0.5, "diverged")):
        for seed in (1000, 1001):
            settings = config("layer", 8, seed, optim={"learning_rate": rate})
            row = {"update": 10, "seconds": 1.0, "validation_loss": level, "validation_error": -level}
            end(tmp_path, settings, [row], status if seed == 1000 else "completed")
    groups = grouped(read(tmp_path), "arm")
    for metric in ("validation_loss", "validation_error"):
        (line,) = series.end_results(groups, RATE, metric).values()
        assert series.chosen(line) == 0.1


def test_runs_of_one_arm_that_differ_are_apart_and_named_by_it(tmp_path: Path) -> None:
    """Whatever their records call them: a mean is over seeds, or it is said what else it is over."""
    for batch_size, data in ((8, "mnist"), (16, "mnist"), (16, "mine")):
        for seed in (0, 1):
            settings = config("layer", batch_size, seed, data={"name": data, "path": f"/{seed}"})
            folder = RunFolder(end(tmp_path, settings, history(settings, POINTS)))
            folder.finish({**(folder.record() or {}), "group": "layer"})
    for seed in (1000, 1001):
        for rate in (0.01, 0.1):
            settings = config("layer", 8, seed, optim={"learning_rate": rate})
            begin(tmp_path, settings, history(settings, 2))
    found = read(tmp_path)
    evaluated = grouped([run for run in found if run.role == "evaluate"], "arm")
    assert {label: len(runs) for label, runs in evaluated.items()} == {
        "layer batch_size=8 data.name=mnist": 2,
        "layer batch_size=16 data.name=mine": 2,
        "layer batch_size=16 data.name=mnist": 2,
    }
    assert texts.members(evaluated) == "the seeds of a group"
    every = grouped(found, "arm")
    assert len(every["layer_b8"]) == 4 and set(among(every, found[:1])) <= set(every)
    assert texts.members(every) == "runs of a group that differ in seed, learning rate"
    by_norm = grouped([run for run in found if run.role == "evaluate"], "norm")
    assert len(by_norm["layer"]) == 6
    assert texts.members(by_norm) == "runs of a group that differ in seed, batch size, data"


def test_arms_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    """Settings that all arms share stand in no name, and once beside them."""
    for norm, arm in (("layer", "layer model.depth=3 updates=80"), ("batch", "batch model.depth=3 updates=160")):
        folder = RunFolder(end(tmp_path, config(norm, 8, 0), history(config(norm, 8, 0), POINTS)))
        folder.finish({**(folder.record() or {}), "group": arm})
    page = Page(Document(), LiveResults(tmp_path))
    named = ["batch updates=160", "layer updates=80"]
    assert list(grouped(read(tmp_path), "arm")) == page.table.source.data["arm"] == named
    assert [label for _, label in page.widgets["only"].options] == named
    assert page.texts["about"].text.endswith("All arms with <code>model.depth=3</code>.")
    assert shared_by([]) == [] and apart_by(["layer a=1"]) == {"layer a=1": "layer"}


@pytest.mark.parametrize(
    ("ends", "axis"),
    [
        ([(8, 80)], "update"),
        ([(2, 80), (8, 80)], "update"),
        ([(2, 320), (8, 80)], "samples"),
        ([(2, 300), (8, 80), (16, 40)], "samples"),
    ],
)
def test_curves_are_compared_where_runs_end_together(ends: list[tuple[int, int]], axis: str, tmp_path: Path) -> None:
    for batch_size, updates in ends:
        settings = config("layer", batch_size, 0, updates)
        end(tmp_path, settings, history(settings, POINTS))
    page = Page(Document(), LiveResults(tmp_path))
    assert page.widgets["axis"].value == curves.fair_axis(read(tmp_path)) == axis
    page.widgets["axis"].value = "seconds"
    page.settle()
    assert page.widgets["axis"].value == "seconds" and curves.fair_axis([]) == "update"


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (0.05, "log"), (0.0, "linear")])
def test_losses_of_more_than_a_decade_open_on_a_logarithmic_scale(factor: float, scale: str, tmp_path: Path) -> None:
    """As in the terminal; where one of them is 0 there is no such scale."""
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    rows[-1]["validation_loss"] *= factor
    end(tmp_path, settings, rows)
    values = [row["validation_loss"] for row in rows]
    page = Page(Document(), LiveResults(tmp_path))
    assert page.widgets["scale"].value == scale == ("log" if LossScale.around(values).log else "linear")


def test_metrics_have_their_units_and_errors_are_per_cents(tmp_path: Path) -> None:
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    end(tmp_path, settings, rows)
    page = Page(Document(), LiveResults(tmp_path))

    def drawn() -> Any:
        return page.holders["curves"].children[0]

    def shown() -> Any:
        last: Any = page.curves.sources["means"].data["ys"]
        return drawn().title.text.text, page.table.last.title, last[0][-1]

    loss = rows[-1]["validation_loss"]
    assert shown() == ("validation loss, nats", "validation loss, nats", pytest.approx(loss))
    page.widgets["metric"].value = "validation_error"
    assert shown() == ("validation error, %", "validation error, %", pytest.approx(100 * loss / 5))
    assert page.table.source.data["last"] == [pytest.approx(100 * loss / 5)]
    assert page.table.source.data["batch"] == [8]
    page.widgets["axis"].value, page.widgets["scale"].value = "samples", "log"
    assert drawn().xaxis[0].axis_label.text == "samples" and isinstance(drawn().y_scale, LogScale)
    assert heading("validation_bits_per_character", "language_model") == "validation bits per character"
    assert heading("validation_loss", "order_embeddings") == "validation loss"


def test_the_metric_that_is_told_everywhere_comes_first(tmp_path: Path) -> None:
    settings = config("layer", 8, 0, 80)
    rows = history(settings, POINTS)
    end(tmp_path, settings, rows)
    assert curves.metrics(read(tmp_path))[0] == "validation_loss"
    end(tmp_path, settings, [row | {"validation_bits_per_character": row["validation_loss"]} for row in rows])
    assert curves.metrics(read(tmp_path))[0] == "validation_bits_per_character"


def contrast(colour: str, ground: str) -> float:
    darker, lighter = sorted(map(luminance, (colour, ground)))
    return (lighter + 0.05) / (darker + 0.05)


def turned(colour: str) -> str:
    """What the dark page's filter, invert(1) hue-rotate(180deg), makes of a colour (Filter Effects 1, for sRGB)."""
    matrix = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    parts = matrix @ (1 - np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]))
    return "#" + "".join(f"{round(255 * part):02x}" for part in np.clip(parts, 0, 1))


@pytest.mark.parametrize("norm", [*HUES, *OTHERS])
def test_every_line_stands_out_from_the_ground_light_or_dark(norm: str) -> None:
    """Also the shades of many arms of one norm, and of groups that have none."""
    settings = config(norm if norm in HUES else "other", 8, 0)
    groups = {f"{norm} {place}": [SeenRun(norm, "done", config=settings)] for place in range(8)}
    styles = styles_of(groups)
    assert len({*styles.values()}) == len(groups)
    for colour, _ in styles.values():
        assert contrast(colour, "#ffffff") >= 3 and contrast(turned(colour), "#14171b") >= 3, colour


def test_the_filter_that_the_contrast_is_computed_of_is_the_pages() -> None:
    assert "--turned: invert(1) hue-rotate(180deg)" in LOOKS and "--ground: #14171b" in LOOKS
    assert [turned(grey) for grey in ("#ffffff", "#000000", "#6b6b6b")] == ["#000000", "#ffffff", "#949494"]


def test_lines_are_runs_that_differ_only_in_the_number(tmp_path: Path) -> None:
    """Fewer updates at larger batches belong to the number; another kind of layer is another line."""
    for norm, kind in (("layer", "hidden"), ("batch", "hidden"), ("batch", "all")):
        for batch_size in (2, 8):
            settings = config(norm, batch_size, 0, 320 // batch_size, model={"name": "mlp", "normalize": kind})
            end(tmp_path, settings, history(settings, 2))
    found = read(tmp_path)
    assert {label: len(runs) for label, runs in lines(found, "batch_size").items()} == {
        "batch, normalize all": 2,
        "batch, normalize hidden": 2,
        "layer": 2,
    }
    assert numbers(found) == ["batch_size"]


def test_what_comes_from_files_is_escaped_and_missing_verdicts_are_told(tmp_path: Path) -> None:
    assert "&lt;b&gt;" in texts.waiting(Path("<b>"))
    assert "make reproduce writes it" in texts.verdicts(tmp_path)[0]
    (tmp_path / "claims.json").write_text("{")
    assert "claims.json" in texts.verdicts(tmp_path)[0] and texts.verdicts(tmp_path)[1] == ()


def test_when_verdicts_were_made_is_what_their_file_says(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text("[]")  # just written, of unknown age
    assert texts.verdicts(tmp_path)[0] == "As judged by make reproduce; not recomputed here."
    made = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat(timespec="seconds")
    path.write_text(json.dumps({"made": made, "command": "make reproduce", "verdicts": []}))
    assert texts.verdicts(tmp_path)[0].startswith("As judged by make reproduce 3 days ago (")
