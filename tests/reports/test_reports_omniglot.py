"""The report on Omniglot against numbers worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from reports import (
    babi_figures,
    learning_figures,
    models,
    omniglot_figures,
    omniglot_page,
    omniglot_results,
    runs,
    svg,
)
from reports.__main__ import main
from reports.runs import Runs
from tests.reports import runs_factory as factory

LEVELS = (4, 16, 100)
OPEN = {"start": 2, "end": None, "growth": 2.0}


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "DPI", 20)
        yield


def shares(error: float, level: int) -> list[float]:
    """Wrong names by presentation: guessing at first, then `error` at the second, then half."""
    return [1 - 1 / level, error, *[error / 2] * 8]


def record(level: int, error: float, split: str = "test", reads: str = "kept") -> dict[str, Any]:
    by_presentation = shares(error, level)
    return factory.answers(
        level,
        sum(by_presentation) / 10,
        split,
        reads,
        scored=10.0 * level,
        errors_by_presentation=by_presentation,
    )


def write(
    folder: Path,
    model: str,
    error: float,
    seed: int = 0,
    top: int = 16,
    validation: Sequence[float] = (),
    zeroed: float | None = None,
    **changes: Any,
) -> None:
    """A run whose curriculum came to `top`; errors at `LEVELS` grow with their place."""
    evaluated = [record(level, error * place) for place, level in enumerate(LEVELS, 1)]
    pairs = zip(LEVELS, validation, strict=True) if validation else ()
    evaluated += [record(level, each, "validation") for level, each in pairs]
    if zeroed is not None:
        evaluated += [record(level, zeroed, reads="zeroed") for level in LEVELS]
    settings = factory.settings(model, "omniglot", seed, **{"curriculum": OPEN, **changes})
    place = folder / f"{settings['name']}-{seed}"
    levels = [2, top] if settings["curriculum"] else None
    factory.write(place, settings, factory.lines([9.0, 4.0], levels), evaluated)


def load(folder: Path) -> Runs:
    found, problems = runs.load(folder)
    assert problems == []
    return found


def test_errors_with_and_without_the_first_presentation_by_hand(tmp_path: Path) -> None:
    write(tmp_path, "ntm", 0.2)
    rows = omniglot_results.results(load(tmp_path)).set_index("characters")
    assert list(rows.index) == list(LEVELS)
    assert list(rows.chance) == [0.75, 0.9375, 0.99]
    # At 4: 0.75 at first, 0.2, then eight times 0.1.
    assert rows.error[4] == pytest.approx((0.75 + 0.2 + 0.8) / 10)
    assert rows.error_without_first[4] == pytest.approx(1.0 / 9)
    assert rows.error[100] == pytest.approx((0.99 + 0.6 + 8 * 0.3) / 10)
    wide = omniglot_results.wide(rows.reset_index())
    columns = [f"presentation_{number}" for number in range(1, 11)]
    assert list(wide.columns) == [*omniglot_results.COLUMNS, *columns]
    assert list(wide.loc[0, columns]) == pytest.approx(shares(0.2, 4))


def test_the_best_run_is_that_with_the_least_error_at_the_most_characters_of_validation(
    tmp_path: Path,
) -> None:
    # Seed 0 is best at few characters and in test, seed 1 at the most in validation.
    for seed, (error, own) in enumerate([(0.1, (0.1, 0.1, 0.5)), (0.2, (0.9, 0.9, 0.4))]):
        write(tmp_path, "sam-exact", error, seed, validation=own)
    found = load(tmp_path)
    rows = omniglot_results.results(found)
    run = omniglot_results.best_run(rows)
    assert dict(zip(found.runs.run, found.runs.seed, strict=True))[run] == 1
    (summary,) = omniglot_results.summary(found, 4).to_dict("records")
    errors = [(0.75 + 0.1 + 0.4) / 10, (0.75 + 0.2 + 0.8) / 10]
    assert summary["error"] == pytest.approx(np.mean(errors))
    assert summary["sd"] == pytest.approx(np.std(errors, ddof=1))
    assert summary["best"] == pytest.approx(errors[1])
    assert (summary["presentation_1"], summary["presentation_2"]) == (0.75, pytest.approx(0.15))
    assert summary["last_presentation"] == pytest.approx(0.075)
    assert pd.isna(summary["zeroed"])


@pytest.mark.parametrize(
    ("tops", "level"),
    [
        ({"sam-exact": [128, 64], "ntm": [2, 16], "lstm": [4]}, 16),  # of the NTM's seeds the best
        ({"sam-exact": [100], "lstm": [2]}, 100),  # the LSTM does not choose
        ({"sam-exact": [36]}, 16),
        ({"sam-exact": [45]}, 100),  # nearer as a ratio
        ({"lstm": [5]}, 4),
        ({"sam-exact": [2]}, 4),
    ],
)
def test_models_are_compared_where_all_were_trained(
    tmp_path: Path, tops: dict[str, list[int]], level: int
) -> None:
    for model, own in tops.items():
        for seed, top in enumerate(own):
            write(tmp_path, model, 0.1, seed, top)
    found = load(tmp_path)
    assert omniglot_results.common_level(found, omniglot_results.results(found)) == level


@pytest.mark.parametrize(
    ("settings", "lines", "hardest"),
    [
        ({"curriculum": OPEN}, factory.lines([1.0, 1.0], [2, 8]), 8),
        ({"curriculum": OPEN}, [], None),
        ({"task_settings": {"max_characters": 30}}, factory.lines([1.0]), 30),
        ({}, factory.lines([1.0]), 12),
    ],
)
def test_how_many_characters_a_run_was_trained_on(
    tmp_path: Path, settings: dict[str, Any], lines: list[dict[str, Any]], hardest: int | None
) -> None:
    run = factory.settings("ntm", "omniglot", **settings)
    factory.write(tmp_path / "run", run, lines, [record(4, 0.1)])
    found, _ = runs.load(tmp_path)
    (trained,) = omniglot_results.trained_to(found)
    assert trained == hardest or (hardest is None and pd.isna(trained))
    rows = omniglot_results.results(found)
    assert omniglot_results.common_level(found, rows) == 4
    assert "Test error by number of characters" in omniglot_page.section(found, {})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three models, of SAM three seeds, and the report on them."""
    folder = tmp_path_factory.mktemp("omniglot")
    place = folder / "runs"
    for seed in range(3):
        write(place, "sam-exact", 0.1 + seed / 100, seed, 64, (0.1, 0.1, 0.3 - seed / 10), 0.9)
    write(place, "ntm", 0.2, top=16, validation=(0.2, 0.2, 0.2), zeroed=0.9)
    write(place, "lstm", 0.3, top=4)
    assert main(["learning", str(place), "--out", str(folder / "report")]) == 0
    return folder


def drawn(panel: Axes, model: str, linewidth: float) -> list[Any]:
    return [
        line
        for line in panel.get_lines()
        if line.get_color() == models.look(model).colour and line.get_linewidth() == linewidth
    ]


def test_figure_4_draws_means_seeds_zeroed_reads_and_chance(whole: Path) -> None:
    panel, _ = omniglot_figures.figure_4(load(whole / "runs")).axes
    (mean,) = drawn(panel, "sam-exact", 1.5)
    seeds = np.array(
        [
            [np.mean(shares((0.1 + seed / 100) * place, level)) for place, level in by_place()]
            for seed in range(3)
        ]
    )
    np.testing.assert_array_equal(mean.get_xdata(), LEVELS)
    np.testing.assert_allclose(mean.get_ydata(), seeds.mean(0))
    thin = drawn(panel, "sam-exact", 0.7)
    np.testing.assert_allclose([line.get_ydata() for line in thin], seeds)
    (zeroed,) = (line for line in drawn(panel, "sam-exact", 1.1) if line.get_linestyle() == "--")
    np.testing.assert_allclose(zeroed.get_ydata(), [np.mean(shares(0.9, n)) for n in LEVELS])
    (chance,) = drawn_in(panel, models.PALETTE["grey"])
    np.testing.assert_allclose(chance.get_ydata(), [0.75, 0.9375, 0.99])
    limits = {line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"}
    assert limits == {4.0, 16.0, 64.0}
    theirs = {
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in panel.get_lines()
        if line.get_markersize() == 9 and line.get_markerfacecolor() == "none"
    }
    assert theirs == {(100, 0.2), (100, 0.4)}
    assert panel.get_xscale() == "log"


def by_place() -> Iterator[tuple[int, int]]:
    yield from enumerate(LEVELS, 1)


def drawn_in(panel: Axes, colour: str) -> list[Any]:
    return [line for line in panel.get_lines() if line.get_color() == colour]


def test_figure_4_draws_errors_by_presentation_where_all_were_trained(whole: Path) -> None:
    figure = omniglot_figures.figure_4(load(whole / "runs"))
    panel = figure.axes[1]
    assert panel.get_title(loc="left") == "By presentation, 16 unseen characters"
    (ntm,) = drawn(panel, "ntm", 1.5)
    np.testing.assert_array_equal(ntm.get_xdata(), np.arange(1, 11))
    np.testing.assert_allclose(ntm.get_ydata(), shares(0.4, 16))
    (sam,) = drawn(panel, "sam-exact", 1.5)
    np.testing.assert_allclose(sam.get_ydata(), shares(0.22, 16))
    assert len(drawn(panel, "sam-exact", 0.7)) == 3
    (chance,) = drawn_in(panel, models.PALETTE["grey"])
    assert set(chance.get_ydata()) == {0.9375}
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [
        *("NTM", "SAM linear", "LSTM", "reads zeroed", "hardest trained on", "guessing"),
        *("paper: SAM, under 0.2", "paper: dense models, about 0.4"),
    ]


def test_a_curriculum_of_characters_is_in_figure_3_and_nowhere_among_the_bits(whole: Path) -> None:
    found = load(whole / "runs")
    (panel,) = learning_figures.figure_3(found).axes
    assert (panel.get_title(loc="left"), panel.get_ylabel()) == (
        *("Omniglot",),
        "highest level, characters",
    )
    assert not learning_figures.has_data(found, "figure_2")
    assert not learning_figures.has_data(found, "figure_8")
    assert not babi_figures.has_data(found, "babi")
    assert pd.read_csv(whole / "report" / "learning_results.csv").empty
    assert pd.read_csv(whole / "report" / "learning_evaluations.csv").empty


def test_the_page_and_the_file_say_what_was_measured(whole: Path) -> None:
    out = whole / "report"
    names = {path.name for path in out.iterdir()}
    assert {"figure_4.svg", "figure_4.png", "omniglot_results.csv"} < names
    assert not [name for name in names if name.startswith("babi")]
    text = (out / "learning.html").read_text(encoding="utf-8")
    assert text.count("<svg ") == 2
    section = text[text.index("Figure 4: ") : text.index("Figure 8: ")]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in section.split("<tr>")]
    assert "test error at 16 characters" in section
    # At 16: 0.9375 at first, then e, then eight times e / 2; e is 0.2, 0.22, 0.24.
    sam = next(row for row in rows if row[:1] == ["SAM linear"])
    assert sam[1:] == [
        *("3", "100,000", "0.00028", "64", "0.204 ± 0.01", "0.214", "0.122"),
        *("0.938", "0.220", "0.110", "0.544", "3 budget"),
    ]
    lines = {tuple(row[:2]): row[2:] for row in rows if len(row) == 5}
    assert lines["guessing", "all presentations"] == ["0.750", "0.938", "0.990"]
    assert lines["NTM", "without the first"] == ["0.111", "0.222", "0.333"]
    assert lines["SAM linear", "all presentations, best run"] == ["0.135", "0.214", "0.279"]
    assert ("NTM", "all presentations, best run") not in lines
    assert ("LSTM", "all presentations, reads zeroed") not in lines
    table = pd.read_csv(out / "omniglot_results.csv")
    assert len(table) == 4 * 9 + 3
    own = table[(table.name == "omniglot/ntm") & (table.reads == "zeroed")]
    assert list(own.error_without_first) == pytest.approx([(0.9 + 8 * 0.45) / 9] * 3)


def test_records_without_a_breakdown_have_their_error(tmp_path: Path) -> None:
    run = factory.settings("ntm", "omniglot")
    evaluated = [factory.answers(level, 0.5, scored=40.0) for level in LEVELS]
    factory.write(tmp_path / "run", run, factory.lines([1.0]), evaluated)
    found = load(tmp_path)
    rows = omniglot_results.results(found)
    assert list(rows.error) == [0.5] * 3
    assert rows.error_without_first.isna().all()
    left, right = omniglot_figures.figure_4(found).axes
    assert len(drawn(left, "ntm", 1.5)[0].get_xdata()) == 3
    assert len(drawn(right, "ntm", 1.5)[0].get_xdata()) == 0
    assert list(omniglot_results.wide(rows).columns) == list(omniglot_results.COLUMNS)
    section = omniglot_page.section(found, {})
    assert "0.500" in section
    assert "without the first" not in section


def test_runs_not_evaluated_yet_have_a_row(tmp_path: Path) -> None:
    run = factory.settings("ntm", "omniglot", curriculum=OPEN, episodes=9600)
    factory.write(tmp_path / "run", run, factory.lines([3.0, 2.0], [2, 8]))
    found = load(tmp_path)
    assert not omniglot_figures.has_data(found, "figure_4")
    section = omniglot_page.section(found, {})
    cells = re.findall(r"<td[^>]*>(.*?)</td>", section)
    assert cells[:6] == ["NTM", "0 of 1", "3,200", "0.00028", "8", "-"]
    assert cells[-1] == "1 stopped at 3,200 of 9,600 episodes"
    assert "<p></p>" not in section
