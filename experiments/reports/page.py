"""report.html: the whole report as one page that needs nothing else, neither a network nor, but to filter, a script.

report.html.jinja is its structure, report.css its looks and report.js the filter; the last two are put into the page.
Beside it, in `evidence/`, lie the pages of the runs behind it (run_pages.py), to which its figures lead.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from experiments.records.rows import Runs
from experiments.reports import sentences, tables
from experiments.reports.claim_figures import Picture, small_tuning_picture
from experiments.reports.scales import on_dark
from experiments.verdicts.claims import Claim, Registry
from experiments.verdicts.verdicts import Verdict
from experiments.verdicts.wording import number, source_order

EVIDENCE = "evidence"  # the folder of the runs' pages
Pictures = Mapping[str, Sequence[Picture]]  # of each claim and each experiment


class Looks:
    """The styles of all drawings, each once: a class in the drawing, a rule for light and one for dark in the page."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def drawing(self, picture: Picture) -> Markup:
        """A picture to stand in the page, with its gist for those who do not see it."""
        svg = re.sub(r' style="([^"]*)"', lambda style: f' class="{self._name(style[1])}"', picture.svg)
        svg = re.sub(r' (width|height|xmlns|version)="[^"]*"', "", svg, count=4)
        return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(picture.gist)}"', 1))

    def light(self) -> Markup:
        return Markup("\n".join(f".{name}{{{_tight(style)}}}" for style, name in self.names.items()))

    def dark(self) -> Markup:
        changed = {name: _colours(style) for style, name in self.names.items()}
        return Markup("\n".join(f".{name}{{{style}}}" for name, style in changed.items() if style))

    def _name(self, style: str) -> str:
        return self.names.setdefault(style, f"p{len(self.names)}")


def _tight(style: str) -> str:
    return re.sub(r"\s*([:;])\s*", r"\1", style)


def _colours(style: str) -> str:
    """What of a style is another on a dark ground."""
    found = re.findall(r"(fill|stroke): (#[0-9a-f]{6})", style)
    return ";".join(f"{what}:{on_dark(colour)}" for what, colour in found)


def page(registry: Registry, runs: Runs, verdicts: Sequence[Verdict], command: str, pictures: Pictures) -> str:
    claims, looks = {claim.id: claim for claim in registry.family}, Looks()
    sources = sorted((verdict.source for verdict in verdicts), key=source_order)
    timed = sentences.timed_arms(runs)
    told = {
        "claims": [_claim(claims[verdict.id], verdict, runs, pictures, looks) for verdict in verdicts],
        "experiments": [
            _experiment(name, arms, runs, pictures, looks) for name, arms in sentences.trained_arms(runs).items()
        ],
        "measurements": [
            (name, tables.measurement_columns(arms), _drawings(pictures.get(name, ()), looks, _arms_of(name), runs))
            for name, arms in sentences.measured_arms(runs).items()
        ],
        "measured": sentences.MEASURED,
        "counts": sentences.counts(verdicts),
        "sources": {source: sources.count(source) for source in dict.fromkeys(sources)},
        "facts": sentences.facts(registry, runs) | {"Made by": f"`{command}`"},
        "synthetic": sentences.is_synthetic(runs),
        "method": sentences.method(registry),
        "timing": (sentences.timing_text(timed), tables.step_time_columns(timed)) if timed else None,
        "looks": looks,
    }
    return environment().get_template("report.html.jinja").render(told)


def environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["marked"] = marked
    environment.globals |= {
        "title": sentences.TITLE,
        "about": sentences.ABOUT,
        "synthetic_warning": sentences.SYNTHETIC,
        "meaning": sentences.MEANING,
        "symbols": tables.SYMBOLS,
        "zipped": _zipped,
        "evidence_link": evidence_link,
    }
    return environment


def _zipped(columns: tables.Columns) -> list[list[tuple[str, str]]]:
    """The rows of a table, each cell with its heading."""
    return [list(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def marked(text: str) -> Markup:
    """`code` and **strong**, marked as in report.md, for HTML; everything else is escaped."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))


def _claim(claim: Claim, verdict: Verdict, runs: Runs, pictures: Pictures, looks: Looks) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "estimate": tables.estimate_text(verdict),
        "p": number(verdict.p_holm, 2),
        "drawings": _drawings(pictures.get(claim.id, ()), looks, claim.resolve, runs),
        "setup": sentences.setup(claim, verdict, runs),
        "arms": tables.arm_columns(claim, verdict, runs),
        "outlook": sentences.outlook(claim),
        "command": sentences.command_of(claim),
        "runs": [(arm, evidence_link(*claim.resolve(arm)), ids) for arm, ids in sentences.run_ids(claim, runs).items()],
    }


def _experiment(
    name: str, arms: Mapping[str, Sequence[Any]], runs: Runs, pictures: Pictures, looks: Looks
) -> dict[str, Any]:
    """The arms of an experiment with the tuning curve of each, and the figures of all of them together."""
    tuning = {arm: runs[name, arm, "tune"] for arm in arms if runs.get((name, arm, "tune"))}
    curves = {arm: looks.drawing(small_tuning_picture(arm, tried)) for arm, tried in tuning.items()}
    return {
        "name": name,
        "columns": tables.experiment_columns(arms),
        "tuning": [curves.get(arm, "") for arm in arms] if curves else [],
        "arms": list(arms),
        "drawings": _drawings(pictures.get(name, ()), looks, _arms_of(name), runs),
    }


def _arms_of(experiment: str) -> Callable[[str], tuple[str, str]]:
    return lambda arm: (experiment, arm)


def _drawings(
    pictures: Sequence[Picture], looks: Looks, resolve: Callable[[str], tuple[str, str]], runs: Runs
) -> list[dict[str, Any]]:
    """Each picture with its caption and, by arm, where the runs it draws are listed and how many they are."""
    return [
        {
            "drawing": looks.drawing(picture),
            "caption": picture.caption,
            "runs": [
                (arm, evidence_link(*resolve(arm), picture.role), len(runs[*resolve(arm), picture.role]))
                for arm in picture.arms
            ],
        }
        for picture in pictures
    ]


def evidence_link(experiment: str, arm: str = "", role: str = "evaluate") -> str:
    """Where report.html finds the runs of an experiment, of an arm, or only those that tuned its learning rate."""
    fragment = f"#{quote(arm)}{'-tune' if role == 'tune' else ''}" if arm else ""
    return f"{EVIDENCE}/{quote(experiment)}.html{fragment}"
