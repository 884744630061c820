"""Foreign names in figures: nothing in them is taken for mathematics, every letter has a glyph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import font_manager, ft2font

from reports.text import escaped

FONT = "DejaVu Sans"  # matplotlib's own, there on every machine
LONGEST_LABEL = 60
MOST_FONTS, MOST_CHARACTERS = 500, 2_000  # that are looked into, and looked for
_NO_LETTERS = ("Last Resort",)  # fonts of boxes


@dataclass(frozen=True)
class Lettering:
    """How the names of one report are drawn.

    names: a name -> as it is drawn; where it is not here, as it is. families: fonts, the first one
    first. missing: characters that none of them has.
    """

    names: dict[str, str]
    families: list[str]
    missing: str

    @property
    def settings(self) -> dict[Any, Any]:
        """matplotlib's settings to draw with."""
        return {"font.family": self.families, "text.usetex": False}

    def on(self, frame: pd.DataFrame) -> pd.DataFrame:
        """`frame` with its text as it is drawn, but for `run`, which is a key."""
        if not self.names:
            return frame
        changed = {
            name: frame[name].map(lambda text: self.names.get(text, text), na_action="ignore")
            for name in _text_columns(frame)
        }
        return frame.assign(**changed).astype(dict.fromkeys(changed, "string"))

    @property
    def note(self) -> str:
        """What to say of characters that no font has; "" without any."""
        if not self.missing:
            return ""
        said = ", ".join(f"{each} as {escaped(each)}" for each in self.missing[:20])
        more = f", and {len(self.missing) - 20} more" if len(self.missing) > 20 else ""
        return (
            f"In figures characters that no font of this machine has are written as their numbers: "
            f"{said}{more}. With a font that has them, they are drawn."
        )


def of(frames: Iterable[pd.DataFrame]) -> Lettering:
    """The lettering of all names in the text columns of `frames`."""
    texts: set[str] = set()
    for frame in frames:
        for column in _text_columns(frame):
            texts.update(frame[column].dropna().unique())
    odd = sorted({each for text in texts for each in text if not each.isascii()})
    families, missing = _families(set(odd[:MOST_CHARACTERS]))
    missing.update(odd[MOST_CHARACTERS:])
    names: dict[str, str] = {}
    taken = set(texts)
    for text in sorted(texts):
        drawn = _drawn(text, missing)
        if drawn == text:
            continue
        number, plain = 1, drawn
        while drawn in taken:  # two names must not become one line
            number += 1
            drawn = f"{plain} ({number})"
        names[text] = drawn
        taken.add(drawn)
    return Lettering(names, families, "".join(sorted(missing)))


def _drawn(text: str, missing: set[str]) -> str:
    r"""A name within bounds: unknown characters as `\u4e2d`, each `$` as matplotlib's `\$`."""
    shown = "".join(escaped(each) if each in missing else each for each in text)
    if len(shown) > LONGEST_LABEL:
        shown = shown[: LONGEST_LABEL - 1] + "…"
    return shown.replace("$", r"\$")


def _text_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name != "run" and frame[name].dtype == "string"]


def _families(characters: set[str]) -> tuple[list[str], set[str]]:
    """`FONT` and as many others of this machine as it takes, and the characters that none has."""
    families, missing = [FONT], set(characters)
    for family, font in _fonts():
        found = {each for each in missing if _draws(font, each)} if missing else set()
        if found and family != FONT:
            families.append(family)
        missing -= found
        if not missing:
            break
    return families, missing


def _fonts() -> Iterator[tuple[str, ft2font.FT2Font]]:
    """The fonts of this machine, one a family: `FONT`, then those without serifs, by name."""
    entries = {
        entry.name: entry
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and not entry.name.startswith(_NO_LETTERS)
    }

    def rank(name: str) -> tuple[bool, bool, str]:
        return name != FONT, "sans" not in name.lower(), name

    for name in sorted(entries, key=rank)[:MOST_FONTS]:
        try:
            font = ft2font.FT2Font(entries[name].fname)
        except (OSError, RuntimeError):
            continue
        if font.scalable:  # an emoji of pixels cannot be drawn as an outline
            yield name, font


def _draws(font: ft2font.FT2Font, character: str) -> bool:
    """Whether a font has an outline for a character."""
    if not font.get_char_index(ord(character)):
        return False
    try:
        font.load_char(ord(character))
    except RuntimeError:
        return False
    return bool(len(font.get_path()[0])) or character.isspace()
