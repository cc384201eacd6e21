"""Keep the report of a complete run: results/ -> results/reference/, and its verdict table into README.md.

    python scripts/freeze.py [results]

Only a report of scale laptop is kept in which every declared claim is complete and nothing is synthetic.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.claims_file import load_claims  # noqa: E402
from experiments.report import read_verdicts, update_readme  # noqa: E402

KEPT = ("claims.json", "report.md", "figures")
BENCHMARK = ("bench.csv", "bench.svg")  # there already: no run makes them


def main(results: Path) -> None:
    verdicts = read_verdicts(results / "claims.json")
    missing = {claim.id for claim in load_claims(ROOT / "configs" / "claims.yaml").claims} - {v.id for v in verdicts}
    unfit = [v.id for v in verdicts if v.verdict == "incomplete" or v.synthetic or v.scale != "laptop"]
    if unfit or missing:
        sys.exit(f"error: {results}: incomplete: {', '.join([*unfit, *sorted(missing)])}; run make reproduce first")
    reference = ROOT / "results" / "reference"
    draft = reference.with_name(".reference")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in KEPT:
        source = results / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, draft / name)
    for name in BENCHMARK:
        if (reference / name).exists():
            shutil.copy(reference / name, draft / name)
    shutil.rmtree(reference, ignore_errors=True)
    draft.rename(reference)
    update_readme(ROOT / "README.md", verdicts)
    print(f"{len(verdicts)} verdicts kept in {reference}, README.md updated")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
