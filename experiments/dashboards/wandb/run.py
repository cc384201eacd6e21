"""What a run, and a reproduction's verdicts, look like in Weights & Biases."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.dashboards.wandb.places import RECORD
from experiments.records import rows

AXES = (*rows.AXES, "samples")  # what curves can be drawn against
INIT_TIMEOUT = 20.0  # seconds; wandb itself tries for 90 where its server cannot be reached
FINISH_TIMEOUT = 60.0  # for a run's last rows; wandb itself would wait for ever
TAG, GROUP = 64, 128  # characters at most

Record = dict[str, Any]  # of a run, or as much of it as there is yet


def identifier(*parts: str) -> str:
    """A run's id, which wandb makes names of files of; what cannot be in one is told apart by a digest."""
    name = "-".join(parts)
    if re.fullmatch(r"[\w.-]{1,128}", name, re.ASCII):
        return name
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:100] + "-" + digest(name.encode(errors="surrogatepass"))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def described(record: Record, claims: Iterable[str]) -> dict[str, Any]:
    """What wandb is told of a run when it is opened: its place, its tags, and its configuration to filter by."""
    config, arm = record["config"], record["group"]
    claims = () if record["scale"] == "smoke" else claims  # of which it says nothing
    place = {"experiment": record["experiment"], "arm": arm, "role": record["role"], "scale": record["scale"]}
    tags = [config["norm"], config["model"]["name"], config["data"]["name"], record["scale"], *claims]
    tags += ["synthetic"] if record.get("synthetic") else []
    return {
        "id": identifier(record["experiment"], record["run"]),
        "name": record["run"],
        "group": f"{record['experiment']}/{arm}"[:GROUP],
        "job_type": record["role"] if config["method"] == "train" else "exact",
        "tags": [tag[:TAG] for tag in dict.fromkeys(tags) if tag],
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

    def __init__(self, record: Record, claims: Iterable[str], options: Mapping[str, Any]) -> None:
        self.record = record
        self.run = opened(options, **described(record, claims))
        self.next: int = self.run.starting_step
        for name in AXES:
            self.run.define_metric(name, hidden=True)
        # fair also where arms differ in batch size
        self.run.define_metric(f"{record['experiment']}/*", step_metric="samples")

    def log(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            if row["update"] >= self.next:
                self.run.log(logged(self.record, row), step=row["update"])
                self.next = row["update"] + 1

    def finish(self, record: Record, version: str) -> Path:
        """All that is left of a run that has ended, with a record or by a failure; the folder that it was written to.

        Raises TimeoutError where the server does not take it.
        """
        import wandb

        self.log(record["history"])
        drawn = record.get("histograms", {})
        last = record["history"][-1]["update"] if record["history"] else 0
        if drawn and last + 1 >= self.next:
            shown = {name: wandb.Histogram(np_histogram=(counts, edges)) for name, (counts, edges) in drawn.items()}
            self.run.log(prefixed(record, shown), step=last + 1)
        self.run.summary.update({**concluded(record), RECORD: version})
        self.run.finish(exit_code=int(record["status"] == "failed"))
        return Path(self.run.sync_dir)

    def interrupt(self) -> None:
        """Leave a run that has not ended: somebody may go on with it."""
        self.run.mark_preempting()
        self.run.finish(exit_code=1)


def opened(options: Mapping[str, Any], **described: Any) -> Any:
    """A wandb run that costs as little as can be; raises wandb.Error where the server does not take it."""
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
    return wandb.init(settings=settings, **options, **described)


COLUMNS = ("id", "source", "statement", "verdict", "estimate", "interval", "p_holm", "experiment", "metric", "reason")
FIGURES = ("curves", "differences", "effect", "tuning", "bound")


def show_verdicts(
    verdicts: Sequence[dict[str, Any]], results: Path, name: str, version: str, options: Mapping[str, Any]
) -> Path:
    """One run for a whole reproduction: the table of verdicts, the figures of each claim, and the report itself."""
    import wandb

    scale = verdicts[0]["scale"]
    table = wandb.Table(columns=[*COLUMNS], data=[[verdict[column] for column in COLUMNS] for verdict in verdicts])
    figures = {f"figures/{verdict['id']}": drawings(results, verdict["id"]) for verdict in verdicts}
    counts = Counter(f"verdicts/{verdict['verdict']}" for verdict in verdicts)
    place = {"job_type": "verdicts", "group": "verdicts", "tags": ["verdicts", scale], "config": {"scale": scale}}
    with opened(options, id=name, name=name, **place) as run:
        run.log({"verdicts": table, "report": wandb.Html(str(results / "report.html"))})
        run.log({key: wandb.Html(drawn) for key, drawn in figures.items() if drawn})
        run.summary.update({**counts, RECORD: version})
    return Path(run.sync_dir)


def drawings(results: Path, claim: str) -> str:
    """The figures of a claim, side by side; none of one whose id is no part of a file's name."""
    if identifier(claim) != claim:
        return ""
    files = [results / "figures" / f"{claim}-{name}.svg" for name in FIGURES]
    return "\n".join(file.read_text() for file in files if file.exists())
