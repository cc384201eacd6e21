"""Whoever misses a key, a value or a name by a letter, or calls it what others call it, is told what is meant."""

import dataclasses
from collections.abc import Iterable, Iterator

import pytest

from experiments.records.nearest import SYNONYMS, nearest
from experiments.sweeps.options import known_experiments, known_scales
from experiments.training.checks import GROUPS, every_key, settable, unknown_key, unknown_value
from experiments.training.schema import Config, Optim, Tuning
from experiments.verdicts.claims import ClaimError
from experiments.verdicts.claims_file import load_claims

NODES = {"": Config, "optim.": Optim, "tuning.": Tuning}
NODES |= {f"{group}.{name}": node for group, found in GROUPS.items() for name, node in found().items()}
CHOICES = {
    f"{node.__name__}.{spec.name}": [str(choice) for choice in spec.metadata["choices"]]
    for node in NODES.values()
    for spec in dataclasses.fields(node)
    if "choices" in spec.metadata
} | {"experiment": known_experiments(), "scale": known_scales()}
CHOICES |= {group: [*found()] for group, found in GROUPS.items()}


def misspelt(name: str, valid: Iterable[str]) -> Iterator[str]:
    """With one letter dropped, but nothing that is valid itself."""
    names = {name[:at] + name[at + 1 :] for at in range(len(name))}
    return iter(sorted(names - {*valid, ""}))


def told(hint: str) -> str:
    return hint.partition("did you mean ")[2].partition("? ")[0]


@pytest.mark.parametrize("where", NODES)
def test_a_key_without_one_of_its_letters_is_suggested(where: str) -> None:
    own = [spec.name for spec in settable(NODES[where])]
    prefix = where.partition(".")[0] + "." if where else ""
    for key in own:
        for wrong in misspelt(key, own):
            assert prefix + key in told(unknown_key(prefix + wrong, NODES[where])).split(" or "), wrong


@pytest.mark.parametrize("key", CHOICES)
def test_a_value_without_one_of_its_letters_is_suggested(key: str) -> None:
    for value in CHOICES[key]:
        for wrong in misspelt(value, CHOICES[key]):
            assert value in told(str(unknown_value(key, wrong, CHOICES[key]))).split(" or "), wrong


def test_a_claim_without_one_of_its_letters_is_suggested() -> None:
    registry = load_claims()
    ids = [claim.id for claim in registry.claims]
    for name in ids[::7]:
        wrong = next(misspelt(name, ids))
        with pytest.raises(ClaimError, match=f"did you mean .*'{name}'"):
            registry.select([wrong])


@pytest.mark.parametrize("word", SYNONYMS)
def test_every_synonym_is_of_something_that_exists(word: str) -> None:
    ends = {key.rpartition(".")[2] for key in every_key()}
    valid = {*ends, *(value for values in CHOICES.values() for value in values)}
    assert {*SYNONYMS[word]} <= valid and nearest(word, valid) == [*SYNONYMS[word]]


@pytest.mark.parametrize(
    ("given", "node", "meant"),
    [
        ("optim.lr", Optim, "did you mean optim.learning_rate?"),
        ("lr", Config, "did you mean optim.learning_rate?"),
        ("hidden_size", Config, "did you mean model.hidden_size?"),
        ("model.hidden", NODES["model.mlp"], "did you mean model.hidden_sizes?"),
        ("model.hidden_size", NODES["model.mlp"], "it is one of model=cnn, model=draw"),
        ("model.dropout", NODES["model.mlp"], "valid keys: detach"),
    ],
)
def test_a_key_is_sought_where_it_was_given_then_everywhere(given: str, node: type, meant: str) -> None:
    assert meant in unknown_key(given, node)
