"""The files that a sweep leaves for other programs and for people: each run a line, each arm a curve."""

import csv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from experiments.reports import png
from experiments.reports.sweep_files import arms_of, write_sweep
from tests.invented import row


def run(norm: str, batch: int, seed: int, rate: float = 0.01, **changes: Any) -> dict[str, Any]:
    model = {"name": "language_model", "cell": "lstm"}
    config = {"norm": norm, "seed": seed, "batch_size": batch, "updates": 9, "model": model, "data": {"name": "text"}}
    config["optim"] = {"name": "adam", "learning_rate": rate}
    bits = 2 + 1 / batch + 0.01 * seed
    history = [{"update": at, "validation_loss": 1.0, "validation_bits_per_character": bits + 1 / at} for at in (1, 9)]
    arm = f"{norm} model=language_model batch_size={batch}"
    plain = {"run": f"{norm}-s{seed}-{batch}-{rate}", "learning_rate": rate, "config": config, "history": history}
    return row(arm, seed, bits, final={"test_bits_per_character": bits}) | plain | changes


SIX = [run(norm, batch, seed) for norm in ("none", "layer") for batch in (16, 8, 2) for seed in (0, 1)]


def texts(path: Path) -> list[str]:
    return [element.text for element in ElementTree.fromstring(path.read_text()).iter() if element.text]


def test_a_sweep_of_six_arms_is_six_curves_in_one_picture(tmp_path: Path) -> None:
    table, curves, _, series, _ = write_sweep(SIX, tmp_path)
    assert {path.parent for path in (table, curves, series)} == {tmp_path / "sweeps"}
    names = {f"{norm} batch_size={batch}" for norm in ("none", "layer") for batch in (16, 8, 2)}
    assert names <= {*texts(curves)} and "updates" in texts(curves)
    assert any("validation bits per character" in text for text in texts(curves))
    assert series.name.endswith("-by-batch_size.svg") and {"none", "layer", "batch size"} <= {*texts(series)}


def test_every_picture_is_there_as_pixels_too(tmp_path: Path) -> None:
    if not png.has_fonts():
        pytest.skip("there are no fonts on this machine")
    _, svg, pixels, *_ = write_sweep(SIX, tmp_path)
    size = ElementTree.fromstring(svg.read_text())
    with Image.open(pixels) as image:
        assert pixels == svg.with_suffix(".png") and image.format == "PNG"
        assert image.size == tuple(round(png.FINE * float(size.attrib[side])) for side in ("width", "height"))
        assert len(image.getcolors(1 << 20) or []) > 9  # curves of six arms on a ground


def test_without_fonts_there_is_no_picture_that_lacks_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "has_fonts", lambda: False)
    assert [path.suffix for path in write_sweep(SIX, tmp_path)] == [".csv", ".svg", ".svg"]


def test_each_run_is_a_line_with_its_settings_and_metrics(tmp_path: Path) -> None:
    with write_sweep(SIX, tmp_path)[0].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines] == [one["run"] for one in SIX]
    always = {"norm": "none", "model": "language_model", "data": "text", "batch_size": "16", "updates": "9"}
    shown = {"status": "completed", "optim.learning_rate": "0.01", "seed": "1", "test_bits_per_character": "2.0725"}
    assert lines[1].items() >= (always | shown).items() and "model.cell" not in lines[1]


def test_every_setting_that_differs_is_a_column(tmp_path: Path) -> None:
    other = run("layer", 8, 3)
    other["config"]["model"] = {"name": "mlp", "hidden_sizes": [8, 9]}
    with write_sweep([run("layer", 8, 2), other], tmp_path)[0].open() as file:
        first, second = csv.DictReader(file)
    assert (first["model"], first["model.cell"], first["model.hidden_sizes"]) == ("language_model", "lstm", "")
    assert (second["model"], second["model.cell"], second["model.hidden_sizes"]) == ("mlp", "", "[8, 9]")


def test_rates_that_were_given_tell_arms_apart() -> None:
    rows = [run("layer", 8, seed, rate) for rate in (0.01, 0.03) for seed in (0, 1)]
    arms = arms_of(rows)
    assert list(arms) == ["layer optim.learning_rate=0.01", "layer optim.learning_rate=0.03"]
    assert [len(group) for group in arms.values()] == [2, 2]


def test_the_same_runs_have_the_same_files_and_others_others(tmp_path: Path) -> None:
    first = write_sweep(SIX, tmp_path)
    assert write_sweep(SIX[::-1], tmp_path)[0] == first[0]
    assert not {*write_sweep(SIX[1:], tmp_path)} & {*first}


@pytest.mark.parametrize("changes", [{"history": []}, {"history": [{"update": 9, "validation_loss": 1.0}]}])
def test_what_has_no_curve_has_a_table(changes: dict[str, Any], tmp_path: Path) -> None:
    (table,) = write_sweep([run("layer", 8, 0, **changes)], tmp_path)
    assert len(table.read_text().splitlines()) == 2


def test_an_experiment_has_files_of_its_own_and_no_run_none(tmp_path: Path) -> None:
    names = [path.name for path in write_sweep([SIX[0], {**SIX[1], "experiment": "other"}], tmp_path)]
    assert {name.partition("-")[0] for name in names} == {"lm", "other"} and write_sweep([], tmp_path) == []


def test_a_run_that_diverged_is_a_line_and_a_curve_with_a_gap(tmp_path: Path) -> None:
    history = [{"update": 1, "validation_loss": 1.0}, {"update": 9, "validation_loss": None}]
    gone = run("none", 2, 1, history=history, status="diverged", final={"test_loss": None})
    table, *drawn = write_sweep([run("none", 2, 0, history=history[:1] * 2), gone], tmp_path)
    assert ",diverged," in table.read_text() and drawn
