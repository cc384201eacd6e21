"""What comes from files is shown as text and does nothing else, on a terminal or in a document."""

import re

# Control characters; marks without a width or that turn the direction of what follows; halves of characters.
MOVING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str, keep: str = "") -> str:
    """Text in which all that moves, hides or turns what stands beside it is written out, as `\\u001b`; but `keep`."""
    return MOVING.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)
