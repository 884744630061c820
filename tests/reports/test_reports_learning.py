"""The report on training runs: figures, page, files, alone and beside asv's results."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from reports import figures, learning_axes, learning_curves, learning_figures, models, runs, svg
from reports.__main__ import main
from tests.reports import reports_factory
from tests.reports import runs_factory as factory

S = factory.SPACING
MODELS = ("ntm", "dam", "sam-exact", "lstm")
TASKS = {"copy": 20, "associative_recall": 6, "priority_sort": 20}
CHANCE = {"copy": 160.0, "associative_recall": 48.0, "priority_sort": 128.0}
OPEN = {"start": 1, "end": None, "growth": 2.0}
PAIRS = (4, 16, 64, 256)
TABLES = {f"learning_{name}.csv" for name in ("results", "settings", "evaluations", "curves")}
FIGURES = {f"figure_{name}.{kind}" for name in "238" for kind in ("svg", "png")}


def cost(model: str, seed: int, number: int) -> float:
    """A falling curve; the LSTM's stays high."""
    floor = 20.0 if model == "lstm" else 0.1
    return floor + 40.0 * math.exp(-number / (4.0 + seed))


def recall(model: str, seed: int, level: int) -> float:
    return 48.0 / (1.0 + (64.0 / level) ** 2) * (1.0 + seed / 10)


def write_tasks(folder: Path, seeds: int = 3, lines: int = 30) -> None:
    """Runs of Figure 2: every model on every task; DAM's seed 1 diverges on priority sort."""
    for task, level in TASKS.items():
        for model in MODELS:
            for seed in range(seeds):
                broken = (task, model, seed) == ("priority_sort", "dam", 1)
                costs = [cost(model, seed, n) for n in range(1, (10 if broken else lines) + 1)]
                evaluated = [
                    factory.evaluation(
                        1, costs[-1], chance=8.0 if task == "copy" else CHANCE[task]
                    ),
                    factory.evaluation(level, costs[-1], chance=CHANCE[task]),
                ]
                if model != "lstm":
                    evaluated.append(factory.evaluation(level, 39.0, "zeroed", CHANCE[task]))
                factory.write(
                    folder / "tasks" / f"{task}-{model}-{seed}",
                    factory.settings(model, task, seed),
                    factory.lines(costs),
                    [] if broken else evaluated,
                    "loss <nan>" if broken else None,
                )


def write_curriculum(folder: Path, seeds: int = 3) -> None:
    """Runs of Figures 3 and 8: SAM to 256 pairs, the NTM to 16; the NTM's seed 2 diverges."""
    for model, top, lines in (("ntm", 4, 12), ("sam-lsh", 8, 20)):
        for seed in range(seeds):
            levels = [2 ** min(n // (seed + 1), top) for n in range(lines)]
            run = factory.settings(
                model,
                "associative_recall",
                seed,
                name=f"curriculum/{model}",
                curriculum=OPEN,
            )
            broken = (model, seed) == ("ntm", 2)
            evaluated = factory.evaluations(
                PAIRS,
                lambda level, model=model, seed=seed: recall(model, seed, level),
                lambda level: 47.0,
            )
            factory.write(
                folder / "curriculum" / f"{model}-{seed}",
                run,
                factory.lines([1.0] * lines, levels),
                [] if broken else evaluated,
                "loss 1e9" if broken else None,
            )


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "DPI", 20)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, and the report on them, in one folder."""
    place = tmp_path_factory.mktemp("learning")
    write_tasks(place / "runs")
    write_curriculum(place / "runs")
    assert main(["learning", str(place / "runs"), "--out", str(place / "report")]) == 0
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> runs.Runs:
    return runs.load(folder / "runs")[0]


def drawn(panel: Axes, model: str, linewidth: float) -> list[np.ndarray]:
    """The points [n, 2] of a model's lines of one width."""
    return [
        np.asarray(line.get_xydata())
        for line in panel.get_lines()
        if line.get_color() == models.look(model).colour
        and line.get_linewidth() == linewidth
        and line.get_marker() != "x"
    ]


def test_figure_2_draws_means_and_one_standard_deviation(found: runs.Runs) -> None:
    figure = learning_figures.figure_2(found)
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        *("Copy", "Associative recall"),
        "Priority sort",
    ]
    copy = figure.axes[0]
    (mean,) = drawn(copy, "ntm", 1.5)
    own = np.array([[cost("ntm", seed, n) for seed in range(3)] for n in range(1, 31)])
    np.testing.assert_allclose(mean[:, 0], S * np.arange(1, 31))
    np.testing.assert_allclose(mean[:, 1], own.mean(1))
    band = copy.collections[0].get_paths()[0].vertices
    sd = own.std(1, ddof=1)
    assert band[:, 1].max() == pytest.approx((own.mean(1) + sd).max())
    assert band[:, 1].min() == pytest.approx((own.mean(1) - sd).clip(0).min())
    assert len(copy.collections) == len(MODELS)
    assert copy.get_xscale() == "linear"
    assert copy.get_ylim()[0] <= 0
    # Guessing costs the same at every level of recall, and not of copy.
    grey = models.PALETTE["grey"]
    guesses = [[line.get_ydata()[0] for line in panel.get_lines() if line.get_color() == grey]
               for panel in figure.axes[:2]]  # fmt: skip
    assert guesses == [[], [48.0]]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["NTM", "DAM", "SAM linear", "LSTM"]


def test_figure_2_s_mean_ends_where_a_seed_diverged(found: runs.Runs) -> None:
    sort = learning_figures.figure_2(found).axes[2]
    (mean,) = drawn(sort, "dam", 1.5)
    assert mean[-1, 0] == 10 * S
    thin = drawn(sort, "dam", 0.7)
    assert sorted(points[-1, 0] for points in thin) == [10 * S, 30 * S, 30 * S]
    crosses = [line for line in sort.get_lines() if line.get_marker() == "x"]
    assert [tuple(line.get_xydata()[0]) for line in crosses] == [(10 * S, cost("dam", 1, 10))]


def test_a_single_seed_has_no_band(tmp_path: Path) -> None:
    write_tasks(tmp_path, seeds=1)
    write_curriculum(tmp_path, seeds=1)
    found, _ = runs.load(tmp_path)
    for draw in learning_figures.FIGURES.values():
        for panel in draw(found).axes:
            assert list(panel.collections) == []
            assert panel.get_lines()


def test_figure_3_draws_every_run_their_mean_and_where_they_stopped(found: runs.Runs) -> None:
    (panel,) = learning_figures.figure_3(found).axes
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert panel.get_ylabel() == "highest level, pairs"
    (mean,) = drawn(panel, "sam-lsh", 2.0)
    assert tuple(mean[-1]) == (20 * S, (256 + 256 + 2**6) / 3)
    thin = drawn(panel, "sam-lsh", 0.7)
    assert [points[-1, 1] for points in thin] == [256, 256, 64]
    markers = {line.get_marker() for line in panel.get_lines() if len(line.get_xdata()) == 1}
    assert markers == {"s", "v", "x"}
    crosses = [line for line in panel.get_lines() if line.get_marker() == "x"]
    assert [tuple(line.get_xydata()[0]) for line in crosses] == [(12 * S, 2.0**3)]


def test_figure_8_shows_kept_and_zeroed_reads_guessing_and_the_trained_limit(
    found: runs.Runs,
) -> None:
    bits, wrong = learning_figures.figure_8(found).axes
    assert (bits.get_xscale(), wrong.get_xscale()) == ("log", "log")
    for panel, share in ((bits, 1.0), (wrong, 0.25)):
        kept = drawn(panel, "sam-lsh", 1.5)[0]
        zeroed = next(points for points in drawn(panel, "sam-lsh", 1.1) if len(points) == 4)
        np.testing.assert_allclose(kept[:, 0], PAIRS)
        expected = [np.mean([recall("", seed, n) for seed in range(3)]) for n in PAIRS]
        np.testing.assert_allclose(kept[:, 1], np.array(expected) * share)
        np.testing.assert_allclose(zeroed[:, 1], 47.0 * share)
    for panel, guess in ((bits, 48.0), (wrong, 24.0)):
        (line,) = (one for one in panel.get_lines() if one.get_color() == models.PALETTE["grey"])
        assert set(line.get_ydata()) == {guess}
        limits = {line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"}
        assert limits == {16.0, 256.0}
    # The NTM's diverged seed has no evaluation: its lines are of the other two.
    (kept,) = (points for points in drawn(bits, "ntm", 1.5) if len(points) == 4)
    np.testing.assert_allclose(kept[0, 1], np.mean([recall("", seed, 4) for seed in range(2)]))


def test_generalisation_is_drawn_of_other_runs_where_no_curriculum_went_on(tmp_path: Path) -> None:
    write_tasks(tmp_path, seeds=1)
    found, _ = runs.load(tmp_path)
    assert not learning_figures.has_data(found, "figure_3")
    bits, _ = learning_figures.figure_8(found).axes
    (kept,) = (points for points in drawn(bits, "ntm", 1.5) if len(points) == 2)
    assert tuple(kept[1]) == (6.0, pytest.approx(cost("ntm", 0, 30)))


def test_names_that_share_a_model_are_told_apart(tmp_path: Path) -> None:
    for size in (64, 1024):
        run = factory.settings("sam-exact", "copy", name=f"copy/N={size}")
        factory.write(tmp_path / str(size), run, factory.lines([3.0, 2.0]))
    figure = learning_figures.figure_2(runs.load(tmp_path)[0])
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["SAM linear, copy/N=1024", "SAM linear, copy/N=64"]
    styles = {
        line.get_linestyle() for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 1
    }
    assert len(styles) == 2


def test_the_axis_of_bits_has_zero_and_decades(found: runs.Runs) -> None:
    panel = learning_figures.figure_2(found).axes[0]
    assert list(panel.get_yticks()) == [0.0, 0.5, 1.0, 10.0]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["0", "0.5", "1", "10"]
    assert [learning_axes.short(value) for value in (0, 500, 20_000, 1_500_000)] == [
        *("0", "500"),
        *("20k", "1.5M"),
    ]


def test_one_line_of_one_run_is_enough(tmp_path: Path) -> None:
    for task, curriculum, level in (("copy", None, None), ("associative_recall", OPEN, [1])):
        run = factory.settings("sam-exact", task, curriculum=curriculum)
        factory.write(tmp_path / task, run, factory.lines([0.0], level))
    assert main(["learning", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"learning.html"} | TABLES | {name for name in FIGURES if "_8" not in name}
    assert "not evaluated" in (tmp_path / "out" / "learning.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_says_what_was_measured(folder: Path) -> None:
    text = (folder / "report" / "learning.html").read_text(encoding="utf-8")
    assert {path.name for path in (folder / "report").iterdir()} == (
        {"learning.html"} | TABLES | FIGURES
    )
    assert text.count("<svg ") == 3
    assert "{{" not in text
    assert not re.search(r"https?:|<(script|link|img|iframe)\b", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for words in (
        "42 runs; Toy CPU; Python 3.11.7, torch 2.13.0; commit 0123456789abcdef",
        "learning_rate 0.001 (paper: 1e-05); batch_size 16 (paper: 8)",
        "optimizer adam (paper: rmsprop)",
        "model_settings.memory_size 128",
        "not reached",
        '<td class="n">3 of 3</td>',
        "<td>2 budget, 1 diverged</td>",
        '<td class="n">2 of 3</td>',
        "priority_sort/dam, seed 1: loss &lt;nan&gt;",
        "Every file was read.",
    ):
        assert words in text, words


def test_the_curves_come_back_from_csv(folder: Path, found: runs.Runs) -> None:
    curves = pd.read_csv(folder / "report" / "learning_curves.csv")
    own = curves[(curves.name == "copy/ntm") & (curves.seed == 2)]
    assert list(own.episodes) == list(S * np.arange(1, 31))
    np.testing.assert_allclose(own.cost, [cost("ntm", 2, n) for n in range(1, 31)], rtol=1e-5)
    assert curves.groupby(["name", "seed"]).size().max() <= learning_curves.MOST_POINTS
    results = pd.read_csv(folder / "report" / "learning_results.csv").set_index("name")
    assert results.highest_level["curriculum/sam-lsh"] == pytest.approx(192.0)
    assert len(results) == len(TASKS) * len(MODELS) + 2


def test_the_same_runs_give_the_same_bytes_and_touch_no_other_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert main(["learning", str(folder / "runs"), "--out", str(tmp_path)]) == 0
    for name in {"learning.html"} | TABLES | FIGURES:
        assert (tmp_path / name).read_bytes() == (folder / "report" / name).read_bytes()
    assert (tmp_path / "index.html").read_text() == "mine"
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"report: {tmp_path / 'learning.html'}"
    assert said.err == ""


def test_without_runs_an_old_report_stays_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "learning.html").write_text("old")
    (tmp_path / "empty").mkdir()
    for source in ("empty", "gone"):
        assert main(["learning", str(tmp_path / source), "--out", str(out)]) == 1
        assert "got no run, expected folders with a run.json" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ["old"]


def test_the_whole_report_takes_runs_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tasks(tmp_path / "runs", seeds=1, lines=3)
    rows = {reports_factory.STEP: reports_factory.row([["ntm"], [64], [1]], lambda *key: 1.0, True)}
    source = str(reports_factory.write(tmp_path / "toybox", reports_factory.result(rows)))
    out = tmp_path / "out"
    assert main(["build", source, "--out", str(out), "--runs", str(tmp_path / "runs")]) == 0
    text = (out / "index.html").read_text(encoding="utf-8")
    assert text.count("<svg ") == len(figures.FIGURES) + 2
    assert "Figure 8: generalisation" in text
    assert "{{" not in text
    names = {path.name for path in out.iterdir()}
    assert TABLES | {name for name in FIGURES if "_3" not in name} < names
    capsys.readouterr()
    arguments = ["build", source, "--out", str(out), "--runs", str(tmp_path / "gone")]
    assert main(arguments) == 1
    assert "got no run" in capsys.readouterr().err
    assert (out / "index.html").read_text(encoding="utf-8") == text


def test_the_axis_of_episodes_ends_with_the_models_that_have_a_memory(tmp_path: Path) -> None:
    for model, lines in (("ntm", 10), ("lstm", 100)):
        run = factory.settings(model, "copy")
        factory.write(tmp_path / model, run, factory.lines([2.0] * lines))
    (panel,) = learning_figures.figure_2(runs.load(tmp_path)[0]).axes
    assert panel.get_xlim() == (0, pytest.approx(1.02 * 10 * S))


def test_a_band_ends_at_zero(tmp_path: Path) -> None:
    for seed, cost in enumerate((0.0, 30.0, 0.0)):
        run = factory.settings("ntm", "copy", seed)
        factory.write(tmp_path / str(seed), run, factory.lines([cost, cost]))
    (panel,) = learning_figures.figure_2(runs.load(tmp_path)[0]).axes
    heights = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.0, pytest.approx(10.0 + 300**0.5))


@pytest.mark.parametrize(
    ("lines", "xticks"),
    [
        (1, ["1k", "2k", "5k", "10k"]),
        (3, ["2k", "5k"]),
        (10, ["2k", "5k", "10k"]),
        (300, ["10k", "100k"]),
    ],
)
def test_a_short_curriculum_has_ticks_too(tmp_path: Path, lines: int, xticks: list[str]) -> None:
    run = factory.settings("lstm", "associative_recall", curriculum=OPEN)
    evaluated = [factory.evaluation(6, 40.0)]
    factory.write(tmp_path / "run", run, factory.lines([1.0] * lines, [3] * lines), evaluated)
    found, _ = runs.load(tmp_path)
    (panel,) = learning_figures.figure_3(found).axes
    assert [text.get_text() for text in panel.get_xticklabels()] == xticks
    assert [text.get_text() for text in panel.get_yticklabels()] == ["2", "3", "4"]
    bits, _ = learning_figures.figure_8(found).axes
    assert [text.get_text() for text in bits.get_xticklabels()] == ["6"]
