"""What a run, and a reproduction's verdicts, look like in Weights & Biases. The only file that imports wandb."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.dashboards.wandb.places import PROJECT
from experiments.records.files import SuiteError

AXES = ("update", "samples", "seconds")  # what curves can be drawn against
INIT_TIMEOUT = 20.0  # seconds; wandb itself tries for 90 where its server cannot be reached
FINISH_TIMEOUT = 60.0  # for a run's last rows; wandb itself would wait for ever
API_TIMEOUT = 20
TAG, GROUP = 64, 128  # characters at most
JUDGED = ("laptop", "paper")  # scales at which claims are; a smoke run says nothing of one

Record = dict[str, Any]  # of a run, or as much of it as there is yet


def identifier(record: Record) -> str:
    return f"{record['experiment']}-{record['run']}"


def described(record: Record, claims: Iterable[str]) -> dict[str, Any]:
    """What wandb is told of a run when it is opened: its place, its tags, and its configuration to filter by."""
    config, arm = record["config"], record["group"]
    claims = claims if record["scale"] in JUDGED else ()
    place = {"experiment": record["experiment"], "arm": arm, "role": record["role"], "scale": record["scale"]}
    tags = [config["norm"], config["model"]["name"], config["data"]["name"], record["scale"], *claims]
    tags += ["synthetic"] if record.get("synthetic") else []
    return {
        "id": identifier(record),
        "name": record["run"],
        "group": f"{record['experiment']}/{arm}"[:GROUP],
        "job_type": record["role"] if config["method"] == "train" else "exact",
        "tags": [tag[:TAG] for tag in dict.fromkeys(tags)],
        "config": {**place, **config},
    }


def logged(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    """One evaluation: the axes, and each metric below its experiment's name."""
    at = {name: row[name] for name in AXES if name in row}
    at["samples"] = row["update"] * record["config"]["batch_size"]
    return at | prefixed(record, {name: value for name, value in row.items() if name not in AXES})


def concluded(record: Record) -> dict[str, Any]:
    """The summary: test metrics, the last and the best of each curve, times, and how the run ended."""
    curves: dict[str, list[float]] = defaultdict(list)
    for row in record["history"]:
        for name, value in row.items():
            curves[name] += [] if name in AXES or value is None else [value]
    best = {f"best_{name}": min(values) for name, values in curves.items() if values}
    return {**prefixed(record, {**record["final"], **best}), **record["timing"], "status": record["status"]}


def prefixed(record: Record, values: dict[str, Any]) -> dict[str, Any]:
    """Metrics below the experiment's name, which gives each a section of its own, and those of tuning runs apart.

    Records have null, as JSON does, where a number was not finite; wandb has NaN.
    """
    place = f"{record['experiment']}/{'tuning/' if record['role'] == 'tune' else ''}"
    return {place + name: math.nan if value is None else value for name, value in values.items()}


class WandbRun:
    """A run open in wandb. Rows that are there already, of an earlier attempt too, are not sent again."""

    def __init__(self, record: Record, claims: Iterable[str], folder: Path) -> None:
        self.record = record
        self.run = opened(folder, **described(record, claims))
        self.next: int = self.run.starting_step
        self.rows = 0  # that there must be when it has ended
        for name in AXES:
            self.run.define_metric(name, hidden=True)
        self.run.define_metric(
            f"{record['experiment']}/*", step_metric="samples"
        )  # fair also where arms differ in batch size

    def log(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            if row["update"] >= self.next:
                self.run.log(logged(self.record, row), step=row["update"])
                self.next = row["update"] + 1

    def finish(self, record: Record) -> None:
        """All that is left of a run that has ended, with a record or by a failure."""
        import wandb

        self.log(record["history"])
        drawn = record.get("histograms", {})
        self.rows = len(record["history"]) + bool(drawn)
        last = record["history"][-1]["update"] if record["history"] else 0
        if drawn and last + 1 >= self.next:
            shown = {name: wandb.Histogram(np_histogram=(counts, edges)) for name, (counts, edges) in drawn.items()}
            self.run.log(prefixed(record, shown), step=last + 1)
        self.run.summary.update(concluded(record))
        try:
            self.run.finish(exit_code=int(record["status"] == "failed"))
        except TimeoutError:
            raise SuiteError(f"wandb: its server took no more rows for {FINISH_TIMEOUT:g} s") from None

    def arrived(self) -> bool:
        """Whether the server says that it has all rows; what it refuses, wandb does not tell."""
        import wandb

        try:
            api = wandb.Api(overrides={"entity": self.run.entity}, timeout=API_TIMEOUT)
            return bool(api.run(self.run.path).historyLineCount >= self.rows)
        except (wandb.Error, ValueError):
            return False

    def interrupt(self) -> None:
        """Leave a run that has not ended: somebody may go on with it."""
        self.run.mark_preempting()
        self.run.finish(exit_code=1)


def opened(folder: Path, **options: Any) -> Any:
    """A wandb run that costs as little as can be; online, one of the same id is gone on with."""
    import wandb

    settings = wandb.Settings(
        console="off",
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        finish_timeout_raises=True,
        reinit="create_new",
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,  # four times the cost of all the rest
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
    )
    resume: Any = "allow" if os.environ["WANDB_MODE"] == "online" else None
    project = os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        return wandb.init(project=project, dir=str(folder), settings=settings, resume=resume, **options)
    except wandb.Error as error:  # no key, no network, no such entity
        raise SuiteError(f"wandb: {' '.join(str(error).split())}") from error


COLUMNS = ("id", "source", "statement", "verdict", "estimate", "interval", "p_holm", "experiment", "metric", "reason")
FIGURES = ("curves", "differences", "tuning", "bound")


def show_verdicts(verdicts: Sequence[dict[str, Any]], results: Path, folder: Path) -> None:
    """One run for a whole reproduction: the table of verdicts, the figures of each claim, and the report itself."""
    import wandb

    name, scale = verdicts_id(verdicts), verdicts[0]["scale"]
    table = wandb.Table(columns=[*COLUMNS], data=[[verdict[column] for column in COLUMNS] for verdict in verdicts])
    figures = {f"figures/{verdict['id']}": drawings(results, verdict["id"]) for verdict in verdicts}
    counts = Counter(f"verdicts/{verdict['verdict']}" for verdict in verdicts)
    place = {"job_type": "verdicts", "group": "verdicts", "tags": ["verdicts", scale], "config": {"scale": scale}}
    with opened(folder, id=name, name=name, **place) as run:
        run.log({"verdicts": table, "report": wandb.Html(str(results / "report.html"))})
        run.log({key: wandb.Html(drawn) for key, drawn in figures.items() if drawn})
        run.summary.update(counts)


def verdicts_id(verdicts: Sequence[dict[str, Any]]) -> str:
    return f"verdicts-{verdicts[0]['scale']}"


def drawings(results: Path, claim: str) -> str:
    """The figures of a claim, side by side."""
    files = [results / "figures" / f"{claim}-{name}.svg" for name in FIGURES]
    return "\n".join(file.read_text() for file in files if file.exists())
