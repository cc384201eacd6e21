"""The frozen studies: results/reference/ has a folder for each, a table of runs and what it leads to.

Each is named by its scale and, where it is a replication, its first seed: `laptop`, `evening`, `evening-100`.
"""

from pathlib import Path

from experiments.records.table import CONFIGS

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"


def study_name(scale: str, first_seed: int) -> str:
    return f"{scale}-{first_seed}" if first_seed else scale


def studies(folder: Path) -> list[Path]:
    """Those in a folder, without drafts."""
    return sorted(path.parent for path in folder.glob(f"[!.]*/{CONFIGS}"))
