"""The paper's Figure 4: one-shot naming of characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports import answers, learning_axes, omniglot_results, panels
from reports.learning_lines import (
    GUESSING,
    curves,
    draw_by_level,
    draw_seed,
    hardest_trained,
    key_of_marks,
    legend,
)
from reports.models import INK
from reports.runs import Runs

# What the paper's text says of its Figure 4, at 100 characters.
PAPER_CHARACTERS, PAPER_SAM, PAPER_DENSE = 100, 0.2, 0.4
_PAPER: dict[str, Any] = {
    "color": INK,
    "linestyle": "",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgewidth": 1.2,
    "zorder": 6,
}
_MARKS: tuple[tuple[float, dict[str, Any]], ...] = (
    (PAPER_SAM, {"marker": "v", "label": f"paper: SAM, under {PAPER_SAM}"}),
    (PAPER_DENSE, {"marker": "o", "label": f"paper: dense models, about {PAPER_DENSE}"}),
)


def figure_4(found: Runs) -> Figure:
    """Error on characters never seen in training against their number, and by presentation."""
    rows = omniglot_results.results(found)
    rows = rows[rows.split == "test"].assign(level=rows.characters)
    figure, (drawn,) = panels.grid(1, 2, height=3.8)
    named = list(curves(rows))
    for curve in named:
        draw_by_level(drawn[0], curve, rows[rows.name == curve.name], "error")
    runs = found.runs.set_index("run")
    hardest = omniglot_results.trained_to(found).groupby(runs.name).max()
    hardest_trained(drawn[0], {curve: hardest[curve.name] for curve in named})
    _by_characters(drawn[0], sorted(set(map(int, rows.level))))
    level = omniglot_results.common_level(found, rows)
    here = answers.kept(rows[rows.level == level], "test")
    for curve in named:
        own = here[here.name == curve.name]
        mean = omniglot_results.by_presentation(own)
        drawn[1].plot(np.arange(1, len(mean) + 1), mean, **curve.style() | {"markevery": None})
        for shares in own.presentations[own.presentations.notna()] if len(own) > 1 else ():
            draw_seed(drawn[1], curve, np.arange(1, len(shares) + 1), shares)
    _by_presentation(drawn[1], level)
    theirs = [Line2D([], [], **_PAPER, **mark) for _, mark in _MARKS]
    legend(figure, named, [*key_of_marks(), *theirs])
    return figure


FIGURES: dict[str, Callable[[Runs], Figure]] = {"figure_4": figure_4}


def has_data(found: Runs, name: str) -> bool:
    """Whether there is anything that a figure of `FIGURES` could draw."""
    return not answers.kept(omniglot_results.results(found), "test").empty


def _by_characters(panel: Axes, levels: list[int]) -> None:
    panel.plot(levels, [1 - 1 / level for level in levels], **GUESSING)
    for error, mark in _MARKS:
        panel.plot([PAPER_CHARACTERS], [error], **_PAPER, **mark)
    panels.finish(panel, "All presentations, unseen characters")
    learning_axes.levels(panel, levels)
    panels.recall_axis(panel)
    panel.set_xlabel("characters in the sequence")
    panel.set_ylabel("share of wrong names")


def _by_presentation(panel: Axes, level: int) -> None:
    panel.axhline(1 - 1 / level, **GUESSING)
    panels.finish(panel, f"By presentation, {level} unseen characters")
    panels.recall_axis(panel)
    panel.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    panel.set_xlabel("presentation of a character")
    panel.set_ylabel("share of wrong names")
