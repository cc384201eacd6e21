"""Whatever is wrong in a configuration is told in one line before anything is trained or written.

The wrong configurations are drawn from the schema itself: every option of a run, of each model and of each data set.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import data
import models
from experiments.sweeps import preflight
from experiments.sweeps.compose import to_config
from experiments.sweeps.options import register
from experiments.training import errors, schema
from experiments.training.schema import Config, Optim, Tuning

SYNTHETIC = {
    "mnist": "data.source=synthetic",
    "cifar10": "data.source=synthetic",
    "cloze": "data.source=synthetic",
    "hypernyms": "data.source=synthetic",
    "strokes": "data.source=synthetic",
    "text": "data.corpus=synthetic",
}
FITTING = {
    "mlp": "mnist",
    "cnn": "cifar10",
    "language_model": "text",
    "reader": "cloze",
    "sequence_classifier": "recall",
    "order_embeddings": "hypernyms",
    "stroke_model": "strokes",
}
GROUPS = ("model", "data", "experiment", "scale")
# By type: what cannot be converted to it.
MISTYPED: dict[Any, tuple[str, ...]] = {
    int: ("1.5", "1e3", "abc", "[1]", "true", "null", "{a:1}", "''", "'1 2'"),
    float: ("abc", "[0.1]", "true", "{a:1}", "0.1.2", "'0.1 2'"),
    str: ("[a]", "null", "{a:1}"),
    bool: ("maybe", "[true]", "null", "0.5"),
    list: ("5", "abc", "null", "[a]", "[[1]]", "[null]", "{a:1}"),
    dict: ("5", "abc", "[a]"),
}
FLOATS = ("-0.1", "nan", "inf", "-inf", "1e39")  # that no option can have
# What does not fit together, or not into the machine, with what the message must name.
UNFIT = [
    ("optim.learning_rate=null", "optim.learning_rate is null and tuning.learning_rates empty"),
    ("model=cnn data=text data.corpus=synthetic", "model=cnn"),
    ("model=cnn data=recall", "model=cnn"),
    ("model=language_model", "model=language_model"),
    ("model=sequence_classifier", "model=sequence_classifier"),
    ("batch_size=2001", "batch_size=2001"),
    ("model=language_model data=text data.corpus=synthetic batch_size=100000", "batch_size"),
    ("model=language_model data=text data.corpus=file", "data.path"),
    ("model=language_model data=text data.path=no.txt", "no.txt"),
    ("model=language_model data=text data.path=no.txt data.corpus=wikitext", "data.corpus=wikitext"),
    ("model=language_model data=text data.path='~nosuchuser/a.txt'", "~nosuchuser/a.txt"),
    ("model=language_model data=text data.path=.", "data.path=."),
    ("model=language_model data=text data.path=results/reference/laptop/figures", "data.path="),
    ("model=language_model data=text data.corpus=synthetic data.digest=abc", "data.digest=abc"),
    ("model=language_model data=text data.corpus=synthetic data.test_length=90000", "data.test_length"),
    ("model=language_model data=text data.corpus=synthetic data.validation_size=5", "data.validation_size=5"),
    ("model=language_model data=text data.corpus=synthetic norm=group model.groups=7", "model.groups=7"),
    ("model=language_model data=text data.corpus=synthetic norm=rms model.variant=carried", "model.variant=carried"),
    ("model=language_model data=text data.corpus=synthetic model.cell=gru model.variant=carried", "model.cell=gru"),
    ("model=language_model data=text data.corpus=synthetic model.hidden_size=10000000", "model.hidden_size=10000000"),
    ("model=language_model data=text data.corpus=synthetic model.variant=per_gate model.detach=std", "model.detach"),
    ("model=sequence_classifier data=recall data.sequence_length=100000000", "data.sequence_length=100000000"),
    ("model=reader", "model=reader"),
    ("model=mlp data=cloze data.source=synthetic", "model=mlp"),
    ("model=reader data=cloze data.source=synthetic data.speeches=2", "data.speeches=2"),
    ("model=reader data=cloze data.source=synthetic data.speeches=60", "data.speeches=60"),
    ("model=reader data=cloze data.source=synthetic data.words=0", "data.words=0"),
    ("model=reader data=cloze data.source=synthetic norm=none model.normalize=all", "model.normalize=all"),
    ("model=stroke_model data=strokes data.source=synthetic batch_size=1000", "batch_size=1000"),
    ("model=stroke_model data=strokes data.source=synthetic data.test_size=500", "data.test_size=500"),
    ("model=cnn norm=group model.groups=5", "model.groups=5"),
    ("model=cnn model.width=100000000", "model.width=100000000"),
    ("norm=batch model.ghost_size=3", "model.ghost_size=3"),
    ("norm=layer model.ghost_size=4", "model.ghost_size=4"),
    ("norm=rms model.detach=both", "model.detach=both"),
    ("norm=none model.normalize=all", "model.normalize=all"),
    ("norm=batch model.groups=2", "model.groups=2"),
    ("model=cnn data=cifar10 norm=batch model.layer_axes=unit", "model.layer_axes=unit"),
    ("model=language_model data=text data.corpus=synthetic model.statistics=pooled", "model.statistics=pooled"),
    ("model=language_model data=text data.corpus=synthetic norm=none model.gain=2", "model.gain=2"),
    ("optim.momentum=0.5", "optim.momentum=0.5"),
    ("training_cases=640 updates=7", "updates=7"),
    ("data.validation_size=5001", "data.validation_size=5001"),
    ("norm=batch model.ghost_size=64", "model.ghost_size=64"),
    ("model.hidden_sizes=[100000000,100000000]", "model.hidden_sizes=[100000000, 100000000]"),
    ("data.step_pixels=4", "data.step_pixels=4"),
    ("data.permuted=true", "data.permuted"),
    ("data.layout=rows data.step_pixels=5", "data.step_pixels=5"),
    ("data.test_lengths=[14]", "data.test_lengths"),
    ("data.layout=rows data.test_lengths=[1]", "data.test_lengths"),
    ("data.layout=rows data.test_lengths=[14,14]", "data.test_lengths"),
    ("optim.learning_rate=null", "tuning.learning_rates"),
    ("optim.learning_rate=null tuning.learning_rates=[]", "tuning.learning_rates"),
    ("optim.learning_rate=null tuning.learning_rates=[1e-2,1e-2]", "tuning.learning_rates"),
    ("optim.learning_rate=null tuning.learning_rates=[1e-2] seed=1000", "seed=1000"),
    ("optim.momentum=1.5", "optim.momentum=1.5"),
    ("tuning.seeds=[]", "tuning.seeds"),
    ("tuning.seeds=[5,5]", "tuning.seeds"),
    ("first_seed=990", "first_seed=990"),
    ("first_seed=5", "first_seed=5"),
    ("experiment=../scale/smoke", "experiment=../scale/smoke"),
    ("results=''", "results="),
    ("results=/dev/null", "/dev/null"),
    ("threads=100000", "threads=100000"),
    ("device=cuda:7", "device=cuda:7"),
    ("method=border", "method=border"),
    ("method=properties model=cnn", "model=cnn"),
    ("+arms.mine=norm", "arms.mine"),
    ("+arms.mine={nrm:layer}", "arms.mine.nrm"),
    ("+arms.mine={batch_size:[a]}", "arms.mine.batch_size"),
    ("+arms.mine={model:null}", "arms.mine"),
    ("~model", "model"),
    ("~optim.name", "optim.name"),
    ("norm=layer,batch", "norm=layer,batch"),
    ("norm=a=b", "norm=a=b"),
    ('norm="layer', 'norm="layer'),
    ("seed=range(0,3)", "seed=range(0,3)"),
    ("seed=${nothing}", "nothing"),
    ("seed=${norm}", "norm"),
    ("+seed", "+seed"),
]


EXAMPLES = 200 - len(UNFIT)  # that are generated
FUNCTION_SCOPED = HealthCheck.function_scoped_fixture  # nothing is ever written there


@dataclasses.dataclass(frozen=True)
class Option:
    context: tuple[str, ...]  # the overrides that bring it
    key: str
    kind: Any  # its type, of a list that of the list
    spec: Any


def options() -> list[Option]:
    """Every option of a run, and of each model and data set together with one that fits it."""
    found = [*of((), "", Config), *of((), "optim.", Optim), *of((), "tuning.", Tuning)]
    for model, source in FITTING.items():
        context = tuple(filter(None, (f"model={model}", f"data={source}", SYNTHETIC.get(source))))
        found += of(context, "model.", models.available()[model]) + of(context, "data.", data.available()[source])
    return found + of((SYNTHETIC["mnist"],), "data.", data.available()["mnist"])


def of(context: tuple[str, ...], prefix: str, node: Any) -> list[Option]:
    """The options of one dataclass; groups and what Hydra fills in apart."""
    hints = typing.get_type_hints(node)
    specs = {spec.name: spec for spec in dataclasses.fields(node)}
    own = [name for name in specs if prefix or name not in ("model", "data", "optim", "tuning", "experiment", "scale")]
    return [Option(context, prefix + name, plain(hints[name]), specs[name]) for name in own]


def plain(hint: Any) -> Any:
    """int for int, float for float | None, list for list[int]."""
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)[0]
    return typing.get_origin(hint) or hint


OPTIONS = options()
KEYS = {option.key for option in OPTIONS} | {*GROUPS, "optim", "tuning"}
Bad = tuple[tuple[str, ...], str]  # the overrides, and what the message must name


@st.composite
def mistyped_keys(draw: st.DrawFn) -> Bad:
    option = draw(st.sampled_from(OPTIONS))
    *parents, name = option.key.split(".")
    at = draw(st.integers(0, len(name) - 1))
    letter = draw(st.sampled_from(("", "x", "_", name[at] * 2)))
    wrong = ".".join([*parents, name[:at] + letter + name[at + 1 :]])
    if wrong in KEYS or wrong.endswith(".") or not wrong:
        wrong = f"{option.key}x"
    return (*option.context, draw(st.sampled_from(("", "+", "++"))) + f"{wrong}=1"), wrong.split(".")[-1]


@st.composite
def mistyped_values(draw: st.DrawFn) -> Bad:
    option = draw(st.sampled_from(OPTIONS))
    value = draw(st.sampled_from(MISTYPED[option.kind]))
    return (*option.context, f"{option.key}={value}"), option.key


@st.composite
def out_of_range(draw: st.DrawFn) -> Bad:
    option = draw(st.sampled_from([option for option in OPTIONS if option.kind in (int, float, list)]))
    whole = option.kind is int or (option.kind is list and option.key != "tuning.learning_rates")
    low = option.spec.metadata.get("minimum", 1)
    value = draw(st.sampled_from((str(low - 1), "-7", str(10**20)) if whole else FLOATS))
    return (*option.context, f"{option.key}={f'[{value}]' if option.kind is list else value}"), option.key


@st.composite
def unknown_choices(draw: st.DrawFn) -> Bad:
    option = draw(st.sampled_from([option for option in OPTIONS if option.spec.metadata.get("choices")]))
    choices = map(str, option.spec.metadata["choices"])
    value = draw(st.sampled_from(("7",) if option.kind is int else ("Layer", "nn", "a-b", *(f"{c}x" for c in choices))))
    return (*option.context, f"{option.key}={value}"), f"{option.key}={value}"


@st.composite
def unknown_groups(draw: st.DrawFn) -> Bad:
    group = draw(st.sampled_from(GROUPS))
    value = draw(st.sampled_from(("mlpp", "norms", "cases", "rnn", "null", "8", "", "Mlp", "a.b")))
    name = draw(st.sampled_from(("", ".name"))) if group in ("model", "data") else ""
    return (f"{group}{name}={value or 'x'}",), group


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield


def start(overrides: tuple[str, ...], results: Path) -> None:
    """What the command does before it trains."""
    given = " ".join(overrides)
    source = () if "data." in given or "data=" in given or "~" in given else (SYNTHETIC["mnist"],)
    composed = compose("run", [f"results={results}", *source, *overrides], return_hydra_config=True)
    chosen = composed.hydra.runtime.choices
    preflight.check_runnable([to_config(composed, chosen["experiment"], chosen["scale"])])


@settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=[FUNCTION_SCOPED])
@given(bad=st.one_of(mistyped_keys(), mistyped_values(), out_of_range(), unknown_choices(), unknown_groups()))
def test_a_bad_configuration_is_refused_in_one_line(bad: Bad, tmp_path: Path) -> None:
    refused(*bad, tmp_path)


@pytest.mark.parametrize("bad", UNFIT, ids=lambda pair: pair[0])
def test_what_does_not_fit_is_refused_in_one_line(bad: tuple[str, str], tmp_path: Path) -> None:
    refused(tuple(bad[0].split()), bad[1], tmp_path)


def refused(overrides: tuple[str, ...], named: str, results: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        errors.told_in_one_line(lambda: start(overrides, results))
    message = str(ended.value.code)
    assert message.startswith("error: ") and "\n" not in message and named in message, (overrides, message)
    assert not [path for path in results.rglob("*") if path.is_file()], overrides
