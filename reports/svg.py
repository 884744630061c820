"""Making matplotlib's SVG part of a page that is light or dark."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from reports.axes import GRID
from reports.models import INK, PALETTE, PAPER

DPI = 220
# Outlines instead of text: the labels keep the room that was measured for them.
SETTINGS: dict[Any, str] = {"svg.fonttype": "path", "svg.hashsalt": "reports"}


def svg_text(figure: Figure, transparent: bool = False) -> str:
    """The SVG of `figure`, the same bytes at each call."""
    buffer = io.StringIO()
    with rc_context(SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=transparent)
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str, title: str) -> str:
    """Write `figure` as SVG and PNG, and return it as an element of a page (see `inline`)."""
    (folder / f"{name}.svg").write_text(svg_text(figure), encoding="utf-8")
    figure.savefig(folder / f"{name}.png", dpi=DPI)
    return inline(figure, name, title)


def inline(figure: Figure, name: str, title: str) -> str:
    """`figure` as an `<svg>` element whose colours follow the page's.

    Ids get the prefix `name`, so that several figures fit on one page; nothing in it names an
    address.
    """
    text = svg_text(figure, transparent=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    for variable, colour in {"ink": INK, "paper": PAPER, "line": GRID, **PALETTE}.items():
        text = re.sub(re.escape(colour), f"var(--{variable})", text, flags=re.IGNORECASE)
    head = f'<svg role="img" aria-label="{html.escape(title, quote=True)}"'
    return re.sub(r"<svg", head, text, count=1)
