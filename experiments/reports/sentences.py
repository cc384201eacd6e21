"""What the report says in sentences, the same in report.md and report.html; `code` and **strong** are marked so."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from experiments.records.arm_rows import Runs
from experiments.records.commands import make_command, study
from experiments.records.rows import Row
from experiments.records.table import Origin
from experiments.verdicts.claims import Claim, Registry, Sentence
from experiments.verdicts.evidence import evaluations
from experiments.verdicts.units import declared
from experiments.verdicts.verdict import (
    CONTRADICTED,
    EQUIVALENT,
    INCOMPLETE,
    INCONCLUSIVE,
    SUPPORTED,
    VERDICTS,
    Verdict,
)
from experiments.verdicts.wording import by_number, tidy

OPENING = {
    "title": "Layer Normalization: what the evidence says",
    "subtitle": "What the paper (Ba, Kiros and Hinton, 2016) and two notes on it say, and what nets trained here say.",
    "about": """The claims of "Layer Normalization" (Ba, Kiros and Hinton, 2016, arXiv:1607.06450) that this suite \
tests, each with its verdict and the runs behind it. A claim, its test and the smallest effect that counts are \
declared before its runs; of the frozen studies docs/editions.md says where they were not.""",
}
SUMMARY = """A line for each statement of the two notes that this suite starts from (A and B, summaries of the paper) \
and for each section of the paper: what was said, what was found, with a 95 % interval, and the verdicts on all claims \
about it."""
STRIPS = """Pictures: multiples of the smallest effect that counts (grey: less), what was said to the right. Seeds \
alike: on how many the difference has the sign of the estimate, or lies within the margin where it is equivalent; of \
an identity, the runs that keep it. With all of n alike p is 2^-n, and no effect, however large, gives less."""
SYNTHETIC = "**Synthetic data**: some runs used generated data; they say nothing about real data."
MEASURED = "What experiments without a test set measure, by experiments/training/probes: mean ± sd over the seeds."
MEANING = {
    SUPPORTED: """the effect is significant in the claimed direction and reaches the margin; an exact claim holds in \
every run.""",
    CONTRADICTED: """the same in the opposite direction; of a claimed equality, a difference beyond its margin; an \
exact claim fails in some run.""",
    EQUIVALENT: "the effect is shown to be smaller than the margin, in either direction.",
    INCONCLUSIVE: """none of these, or a best learning rate lies on the edge of its grid and a better one may lie \
beyond (unless the arm is undefined at every rate: then there is none to find).""",
    INCOMPLETE: "runs are missing; fewer seeds are never averaged.",
}


def opening(origin: Origin) -> dict[str, str]:
    """The title and what the report is about: the suite's claims, or those of a user's file."""
    if "CLAIMS" not in origin.own:
        return OPENING
    return {
        "title": f"{PurePath(origin.own['CLAIMS']).stem}: what the evidence says",
        "subtitle": "Claims of one's own, and what nets trained here say.",
        "about": f"""The claims of {origin.own["CLAIMS"]}, each with its verdict and the runs behind it. They are no \
claims of the suite, "Layer Normalization, reproduced", whose arms and tests judge them.""",
    }


def method(registry: Registry, origin: Origin) -> str:
    family = "what the paper and the notes say, and apart from it over what later work and this suite add"
    family = "all claims of the file" if "CLAIMS" in origin.own else family
    return f"""Arms are compared seed by seed: same initial weights, same order of the data, each at its own learning \
rate, tuned by validation loss on seeds that are not reported. p is that of an exact one-sided sign-flip test, \
corrected by Holm over {family} \
(alpha = {tidy(registry.alpha)}); identities hold by construction and have no p. With n seeds no p of this test is \
below 2^-n, however large the effect: that of Student's paired t is told beside it. The interval is a paired 95 % \
Student t. \
Where runs diverged only signs count. **Undefined** is batch norm trained on one value per channel: its output is its \
shift, and its weights get no gradient."""


def of_sources(registry: Registry, verdicts: Iterable[Verdict]) -> list[tuple[Sentence, list[Verdict]]]:
    """Every sentence of the paper and of the notes with the verdicts on what it says; where some claims alone are
    asked, those that they test."""
    by_claim = {verdict.id: verdict for verdict in verdicts}
    found = [
        (sentence, [by_claim[claim.id] for claim in registry.on(sentence) if claim.id in by_claim])
        for sentence in registry.sentences
    ]
    return [(sentence, verdicts) for sentence, verdicts in found if verdicts or not registry.declared]


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many claims came to each verdict, those of none left out."""
    found = [verdict.verdict for verdict in verdicts]
    return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}


def facts(registry: Registry, runs: Runs) -> dict[str, str]:
    """What the report rests on."""
    every = runs.rows()
    evaluated = sum(row["role"] == "evaluate" for row in every)
    made = _made_with([row["environment"] for row in every if "environment" in row])
    return {
        "Scale": f"**{', '.join(sorted({str(row['scale']) for row in every})) or 'none'}**",
        "Seeds": f"{runs.seeds(registry.seeds)} per arm",
        "Runs": f"{evaluated} evaluation and {len(every) - evaluated} tuning runs",
        **({"Made with": made} if made else {}),
    }


def _made_with(environments: Sequence[Mapping[str, Any]]) -> str:
    if not environments:
        return ""
    names = ("torch", "device", "commit")
    torch, device, commit = (_values(sorted({str(made[name]) for made in environments})) for name in names)
    kernels = _values(sorted({e["kernel"] for e in environments if e.get("kernel")}))
    processors = _values(sorted({f"{e['cores']} cores of {e['processor']}" for e in environments if "processor" in e}))
    parts = [f"torch {torch} on {device}, commit {commit}", f"kernel {kernels}" if kernels else "", processors]
    return "; ".join(filter(None, parts))


def of_claims(registry: Registry, origin: Origin) -> dict[str, str]:
    """Where claims of one's own, or some alone, were asked: which, of how many, and what that does to p."""
    asked, every = len(registry.claims), len(registry.family)
    told = [f"{every} of `{origin.own['CLAIMS']}`, a family of their own"] if "CLAIMS" in origin.own else []
    if origin.claims and asked < every:
        told.append(f"""{asked} of {every}, chosen; p is corrected as if all were asked, those that were not counting \
with p = 1: to ask for few may cost a verdict, never win one""")
    return {"Claims": "; ".join(told)} if told else {}


def is_synthetic(runs: Runs) -> bool:
    return any(row["synthetic"] for row in runs.rows())


def made_by(origin: Origin) -> str:
    return f"`{origin.command}`" + (f" at {origin.made}" if origin.made else "")


# ------------------------------------------------------------------------------------------------- of a claim


def setup(claim: Claim, verdict: Verdict, runs: Runs) -> list[str]:
    """What was compared and what the runs were."""
    tuned = [label for label in claim.labels if runs[claim.resolve(label)].tuning]
    some = "" if len(tuned) == len(claim.labels) else f" ({', '.join(tuned)})"
    rates = f"tuned per arm by validation loss{some}" if tuned else "as configured, not tuned"
    experiments = list(dict.fromkeys(experiment for experiment, _ in claim.arms()))
    compared = f"""experiment {", ".join(f"`{name}`" for name in experiments)}, metric `{claim.metric}`, \
{_test(claim)}; {len(verdict.seeds)} seeds{_seed_range(verdict.seeds)}; learning rates {rates}."""
    return [compared, *filter(None, (_runs(name, claim, runs) for name in experiments))]


def outlook(claim: Claim) -> dict[str, str]:
    """What was expected, how the runs differ from the paper's, and what would decide otherwise."""
    told = {
        "Expected": claim.expected,
        "Deviations from the paper": claim.deviations,
        "What would change the verdict": claim.would_change,
    }
    return {term: text for term, text in told.items() if text}


def command_of(claim: Claim, scale: str, first_seed: int, own: Mapping[str, str]) -> str:
    """`own`: variables of make that name the user's files."""
    whose = {name: [path] for name, path in own.items()}
    return make_command("reproduce", **study("" if scale == "laptop" else scale, first_seed), CLAIM=[claim.id], **whose)


def first_seed(runs: Runs) -> int:
    """Where the seeds of the evaluation begin; above 0 in a replication."""
    return min((row["seed"] for arm in runs.values() for row in arm.evaluations), default=0)


def _runs(experiment: str, claim: Claim, runs: Runs) -> str:
    """What the runs of an experiment were, from their own configurations; empty where rows carry none."""
    arms = [arm for name, arm in claim.arms() if name == experiment]
    configs = [row["config"] for arm in arms for row in runs[experiment, arm].evaluations if "config" in row]
    if not configs:
        return ""
    first = configs[0]
    sizes = (
        f"{key.replace('_', ' ')} {_values(config[key] for config in configs)}" for key in ("batch_size", "updates")
    )
    optim = first["optim"]
    how = f"{', '.join(sizes)}, {optim['name']}, {optim['schedule']} schedule"
    if first["method"] != "train":
        how = f"no tuning, measured by `{first['method']}` of experiments/training/probes"
    norms = {config["norm"] for config in configs}
    model, source = (_options([config[part] for config in configs], norms) for part in ("model", "data"))
    return f"Runs of `{experiment}`: {model} on {source}; {how}."


# Options of single norms that stand in the record of every run, of no interest where another norm is used; options of
# later norms are recorded with their own norm alone. And values that switch an option off.
OF_NORMS = {
    "groups": ("group",),
    "detach": ("layer",),
    "layer_axes": ("layer",),
    "variant": ("layer",),
    "ghost_size": ("batch",),
    "statistics": ("batch", "renorm", "sync_batch"),
}
IDLE: tuple[Any, ...] = (None, "", [], "none", False)


def _options(configs: Sequence[Mapping[str, Any]], norms: set[str]) -> str:
    """A model or a data set with its options; without those that do nothing, with all values of those that differ."""
    keys = dict.fromkeys(key for config in configs for key in config)
    told = {key: _values(c[key] for c in configs if c.get(key) not in IDLE) for key in keys}
    told = {key: value for key, value in told.items() if concerns(key, norms)}
    name = told.pop("name")
    return f"`{name}` ({', '.join(f'{key} {value}' for key, value in told.items() if value)})"


def concerns(option: str, norms: Iterable[str]) -> bool:
    """Whether an option of a model means something with one of these norms."""
    return option not in OF_NORMS or not set(norms).isdisjoint(OF_NORMS[option])


def _values(values: Iterable[Any]) -> str:
    return " or ".join(dict.fromkeys(map(str, values)))


def _test(claim: Claim) -> str:
    if claim.kind == "bound":
        return f"every run {claim.bound_text()}"
    if claim.kind == "equivalence":
        return f"`{claim.subject()}` claimed within ±{_margin(claim)}{_asked(claim)}"
    sign = "<" if claim.direction == "less" else ">"
    return f"`{claim.subject()}` claimed {sign} 0, margin {_margin(claim)}{_asked(claim)}"


def _margin(claim: Claim) -> str:
    return declared(claim.margin, claim.metric, claim.scale) + (" of the logarithm" if claim.scale == "log" else "")


def _asked(claim: Claim) -> str:
    """Where not the metric itself is compared, what is."""
    return "" if claim.target is None else f", of the update at which the curve comes down to {tidy(claim.target)}"


def _seed_range(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f" ({seeds[0]} to {seeds[-1]})"
    return f" ({', '.join(map(str, seeds))})" if seeds else ""


def run_ids(claim: Claim, runs: Runs) -> dict[str, list[str]]:
    """The evaluation runs behind a claim, by arm."""
    found = {label: [row["run"] for row in evaluations(claim, label, runs)] for label in claim.labels}
    return {label: ids for label, ids in found.items() if ids}


# --------------------------------------------------------------------------------------------- of all the arms


def evaluated_arms(runs: Runs) -> dict[str, dict[str, list[Row]]]:
    """The evaluation runs of every arm by experiment, also of those that no claim is about."""
    found: dict[str, dict[str, list[Row]]] = {}
    for experiment, arm in sorted(runs, key=lambda key: [by_number(word) for word in key]):
        if rows := runs[experiment, arm].evaluations:
            found.setdefault(experiment, {})[arm] = rows
    return found


def trained_arms(runs: Runs) -> dict[str, dict[str, list[Row]]]:
    """Those of the training experiments."""
    return {name: arms for name, arms in evaluated_arms(runs).items() if _trains(arms)}


def measured_arms(runs: Runs) -> dict[str, dict[str, list[Row]]]:
    """Those of the experiments that measure something and train nothing to be tested."""
    measured = {name: arms for name, arms in evaluated_arms(runs).items() if not _trains(arms)}
    kept = {name: {arm: rows for arm, rows in arms.items() if _has_results(rows)} for name, arms in measured.items()}
    return {name: arms for name, arms in kept.items() if arms}


def _trains(arms: Mapping[str, Sequence[Row]]) -> bool:
    return any(row["history"] for rows in arms.values() for row in rows)


def _has_results(rows: Sequence[Row]) -> bool:
    return all(row["final"] for row in rows)


def timed_arms(runs: Runs) -> dict[str, list[Row]]:
    """The arms whose updates were timed with each norm side by side."""
    return {
        arm: found.evaluations
        for (_, arm), found in runs.items()
        if found.evaluations and all("milliseconds_none" in row["timing"] for row in found.evaluations)
    }


def timing_text(arms: Mapping[str, Sequence[Row]]) -> str:
    first = next(iter(arms.values()))[0]
    model = first["config"]["model"]
    return f"""Runs of `{first["experiment"]}`: `{model["name"]}` of {model["hidden_size"]} units, batch \
{first["config"]["batch_size"]}. Each run trains the model with every norm in turns, in one process; a cell is the \
median over the runs of the milliseconds of wall time an update takes and, in brackets, of their ratio to those \
without a norm. "Faster (per update)" in a claim becomes faster in time only beyond that ratio."""
