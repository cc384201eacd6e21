"""Two studies beside each other: verdicts, estimates, runs and configurations. `layernorm compare [A] [B]`.

Each is a folder as make reproduce leaves it, or the runs.csv in it: such as results, results/reference/evening. Without
B the frozen study of A's scale, without A your own results.
"""

from pathlib import Path

from experiments.dashboards.terminal import Terminal
from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.studies import frozen
from experiments.reports.comparison import Study, comparison, read_study


def main() -> None:
    parser = Arguments(prog="layernorm compare", description=__doc__)
    parser.add_argument("first", nargs="?", type=Path, default=Path("results"), metavar="A", help="(results)")
    parser.add_argument("second", nargs="?", type=Path, metavar="B", help="(the frozen study of A's scale)")
    parser.add_argument("--all", action="store_true", help="also the claims whose verdicts agree")
    options = parser.parse_args()
    told_in_one_line(lambda: compare(options.first, options.second, every=options.all), of_a_value)


def compare(first: Path, second: Path | None, *, every: bool) -> None:
    one = read_study(first)
    console = Terminal(highlight=False)
    for part in comparison(one, read_study(second or like(one)), every=every):
        console.print(part)


def like(study: Study) -> Path:
    """The frozen study of the same scale."""
    scale = study.rows[0]["scale"] if study.rows else ""
    if (found := frozen(scale)) is None:
        raise ValueError(f"{study.name}: there is no frozen study of scale {scale or 'none'}; name a second folder")
    return found


if __name__ == "__main__":
    main()
