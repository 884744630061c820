"""The report on bAbI against numbers worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports import (
    answers,
    babi_figures,
    babi_page,
    babi_results,
    learning,
    learning_figures,
    learning_lines,
    learning_page,
    models,
    paper_babi,
    runs,
    svg,
)
from reports.__main__ import main
from reports.runs import Runs
from tests.reports import runs_factory as factory

TASKS = range(1, 21)
Errors = Callable[[int], float]


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "DPI", 20)
        yield


def write(
    folder: Path,
    model: str,
    test: Errors,
    validation: Errors | None = None,
    zeroed: Errors | None = None,
    seed: int = 0,
    tasks: Sequence[int] = TASKS,
    lines: int = 2,
    **changes: Any,
) -> Path:
    """A run of bAbI; `test` and the others give the error in per cent by task."""
    kinds = [("test", "kept", test), ("validation", "kept", validation), ("test", "zeroed", zeroed)]
    evaluated = [
        factory.answers(task, of(task) / 100, split, reads)
        for split, reads, of in kinds
        if of is not None
        for task in tasks
    ]
    settings = factory.settings(model, "babi", seed, **changes)
    place = folder / f"{settings['name']}-{seed}"
    return factory.write(place, settings, factory.lines([9.0 - n for n in range(lines)]), evaluated)


def load(folder: Path) -> Runs:
    found, problems = runs.load(folder)
    assert problems == []
    return found


def only(table: pd.DataFrame) -> dict[str, Any]:
    (row,) = table.to_dict("records")
    return row


def texts(html: str) -> list[list[str]]:
    """The cells of every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_the_paper_s_table_agrees_with_its_own_means_and_counts() -> None:
    for model in paper_babi.models():
        printed = paper_babi.by_model(model)
        tasks = printed.loc[[str(task) for task in TASKS]]
        assert len(printed) == 22
        assert abs(tasks.best.mean() - printed.best["error"]) < 0.06
        assert abs(tasks["mean"].mean() - printed["mean"]["error"]) < 0.13
        assert (tasks.best > paper_babi.FAILED).sum() == printed.best["failed"]
    assert paper_babi.models() == ["lstm", "dnc", "sdnc", "dam", "sam", "ntm"]
    assert (paper_babi.by_model("dnc").best["10"], paper_babi.by_model("dam").best["17"]) == (
        *(0.6,),
        6.0,
    )


def test_the_best_run_is_chosen_by_validation_and_not_by_test(tmp_path: Path) -> None:
    # Seed 1 does best in validation and worst in test.
    for seed, (test, validation) in enumerate([(4.0, 8.0), (12.0, 2.0), (8.0, 4.0)]):
        write(
            tmp_path,
            "sam-exact",
            lambda task, test=test: test,
            lambda task, validation=validation: validation,
            seed=seed,
        )
    row = only(babi_results.summary(load(tmp_path)))
    assert (row["best_seed"], row["seeds"], row["tasks"]) == (1, 3, 20)
    assert (row["error_best"], row["error_mean"], row["error_sd"]) == (12.0, 8.0, 4.0)
    assert (row["failed_best"], row["failed_mean"]) == (20, pytest.approx(40 / 3))
    assert (row["paper_error_best"], row["paper_error_mean"], row["paper_error_sd"]) == (
        *(4.1, 11.5),
        5.9,
    )
    assert (row["paper_failed_best"], row["paper_failed_mean"]) == (2, 7.1)


def test_means_failed_tasks_and_reads_zeroed_by_hand(tmp_path: Path) -> None:
    # Task 3 has 43 %, task 16 24 %, the others 1 %: 18 + 67 = 85 over twenty.
    write(
        tmp_path,
        "dam",
        lambda task: {3: 43.0, 16: 24.0}.get(task, 1.0),
        lambda task: 0.0,
        lambda task: 2.0 * task,
    )
    row = only(babi_results.summary(load(tmp_path)))
    assert row["error_best"] == row["error_mean"] == pytest.approx(85 / 20)
    assert row["without_task_3_best"] == pytest.approx(42 / 19)
    assert (row["failed_best"], row["zeroed_mean"]) == (2, pytest.approx(21.0))
    assert pd.isna(row["error_sd"])


@pytest.mark.parametrize(("wrong", "failed"), [(49, 0), (50, 0), (51, 20)])
def test_fifty_of_a_thousand_questions_are_not_yet_failed(
    tmp_path: Path, wrong: int, failed: int
) -> None:
    stories = 242  # 100 * (50 / 242) / (1000 / 242) is above 5 in floating point
    assert 100 * ((50 / stories) / (1000 / stories)) > 5
    evaluated = [
        factory.answers(task, 0.0, scored=1000 / stories, errors=wrong / stories, sequences=stories)
        for task in TASKS
    ]
    run = factory.settings("ntm", "babi")
    factory.write(tmp_path / "run", run, factory.lines([1.0]), evaluated)
    found = load(tmp_path)
    assert only(babi_results.summary(found))["failed_best"] == failed
    rows = babi_results.results(found)
    assert set(rows.questions) == {1000}
    assert rows.error_percent.to_numpy() == pytest.approx(wrong / 10)


def test_without_validation_only_a_single_run_is_the_best(tmp_path: Path) -> None:
    write(tmp_path, "ntm", lambda task: 3.0)
    for seed in range(2):
        write(tmp_path, "dnc", lambda task: 3.0, seed=seed)
    rows = babi_results.summary(load(tmp_path)).set_index("model")
    assert rows.error_best["ntm"] == 3.0
    assert pd.isna(rows.error_best["dnc"])
    assert rows.error_mean["dnc"] == 3.0


def test_a_run_with_some_tasks_has_no_mean_and_moves_none(tmp_path: Path) -> None:
    write(tmp_path, "dnc", lambda task: 6.0, lambda task: 6.0)
    write(tmp_path, "dnc", lambda task: 0.0, lambda task: 0.0, seed=1, tasks=range(1, 8))
    write(tmp_path, "ntm", lambda task: 2.0, lambda task: 2.0, tasks=range(1, 8))
    found = load(tmp_path)
    rows = babi_results.summary(found).set_index("model")
    assert (rows.best_seed["dnc"], rows.error_mean["dnc"], rows.seeds["dnc"]) == (0, 6.0, 1)
    assert rows.tasks["ntm"] == 7
    assert rows.loc["ntm", ["error_best", "error_mean", "failed_best"]].isna().all()
    columns = {(each.label, each.ours): each.errors for each in babi_results.columns(found)}
    dnc, ntm = columns["DNC", True], columns["NTM", True]
    assert (dnc["mean"]["1"], dnc["mean"]["20"], ntm.best["7"]) == (6.0, 6.0, 2.0)
    assert pd.isna(ntm.best["8"])
    words = babi_page.section(found, {})
    assert "7 of 20 tasks evaluated" in words


def test_a_run_validated_on_some_tasks_is_not_compared_with_those_validated_on_all(
    tmp_path: Path,
) -> None:
    for seed, validated in enumerate((20, 7)):
        evaluated = [factory.answers(task, 0.1) for task in TASKS]
        error = 0.2 - 0.2 * seed
        evaluated += [
            factory.answers(task, error, "validation") for task in range(1, validated + 1)
        ]
        run = factory.settings("dam", "babi", seed)
        factory.write(tmp_path / str(seed), run, factory.lines([1.0]), evaluated)
    assert only(babi_results.summary(load(tmp_path)))["best_seed"] == 0


def test_of_a_run_that_went_on_only_the_latest_state_counts(tmp_path: Path) -> None:
    old = [factory.answers(task, 0.5, episodes=1000) for task in TASKS]
    new = [factory.answers(task, 0.1, episodes=2000) for task in range(1, 11)]
    run = factory.settings("ntm", "babi")
    factory.write(tmp_path / "run", run, factory.lines([1.0]), old + new)
    rows = babi_results.results(load(tmp_path))
    assert set(rows.error_percent) == {10.0}
    assert list(rows.task) == list(range(1, 11))


def test_episodes_and_hours_are_those_up_to_the_evaluation(tmp_path: Path) -> None:
    # Lines every 1,600 episodes, an hour each; evaluated after the second, stopped after the third.
    lines = [factory.line(n, 1.0, seconds=3600.0 * n) for n in (1, 2, 3)]
    evaluated = [factory.answers(task, 0.1, episodes=3300) for task in TASKS]
    for seed in range(2):
        own = evaluated if seed == 0 else []
        run = factory.settings("ntm", "babi", seed, episodes=9600)
        factory.write(tmp_path / str(seed), run, lines, own)
    found = load(tmp_path)
    assert list(found.runs.end) == ["unfinished", "unfinished"]
    took = answers.effort(found, found.runs)
    assert took == answers.Effort(
        "1 of 2",
        "3,300 to 4,800",
        "2.0 to 3.0",
        "1 stopped at 3,300 of 9,600 episodes, 1 stopped at 4,800 of 9,600 episodes",
    )


def test_the_time_outside_the_model_is_said_of_lines_that_record_it(tmp_path: Path) -> None:
    recorded = [(3, 300.0, 100.0, 10.0), (4, 400.0, 170.0, 30.0), (5, 500.0, 190.0, 30.0)]
    lines = [factory.line(n, 1.0, seconds=100.0 * n) for n in (1, 2)]
    lines += [
        factory.line(n, 1.0, seconds=seconds, model_seconds=model, data_seconds=data)
        for n, seconds, model, data in recorded
    ]
    factory.write(tmp_path / "a", factory.settings("ntm", "babi"), lines)
    factory.write(tmp_path / "b", factory.settings("dnc", "babi"), lines[:3])
    found = load(tmp_path)
    # Between lines 3 and 5: 20 of 200 s drawing, 90 in the model.
    assert answers.outside_the_model(found).endswith(" pass: NTM 10.0 % and 55.0 %.")
    assert "NTM 10.0 % and 55.0 %" in babi_page.section(found, {})
    only_dnc = runs.load(tmp_path / "b")[0]
    assert answers.outside_the_model(only_dnc) == ""
    assert "<p></p>" not in babi_page.section(only_dnc, {})


def test_bits_and_answers_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, "ntm", lambda task: 3.0, zeroed=lambda task: 50.0)
    copied = [factory.evaluation(20, 4.0, chance=160.0)]
    run = factory.settings("ntm", "copy")
    factory.write(tmp_path / "copy", run, factory.lines([4.0]), copied)
    found = load(tmp_path)
    panels = learning_figures.figure_2(found).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["Copy"]
    tables = learning.tables(found)
    for name in ("learning_results", "learning_evaluations"):
        assert set(tables[name].task) == {"copy"}
    assert set(tables["learning_curves"].task) == {"copy", "babi"}
    settings = tables["learning_settings"]
    assert settings[settings.task == "babi"].paper.isna().all()
    assert settings[settings.task == "copy"].paper.notna().any()
    text = learning_page.sections(found, {})
    bits = text[text.index("Held-out sequences, per sequence") : text.index("bAbI: one model")]
    assert "copy/ntm" in bits
    assert "babi/ntm" not in bits


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every model of the paper, of SAM two kinds, and the report on them."""
    folder = tmp_path_factory.mktemp("babi")
    place = folder / "runs"
    for model in ("lstm", "dnc", "sdnc-exact", "dam", "ntm"):
        write(place, model, lambda task: task / 2.0, lambda task: 1.0, lambda task: 60.0)
    for seed in range(3):
        write(
            place,
            "sam-exact",
            lambda task, seed=seed: float(task + seed),
            lambda task, seed=seed: 3.0 - seed,
            lambda task: 60.0,
            seed=seed,
        )
    write(place, "sam-exact", lambda task: 0.0, lambda task: 0.0, name="babi/large", lines=4)
    assert main(["learning", str(place), "--out", str(folder / "report")]) == 0
    return folder


def test_the_figure_has_a_panel_per_kind_of_run_beside_the_paper_s(whole: Path) -> None:
    figure = babi_figures.babi(load(whole / "runs"))
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == [
        *("LSTM", "DNC", "SDNC linear", "DAM", "SAM linear\nbabi/large"),
        *("SAM linear\nbabi/sam-exact", "NTM"),
    ]
    panel = figure.axes[5]
    marks: dict[str, list[Any]] = {"o": [], "|": []}
    for line in panel.get_lines():
        if line.get_marker() in marks:
            marks[str(line.get_marker())].append(line)
    ours, theirs = marks["o"]
    # Best by validation is seed 2.
    np.testing.assert_array_equal(ours.get_xydata(), [[task + 2.0, task] for task in TASKS])
    assert ours.get_markerfacecolor() == models.look("sam-exact").colour
    best = paper_babi.by_model("sam").best
    np.testing.assert_array_equal(theirs.get_xydata(), [[best[str(n)], n] for n in TASKS])
    assert theirs.get_markerfacecolor() == "none"
    (others,) = marks["|"]
    assert len(others.get_xdata()) == 40
    assert [line.get_xdata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"] == [5]
    low, high = panel.get_ylim()
    assert low > 20 > 1 > high
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[1] == "other seeds"


def test_no_text_of_the_figure_covers_another(whole: Path) -> None:
    figure = babi_figures.babi(load(whole / "runs"))
    figure.draw_without_rendering()
    boxes = [box for panel in figure.axes for box in _text_boxes(panel)]
    boxes += [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert len(boxes) > 60
    assert [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    edge = figure.bbox
    assert all(edge.x0 <= box.x0 and box.x1 <= edge.x1 for box in boxes)


def _text_boxes(panel: Any) -> list[Any]:
    ticks = [*panel.get_xticklabels(), *panel.get_yticklabels(), panel.xaxis.label]
    texts = [*ticks, panel._left_title]
    return [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]


def test_a_single_kind_of_run_without_rivals_is_drawn_too(tmp_path: Path) -> None:
    write(tmp_path, "foo", lambda task: 3.0)
    found = load(tmp_path)
    (panel,) = babi_figures.babi(found).axes
    assert len([line for line in panel.get_lines() if line.get_marker() == "o"]) == 1
    labels = [(each.label, each.ours) for each in babi_results.columns(found)]
    assert labels[-1] == ("foo", True)
    assert ("SAM", False) in labels


def test_training_is_drawn_as_means_over_seeds(whole: Path) -> None:
    found = load(whole / "runs")
    cost, wrong = babi_figures.babi_training(found).axes
    named = list(learning_lines.curves(found.runs))
    for panel, share in ((cost, 1.0), (wrong, 0.25)):
        lines = [line for line in panel.get_lines() if line.get_linewidth() == 1.5]
        assert len(lines) == len(named) == 7
        (large,) = (line for line in lines if len(line.get_xdata()) == 4)
        np.testing.assert_allclose(large.get_ydata(), np.array([9.0, 8.0, 7.0, 6.0]) * share)
    assert wrong.get_ylim()[0] == 0


def test_the_page_and_the_files_say_what_was_measured(whole: Path) -> None:
    out = whole / "report"
    names = {f"babi_{name}.csv" for name in ("results", "summary", "paper")}
    names |= {f"{name}.{kind}" for name in ("babi", "babi_training") for kind in ("svg", "png")}
    assert names < {path.name for path in out.iterdir()}
    text = (out / "learning.html").read_text(encoding="utf-8")
    assert text.count("<svg ") == 2
    section = text[text.index("bAbI: one model") :]
    for words in (
        "where the archive lacks it, task 3 was trained on 385 distinct stories",
        "DNC, task 10, 0.6 for 9.0",
        '<td class="solved n">5.0</td>',
        '<td class="failing n">5.5</td>',
        "30.9 ± 25.1",
    ):
        assert words in section, words
    rows = texts(section)
    # DAM: 0.5, 1, ... 10 %: mean 5.25, without task 3 103.5 / 19; failed from task 11 on.
    dam = next(row for row in rows if row[0] == "DAM")
    assert dam[1:] == [
        *("1", "100,000", "0.00028", "5.2", "10", "5.2", "5.4", "60.0", "3.3", "2", "8.7 ± 6.4"),
        "1 budget",
    ]
    sam = next(row for row in rows if row[0] == "SAM linear, babi/sam-exact")
    assert sam[4:9] == ["12.5", "17", "11.5 ± 1.0", "12.9", "60.0"]
    totals = [row for row in rows if row[1:2] == ["mean without task 3"]]
    assert [len(row) for row in totals] == [2 + 7 + 6] * 2
    results = pd.read_csv(out / "babi_results.csv")
    assert list(results.columns) == list(babi_results.RESULT_COLUMNS)
    own = results[(results.name == "babi/dam") & (results.task == 20)]
    assert sorted(zip(own.split, own.reads, own.error_percent, strict=True)) == [
        ("test", "kept", 10.0),
        ("test", "zeroed", 60.0),
        ("validation", "kept", 1.0),
    ]
    assert len(pd.read_csv(out / "babi_paper.csv")) == 6 * 22


def test_runs_not_evaluated_yet_have_a_row_and_their_training(tmp_path: Path) -> None:
    factory.write(tmp_path / "a", factory.settings("ntm", "babi"), factory.lines([3.0, 2.0]))
    found = load(tmp_path)
    assert not babi_figures.has_data(found, "babi")
    assert babi_figures.has_data(found, "babi_training")
    assert isinstance(babi_figures.babi_training(found), Figure)
    (row,) = (row for row in texts(babi_page.section(found, {})) if row[0] == "NTM")
    assert row[1:9] == ["0 of 1", "3,200", "0.00028", "-", "-", "-", "-", "-"]
    assert row[-1] == "1 stopped at 3,200 of 100,000 episodes"


def test_without_runs_of_babi_the_section_says_so(tmp_path: Path) -> None:
    factory.write(tmp_path / "a", factory.settings("ntm", "copy"), factory.lines([3.0]))
    found = load(tmp_path)
    assert "Not measured" in babi_page.section(found, {})
    assert [name for name in babi_figures.FIGURES if babi_figures.has_data(found, name)] == []
