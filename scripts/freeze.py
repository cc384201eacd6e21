"""Keep a complete run: results/runs -> results/reference/, with its table of runs, and its verdicts into README.md.

    python scripts/freeze.py [results]

Everything is made anew from the records: the table of runs, verdicts, report and figures. Only runs of scale laptop
are kept that answer every declared claim and of which none is synthetic. What was kept is then verified.
"""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records.files import SuiteError
from experiments.records.rows import Row
from experiments.records.table import Origin, write_table
from experiments.reports.write import update_readme, write_report
from experiments.sweeps.arm import Arm
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.preflight import declared
from experiments.verdicts.claims import Registry, check_against
from experiments.verdicts.claims_file import CLAIMS, load_claims
from experiments.verdicts.claims_json import read_verdicts
from experiments.verdicts.verdicts import INCOMPLETE, Verdict, judge
from experiments.verify import README, REFERENCE, verify

SCALE = "laptop"
COMMAND = f"make reproduce SCALE={SCALE} ALL=1"
BENCHMARK = ("bench.csv", "bench.svg")  # there already: no run makes them


def recorded(results: Path, registry: Registry) -> list[dict[str, Any]]:
    """The runs of all declared arms, as they are judged.

    Raises ClaimError if a claim is about an arm there is not, ValueError if an arm lacks runs.
    """
    configs = composed_arms([f"scale={SCALE}", f"results={results}"])
    check_against(registry, *declared(configs))
    arms = {name: Arm(config, range(config.seeds)) for name, config in configs.items()}
    rows = collect_rows(arms)
    if lacking := [" ".join(name) for name, arm in arms.items() if arm.counts().keys() != {"done"}]:
        raise ValueError(f"{len(lacking)} arms lack runs, {lacking[0]} for one; run {COMMAND} first")
    return rows


def keep(rows: Sequence[Row], reference: Path, claims: Path, readme: Path) -> str:
    """Replace `reference` by what these runs lead to; returns what was done, in a line.

    Raises ValueError, and touches nothing, unless they may be kept.
    """
    registry = load_claims(claims)
    verdicts = judge(registry, rows)
    refuse_unfit(rows, verdicts)
    origin = Origin(COMMAND, datetime.now(UTC).isoformat(timespec="seconds"))
    draft = reference.with_name(f".{reference.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    write_table(rows, draft, origin)
    write_report(registry, rows, verdicts, draft, origin)
    recover(reference)
    for name in BENCHMARK:
        if (reference / name).exists():
            shutil.copy(reference / name, draft / name)
    swap(draft, reference)
    update_readme(readme, read_verdicts(reference / "claims.json"))
    done, found = verify(reference, claims, readme)
    if found:
        raise ValueError(f"kept, but not what its own table leads to: {'; '.join(found)}")
    return f"{done}; kept in {reference}, README.md updated"


def refuse_unfit(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    other = sorted({str(row["scale"]) for row in rows} - {SCALE})
    if other:
        raise ValueError(f"runs of scale {', '.join(other)} are not kept, only those of {SCALE}")
    incomplete = [verdict.id for verdict in verdicts if verdict.verdict == INCOMPLETE]
    if incomplete:
        first = ", ".join(incomplete[:5]) + (" ..." if len(incomplete) > 5 else "")
        raise ValueError(f"{len(incomplete)} claims are incomplete: {first}; run {COMMAND} first")
    synthetic = sorted({row["experiment"] for row in rows if row["synthetic"]})
    if synthetic:
        raise ValueError(f"runs on synthetic data are not kept: {', '.join(synthetic)}")


def swap(draft: Path, reference: Path) -> None:
    """Put the draft in the place of the reference: at any moment one of both is there whole."""
    old = aside(reference)
    if reference.exists():
        reference.rename(old)
    draft.rename(reference)
    shutil.rmtree(old, ignore_errors=True)


def recover(reference: Path) -> None:
    """After a kill between the two renames of `swap`: the reference back in its place."""
    if aside(reference).exists() and not reference.exists():
        aside(reference).rename(reference)
    shutil.rmtree(aside(reference), ignore_errors=True)


def aside(reference: Path) -> Path:
    return reference.with_name(f".{reference.name}.old")


if __name__ == "__main__":
    try:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results"
        print(keep(recorded(source, load_claims()), REFERENCE, CLAIMS, README))
    except (OSError, ValueError, SuiteError) as error:
        sys.exit(f"error: {error}")
