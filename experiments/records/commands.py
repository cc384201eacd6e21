"""Commands as they are printed: pasted into a shell, they give Hydra the very values they were made of."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

PLAIN = re.compile(r"[A-Za-z_/.][\w./-]*", re.ASCII)  # a text that Hydra takes as it stands, unless it is one of these
WORDS = {"null", "true", "false", "nan", "inf"}


def override(key: str, value: Any) -> str:
    """A value as Hydra reads it, `data.path='a, b.txt'`; not yet quoted for a shell."""
    return f"{key}={in_hydra(value)}"


def in_hydra(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {in_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_hydra, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # else an interpolation of OmegaConf's
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), literal) + "'"


def run_command(words: Sequence[str], *, sweep: bool = False) -> str:
    return shlex.join(["layernorm", "run", *(["-m"] if sweep else []), *words])


def study(scale: str, first_seed: int) -> dict[str, list[str]]:
    """The variables of make that say which runs are meant."""
    return {"SCALE": [scale] if scale else [], "SEEDS": [str(first_seed)] if first_seed else []}


def make_command(target: str, **variables: Sequence[str]) -> str:
    """`make reproduce CLAIM='a b*'`; of ARGS the words are quoted twice, for make hands them to another shell as they
    are and the others in quotes."""
    joined = {name: shlex.join(words) if name == "ARGS" else " ".join(words) for name, words in variables.items()}
    quoted = (f"{name}={shlex.quote(text.replace('$', '$$'))}" for name, text in joined.items() if text)
    return " ".join(["make", target, *quoted])
