"""Making matplotlib's SVG part of a page that is light or dark."""

from __future__ import annotations

import html
import io
import re
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


def save(figure: Figure, name: str, title: str, files: dict[str, bytes]) -> str:
    """Add `figure` to `files` as SVG and PNG, and return it as an element of a page: `inline`."""
    files[f"{name}.svg"] = svg_text(figure).encode("utf-8")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI)
    files[f"{name}.png"] = image.getvalue()
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
