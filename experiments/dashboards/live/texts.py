"""The texts of the live page as HTML; whatever comes from a file is escaped."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup, escape

from experiments.dashboards.live.curves import mixed
from experiments.dashboards.live.groups import Groups, pooled
from experiments.dashboards.live.runs import ODD, SEED, STATES_SHOWN, SeenRun
from experiments.dashboards.live.series import Series, of_tuning
from experiments.records.commands import override, run_command
from experiments.reports.scales import DASHES, Styles
from experiments.reports.tables import SYMBOLS, alike, estimate_text
from experiments.verdicts.claims_json import read_claims
from experiments.verdicts.verdict import Verdict

LINES = dict(zip(DASHES, ("", "7 4", "2 3", "9 3 2 3"), strict=True))  # the same in the legend as in the plots
BEGIN = ("experiment=mlp_batch128", "scale=smoke")  # a small sweep
ROW = Markup(
    '<tr><th scope="row">{}</th><td class="statement">{}</td><td><span class="badge {}">{} {}</span></td>'
    '<td class="number">{}</td><td class="number p">{}</td></tr>'
)


def counts(numbers: Mapping[str, int], always: Sequence[str] = STATES_SHOWN[:3]) -> Markup:
    """How many runs are done, running, failed, ..."""
    shown = [state for state in STATES_SHOWN if numbers.get(state) or state in always]
    chip = Markup('<span class="count {}"><b>{:,}</b> {}</span>')
    return Markup("").join(
        chip.format(state if numbers.get(state) else "", numbers.get(state, 0), state) for state in shown
    )


def waiting(results: Path) -> Markup:
    """For a folder without runs."""
    where = str(results)
    text = "<p>There are no runs below <code>{0}/runs</code> yet; they appear here as they start.</p>"
    text += "<p>To start some: <code>make reproduce</code> (everything), or <code>{1}</code> (a small sweep).</p>"
    return Markup(text).format(where, run_command([*BEGIN, override("results", where)], sweep=True))


def legend(groups: Groups, styles: Styles) -> Markup:
    """The groups with their lines, and how many runs each has."""
    line = '<svg viewBox="0 0 26 8"><path d="M0 4H26" stroke="{}" stroke-width="2.5" stroke-dasharray="{}"/></svg>'
    entry = Markup(f'<span class="entry">{line} {{}} <small>{{}}</small></span>')
    return Markup("").join(
        entry.format(styles[label][0], LINES[styles[label][1]], label, len(runs)) for label, runs in groups.items()
    )


def about_curves(groups: Groups, metric: str, axis: str, each: int) -> str:
    """What lines and bands are."""
    diverged = sum(run.diverged for runs in groups.values() for run in runs)
    equal = "samples" if axis == "samples" else "updates"
    parts = [f"Line: mean over {members(groups)}; band: from the lowest to the highest of them, at equal {equal}."]
    parts += ["Runs evaluated elsewhere are interpolated."] if mixed(groups, metric, axis) else []
    parts += ["While runs are under way: of those that came so far."] if unfinished(groups) else []
    parts += [f"{plural(diverged, 'run')} diverged: a line ends where its first run did."] if diverged else []
    parts += [f"Of every seed each {each}th evaluation is drawn."] if each > 1 else []
    return " ".join(parts)


def members(groups: Groups) -> str:
    """What a mean is over, said of what its runs really differ in."""
    keys = pooled(groups)
    if not set(keys) - {SEED}:
        return "the seeds of a group"
    return f"runs of a group that differ in {escape(', '.join(map(short, keys)))}"


def unfinished(groups: Groups) -> bool:
    return any(not run.ended for runs in groups.values() for run in runs)


def shared(settings: Sequence[str]) -> Markup:
    """What the names of arms leave out, for all of them have it."""
    code = Markup(" ").join(map(Markup("<code>{}</code>").format, settings))
    return Markup(" All arms with {}.").format(code) if settings else Markup("")


def no_curves(runs: Sequence[SeenRun]) -> str:
    if any(run.ended and not run.curves for run in runs):
        return "These runs are measurements: they have results, in the table below, and no learning curves."
    return "No evaluation yet." if runs else ""


def results(name: str, drawn: Mapping[str, Series], styles: Styles, key: str, metric: str) -> Markup:
    """Heading, lines and what they are, of the results of tuning or of evaluation runs against a number."""
    runs = {label: list({run.name: run for run in line.runs}.values()) for label, line in drawn.items()}
    every = [run for group in runs.values() for run in group]
    what = "Sensitivity to the learning rate" if name == "rates" else f"Results by {short(key)}"
    of, middle = ("tuning", "median") if of_tuning(every) else ("evaluation", "mean")
    text = f"{short(metric).capitalize()} of the {of} runs"
    text += f": a dot each, their {middle} as a line{'; a ring at the rate that is chosen' if name == 'rates' else ''}"
    diverged = sum(run.diverged for run in every)
    text += f"; a gap where one of {plural(diverged, 'run')} diverged." if diverged else "."
    return Markup("<h2>{}</h2><p>{}</p>{}").format(what, text, legend(runs, styles))


def short(key: str) -> str:
    """A setting or metric for people: `learning rate` of optim.learning_rate."""
    return key.removesuffix(".name").rpartition(".")[2].replace("_", " ")


def plural(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def age(seconds: float) -> str:
    """`3 minutes`, `2 hours`, `5 days`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return plural(int(seconds / length), unit)
    return "less than a minute"


def verdicts(results: Path) -> tuple[str, tuple[Verdict, ...]]:
    """What is to be said of claims.json, and its verdicts."""
    path = results / "claims.json"
    try:
        found, made = verdicts_of(path, path.stat().st_mtime)
        return f"As judged by make reproduce{ago(made)}; not recomputed here.", found
    except FileNotFoundError:
        return f"There is no {path} yet; make reproduce writes it, after the last run.", ()
    except (OSError, *ODD) as error:
        return f"{path} cannot be read: {error}", ()


def ago(made: str | None) -> str:
    """How long ago a time in UTC was; empty where claims.json does not say when it was made."""
    if made is None:
        return ""
    then = datetime.fromisoformat(made)
    day = then.astimezone().strftime("%d %B %H:%M").lstrip("0")
    return f" {age(time.time() - then.timestamp())} ago ({day})"


@lru_cache(maxsize=1)
def verdicts_of(path: Path, written: float) -> tuple[tuple[Verdict, ...], str | None]:
    """Those of a file of this time, and when they were made: it is read again only when it is written again."""
    plain, origin = read_claims(path)
    return tuple(map(Verdict.from_dict, plain)), origin.made


def verdict_table(verdicts: Sequence[Verdict]) -> Markup:
    if not verdicts:
        return Markup("")
    heads = ("claim", "statement", "verdict", "estimate [95 %]", "seeds alike")
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in heads)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, rows(verdicts))


def rows(verdicts: Iterable[Verdict]) -> Markup:
    return Markup("").join(
        ROW.format(v.id, v.statement, v.verdict, SYMBOLS[v.verdict], v.verdict, estimate_text(v), alike(v))
        for v in verdicts
    )
