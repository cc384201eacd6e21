"""The report: verdicts and the runs behind them as claims.json, report.md and one figure per claim.

A pure function of the recorded runs: the same rows give the same bytes, a changed report is a changed result.
`python -m experiments.report results/claims.json README.md` puts the verdicts into a page, from claims.json alone.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.claims import Claim, Registry
from experiments.evidence import Row, Runs, group_runs
from experiments.figures import draw
from experiments.tables import SYMBOLS, arm_table, experiment_table, markdown_table, step_time_table
from experiments.verdicts import VERDICTS, Verdict
from experiments.wording import tidy


def write_report(
    registry: Registry, rows: Iterable[Row], verdicts: Sequence[Verdict], folder: str | Path, command: str
) -> None:
    """Write figures, report.md and claims.json to `folder`, each by rename; figures of other claims go."""
    folder = Path(folder)
    runs = group_runs(rows)
    claims = {claim.id: claim for claim in registry.family}
    figures = {}
    for verdict in verdicts:
        drawing = draw(claims[verdict.id], verdict, runs)
        if drawing is not None:
            figures[f"{verdict.id}.svg"] = drawing
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, drawing in figures.items():
        _write(folder / "figures" / name, drawing)
    for stale in (folder / "figures").glob("*.svg"):
        if stale.name not in figures:
            stale.unlink()
    _write(folder / "report.md", report_text(registry, runs, verdicts, command, figures).encode())
    _write(folder / "claims.json", claims_json(verdicts).encode())


def claims_json(verdicts: Iterable[Verdict]) -> str:
    """The verdicts for programs: one object per claim, keys sorted, null for what does not exist."""
    plain = [verdict.as_dict() for verdict in verdicts]
    return json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_verdicts(path: str | Path) -> list[Verdict]:
    """The verdicts of a claims.json. Raises ValueError, in one line, if it is missing or something else."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(plain, list):
            raise ValueError("not a list")
        return [Verdict.from_dict(entry) for entry in plain]
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; make reproduce writes results/claims.json") from None
    except ValueError as error:
        raise ValueError(f"{path}: not the verdicts of a report ({error})") from None


def update_readme(readme: str | Path, verdicts: Iterable[Verdict], report: str = "results/reference/report.md") -> None:
    """Replace what stands between the verdicts markers of a page. Raises ValueError if it, or they, are missing."""
    replace_marked(Path(readme), "verdicts", markdown_table(verdicts, report))


def replace_marked(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers `name` of a page. Raises ValueError if it, or they, are missing."""
    if not page.is_file():
        raise ValueError(f"{page} does not exist")
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page}: the markers {first} and {last} are missing")
    _write(page, f"{before}{begin}\n{text}\n{end}{after}".encode())


# ------------------------------------------------------------------------------------------------------ text


def report_text(
    registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str, figures: Iterable[str] = ()
) -> str:
    """report.md: overview, then a section for each claim. `figures` are the names of those that exist."""
    claims, drawn = {claim.id: claim for claim in registry.family}, set(figures)
    sections = [_section(claims[verdict.id], verdict, runs, f"{verdict.id}.svg" in drawn) for verdict in verdicts]
    head = ["# Layer Normalization: what the evidence says", _introduction(registry, runs, verdicts, command)]
    table = markdown_table(verdicts)
    body = [*head, "## Verdicts", table, _how_to_read(registry), *sections, *_step_times(runs), *_all_arms(runs)]
    return "\n\n".join(body) + "\n"


def _introduction(registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str) -> str:
    every = [row for group in runs.values() for row in group]
    scales = ", ".join(sorted({str(row["scale"]) for row in every})) or "none"
    counts = ", ".join(
        f"{count} {verdict}" for verdict in VERDICTS if (count := sum(v.verdict == verdict for v in verdicts))
    )
    evaluated = sum(row["role"] == "evaluate" for row in every)
    lines = [
        'The claims of "Layer Normalization" (Ba, Kiros and Hinton, 2016, arXiv:1607.06450) that this suite '
        "tests, each with its verdict and the runs behind it. A claim, its test and the smallest effect that "
        "counts were declared before the runs.",
        f"Scale **{scales}** · {registry.seeds} seeds per arm · {evaluated} evaluation and "
        f"{len(every) - evaluated} tuning runs · {counts or 'no claims'} · made by `{command}`",
    ]
    made = sorted({_made_by(row["environment"]) for row in every if "environment" in row})
    lines += [f"Runs made with {'; '.join(made)}."] if made else []
    if any(row["synthetic"] for row in every):
        lines.append("**Synthetic data**: some runs used generated data; they say nothing about real data.")
    return "\n\n".join(lines)


def _made_by(environment: Mapping[str, Any]) -> str:
    kernel = f", {kernel} recurrent layers" if (kernel := environment.get("kernel")) else ""
    return f"torch {environment['torch']} on {environment['device']}{kernel}, commit {environment['commit']}"


def _all_arms(runs: Runs) -> list[str]:
    """Every arm of every training experiment, also those that no claim is about."""
    tables = []
    evaluated = {key[:2]: rows for key, rows in sorted(runs.items()) if key[2] == "evaluate"}
    for experiment in dict.fromkeys(name for name, _ in evaluated):
        arms = {arm: rows for (name, arm), rows in evaluated.items() if name == experiment}
        if any(row["history"] for rows in arms.values() for row in rows):
            tables.append(f"### {experiment}\n\n{experiment_table(arms)}")
    return ["## All arms", "Mean ± sd over the evaluation seeds.", *tables] if tables else []


def _step_times(runs: Runs) -> list[str]:
    """What an update takes with each norm, where it was measured side by side."""
    arms = {arm: rows for (_, arm, role), rows in sorted(runs.items()) if role == "evaluate" and _timed(rows)}
    if not arms:
        return []
    first = next(iter(arms.values()))[0]
    name = first["experiment"]
    of = f"Runs of `{name}`: `{first['config']['model']['name']}` of {first['config']['model']['hidden_size']} units"
    text = f"""{of}, batch {first["config"]["batch_size"]}. Each run trains the model with every norm in turns, in one
process; a cell is the median over the runs of the milliseconds of wall time an update takes and, in brackets, of
their ratio to those without a norm. "Faster (per update)" in a claim becomes faster in time only beyond that ratio."""
    return ["## Time per update", text, step_time_table(arms)]


def _timed(rows: Sequence[Row]) -> bool:
    return all("milliseconds_none" in row["timing"] for row in rows)


def _how_to_read(registry: Registry) -> str:
    return f"""## How to read the verdicts

- ✔ **supported**: the effect is significant in the claimed direction and reaches the margin; an exact claim
  holds in every run.
- ✘ **contradicted**: the same in the opposite direction; an exact claim fails in some run.
- ≈ **equivalent**: the effect is shown to be smaller than the margin, in either direction.
- ? **inconclusive**: none of these, or a best learning rate lies on the edge of its grid and a better one may
  lie beyond (unless the arm is undefined at every rate: then there is none to find).
- … **incomplete**: runs are missing; fewer seeds are never averaged.

Arms are compared seed by seed: same initial weights, same order of the data, each at its own learning rate,
tuned by validation loss on seeds that are not reported. p is that of an exact one-sided sign-flip test,
corrected by Holm over all claims (alpha = {tidy(registry.alpha)}); the interval is a paired 95 % Student t.
Where runs diverged only signs count. *Undefined* is batch norm trained on one value per channel: its output
is its shift, and its weights get no gradient."""


def _section(claim: Claim, verdict: Verdict, runs: Runs, drawn: bool) -> str:
    tuned = [
        label for label, (name, arm) in zip(claim.labels, claim.arms(), strict=True) if (name, arm, "tune") in runs
    ]
    some = "" if len(tuned) == len(claim.labels) else f" ({', '.join(tuned)})"
    rates = f"tuned per arm by validation loss{some}" if tuned else "as configured, not tuned"
    experiments = ", ".join(f"`{name}`" for name in _experiments(claim))
    change = f"\n- What would change the verdict: {claim.would_change}" if claim.would_change else ""
    parts = [
        f"## {claim.id}",
        f"**{claim.statement}** ({claim.source})",
        f"{SYMBOLS[verdict.verdict]} **{verdict.verdict}**: {verdict.reason}",
        f"![{claim.id}](figures/{claim.id}.svg)" if drawn else "",
        f"Set-up: experiment {experiments}, metric `{claim.metric}`, "
        f"{_test(claim)}; {len(verdict.seeds)} seeds{_seed_range(verdict.seeds)}; learning rates {rates}.",
        "\n".join(filter(None, (_runs(name, claim, runs) for name in _experiments(claim)))),
        arm_table(claim, verdict, runs),
        f"- Expected: {claim.expected}\n- Deviations from the paper: {claim.deviations}{change}",
        f"```sh\nmake reproduce CLAIM={claim.id}\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def _experiments(claim: Claim) -> list[str]:
    return list(dict.fromkeys(experiment for experiment, _ in claim.arms()))


def _runs(experiment: str, claim: Claim, runs: Runs) -> str:
    """What the runs of an experiment were, from their own configurations; empty where rows carry none."""
    arms = [arm for name, arm in claim.arms() if name == experiment]
    configs = [row["config"] for arm in arms for row in runs.get((experiment, arm, "evaluate"), ()) if "config" in row]
    if not configs:
        return ""
    first = configs[0]
    sizes = (
        f"{key.replace('_', ' ')} {_values(config[key] for config in configs)}" for key in ("batch_size", "updates")
    )
    optim = first["optim"]
    how = f"{', '.join(sizes)}, {optim['name']}, {optim['schedule']} schedule"
    how = how if first["method"] == "train" else f"no tuning, measured by `{first['method']}` of experiments/probes.py"
    model, source = (_options([config[part] for config in configs]) for part in ("model", "data"))
    return f"Runs of `{experiment}`: {model} on {source}; {how}."


def _options(configs: Sequence[Mapping[str, Any]]) -> str:
    """A model or a data set with its options, those left empty omitted, those that differ with all their values."""
    told = {key: _values(c[key] for c in configs if c[key] not in (None, "", [])) for key in configs[0]}
    name = told.pop("name")
    return f"`{name}` ({', '.join(f'{key} {value}' for key, value in told.items() if value)})"


def _values(values: Iterable[Any]) -> str:
    return " or ".join(dict.fromkeys(map(str, values)))


def _test(claim: Claim) -> str:
    if claim.kind == "bound":
        return f"every run {claim.bound_text()}"
    if claim.kind == "equivalence":
        return f"`{claim.subject()}` claimed within ±{tidy(claim.margin)}"
    sign = "<" if claim.direction == "less" else ">"
    return f"`{claim.subject()}` claimed {sign} 0, margin {tidy(claim.margin)}"


def _seed_range(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f" ({seeds[0]} to {seeds[-1]})"
    return f" ({', '.join(map(str, seeds))})" if seeds else ""


def _write(path: Path, content: bytes) -> None:
    """Write by rename: readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


# ------------------------------------------------------------------------------------------------------ page


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report", description="Write the verdict table of a claims.json into a page."
    )
    parser.add_argument("verdicts", help="what make reproduce wrote: results/claims.json")
    parser.add_argument("page", help="the page, README.md: what stands between the verdicts markers is replaced")
    options = parser.parse_args()
    try:
        update_readme(options.page, read_verdicts(options.verdicts))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
