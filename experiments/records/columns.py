"""Names and what they are, as lines for any terminal: 80 columns are enough."""

import textwrap
from collections.abc import Iterable

WIDTH, AT = 80, 28  # of a line, and where explanations start


def entries(pairs: Iterable[tuple[str, str]]) -> str:
    """A name and its explanation beside it, or below where the name is long."""
    return "\n".join(entry(name, said) for name, said in pairs)


def entry(name: str, said: str) -> str:
    above, beside = (f"  {name}\n", "") if len(name) > AT - 4 else ("", f"  {name}")
    lines = textwrap.fill(
        " ".join(said.split()),
        WIDTH,
        initial_indent=beside.ljust(AT),
        subsequent_indent=" " * AT,
        break_on_hyphens=False,
    )
    return (above + lines).rstrip() if said else f"  {name}"
