"""How long things take here beside plain PyTorch: results/reference/bench.csv, its figure, a table in docs/speed.md.

python scripts/bench.py [--quick] [--only TEXT]
"""

import argparse
import csv
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.dashboards.progress import bar
from experiments.records import files
from experiments.reports.marked_pages import replace_marked
from experiments.reports.scales import FRAME, HUES, Scale, named
from experiments.reports.svg import Drawing, Panel
from models import kernels
from scripts.bench_cases import NATIVE, PRODUCTS, REFERENCE, SCRIPT, SECTIONS, STEPS, Case
from scripts.paired_timing import compare

QUICK_ROUNDS = 5
UPDATE = "training step"
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


def measure(cases: list[Case]) -> Iterator[Row]:
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


ABOUT = (
    "time / time of PyTorch's own layer without a norm (one thread, forward and backward); "
    "dot: native, bar: torch's own, diamond: reference loop or TorchScript"
)


def figure(rows: list[Row]) -> Drawing:
    """Recurrent layers: the time of each implementation relative to PyTorch's own layer without a norm."""
    shown = [row for row in rows if row.implementation != PRODUCTS]
    cases = list(dict.fromkeys((row.cell, row.T, row.B, row.H) for row in shown))
    names = {float(place): f"{cell} T{t} B{b} H{h}" for place, (cell, t, b, h) in enumerate(cases)}
    low, high = min(row.ratio_to_torch for row in shown), max(row.ratio_to_torch for row in shown)
    x = Scale(low / 1.2, high * 1.2, True, named(tick for tick in TICKS if low / 1.2 < tick < high * 1.2))
    norms = {norm: (HUES[norm], ()) for norm in ("none", "layer", "batch")}
    y = Scale(len(cases) - 0.5, -0.5, ticks=names)
    panel = Panel("recurrent layers", x, y, ABOUT, legend=norms, plot=14.0 * len(cases), width=430, left=110)
    panel.upright(1, FRAME, 0.5)
    for row in shown:
        place, colour = cases.index((row.cell, row.T, row.B, row.H)), HUES[row.norm]
        if row.implementation == NATIVE:
            panel.dots([row.ratio_to_torch], [place], colour, 5)
        elif row.implementation.startswith("torch"):
            panel.upright(row.ratio_to_torch, colour, 1.6, (place - 0.3, place + 0.3))
        else:
            panel.marks("diamond", [row.ratio_to_torch], [place], colour, 5)
    return panel.drawing()


def processor() -> str:
    """The processor as it names itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    megahertz = f", {float(found['cpu MHz']) / 1e3:.1f} GHz" if "cpu MHz" in found else ""
    wide = next((name for name in ("AVX512", "AVX2") if name in torch.backends.cpu.get_cpu_capability()), "")
    return f"{found.get('model name', platform.processor())}{megahertz} {wide}".strip()


def summary(rows: list[Row]) -> str:
    """The recurrent layers' ratios to PyTorch's own without a norm, for docs/speed.md."""
    found = {(r.cell, r.T, r.B, r.H, r.implementation, r.norm): r.ratio_to_torch for r in rows}
    columns = [(NATIVE, "none"), (NATIVE, "layer"), (NATIVE, "batch"), (SCRIPT, "layer"), (REFERENCE, "layer")]
    titles = " | ".join(f"{implementation}, {norm}" for implementation, norm in columns)
    lines = [
        f"| cell, time steps, batch, units | torch, none | {titles} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for case in dict.fromkeys((r.cell, r.T, r.B, r.H) for r in rows):
        ratios = [found.get((*case, *column)) for column in columns]
        cells = " | ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"| {', '.join(map(str, case))} | 1 | {cells} |")
    return "\n".join(lines)


def updates_summary(rows: list[Row]) -> str:
    """Whole updates of models with layer norm: the time of each step towards ours, relative to plain PyTorch."""
    found = {(r.cell, r.B, r.H, r.implementation): r.ratio_to_torch for r in rows}
    shown = [name for name in STEPS[1:] if name != "+ product"]
    lines = [
        f"| update of a model with layer norm | {' | '.join((STEPS[0], *shown))} |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for net, batch, hidden in dict.fromkeys((r.cell, r.B, r.H) for r in rows):
        ratios = [found.get((net, batch, hidden, name)) for name in shown]
        cells = " | ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"| {net}, batch {batch}, width {hidden} | 1 | {cells} |")
    return "\n".join(lines)


def write(rows: list[Row], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    if layers := [row for row in rows if row.section == "recurrent layer"]:
        files.write(output.with_suffix(".svg"), figure(layers).standalone(ABOUT))


def main(quick: bool, only: str, output: Path | None, page: Path | None = None) -> None:
    if reason := kernels.unavailable():
        sys.exit(f"error: nothing to compare: {reason}")
    cases = [case for section in SECTIONS for case in section() if only in f"{case.section} {case.net}"]
    rows = []
    for row in measure([replace(case, rounds=QUICK_ROUNDS) for case in cases] if quick else cases):
        rows.append(row)
        print(f"{label(row):60}{row.milliseconds:9.3f} ms{row.ratio_to_torch:7.2f} ± {row.spread:.2f}", flush=True)
    if output is not None:
        write(rows, output)
    if page is not None:
        of = {section: [row for row in rows if row.section == section] for section in ("recurrent layer", UPDATE)}
        parts = (f"On {processor()}, one thread:", summary(of["recurrent layer"]), updates_summary(of[UPDATE]))
        replace_marked(page, "bench", "\n\n".join(parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times beside plain PyTorch.")
    parser.add_argument("--quick", action="store_true", help="few rounds, and no file unless named")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose section or net contains this")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="instead of results/reference/bench.csv and docs/speed.md"
    )
    options = parser.parse_args()
    if options.quick or options.only or options.output:
        main(options.quick, options.only, options.output)
    else:
        main(False, "", ROOT / "results/reference/bench.csv", ROOT / "docs/speed.md")
