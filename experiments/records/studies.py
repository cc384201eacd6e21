"""The frozen studies: results/reference/ has a folder for each, a table of runs and what it leads to.

Each is named by its scale and, where it is a replication, its first seed: `laptop`, `evening`, `evening-100`.
"""

from pathlib import Path

from experiments.records.files import SuiteError
from experiments.records.table import CONFIGS

ORDER = ("paper", "evening", "laptop", "width2", "width4", "section6", "figure6", "smoke")  # of the scales
REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"


def study_name(scale: str, first_seed: int) -> str:
    return f"{scale}-{first_seed}" if first_seed else scale


def studies(folder: Path) -> list[Path]:
    """Those in a folder, without drafts: longer trainings first, replications last."""
    return sorted((path.parent for path in folder.glob(f"[!.]*/{CONFIGS}")), key=place_of)


def check_not_frozen(results: str) -> None:
    """Refuse to write runs and reports where studies are kept."""
    if Path(results).resolve().is_relative_to(REFERENCE):
        raise SuiteError(f"results={results}: there studies are frozen (make freeze); choose another folder")


def frozen(scale: str, first_seed: int = 0) -> Path | None:
    """The study of a scale, None where there is none."""
    folder = REFERENCE / study_name(scale, first_seed)
    return folder if folder in studies(REFERENCE) else None


def scale_of(name: str) -> tuple[str, bool]:
    """The scale of a study, and whether it is a replication."""
    scale, _, first_seed = name.partition("-")
    return scale, bool(first_seed)


def place_of(study: Path) -> tuple[bool, int, str]:
    scale, replicates = scale_of(study.name)
    return replicates, ORDER.index(scale) if scale in ORDER else len(ORDER), study.name
