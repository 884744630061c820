"""HTML of tables and figures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """A cell with a class of the style sheet."""

    text: str
    kind: str = ""


def figure(drawing: str, caption: str) -> str:
    """A drawing, which is HTML, above a caption, which is not."""
    return f"<figure>\n{drawing}\n<figcaption>{html.escape(caption)}</figcaption></figure>"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    numbers: set[int],
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """An HTML table of escaped cells; the columns in `numbers` are set to the right.

    groups: above the head, names that stand over so many columns each, from the left.
    """

    def line(tag: str, cells: Sequence[str | Cell]) -> str:
        inner = []
        for place, cell in enumerate(cells):
            text, kind = cell if isinstance(cell, Cell) else (cell, "")
            kinds = [kind] if kind else []
            if place in numbers:
                kinds.append("n")
            elif tag == "td" and head[place] == "remark":
                kinds.append("remark")
            shown = f' class="{" ".join(kinds)}"' if kinds else ""
            inner.append(f"<{tag}{shown}>{html.escape(text)}</{tag}>")
        return f"<tr>{''.join(inner)}</tr>"

    over = "".join(
        f'<th class="over" colspan="{count}">{html.escape(name)}</th>' for name, count in groups
    )
    body = "\n".join(line("td", row) for row in rows)
    return (
        f'<div class="wide"><table><thead>{over and f"<tr>{over}</tr>"}{line("th", head)}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
