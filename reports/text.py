"""Text from foreign files, so that it is safe to print, to write and to draw."""

from __future__ import annotations

import re
import reprlib

LONGEST_NAME = 200
LONGEST_TEXT = 2_000

# Control characters, those that turn or hide text (bidirectional, zero width), and halves of
# surrogate pairs, which no file can hold. Joiners (200c, 200d) are part of words and of emoji.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 60


def visible(text: str) -> str:
    r"""`text` with each character that cannot be seen as its escape, such as `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: escaped(found[0]), text)


def escaped(character: str) -> str:
    r"""A character by its number: `\n`, `\x1b`, `\u4e2d`, `\U0001f680`."""
    return character.encode("unicode_escape").decode("ascii")


def shortened(value: object, most: int = LONGEST_TEXT) -> str:
    """`value` as text of at most `most` characters; `…` stands for what is left out."""
    if isinstance(value, str):
        text = visible(value[: most + 1])
    elif isinstance(value, dict | list):
        text = visible(str(value)[: most + 1])
    else:
        text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def got(value: object) -> str:
    """What came, for a message: short, on one line."""
    return visible(_shown.repr(value))
