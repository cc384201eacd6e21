"""Keep the runs of results/runs as a study: results/reference/<scale>[-<first seed>]/, with what its table leads to.

    python scripts/freeze.py [results] [--scale evening] [--first-seed 100] [--experiment lm_lstm ...]

Everything is made anew from the records: the table of runs, verdicts, report and figures. Without --experiment only a
study is kept that answers every declared claim. With it, the arms of these experiments whose runs are all there take
the place of those the study has, all other arms stay, and claims may be incomplete. No run is synthetic. What was kept
is then verified, and README.md and docs/verdicts.md tell what the studies say.
"""

import shutil
import sys
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.records import commands
from experiments.records.one_line import Arguments, of_a_value, told_in_one_line
from experiments.records.rows import Row
from experiments.records.studies import REFERENCE, studies, study_name
from experiments.records.table import Origin, read_table, write_table
from experiments.reports.write import write_report
from experiments.sweeps.arm import Arm, Name
from experiments.sweeps.collect import collect_rows
from experiments.sweeps.composed import composed_arms
from experiments.sweeps.preflight import declared
from experiments.verdicts.claims import Registry, check_against
from experiments.verdicts.claims_file import CLAIMS, load_claims
from experiments.verdicts.verdict import INCOMPLETE, Verdict
from experiments.verdicts.verdicts import judge
from experiments.verify import ROOT, across, verify


@dataclass(frozen=True)
class Study:
    """The runs that are meant: a scale, where its seeds begin, and of which experiments (none: of all)."""

    scale: str = "laptop"
    first_seed: int = 0
    experiments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return study_name(self.scale, self.first_seed)

    def command(self, *, every: bool = True) -> str:
        """What makes its runs, those of arms without a claim too."""
        return commands.make_command(
            "reproduce", **commands.study(self.scale, self.first_seed), ALL=["1"] if every else []
        )


@dataclass
class Recorded:
    """Rows to be kept, the arms there could be, and lines on what was left out or replaced."""

    rows: Sequence[Row]
    arms: Collection[Name]
    told: list[str] = field(default_factory=list)


def recorded(results: Path, registry: Registry, study: Study) -> Recorded:
    """The runs of the declared arms that are meant, as they are judged.

    Raises ClaimError if a claim is about an arm there is not, ValueError if the runs that are meant are not there.
    """
    options = [f"scale={study.scale}", f"first_seed={study.first_seed}", f"results={results}"]
    configs = composed_arms(options)
    check_against(registry, *declared(configs))
    if unknown := set(study.experiments) - {experiment for experiment, _ in configs}:
        raise ValueError(f"--experiment {min(unknown)}: there is none of this name with arms; see configs/experiment/")
    configs = registry.covered(configs)
    meant = {name: config for name, config in configs.items() if name[0] in (study.experiments or [name[0]])}
    arms = {name: Arm(config, config.evaluation_seeds) for name, config in meant.items()}
    rows = collect_rows(arms)
    lacking = {name: f"{name[0]} {name[1]}" for name, arm in arms.items() if arm.counts().keys() != {"done"}}
    if lacking and (len(lacking) == len(arms) or not study.experiments):
        raise ValueError(f"{len(lacking)} arms lack runs, {min(lacking.values())} for one; run {study.command()} first")
    told = [f"left out, for they lack runs: {', '.join(sorted(lacking.values()))}"] if lacking else []
    return Recorded([row for row in rows if name_of(row) not in lacking], configs, told)


def name_of(row: Row) -> Name:
    return row["experiment"], row["arm"]


def merged(fresh: Recorded, folder: Path) -> Recorded:
    """With the runs that the study has of other arms; those of arms that are declared no longer go."""
    frozen = read_table(folder)[0] if folder in studies(folder.parent) else []
    given = {name_of(row) for row in fresh.rows}
    kept = [row for row in frozen if name_of(row) not in given and name_of(row) in fresh.arms]
    gone = {name_of(row) for row in frozen} - set(fresh.arms)
    before = numbers(frozen)
    changed = [place for place, final in numbers(fresh.rows).items() if place in before and before[place] != final]
    told = [f"{len(changed)} runs that were kept with other numbers are replaced"] if changed else []
    told += [f"gone, for they are declared no longer: {', '.join(sorted(map(' '.join, gone)))}"] if gone else []
    return Recorded([*kept, *fresh.rows], fresh.arms, [*fresh.told, *told])


def numbers(rows: Sequence[Row]) -> Mapping[tuple[str, ...], object]:
    """What each run came to."""
    return {(*name_of(row), row["role"], row["run"]): (row["status"], row["final"]) for row in rows}


def keep(fresh: Recorded, reference: Path, claims: Path, root: Path, study: Study) -> str:
    """Put what these runs lead to into the study's folder; returns what was done, in lines.

    Raises ValueError, and touches nothing, unless they may be kept.
    """
    registry, folder = load_claims(claims).at(study.scale), reference / study.name
    recover(folder)
    whole = merged(fresh, folder) if study.experiments else fresh
    verdicts = judge(registry, whole.rows)
    refuse_unfit(whole.rows, verdicts, study)
    every = {name_of(row) for row in whole.rows} >= set(whole.arms)
    origin = Origin(study.command(every=every), datetime.now(UTC).isoformat(timespec="seconds"))
    draft = reference / f".{study.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    write_table(whole.rows, draft, origin)
    write_report(registry, whole.rows, verdicts, draft, origin)
    swap(draft, folder)
    across(reference, claims, reference, root)
    done, found = verify(folder, claims)
    if found:
        raise ValueError(f"kept, but not what its own table leads to: {'; '.join(found)}")
    return "\n".join([*whole.told, f"{done}; kept in {folder}"])


def refuse_unfit(rows: Sequence[Row], verdicts: Sequence[Verdict], study: Study) -> None:
    other = sorted({str(row["scale"]) for row in rows} - {study.scale})
    if other:
        raise ValueError(f"runs of scale {', '.join(other)} are not kept, only those of {study.scale}")
    incomplete = [verdict.id for verdict in verdicts if verdict.verdict == INCOMPLETE]
    if incomplete and not study.experiments:
        first = ", ".join(incomplete[:5]) + (" ..." if len(incomplete) > 5 else "")
        raise ValueError(f"{len(incomplete)} claims are incomplete: {first}; run {study.command()} first")
    synthetic = sorted({row["experiment"] for row in rows if row["synthetic"]})
    if synthetic:
        raise ValueError(f"runs on synthetic data are not kept: {', '.join(synthetic)}")


def swap(draft: Path, folder: Path) -> None:
    """Put the draft in the place of the study: at any moment one of both is there whole."""
    old = aside(folder)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """After a kill between the two renames of `swap`: the study back in its place."""
    if aside(folder).exists() and not folder.exists():
        aside(folder).rename(folder)
    shutil.rmtree(aside(folder), ignore_errors=True)


def aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def main() -> None:
    parser = Arguments(prog="freeze.py", description="Keeps runs and what they lead to in results/reference/.")
    parser.add_argument(
        "results", nargs="?", type=Path, default=ROOT / "results", help="the folder with runs/ (results)"
    )
    parser.add_argument("--scale", default="laptop", help="of the runs (laptop)")
    parser.add_argument("--first-seed", type=int, default=0, help="of the runs: of a replication not 0 (0)")
    parser.add_argument("--experiment", action="append", default=[], help="only this one's arms (repeatable)")
    options = parser.parse_args()
    told_in_one_line(lambda: freeze(options), of_a_value)


def freeze(options: Namespace) -> None:
    study = Study(options.scale, options.first_seed, tuple(options.experiment))
    print(keep(recorded(options.results, load_claims().at(study.scale), study), REFERENCE, CLAIMS, ROOT, study))


if __name__ == "__main__":
    main()
