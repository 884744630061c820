"""A name of any width leaves the panels their room, and nothing is written off the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.text import Text

from reports import figures, files, lettering, results
from tests.reports import reports_factory as factory


@pytest.mark.parametrize("width", [1, 20, 50, 200])
@pytest.mark.parametrize("letter", ["W", "i", "中", "@"])
def test_all_of_figure_1a_is_on_it(tmp_path: Path, letter: str, width: int) -> None:
    written = json.dumps(factory.result(factory.realistic()))
    name = json.dumps(letter * width)[1:-1]
    factory.write(tmp_path / "toybox", written.replace("sam-lsh", f"sam-{name}"))
    (run,), _ = files.find_runs(tmp_path)
    frame, _ = results.tidy(run)
    figure = figures.figure_1a(lettering.of((frame,)).on(frame))
    figure.draw_without_rendering()
    main, *small = figure.axes
    assert main.get_window_extent().width > 0.3 * figure.bbox.width
    assert all(panel.get_window_extent().width > 0.1 * figure.bbox.width for panel in small)
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = Text.get_window_extent(text)  # without an arrow
            assert -1 < box.x0 < box.x1 < figure.bbox.width + 1, text
