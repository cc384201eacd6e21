"""report.html and report.md: two templates of the same contents.

report.html needs nothing else, neither a network nor, but to filter, a script: report.css is its looks, report.js the
filter; both are put into the page. Beside it, in `evidence/`, lie the pages of the runs behind it (run_pages.py), to
which its figures lead. report.md shows the figures from their own files.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from experiments.records.arm_rows import Runs
from experiments.records.rows import Row
from experiments.records.table import Origin
from experiments.reports import sentences, tables
from experiments.reports.beside import beside_columns, beside_study, beside_text
from experiments.reports.claim_figures import Picture, small_tuning_picture
from experiments.reports.reasons import reason
from experiments.reports.scales import arm_styles
from experiments.reports.settings import norm_of
from experiments.reports.strips import strip
from experiments.reports.summary import groups, summary, summary_table
from experiments.reports.svg import stylesheet
from experiments.verdicts.claims import SAID_BY, Claim, Registry
from experiments.verdicts.verdict import Verdict

SCRIPT = Markup("\n" + (Path(__file__).parent / "report.js").read_text(encoding="utf-8"))
EVIDENCE = "evidence"  # the folder of the runs' pages
Pictures = Mapping[str, Sequence[Picture]]  # of each claim and each experiment
Contents = Mapping[str, Any]


def html(contents: Contents) -> str:
    return environment().get_template("report.html.jinja").render(contents)


def text(contents: Contents) -> str:
    return tables.tagless(environment().get_template("report.md.jinja").render(contents))


def contents(
    registry: Registry, runs: Runs, verdicts: Sequence[Verdict], origin: Origin, pictures: Pictures
) -> Contents:
    """All that a report tells, whichever way it is laid out."""
    claims, places = {claim.id: claim for claim in registry.family}, registry.places
    said = [verdict.said_by for verdict in verdicts]
    timed = sentences.timed_arms(runs)
    experiments = [
        _experiment(name, arms, runs, pictures.get(name, ())) for name, arms in sentences.trained_arms(runs).items()
    ]
    colours = {colour for row in pictures.values() for picture in row for colour in picture.drawing.colours}
    colours |= {colour for experiment in experiments for colour in experiment.pop("colours")}
    strips = {v.id: drawing for v in verdicts if (drawing := strip(claims[v.id], v))}
    colours |= {colour for drawing in strips.values() for colour in drawing.colours}
    inline = {name: drawing.inline(f"interval of {name}") for name, drawing in strips.items()}
    return {
        **sentences.opening(origin),
        "verdicts": verdicts,
        "summary": summary(registry, verdicts),
        "groups": groups(registry, verdicts),
        "strips": inline,
        "places": places,
        "claims": [
            _claim(claims[verdict.id], verdict, registry, runs, pictures.get(verdict.id, ()), origin.own)
            for verdict in verdicts
        ],
        "experiments": experiments,
        "measurements": [
            {
                "name": name,
                "columns": tables.measurement_columns(arms),
                "pictures": list(_shown(name, pictures.get(name, ()), _arms_of(name), runs)),
            }
            for name, arms in sentences.measured_arms(runs).items()
        ],
        "counts": sentences.counts(verdicts),
        "by_kind": tables.counts_columns(verdicts),
        "said": {someone: said.count(someone) for someone in SAID_BY if someone in said},
        "sentences": sentences.of_sources(registry, verdicts),
        "seeds": runs.seeds(registry.seeds),
        "facts": sentences.facts(registry, runs)
        | {"Made by": sentences.made_by(origin)}
        | sentences.of_claims(registry, origin),
        "beside": _beside(verdicts, origin.beside),
        "synthetic": sentences.is_synthetic(runs),
        "method": sentences.method(registry, origin),
        "timing": (sentences.timing_text(timed), tables.step_time_columns(timed)) if timed else None,
        "figure_style": Markup(stylesheet(colours)),
    }


def environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "marked": marked,
        "table": tables.markdown,
        "verdict_table": tables.markdown_table,
        "sentence_table": tables.sentence_table,
        "summary_table": summary_table,
    }
    environment.globals |= {
        "summary_about": sentences.SUMMARY,
        "strips_about": sentences.STRIPS,
        "synthetic_warning": sentences.SYNTHETIC,
        "meaning": sentences.MEANING,
        "measured": sentences.MEASURED,
        "symbols": tables.SYMBOLS,
        "said_where": tables.said_where,
        "alike": tables.alike,
        "estimate_text": tables.estimate_text,
        "zipped": _zipped,
        "evidence_link": evidence_link,
        "script": SCRIPT,
        "script_source": hashed(SCRIPT),
    }
    return environment


def hashed(script: str) -> str:
    """What a page's policy allows instead of every script: this one, exactly as it stands in its element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _zipped(columns: tables.Columns) -> list[list[tuple[str, str]]]:
    """The rows of a table, each cell with its heading."""
    return [list(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def marked(text: str) -> Markup:
    """`code` and **strong**, marked as in report.md, for HTML; everything else is escaped."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))


def _beside(verdicts: Sequence[Verdict], study: str) -> dict[str, Any] | None:
    """The verdicts beside those of a frozen study."""
    if not (pairs := beside_study(study, verdicts)):
        return None
    return {"study": study, "text": beside_text(pairs, study), "columns": beside_columns(pairs, study)}


def _claim(
    claim: Claim, verdict: Verdict, registry: Registry, runs: Runs, pictures: Sequence[Picture], own: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "said": [sentence for sentence in registry.sentences if sentence.id in claim.says],
        "reason": reason(claim, verdict, registry.alpha),
        "pictures": list(_shown(claim.id, pictures, claim.resolve, runs)),
        "setup": sentences.setup(claim, verdict, runs),
        "arms": tables.arm_columns(claim, verdict, runs),
        "outlook": sentences.outlook(claim),
        "command": sentences.command_of(claim, verdict.scale, sentences.first_seed(runs), own),
        "runs": [(arm, evidence_link(*claim.resolve(arm)), ids) for arm, ids in sentences.run_ids(claim, runs).items()],
    }


def _experiment(
    name: str, arms: Mapping[str, Sequence[Row]], runs: Runs, pictures: Sequence[Picture]
) -> dict[str, Any]:
    """The arms of an experiment with the tuning curve of each, and the figures of all of them together."""
    styles = arm_styles(arms, {arm: norm_of(rows, arm) for arm, rows in arms.items()})
    tuned = [arm for arm in arms if runs[name, arm].tuning]
    curves = [small_tuning_picture(arm, runs[name, arm], styles[arm]) if arm in tuned else None for arm in arms]
    return {
        "name": name,
        "columns": tables.experiment_columns(arms),
        "tuning": [picture.drawing.inline(picture.gist) if picture else "" for picture in curves] if tuned else [],
        "arms": list(arms),
        "pictures": list(_shown(name, pictures, _arms_of(name), runs)),
        "colours": {colour for picture in curves if picture for colour in picture.drawing.colours},
    }


def _arms_of(experiment: str) -> Callable[[str], tuple[str, str]]:
    return lambda arm: (experiment, arm)


def _shown(
    name: str, pictures: Sequence[Picture], resolve: Callable[[str], tuple[str, str]], runs: Runs
) -> Iterator[dict[str, Any]]:
    """Each picture with its caption and, by arm, where the runs it draws are listed and how many they are."""
    for picture in pictures:
        yield {
            "drawing": picture.drawing.inline(picture.gist),
            "file": figure_file(name, picture),
            "caption": picture.caption,
            "runs": [
                (arm, evidence_link(*resolve(arm), picture.role), len(runs[resolve(arm)].of(picture.role)))
                for arm in picture.arms
            ],
        }


def figure_file(name: str, picture: Picture) -> str:
    """The file of a claim's or an experiment's picture, beside the report."""
    return f"figures/{name}-{picture.name}.svg"


def evidence_link(experiment: str, arm: str = "", role: str = "evaluate") -> str:
    """Where report.html finds the runs of an experiment, of an arm, or only those that tuned its learning rate."""
    fragment = f"#{quote(arm)}{'-tune' if role == 'tune' else ''}" if arm else ""
    return f"{EVIDENCE}/{quote(experiment)}.html{fragment}"
