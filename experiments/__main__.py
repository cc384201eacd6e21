"""`layernorm`: lists the commands, one a file here, or leads to one. From a clone also `python -m experiments`."""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands() -> dict[str, Path]:
    """The file of every command, by its name."""
    files = {path.stem: path for path in sorted(HERE.glob("[!_]*.py"))}
    return {**files, "data": HERE.parent / "data" / "__main__.py"}


def listed() -> str:
    """A line for each command, the first sentence of its file."""
    texts = {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in commands().items()}
    lines = [
        f"  {name:<12}{' '.join((text or '').split()).partition('. ')[0].rstrip('.')}" for name, text in texts.items()
    ]
    return "\n".join(["usage: layernorm <command> ...", "", *lines, "", "layernorm <command> --help tells its options"])


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(listed())
    elif name not in commands():
        sys.exit(f"error: layernorm {name}: choose one of {', '.join(commands())}")
    else:
        sys.argv[:2] = ["-m"]  # see models/command.py
        runpy.run_module("data" if name == "data" else f"experiments.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
