"""claims.json: verdicts for programs, and where they come from."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.records.files import SuiteError, from_json
from experiments.records.table import Origin
from experiments.verdicts.verdict import Verdict


class VerdictsError(SuiteError, ValueError):
    """A claims.json that is missing or damaged."""


def claims_json(verdicts: Iterable[Mapping[str, Any]], origin: Origin) -> str:
    """Verdicts for programs, keys sorted, null for what does not exist; when and by what command they were made."""
    plain = {"made": origin.made, "command": origin.command, "verdicts": list(verdicts)}
    return json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_claims(path: str | Path) -> tuple[list[dict[str, Any]], Origin]:
    """The verdicts of a claims.json as they stand there, each with its `reason`, a text, and where they come from.

    Raises ValueError, in one line, if the file is missing or something else. A list of verdicts, as the file was
    once, is one of unknown origin.
    """
    try:
        plain = from_json(Path(path).read_text(encoding="utf-8"))
        plain = {"made": None, "command": "", "verdicts": plain} if isinstance(plain, list) else plain
        if not isinstance(plain, dict) or not isinstance(plain.get("verdicts"), list):
            raise ValueError("no verdicts")
        for entry in plain["verdicts"]:
            Verdict.from_dict(entry)
        return plain["verdicts"], Origin(str(plain.get("command", "")), plain.get("made"))
    except FileNotFoundError:
        raise VerdictsError(f"{path} does not exist; make reproduce writes results/claims.json") from None
    except (ValueError, RecursionError) as error:
        raise VerdictsError(
            f"{path}: not the verdicts of a report ({error}); make reproduce writes them anew"
        ) from None


def read_verdicts(path: str | Path) -> list[Verdict]:
    """The verdicts of a claims.json; ValueError as of `read_claims`."""
    return [Verdict.from_dict(entry) for entry in read_claims(path)[0]]
