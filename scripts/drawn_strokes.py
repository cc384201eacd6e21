"""Pen strokes as the nets of section 6.5 draw them: results/reference/section6-strokes.svg.

    python scripts/drawn_strokes.py [--seed 0] [--lines 2]

Trains each arm of experiment strokes (scale section6) at the rate that the frozen study chose, a minute each. Every
net reads the beginning of the same lines of the test set (grey), then draws on from its own density, all with the
same noise.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import data
import models
from experiments.records import files
from experiments.records.arm_rows import group_runs
from experiments.records.rows import Floats
from experiments.records.studies import REFERENCE
from experiments.records.table import read_table
from experiments.reports.scales import FRAME, INK, Scale, arm_styles
from experiments.reports.svg import Drawing, Panel
from experiments.sweeps.composed import composed_arms
from experiments.training import machine
from experiments.training.schema import Config
from experiments.training.train import train
from models.stroke_model import LARGEST_LOG_SIGMA, LARGEST_RHO, StrokeModel

SCALE, EXPERIMENT = "section6", "strokes"
READ, DRAWN = 60, 439  # points of each line
TALL, WIDTH, LEFT = 16.0, 460.0, 50.0  # a line in units of the data; the picture in its own


def main(seed: int, count: int) -> None:
    runs = group_runs(read_table(REFERENCE / SCALE)[0])
    configs = composed_arms([f"scale={SCALE}"], [EXPERIMENT])
    lines: dict[str, list[Floats]] = {}
    for (_, arm), config in configs.items():
        rate = runs[EXPERIMENT, arm].choice.learning_rate
        chosen = replace(config, seed=seed, optim=replace(config.optim, learning_rate=rate))
        model, beginning, rest = trained(chosen, count)
        lines.setdefault("test set", [points(line) for line in torch.cat([beginning, rest]).unbind(1)])
        lines[arm] = [points(line) for line in torch.cat([beginning, drawn(model, beginning, DRAWN, seed)]).unbind(1)]
    target = REFERENCE / f"{SCALE}-{EXPERIMENT}.svg"
    files.write(target, picture(lines).standalone(f"Lines of strokes, read for {READ} points and drawn on"))
    print(target)


def trained(config: Config, count: int) -> tuple[StrokeModel, Tensor, Tensor]:
    """The net of an arm, and steps (T, count, 3) of test lines: those it is to read, and those that really follow."""
    machine.prepare(config.threads, config.batch_size, config.kernel)
    source = data.load(config.data, batch_size=config.batch_size, seed=config.seed)
    model = models.build(config.model, config.norm, source.spec, config.seed)
    assert isinstance(model, StrokeModel)
    train(model, source, config.optim, updates=config.updates, evaluations=0)
    steps = next(iter(source.batches("test")))[0][:count].transpose(0, 1)
    return model.eval(), steps[:READ], steps[READ : READ + DRAWN]


@torch.no_grad()
def drawn(model: StrokeModel, beginning: Tensor, steps: int, seed: int) -> Tensor:
    """Steps (steps, B, 3) that a net draws after it has read others; the noise depends on the seed alone."""
    noise, found = torch.Generator().manual_seed(seed), beginning
    for _ in range(steps):
        found = torch.cat([found, sample(model(found)[-1], noise)[None]])
    return found[len(beginning) :]


def sample(parameters: Tensor, noise: torch.Generator) -> Tensor:
    """Steps (B, 3) from densities of these parameters (B, 1 + 6 mixtures): equations 18 to 25 of Graves (2013)."""
    end, mixture = parameters[:, :1], parameters[:, 1:]
    choice, first, second, last = torch.rand(4, len(parameters), 1, generator=noise).clamp(1e-6, 1 - 1e-6)
    weight, *rest = mixture.chunk(6, -1)
    component = (weight.softmax(-1).cumsum(-1) < choice).sum(-1, keepdim=True).clamp(max=weight.shape[-1] - 1)
    mean_x, mean_y, log_x, log_y, correlation = (part.gather(-1, component) for part in rest)
    rho = LARGEST_RHO * correlation.tanh()
    normal_x, other = torch.special.ndtri(first), torch.special.ndtri(second)
    normal_y = rho * normal_x + (1 - rho**2).sqrt() * other
    sizes = (part.clamp(-LARGEST_LOG_SIGMA, LARGEST_LOG_SIGMA).exp() for part in (log_x, log_y))
    x, y = (m + s * z for m, s, z in zip((mean_x, mean_y), sizes, (normal_x, normal_y), strict=True))
    return torch.cat([x, y, (last < end.sigmoid()).float()], -1)


def points(steps: Tensor) -> Floats:
    """(T, 3) steps as points (T, 2), NaN on the way to the first point of a stroke."""
    places = steps[:, :2].double().cumsum(0).numpy()
    lifted = np.concatenate([[False], steps[:-1, 2].numpy() > 0])
    return np.asarray(np.concatenate([np.where(lifted[:, None], np.nan, places), places], 1).reshape(-1, 2))


def picture(lines: Mapping[str, Sequence[Floats]]) -> Drawing:
    """A line below the other, grey as far as it was read."""
    styles = arm_styles(lines)
    reach = max(float(np.nanmax(line[:, 0])) for line in lines["test set"])
    rows = sum(map(len, lines.values()))
    tall = TALL * rows * (WIDTH - LEFT) / reach
    panel = Panel("", Scale(0, reach), Scale(TALL * rows, 0), plot=tall, width=WIDTH + 12, left=LEFT)
    middle = TALL / 2
    for name, drawings in lines.items():
        panel.text(LEFT - 8, float(panel.down([middle])[0]) + 3, name, "end")
        for line in drawings:
            x, y = line[:, 0], line[:, 1] - float(np.nanmax(line[:, 1]) + np.nanmin(line[:, 1])) / 2 + middle
            inside = (x >= 0) & (x <= reach)
            x = np.where(inside, x, np.nan)
            panel.line(x[: 2 * READ], y[: 2 * READ], FRAME, 0.8, kind="faint")
            colour = INK if name == "test set" else styles[name][0]
            panel.line(x[2 * READ :], y[2 * READ :], colour, 1.0)
            middle += TALL
    return Drawing("".join(panel.elements), WIDTH + 12, panel.bottom + 6, frozenset(panel.colours))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Strokes as trained nets draw them.")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the noise (0)")
    parser.add_argument("--lines", type=int, default=2, help="how many for each arm (2)")
    options = parser.parse_args()
    main(options.seed, options.lines)
