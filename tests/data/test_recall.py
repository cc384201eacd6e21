"""The recall task, and images as longer sequences: what is asked, and that a seed decides everything."""

from dataclasses import replace

import pytest
import torch

import data
from data import mnist, recall

CONFIG = recall.Config(sequence_length=9, symbols=5, validation_size=30, test_size=40)


def load(seed: int = 0, config: recall.Config = CONFIG) -> data.Data:
    return data.load(config, batch_size=16, seed=seed)


def test_the_class_is_the_first_symbol_and_all_others_mean_nothing() -> None:
    x, y = load().train_batch(0)
    assert x.shape == (16, 9, 10) and load().spec == data.Spec("sequence", (9, 10), 5)
    assert torch.equal(x.sum(2), torch.ones(16, 9))
    symbols = x.argmax(2)
    assert torch.equal(symbols[:, 0], y) and bool((symbols[:, 1:] >= 5).all())


def test_training_depends_on_seed_and_step_and_evaluation_on_neither() -> None:
    batches = {(seed, step): load(seed).train_batch(step)[0] for seed in (0, 1) for step in (0, 1)}
    assert torch.equal(batches[0, 1], load(0).train_batch(1)[0])
    assert len({str(x.tolist()) for x in batches.values()}) == 4
    first, second = ([x for x, _ in load(seed).batches("test")] for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("split, size", [("validation", 30), ("test", 40)])
def test_a_split_has_as_many_cases_as_asked_for_and_its_own(split: str, size: int) -> None:
    cases = torch.cat([x for x, _ in load().batches(split)])
    assert len(cases) == size
    other = torch.cat([x for x, _ in load().batches("test" if split == "validation" else "validation")])
    assert not torch.equal(cases[:30], other[:30])


def test_longer_test_cases_are_those_of_the_test_read_on() -> None:
    found = load(config=replace(CONFIG, test_distances=[12, 15]))
    assert found.test_splits == ["test", "test_distance_12", "test_distance_15"]
    x, y = next(iter(found.batches("test")))
    assert torch.equal(x, next(iter(load().batches("test")))[0])
    for steps in (12, 15):
        longer, same = next(iter(found.batches(f"test_distance_{steps}")))
        assert longer.shape == (40, steps, 10) and torch.equal(longer[:, :9], x) and torch.equal(same, y)
        further = longer[:, 9:].argmax(2)
        assert torch.equal(longer.sum(2), torch.ones(40, steps)) and further.unique().tolist() == [5, 6, 7, 8, 9]


VARIED = replace(CONFIG, shortest_length=4, test_distances=[12])


def test_cases_have_lengths_of_their_own_and_are_else_the_same() -> None:
    found = load(config=VARIED)
    assert found.spec == data.Spec("sequence", (9, 11), 5, padded=True)
    batches = [(found.train_batch(step), load().train_batch(step)) for step in range(20)]
    (x, y), (plain, labels) = (tuple(map(torch.cat, zip(*some, strict=True))) for some in zip(*batches, strict=True))
    inside, lengths = x[..., -1], x[..., -1].sum(1)
    assert lengths.unique().tolist() == [4, 5, 6, 7, 8, 9]  # each is as probable
    assert torch.equal(inside, (torch.arange(9) < lengths[:, None]).float())
    assert torch.equal(x[..., :-1], plain * inside[..., None]) and torch.equal(y, labels)
    assert torch.equal(x[:16], load(config=VARIED).train_batch(0)[0])


def test_at_a_distance_every_case_has_the_same_length() -> None:
    x, _ = next(iter(load(config=VARIED).batches("test_distance_12")))
    assert x.shape == (40, 12, 11) and bool((x[..., -1] == 1).all())


def rows(**options: object) -> data.Data:
    config = mnist.Config(layout="rows", source="synthetic", crop=20, validation_size=20, test_size=20, **options)  # type: ignore[arg-type]
    return data.load(config, batch_size=4, seed=0)


@pytest.mark.parametrize("pixels, steps", [(20, 20), (8, 50), (4, 100)])
def test_shorter_steps_make_longer_sequences_of_the_same_pixels(pixels: int, steps: int) -> None:
    (x, y), (plain, labels) = rows(step_pixels=pixels).train_batch(0), rows().train_batch(0)
    assert x.shape == (4, steps, pixels) and torch.equal(x.flatten(1), plain.flatten(1)) and torch.equal(y, labels)


def test_permuted_pixels_are_the_same_pixels_in_one_order_for_all_images() -> None:
    x, plain = rows(permuted=True).train_batch(0)[0].flatten(1), rows().train_batch(0)[0].flatten(1)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(mnist.PERMUTATION))
    assert torch.equal(x, plain[:, order]) and not torch.equal(x, plain)
    test, plain_test = (next(iter(source.batches("test")))[0].flatten(1) for source in (rows(permuted=True), rows()))
    assert torch.equal(test, plain_test[:, order])
