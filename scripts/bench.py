"""How long things take here beside plain PyTorch: results/reference/bench.csv, its figure, and a table in README.md.

python scripts/bench.py [--quick] [--only TEXT]
"""

import argparse
import csv
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.dashboards.progress import bar
from experiments.reports.scales import HUES, STYLE
from experiments.reports.write import replace_marked
from models import kernels
from scripts.bench_cases import NATIVE, PRODUCTS, REFERENCE, SCRIPT, SECTIONS, Case
from scripts.paired_timing import compare

QUICK_ROUNDS = 5
TICKS = (0.2, 0.5, 1, 2, 5, 10)  # of ratios


@dataclass
class Row:
    """A line of the table: one alternative of one case."""

    section: str
    cell: str  # or net
    norm: str
    implementation: str
    T: int | None
    B: int
    H: int
    threads: int
    milliseconds: float
    spread: float
    ratio_to_torch: float


def measure(cases: list[Case], quick: bool) -> Iterator[Row]:
    for case in cases:
        case.rounds = QUICK_ROUNDS if quick else case.rounds
    with bar() as progress:
        task = progress.add_task("", total=sum(case.rounds for case in cases))
        for case in cases:
            progress.update(task, description=f"{case.section}: {case.net}, batch {case.batch}")
            found = compare(case.alternatives, case.rounds, advance=lambda: progress.advance(task))
            for a, timing in zip(case.alternatives, found, strict=True):
                shape = (case.steps, case.batch, case.hidden, a.threads)
                numbers = (round(timing.milliseconds, 4), round(timing.spread, 3), round(timing.ratio, 3))
                yield Row(case.section, case.net, a.norm, a.implementation, *shape, *numbers)


def label(row: Row) -> str:
    size = f"B{row.B} H{row.H}" if row.T is None else f"T{row.T} B{row.B} H{row.H}"
    threads = f" {row.threads} threads" if row.threads > 1 else ""
    return f"{row.cell:14}{size:16}{row.norm:7}{row.implementation}{threads}"


def figure(rows: list[Row]) -> Figure:
    """Recurrent layers: the time of each implementation relative to PyTorch's own layer without a norm."""
    cells = list(dict.fromkeys(row.cell for row in rows))
    drawn = Figure(figsize=(9, 0.9 + 1.35 * len(cells)), layout="constrained")
    for axes, cell in zip(drawn.subplots(len(cells), 1, sharex=True, squeeze=False)[:, 0], cells, strict=True):
        shapes = list(dict.fromkeys((row.T, row.B, row.H) for row in rows if row.cell == cell))
        for place, shape in enumerate(shapes):
            for row in rows:
                if (row.cell, row.T, row.B, row.H) == (cell, *shape) and row.implementation != PRODUCTS:
                    native = row.implementation == NATIVE
                    marker = "o" if native else "x" if row.implementation.startswith("torch") else "s"
                    filled = HUES[row.norm] if native or marker == "x" else "none"
                    style = {"markersize": 6 if native else 4, "markerfacecolor": filled, "linestyle": "none"}
                    axes.plot(row.ratio_to_torch, place, marker, color=HUES[row.norm], **style)
        axes.set_yticks(range(len(shapes)), [f"T{t} B{b} H{h}" for t, b, h in shapes])
        axes.set_ylim(len(shapes) - 0.5, -0.5)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, map(str, TICKS))
        axes.minorticks_off()
        axes.axvline(1, color="#999999", linewidth=0.8, zorder=0)
        axes.set_title(cell, loc="left")
    axes.set_xlabel("time / time of PyTorch's own layer without a norm (one thread, forward and backward)")
    names = {"torch's own": "x", "native": "o", "reference loop, TorchScript": "s"}
    handles = [
        matplotlib.lines.Line2D([], [], color=HUES[n], marker=".", linestyle="none", label=n)
        for n in ("none", "layer", "batch")
    ]
    handles += [
        matplotlib.lines.Line2D(
            [],
            [],
            color="#333333",
            marker=m,
            linestyle="none",
            markersize=5,
            label=n,
            markerfacecolor="none" if m == "s" else "#333333",
        )
        for n, m in names.items()
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    return drawn


def processor() -> str:
    """The processor as it names itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    megahertz = f", {float(found['cpu MHz']) / 1e3:.1f} GHz" if "cpu MHz" in found else ""
    wide = next((name for name in ("AVX512", "AVX2") if name in torch.backends.cpu.get_cpu_capability()), "")
    return f"{found.get('model name', platform.processor())}{megahertz} {wide}".strip()


def summary(rows: list[Row]) -> str:
    """The recurrent layers' ratios to PyTorch's own without a norm, for README.md."""
    found = {(r.cell, r.T, r.B, r.H, r.implementation, r.norm): r.ratio_to_torch for r in rows}
    columns = [(NATIVE, "none"), (NATIVE, "layer"), (NATIVE, "batch"), (SCRIPT, "layer"), (REFERENCE, "layer")]
    titles = " | ".join(f"{implementation}, {norm}" for implementation, norm in columns)
    lines = [
        f"On {processor()}, one thread:",
        "",
        f"| cell, time steps, batch, units | torch, none | {titles} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for case in dict.fromkeys((r.cell, r.T, r.B, r.H) for r in rows):
        ratios = [found.get((*case, *column)) for column in columns]
        cells = " | ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"| {', '.join(map(str, case))} | 1 | {cells} |")
    return "\n".join(lines)


def write(rows: list[Row], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    if layers := [row for row in rows if row.section == "recurrent layer"]:
        with matplotlib.rc_context(STYLE):
            figure(layers).savefig(output.with_suffix(".svg"), metadata={"Date": None})


def main(quick: bool, only: str, output: Path | None, page: Path | None = None) -> None:
    if reason := kernels.unavailable():
        sys.exit(f"error: nothing to compare: {reason}")
    cases = [case for section in SECTIONS for case in section() if only in f"{case.section} {case.net}"]
    rows = []
    for row in measure(cases, quick):
        rows.append(row)
        print(f"{label(row):60}{row.milliseconds:9.3f} ms{row.ratio_to_torch:7.2f} ± {row.spread:.2f}", flush=True)
    if output is not None:
        write(rows, output)
    if page is not None:
        replace_marked(page, "bench", summary([row for row in rows if row.section == "recurrent layer"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times beside plain PyTorch.")
    parser.add_argument("--quick", action="store_true", help="few rounds, and no file unless named")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose section or net contains this")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="instead of results/reference/bench.csv and README.md"
    )
    options = parser.parse_args()
    if options.quick or options.only or options.output:
        main(options.quick, options.only, options.output)
    else:
        main(False, "", ROOT / "results/reference/bench.csv", ROOT / "README.md")
