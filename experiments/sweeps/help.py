"""What `layernorm run --help` says. Each option is explained by the comment beside it where it is declared,
each experiment, model and data set by the first sentence of its file: nothing is said here a second time.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

import data
import models
from experiments.records.columns import WIDTH, entries
from experiments.records.files import as_typed, setting
from experiments.sweeps.options import experiment_files, known_experiments
from experiments.sweeps.slurm import Options
from experiments.training import probes
from experiments.training.checks import GROUPS, settable
from experiments.training.schema import ANY_SEED, CONFIGS, Config, Optim, Tuning, default

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHOSEN = ("experiment", "scale", "model", "data")  # groups, which are listed by themselves
# What has no comment where it is declared: that file is part of the code which runs record as theirs.
BESIDE = {
    "data.corpus": "what is read; file: data.path",
    "data.validation_size": "evaluate on the first so many cases",
    "data.test_size": "test on the first so many cases",
}
ROOTS = {"model": models, "data": data, "method": probes}  # <name>.py in these is <group>=<name>
END = re.compile(r"(?<=[\w)'*])[.?](?= [\"A-Z]|$)| Cost:")  # of a first sentence
BRIEF = ("norm", "batch_size", "updates", "seed", "optim.learning_rate", "results")
EXAMPLES = """\
One run, or with -m a sweep, which runs side by side on all cores:

  layernorm run experiment=online_rnn norm=layer seed=3
  layernorm run norm=layer optim.learning_rate=0.01
  layernorm run -m experiment=lm_lstm norm=none,layer seed='range(0,12)'
  layernorm run -m data=text data.path=my.txt model=language_model \\
      norm=none,layer batch_size=16,8,2 optim.learning_rate=0.01
"""
MORE = """\
layernorm run --help              every option and every experiment
layernorm run <choices> --help    the same with what these set
layernorm reproduce --list        the claims"""
RULES = """\
Every value is given as key=value and has the default shown. Numbers are at
least 0, whole numbers at least 1, unless something else is said. What would
change nothing is refused. Without -m an option has one value; with -m it may
have several, norm=none,layer or seed='range(0,12)', and every combination runs;
norm=none,batch,layer and seed='range(0,12)' are swept if they are not given.
Where optim.learning_rate is null the rate is tuned first. Experiments of your
own: --config-dir <folder>, with experiment/<name>.yaml."""


def offer_help() -> None:
    """Make --help say all this: Hydra asks for it through configs/run.yaml, and takes it for a template."""

    def told(*, _root_: DictConfig) -> str:
        return full_help(_root_).replace("$", "$$")

    OmegaConf.register_new_resolver("every_option", told, replace=True)


def short_help() -> str:
    """For whoever gives no argument: how to begin."""
    unless = OmegaConf.load(CONFIGS / "experiment" / "custom.yaml")  # an experiment is chosen
    assert isinstance(unless, DictConfig)
    options = {text.partition("=")[0]: (text, said) for text, said in run_options(unless)}
    groups = [(f"{group}=<name>", ", ".join(found())) for group, found in GROUPS.items()]
    many = len(known_experiments())
    groups += [("experiment=<name>", f"one of {many}, which set all this; --help has a line on each")]
    return f"{EXAMPLES}\n{entries([*map(options.__getitem__, BRIEF), *groups])}\n\n{MORE}"


def full_help(composed: DictConfig) -> str:
    """Every option, with the values that a command line composes."""
    parts = [EXAMPLES.rstrip(), RULES, part("Options of a run", run_options(composed))]
    for group, found in GROUPS.items():
        parts += [part(f"{group}=<name>", described(group, found()))]
        parts += [part(title, options) for title, options in group_options(group, found(), composed)]
    parts += [part("method=<name>, beside train", described("method", probes.NAMES))]
    for group, files in (("experiment", experiment_files()), ("scale", sorted((CONFIGS / "scale").glob("*.yaml")))):
        parts += [part(f"{group}=<name>", [(path.stem, sentence(comment_of(path))) for path in files])]
    parts += [part("On a cluster, with -m hydra/launcher=slurm", options_of(Options, "hydra.launcher.", composed))]
    return "\n\n".join([*parts, MORE])


def part(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    return f"{textwrap.fill(title, WIDTH)}\n{entries(pairs)}"


def described(group: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Models and the like by the first sentences of their files, which are read, not run: to import some takes long."""
    folder = Path(ROOTS[group].__path__[0])
    docs = {name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text())) for name in names}
    return [(name, sentence(doc or "")) for name, doc in docs.items()]


def run_options(composed: DictConfig) -> list[tuple[str, str]]:
    found = {"": Config, "optim.": Optim, "tuning.": Tuning}
    return [pair for prefix, node in found.items() for pair in options_of(node, prefix, composed)]


def group_options(
    group: str, found: Mapping[str, type], composed: DictConfig
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The options that models, or data sets, have of their own and those that several share, each said once."""
    for node in dict.fromkeys(part for one in found.values() for part in reversed(inspect.getmro(one))):
        having = [name for name, one in found.items() if issubclass(one, node)]
        chosen = OmegaConf.select(composed, f"{group}.name") in having
        if dataclasses.is_dataclass(node) and (own := options_of(node, f"{group}.", composed if chosen else None)):
            yield f"Options of {group}={', '.join(having)}" if len(having) < len(found) else f"Of every {group}", own


def options_of(node: type["DataclassInstance"], prefix: str, composed: DictConfig | None) -> list[tuple[str, str]]:
    """`key=value` and what is to be said of it, for each option that this very class declares."""
    own = [spec for spec in settable(node) if spec.name in vars(node).get("__annotations__", ())]
    comments, pairs = comments_in(node), []
    for spec in own:
        value = OmegaConf.select(composed or OmegaConf.create(), prefix + spec.name, default=default(spec))
        if isinstance(value, str | int | float | ListConfig | list | None) and spec.name not in CHOSEN:
            plain = list(value) if isinstance(value, ListConfig) else value
            pairs.append(
                (
                    setting(prefix + spec.name, plain),
                    f"{comments[spec.name] or BESIDE[prefix + spec.name]}{rules(spec)}",
                )
            )
    return pairs


def rules(spec: dataclasses.Field[Any]) -> str:
    """What its metadata allow, such as `. One of none, layer. Only with model.cell=lstm`."""
    meta, said = spec.metadata, []
    said += [f"one of {', '.join(map(str, meta['choices']))}"] if "choices" in meta else []
    said += [f"at least {meta['minimum']}"] if "minimum" in meta else []
    said += [f"at most {meta['maximum']:,}"] if meta.get("maximum", 0) not in (0, ANY_SEED["maximum"]) else []
    said += [f"only with {key}={', '.join(map(as_typed, values))}" for key, values in meta.get("needs", {}).items()]
    return "".join(f"; {one}" for one in said)


@cache
def comments_in(node: type) -> dict[str, str]:
    """What the comments in a class say of its fields: those on the lines above a field, and behind it."""
    source = textwrap.dedent(inspect.getsource(node))
    lines, found = source.splitlines(), {}
    (declared,) = ast.parse(source).body
    assert isinstance(declared, ast.ClassDef)
    for field in declared.body:
        if isinstance(field, ast.AnnAssign):
            above = [*takewhile(is_comment, reversed(lines[: field.lineno - 1]))][::-1]
            behind = lines[(field.end_lineno or 0) - 1].encode()[field.end_col_offset :].decode()
            text = " ".join(line.strip().lstrip("# ") for line in (*above, behind))
            found[ast.unparse(field.target)] = text.strip().rstrip(".")
    return found


def is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def comment_of(path: Path) -> str:
    """What a file of configs/ begins with, but for what is said to Hydra and the command."""
    lines = takewhile(is_comment, path.read_text().splitlines())
    texts = (line.lstrip("# ") for line in lines)
    return " ".join(text for text in texts if not text.startswith(("@package", "layernorm run")))


def sentence(text: str) -> str:
    """The first of a text."""
    text = " ".join(text.split())
    end = END.search(text)
    return text[: end.end() if end[0] == "?" else end.start()] if end else text
