"""A setting that would make another run of the same bits is refused, and no other is."""

from dataclasses import field, fields, make_dataclass, replace
from typing import Any

import pytest

import data
import models
from data import mnist, recall
from experiments.records import files
from experiments.reports.sentences import OF_NORMS
from experiments.training import schema
from experiments.training.checks import check_together
from experiments.training.schema import Config, ConfigError, Optim
from experiments.training.train import train
from models import (
    ModelError,
    cnn,
    language_model,
    mlp,
    options,
    order_embeddings,
    reader,
    sequence_classifier,
    stroke_model,
)
from models.options import MODELS, NORMS, NormConfig, norms_with
from tests.models.test_models import BATCH, DATA, load

SMALL: dict[str, tuple[str, Any]] = {
    "mlp": ("image", mlp.Config(hidden_sizes=[8, 8])),
    "cnn": ("image", cnn.Config(depth=2, width=8)),
    "lstm": ("text", language_model.Config(hidden_size=8)),
    "gru": ("text", language_model.Config(cell="gru", hidden_size=8)),
    "reader": ("cloze", reader.Config(hidden_size=8, embedding_size=4)),
}
CHANGED = {
    "detach": "both",
    "groups": 2,
    "r_max": 1.5,
    "d_max": 2.0,
    "renorm_warmup": 3,
    "ghost_size": BATCH // 2,
    "unbiased": True,
    "statistics": "pooled",
    "gain": 0.5,
    "layer_axes": "pixel",
    "variant": "carried",
    "normalize": "all",
}
CASES = [(name, option) for name, (_, model) in SMALL.items() for option in CHANGED if hasattr(model, option)]


def configured(name: str, norm: str, **changes: Any) -> Config:
    kind, model = SMALL[name]
    optim = Optim(learning_rate=0.01)
    return Config(model=replace(model, **changes), norm=norm, batch_size=BATCH, data=DATA[kind], optim=optim)


def trained(config: Config, kind: str) -> Any:
    """What a short training comes to; None where the model cannot be built."""
    source = load(kind)
    try:
        model: Any = models.build(config.model, config.norm, source.spec, 0)
    except ModelError:
        return None
    _, progress = train(model, source, config.optim, updates=3, evaluations=1)
    return {name: value for name, value in progress.history[-1].items() if "seconds" not in name}


def refused(config: Config) -> bool:
    try:
        check_together(config)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name, option", CASES)
def test_an_option_is_refused_where_a_training_comes_to_the_same_without_it(name: str, option: str, norm: str) -> None:
    if norm == "instance" and (name, option) == ("mlp", "normalize"):
        return  # its units are single values: nothing reaches the logits either way
    plain, asked = configured(name, norm), configured(name, norm, **{option: CHANGED[option]})
    kind, _ = SMALL[name]
    assert not refused(plain)
    if after := trained(asked, kind):
        assert refused(asked) == (after == trained(plain, kind))


def test_every_option_that_norms_name_is_tried_here() -> None:
    named = {option.name for node in MODELS.values() for option in fields(node) if norms_with(option)}
    assert named == set(CHANGED)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"norm": "rms", "model": mlp.Config(detach="both")},
            "model.detach=both changes nothing with norm=rms: .*layer$",
        ),
        ({"model": mlp.Config(ghost_size=3)}, "model.ghost_size=3 changes nothing with norm=layer: .*norm=batch$"),
        ({"optim": Optim(momentum=0.5)}, "optim.momentum=0.5 changes nothing with optim.name=adam: .*optim.name=sgd$"),
        ({"updates": 7, "training_cases": 640}, "updates=7 changes nothing with training_cases=640: .*=0$"),
        ({"method": "table1", "model": mlp.Config(groups=2)}, "model.groups=2 changes nothing with norm=layer"),
    ],
)
def test_the_message_names_the_setting_and_what_it_needs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_together(replace(configured("mlp", "layer"), **changes))


def test_what_compares_norms_takes_the_options_of_each() -> None:
    check_together(replace(configured("mlp", "layer", ghost_size=3), method="step_time"))


def test_reports_know_the_options_that_every_record_has() -> None:
    """Those of later norms are recorded with their own norm alone, and need no list."""
    later = set.union(*map(options.unrecorded, NORMS), *map(schema.later, MODELS.values()))
    known = {option.name: set(norms_with(option)) for node in MODELS.values() for option in fields(node)}
    every = {name: of for name, of in known.items() if of and name not in {*later, "gain", "normalize"}}
    assert every == {key: set(of) for key, of in OF_NORMS.items()}


def test_a_new_norms_option_is_recorded_with_that_norm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = files.run_id(schema.scientific(configured("mlp", "layer")))
    power = field(default=3.0, metadata={"needs": {"norm": ("power",)}})
    monkeypatch.setattr(options, "NormConfig", make_dataclass("Own", [("power", float, power)], bases=(NormConfig,)))
    recorded: dict[str, dict[str, Any]] = {}
    for norm in ("layer", "power"):
        config = configured("mlp", norm)
        node = make_dataclass("Model", [("power", float, power)], bases=(mlp.Config,))
        config.model = node(hidden_sizes=[8, 8])
        recorded[norm] = schema.scientific(config)
    assert files.run_id(recorded["layer"]) == before
    assert recorded["power"]["model"]["power"] == 3.0


# Options that came after runs had been made without them: an option, another value, and where it is
LATER: list[tuple[str, str, Any, Any]] = [
    *(
        ("model", option, value, node)
        for option, value in (
            ("state_norm", True),
            ("recurrent_init", "orthogonal"),
            ("input_scale", 8.0),
            ("forget_bias", 1.0),
        )
        for node in (
            sequence_classifier.Config(),
            language_model.Config(),
            reader.Config(),
            order_embeddings.Config(),
            stroke_model.Config(),
        )
    ),
    ("model", "residual", True, cnn.Config()),
    *(("model", "unbiased", True, node) for node in (cnn.Config(), mlp.Config())),
    ("data", "repeated_lengths", [30], mnist.Config()),
    ("data", "shortest_length", 7, recall.Config()),
    ("data", "test_distances", [60], recall.Config()),
]


@pytest.mark.parametrize(("part", "option", "value", "node"), LATER)
def test_an_option_that_came_later_is_recorded_where_it_is_set_alone(
    part: str, option: str, value: Any, node: Any
) -> None:
    unset = replace(configured("lstm", "batch"), **{part: node})
    recorded = schema.scientific(replace(unset, **{part: replace(node, **{option: value})}))
    assert option not in schema.scientific(unset)[part] and recorded[part][option] == value
    assert files.run_id(recorded) != files.run_id(schema.scientific(unset))


def test_every_option_that_came_later_is_tried_here() -> None:
    nodes: list[Any] = [*MODELS.values(), *data.available().values()]
    tried = {(type(node), option) for _, option, _, node in LATER}
    assert tried == {(node, option) for node in nodes for option in schema.later(node)}
