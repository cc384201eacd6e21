"""A drawing as PNG, for slides, documents and chats that take no SVG."""

from functools import cache

import resvg_py

FINE = 2  # pixels for each of the SVG's, so that it stays sharp on a slide
WORD = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{}</svg>'


def png(svg: str) -> bytes | None:
    """None on a machine without fonts, where its words would be missing."""
    return resvg_py.svg_to_bytes(svg_string=svg, zoom=FINE) if has_fonts() else None


@cache
def has_fonts() -> bool:
    """resvg leaves out, without a word, what it has no font for."""
    written, blank = (resvg_py.svg_to_bytes(svg_string=WORD.format(text)) for text in ('<text y="9">x</text>', ""))
    return written != blank
