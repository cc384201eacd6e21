"""The table of all runs: everything the verdicts are judged on, in three files that git and pandas can hold.

    runs.csv      one line a run: plan, status, wall and CPU times as `timing.*`, and every final metric
    curves.csv    one line an evaluation: experiment and run, as in runs.csv, update and metrics
    configs.json  each arm's configuration but for seed and learning rate, the environments (runs.csv has their
                  number), the command that made the report and when

An empty cell is a number a run does not have, `nan` one that was not finite. Rows are rounded to nine digits where
they are made, so what is read back judges and draws exactly as what was written. Sorted: the same rows, in any
order, are the same bytes.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.records import files
from experiments.records.rows import Row

RUNS, CURVES, CONFIGS = FILES = ("runs.csv", "curves.csv", "configs.json")
PLAN = ("experiment", "arm", "role", "scale", "seed", "learning_rate", "run", "status", "synthetic")
CHOICES = {
    "role": ("tune", "evaluate"),
    "status": ("completed", "diverged", "undefined"),
    "synthetic": ("true", "false"),
}
RUN_COLUMNS = (*PLAN, "environment", "evaluations")  # the number of evaluations tells a curve that was cut off
CURVE_COLUMNS = ("experiment", "run", "update")
NAME = re.compile(r"\w[\w.+-]*")  # of an experiment, and of files
TIMING = "timing."  # sets times apart from metrics
LAYOUT = 1
REMEDY = "make reproduce writes it anew, make freeze those of results/reference"


@dataclass(frozen=True)
class Origin:
    """What a table and the report of it come from: a command and, of all but old tables, the time it ended, in UTC.

    And what the report is of, if not of all the declared claims alone.
    """

    command: str
    made: str | None = None  # ISO 8601, to the second
    claims: tuple[str, ...] = ()  # the ids of those that were chosen
    beside: str = ""  # the frozen study whose verdicts are shown beside these
    own: Mapping[str, str] = field(default_factory=dict)  # of the user: variables of make, CLAIMS and CONFIGS

    def of(self) -> dict[str, Any]:
        """What is recorded of it only where it is said."""
        said = {"made": self.made, "claims": list(self.claims), "beside": self.beside, "own": dict(self.own)}
        return {key: value for key, value in said.items() if value}


class TableError(files.SuiteError):
    """A table that is missing or damaged: file, line and what is wrong there."""


def rounded(value: Any) -> Any:
    """Plain JSON values of nine digits (the rest differs between processors); what is not finite becomes null."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


# ------------------------------------------------------------------------------------------------------ writing


def write_table(rows: Iterable[Row], folder: str | Path, origin: Origin) -> None:
    """Write the three files to `folder`, each whole or not at all."""
    folder, ordered = Path(folder), sorted(rows, key=_place)
    environments = sorted({json.dumps(row["environment"]) for row in ordered if "environment" in row})
    about = {
        "layout": LAYOUT,
        "command": origin.command,
        **origin.of(),
        "runs": len(ordered),
        "environments": [json.loads(text) for text in environments],
        "arms": _arm_configs(ordered),
    }
    numbers = {text: place for place, text in enumerate(environments)}
    curves = {(row["experiment"], row["run"]): row["history"] for row in ordered}  # once, whichever arms share the run
    points = [{"experiment": name, "run": run, **point} for (name, run), curve in curves.items() for point in curve]
    files.write(folder / RUNS, csv_text(RUN_COLUMNS, [_cells(row, numbers) for row in ordered]))
    files.write(folder / CURVES, csv_text(CURVE_COLUMNS, points))
    files.write(folder / CONFIGS, json.dumps(about, indent=1) + "\n")


def _place(row: Row) -> tuple[Any, ...]:
    return row["experiment"], row["arm"], row["role"], row["learning_rate"] or 0.0, row["seed"], row["run"]


def _arm_configs(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """Experiment -> arm -> what its runs have in common, and how often those of each role are evaluated.

    The order of keys is kept, for the report shows it.
    """
    arms: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "config" in row:
            optim = {key: value for key, value in row["config"]["optim"].items() if key != "learning_rate"}
            shared = {key: value for key, value in row["config"].items() if key != "seed"} | {"optim": optim}
            known = arms.setdefault(row["experiment"], {}).setdefault(row["arm"], {**shared, "evaluations": {}})
            times = known["evaluations"].setdefault(row["role"], shared.get("evaluations"))
            if known | {"evaluations": times} != shared | {"evaluations": shared.get("evaluations")}:
                raise TableError(f"run {row['run']}: its configuration is not that of arm {row['arm']!r}'s other runs")
    return arms


def _cells(row: Row, environments: Mapping[str, int]) -> dict[str, Any]:
    number = environments[json.dumps(row["environment"])] if "environment" in row else ""
    plan = {key: row[key] for key in PLAN} | {"synthetic": str(row["synthetic"]).lower()}
    plan["learning_rate"] = "" if row["learning_rate"] is None else row["learning_rate"]
    times = {TIMING + name: value for name, value in row["timing"].items()}
    return {**plan, "environment": number, "evaluations": len(row["history"]), **times, **row["final"]}


def csv_text(first: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """The columns `first`, then times, then metrics, both in order of name."""
    others = {name for line in lines for name in line} - set(first)
    columns = [*first, *sorted(others, key=lambda name: (not name.startswith(TIMING), name))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(line[name]) if name in line else "" for name in columns] for line in lines)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return "nan"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------------ reading


def read_table(folder: str | Path) -> tuple[list[dict[str, Any]], Origin]:
    """The rows of a table and what they come from. Raises TableError: file, line and what is wrong there."""
    folder = Path(folder)
    about = _read_about(folder / CONFIGS)
    rows = list(_read_csv(folder / RUNS, RUN_COLUMNS, _run_reader(about)))
    if len(rows) != about["runs"]:
        raise TableError(f"{folder / RUNS}: has {len(rows)} of {about['runs']} runs; {REMEDY}")
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {(row["experiment"], row["run"]): [] for row in rows}
    for (experiment, run), point in _read_csv(folder / CURVES, CURVE_COLUMNS, _curve_reader(curves)):
        curves[experiment, run].append(point)
    for row in rows:
        row["history"], expected = curves[row["experiment"], row["run"]], row.pop("evaluations")
        if len(row["history"]) != expected:
            found = f"run {row['run']} has {len(row['history'])} of {expected} evaluations"
            raise TableError(f"{folder / CURVES}: {found}; {REMEDY}")
    said = {key: about[key] for key in ("made", "beside", "own") if key in about}
    return rows, Origin(about["command"], claims=tuple(about.get("claims", ())), **said)


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = files.from_json(_text(path))
    except (ValueError, RecursionError) as error:
        place, said = (f", line {error.lineno}", error.msg) if isinstance(error, json.JSONDecodeError) else ("", error)
        raise TableError(f"{path}{place}: {said}; {REMEDY}") from None
    kinds = {"layout": int, "command": str, "runs": int, "environments": list, "arms": dict}
    found = about if isinstance(about, dict) else {}
    wrong = [f"no {key}" for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
    wrong += [f"{key} is no text" for key in ("made", "beside") if not isinstance(found.get(key, ""), str)]
    wrong += [] if NAME.fullmatch(str(found.get("beside", "none"))) else ["beside is no study"]
    for key, kind in (("claims", list), ("own", dict)):
        said = found.get(key, kind())
        texts = said.values() if isinstance(said, dict) else said
        if not isinstance(said, kind) or not all(isinstance(text, str) for text in texts):
            wrong.append(f"{key} are no texts")
    if not wrong and found["layout"] != LAYOUT:
        wrong = [f"layout {found['layout']}, expected {LAYOUT}"]
    if not wrong:
        wrong = [f"an arm of {name} lacks optim" for name, arms in found["arms"].items() if not _whole_arms(arms)]
    if wrong:
        raise TableError(f"{path}: not the configurations of a table ({wrong[0]}); {REMEDY}")
    return found


def _whole_arms(arms: Any) -> bool:
    """Whether these are configurations into which a run's learning rate can be put back."""
    configs = list(arms.values()) if isinstance(arms, dict) else [None]
    parts = ("optim", "evaluations")
    return all(isinstance(config, dict) and all(isinstance(config.get(p), dict) for p in parts) for config in configs)


def _run_reader(about: Mapping[str, Any]) -> Callable[[dict[str, str]], dict[str, Any]]:
    seen = set()

    def read(cells: dict[str, str]) -> dict[str, Any]:
        for key, choices in CHOICES.items():
            if cells[key] not in choices:
                raise ValueError(f"{key}: {cells[key]!r} is not one of {', '.join(choices)}")
        row: dict[str, Any] = {key: cells.pop(key) for key in PLAN}
        if not NAME.fullmatch(row["experiment"]):
            raise ValueError(f"experiment: {row['experiment']!a} is not the name of one")
        row |= {"seed": _whole("seed", row["seed"]), "synthetic": row["synthetic"] == "true"}
        row["learning_rate"] = _number("learning_rate", row["learning_rate"]) if row["learning_rate"] else None
        if _place(row) in seen:
            raise ValueError(f"run {row['run']} of {row['experiment']}/{row['arm']} is there twice")
        seen.add(_place(row))
        row |= _made_with(about, row, cells.pop("environment"))
        row["evaluations"] = _whole("evaluations", cells.pop("evaluations"))
        numbers = {name: _number(name, cell) for name, cell in cells.items() if cell}
        row["timing"] = {name[len(TIMING) :]: numbers.pop(name) for name in list(numbers) if name.startswith(TIMING)}
        row["final"] = numbers
        return row

    return read


def _made_with(about: Mapping[str, Any], row: Row, environment: str) -> dict[str, Any]:
    """Configuration and environment of a run, where the table has them."""
    made: dict[str, Any] = {}
    shared = about["arms"].get(row["experiment"], {}).get(row["arm"])
    if shared:
        optim = {**shared["optim"], "learning_rate": row["learning_rate"]}
        made["config"] = {**shared, "seed": row["seed"], "optim": optim}
        made["config"]["evaluations"] = shared["evaluations"].get(row["role"])
    if environment:
        number, known = _whole("environment", environment), about["environments"]
        if not 0 <= number < len(known):
            raise ValueError(f"environment: {number} is not one of the {len(known)} of {CONFIGS}")
        made["environment"] = known[number]
    return made


def _curve_reader(
    known: Mapping[tuple[str, str], Any],
) -> Callable[[dict[str, str]], tuple[tuple[str, str], dict[str, Any]]]:
    def read(cells: dict[str, str]) -> tuple[tuple[str, str], dict[str, Any]]:
        key = cells.pop("experiment"), cells.pop("run")
        if key not in known:
            raise ValueError(f"run {key[1]!r} of {key[0]!r} is not in {RUNS}")
        point: dict[str, Any] = {"update": _whole("update", cells.pop("update"))}
        return key, point | {name: _number(name, cell) for name, cell in cells.items() if cell}

    return read


def _read_csv(path: Path, first: Sequence[str], read: Callable[[dict[str, str]], Any]) -> Iterator[Any]:
    text = _text(path)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if header[: len(first)] != list(first) or len(set(header)) < len(header):
            raise ValueError(f"the columns must be different and begin with {', '.join(first)}")
        for cells in lines:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} cells, expected {len(header)}")
            yield read(dict(zip(header, cells, strict=True)))
        if not text.endswith("\n"):
            raise ValueError("cut off")
    except (ValueError, csv.Error) as error:
        raise TableError(f"{path}, line {max(1, lines.line_num)}: {error}; {REMEDY}") from None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise TableError(f"{path} does not exist; {REMEDY}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not text ({error.reason} at byte {error.start}); {REMEDY}") from None


def _whole(name: str, cell: str) -> int:
    if not cell.isdecimal():
        raise ValueError(f"{name}: {cell!r} is not a whole number")
    return int(cell)


def _number(name: str, cell: str) -> float | None:
    if cell == "nan":
        return None
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: {cell!r} is not a number")
    return number
