"""Recompute every verdict and the report from the table of runs, and compare.

Needs no training and none of its packages: the table, configs/claims/ and the analysis lead to the same bytes, or
each file that differs is told with the first place where it does. Without a folder, every study of results/reference/
and what README.md and
docs/ tell of them.
"""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.printable import printable
from experiments.records.studies import REFERENCE, scale_of, studies
from experiments.records.table import read_table, write_table
from experiments.reports.across import PAGE, write_across
from experiments.reports.forest import published
from experiments.reports.marked_pages import PAGES, update_pages
from experiments.reports.page import EVIDENCE
from experiments.reports.write import write_report
from experiments.verdicts.claims_file import CLAIMS, load_claims
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.verdict import INCOMPLETE
from experiments.verdicts.verdicts import judge

ROOT = Path(__file__).resolve().parent.parent
SEPARATORS = r'[\s,;|*()\[\]"<>=]'  # between the words and numbers of any of the files
SHOWN = 60  # characters of what differs


def verify(folder: Path, claims: Path) -> tuple[str, list[str]]:
    """What was recomputed, in a line, and a line for each file of `folder` that is not the same."""
    started = time.perf_counter()
    rows, origin = read_table(folder)
    registry = load_claims(origin.own.get("CLAIMS", claims)).at(rows[0]["scale"] if rows else scale_of(folder.name)[0])
    registry = registry.select(origin.claims) if origin.claims else registry
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        anew = Path(name)
        verdicts = judge(registry, rows)
        write_table(rows, anew, origin)
        write_report(registry, rows, verdicts, anew, origin)
        found = list(differences(folder, anew))
    counted = f"{len(verdicts)} claims judged anew from {len(rows)} runs"
    return f"{counted} in {time.perf_counter() - started:.1f} s", [*map(printable, found)]


def verify_across(folder: Path, claims: Path, root: Path | None = None) -> list[str]:
    """A line for each file of what the studies of a folder say together that is not the same, and for each page of
    `root` that tells them."""
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        anew, pages = Path(name, "studies"), Path(name, "pages")
        told = [(root / page, pages / page) for page in PAGES] if root else []
        for page, copy in told:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, copy)
        across(folder, claims, anew, pages if root else None)
        return [*differences(folder, anew), *(line for page, copy in told for line in changes(page, copy))]


def across(folder: Path, claims: Path, into: Path, root: Path | None = None) -> None:
    """Write what the studies of a folder say together and, below `root`, put it into the pages that tell it."""
    registry = load_claims(claims)
    declared = {claim.id for claim in registry.claims}
    found = {study.name: read_verdicts(study / "claims.json") for study in studies(folder)}
    write_across(registry, found, [effect for effect in published() if effect.claim in declared], into)
    if root:
        update_pages(root, registry, found, headline(folder).name)


def headline(reference: Path) -> Path:
    """The study that counts most: that of an evening once it answers every claim, until then the laptop's."""
    evening = reference / "evening"
    answered = evening in studies(reference) and all(
        verdict.verdict != INCOMPLETE for verdict in read_verdicts(evening / "claims.json")
    )
    laptop = reference / "laptop"
    return evening if answered else laptop if laptop.exists() else studies(reference)[0]


def differences(folder: Path, anew: Path) -> Iterator[str]:
    """What is not the same in `folder` as in `anew`, file by file. Other files may lie beside, not in its folders."""
    for path in files(anew):
        ours = folder / path.relative_to(anew)
        if ours.is_file():
            yield from changes(ours, path)
        else:
            yield f"{ours} is missing"
    for place, what in (("figures", "claim"), (EVIDENCE, "run")):
        for surplus in files(folder / place):
            if not (anew / surplus.relative_to(folder)).exists():
                yield f"{surplus} belongs to no {what}"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def changes(old: Path, new: Path) -> list[str]:
    """The first line in which a file differs from the recomputed one, old → new; nothing if none does."""
    contents = [path.read_bytes() for path in (old, new)]
    if contents[0] == contents[1]:
        return []
    before, after = (content.decode(errors="replace").split("\n") for content in contents)
    for number, (was, now) in enumerate(zip(before, after, strict=False), start=1):
        if was != now:
            return [f"{old}, line {number}: {' → '.join(first_words(was, now))}"]
    return [f"{old}: {len(before)} → {len(after)} lines"]


def first_words(was: str, now: str) -> tuple[str, str]:
    """The word or number in which two lines first differ; where one has none there, the rest of both."""
    same = next((place for place, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    start = same - len(re.split(SEPARATORS, was[:same])[-1])
    rests = shortened(was[start:]), shortened(now[start:])
    words = re.split(SEPARATORS, rests[0])[0], re.split(SEPARATORS, rests[1])[0]
    return words if all(words) and words[0] != words[1] else rests


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def main() -> None:
    parser = Arguments(prog="layernorm verify", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=REFERENCE, help="of a report, or of several (results/reference)"
    )
    folder: Path = parser.parse_args().folder
    told_in_one_line(lambda: tell(folder), of_a_value)


def tell(folder: Path) -> None:
    differing = []
    for study in studies(folder) or [folder]:
        done, found = verify(study, CLAIMS)
        if found:
            print(*found, sep="\n")
            differing.append(printable(f"{done}; not the same: {len(found)} files of {study}"))
        else:
            print(printable(f"{done}; all of {study} is the same, byte for byte"))
    together = folder.resolve() == REFERENCE or (folder / PAGE).exists()
    if together and (found := verify_across(folder, CLAIMS, ROOT if folder.resolve() == REFERENCE else None)):
        print(*map(printable, found), sep="\n")
        differing.append(
            f"what the studies of {printable(str(folder))} say together is not the same: {len(found)} files"
        )
    if differing:
        sys.exit("\n".join(differing))


if __name__ == "__main__":
    main()
