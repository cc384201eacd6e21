"""Keep the report of a complete run: results/ -> results/reference/, and its verdict table into README.md.

    python scripts/freeze.py [results]

Only a report in which no claim is incomplete and nothing is synthetic is kept.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.report import read_verdicts, update_readme  # noqa: E402

KEPT = ("claims.json", "report.md", "figures")


def main(results: Path) -> None:
    verdicts = read_verdicts(results / "claims.json")
    unfit = [v.id for v in verdicts if v.verdict == "incomplete" or v.synthetic]
    if unfit:
        sys.exit(f"error: {results}: incomplete or synthetic: {', '.join(unfit)}; run make reproduce first")
    reference = ROOT / "results" / "reference"
    shutil.rmtree(reference, ignore_errors=True)
    reference.mkdir(parents=True)
    for name in KEPT:
        source = results / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, reference / name)
    update_readme(ROOT / "README.md", verdicts)
    print(f"{len(verdicts)} verdicts kept in {reference}, README.md updated")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
