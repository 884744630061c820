"""HTML of a table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    """An HTML table of escaped cells; the columns in `numbers` are set to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        inner = []
        for place, text in enumerate(cells):
            kind = ' class="n"' if place in numbers else ""
            if tag == "td" and head[place] == "remark":
                kind = ' class="remark"'
            inner.append(f"<{tag}{kind}>{html.escape(text)}</{tag}>")
        return f"<tr>{''.join(inner)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return (
        f'<div class="wide"><table><thead>{line("th", head)}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
