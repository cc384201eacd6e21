"""Dashboards over the recorded runs: a live page here, or a workspace in Weights & Biases."""

import os
from argparse import Namespace
from pathlib import Path

from experiments.dashboards.wandb.outline import outlines
from experiments.dashboards.wandb.places import PROJECT
from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.studies import REFERENCE
from experiments.records.table import RUNS, read_table
from experiments.verdicts.claims_file import load_claims

# wandb's own patience is 19 s for each of many requests, with 20 tries.
WANDB = {"WANDB_HTTP_TIMEOUT": "10", "WANDB_X_GRAPHQL_RETRY_MAX": "1"}
WANDB |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}


def publish(results: Path, entity: str, project: str) -> None:
    """Lay out wandb's page by a table of runs: that of the results, or of ours while they have none yet."""
    for name, value in WANDB.items():
        os.environ.setdefault(name, value)
    from experiments.dashboards.wandb import workspace
    from experiments.verify import headline

    rows, _ = read_table(results if (results / RUNS).exists() else headline(REFERENCE))
    print(workspace.publish(entity, project, outlines(rows, load_claims()), results / "wandb" / "workspace.txt"))


def main() -> None:
    parser = Arguments(prog="layernorm dashboard", description=__doc__)
    parser.add_argument("results", nargs="?", default="results", type=Path, help="the folder with runs/ (results)")
    parser.add_argument("--port", default=5006, type=int, help="of 127.0.0.1; if taken, the next that is free (5006)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NAME", help="host of a proxy, say (repeatable)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--entity", help="instead: make, or renew, the workspace of this wandb user or team")
    parser.add_argument("--project", default=os.environ.get("WANDB_PROJECT") or PROJECT, help="theirs (%(default)s)")
    options = parser.parse_args()
    told_in_one_line(lambda: show(options), of_a_value)


def show(options: Namespace) -> None:
    if options.entity:
        return publish(options.results, options.entity, options.project)
    from experiments.dashboards.live.server import serve

    serve(options.results, options.port, options.open, options.allow)


if __name__ == "__main__":
    main()
