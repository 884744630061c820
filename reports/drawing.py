"""Drawing a report's figures, under settings that no name in them can upset."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib import rc_context
from matplotlib.figure import Figure

from reports import svg
from reports.folders import Files, Say
from reports.lettering import Lettering


def draw(
    figures: Mapping[str, Callable[[], Figure]],
    titles: Mapping[str, str],
    letters: Lettering,
    files: Files,
    say: Say,
) -> dict[str, str]:
    """Add each figure to `files` as SVG and PNG; by name as elements of a page, called `titles`."""
    drawings = {}
    with rc_context(letters.settings):
        for name, figure in figures.items():
            drawings[name] = svg.save(figure(), name, titles[name], files)
            say(f"drew {name}")
    return drawings
