"""The whole report: figures, page, files, and what happens to them when something is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports import axes, figures, files, labels, models, results
from reports.__main__ import main
from tests.reports import reports_factory as factory

TABLES = {
    *("results", "ratios", "slopes"),
    *("backends", "costs", "wear", "recall_over_time", "learning"),
}
OUTPUTS = (
    {"index.html"}
    | {f"{name}.csv" for name in TABLES}
    | {f"{name}.{kind}" for name in figures.FIGURES for kind in ("svg", "png")}
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a realistic run, beside a foreign file; returns the folder of both."""
    folder = tmp_path_factory.mktemp("built")
    rows = {**factory.realistic(), "toy.track_<b>": [[3], []]}
    factory.write(folder / "results" / "toybox", factory.result(rows))
    factory.write(folder / "results" / "toybox", "{", "broken.json")
    environment = {
        "threads": 1,
        "torch": "2.13.0",
        "commit": factory.COMMIT,
        "uncommitted_changes": True,
    }
    side = folder / "results" / "toybox" / "environment.jsonl"
    side.write_text(json.dumps(environment))
    assert main(["build", str(folder / "results"), "--out", str(folder / "report")]) == 0
    return folder


def page(built: Path) -> str:
    return (built / "report" / "index.html").read_text(encoding="utf-8")


def test_every_file_is_there_and_nothing_else(built: Path) -> None:
    assert {path.name for path in (built / "report").iterdir()} == OUTPUTS
    assert [path.name for path in built.iterdir() if path.name.startswith(".report-")] == []


def test_the_page_needs_no_network_and_holds_the_figures(built: Path) -> None:
    text = page(built)
    assert text.count("<svg ") == len(figures.FIGURES)
    assert not re.search(r"https?:", text)
    assert not re.search(r"<(script|link|img|iframe)\b", text)
    assert "{{" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert {one or other for one, other in references} <= set(ids)


def test_the_figures_follow_the_page_s_colours(built: Path) -> None:
    svgs = re.findall(r"<svg .*?</svg>", page(built), flags=re.DOTALL)
    for text in svgs:
        ElementTree.fromstring(text)
        assert "var(--ink)" in text
        assert not re.search(r"(fill|stroke): #", text)


def test_the_page_says_what_was_run_and_what_is_missing(built: Path) -> None:
    text = page(built)
    for words in (
        "Toy CPU, 16.0 GiB RAM, Linux 6.1; 1 thread; Python 3.11, torch 2.13.0",
        "numpy not recorded",
        "commit 0123456789 with uncommitted changes (dated 2023-11-14)",
        "about 38 copies",
        "NTM / SAM k-d",
        "failed: an error or a timeout",
        "No training runs were given",
        "broken.json</code>: not valid JSON, truncated or damaged",
        "toy.track_&lt;b&gt;",
        "DNC / SDNC linear, empty",
        "is the time of SDNC less that of SAM, per step and batch element",
        "<td>T = 10, full</td>",
        "N = 4,096, 16,384, 65,536, 262,144, 1,048,576 (at T = 10); empty; full",
    ):
        assert words in text


def test_the_tables_come_back_from_csv(built: Path) -> None:
    runs, _ = files.find_runs(built / "results")
    frame, _ = results.tidy(runs[0])
    back = pd.read_csv(built / "report" / "results.csv").astype(results.COLUMNS)
    pd.testing.assert_frame_equal(back, frame)
    ratios = pd.read_csv(built / "report" / "ratios.csv").set_index("key")
    assert ratios.measured["step_ntm_sam_linear"] > 100
    slopes = pd.read_csv(built / "report" / "slopes.csv")
    assert {"ntm", "sam-kd_forest"} <= set(slopes.model)


def test_the_same_results_give_the_same_bytes_and_touch_no_other_file(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["build", str(built / "results"), "--out", str(tmp_path)]) == 0
    for name in OUTPUTS:
        assert (tmp_path / name).read_bytes() == (built / "report" / name).read_bytes()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("read 1 result file(s)")
    assert said.out.splitlines()[-1] == f"report: {tmp_path / 'index.html'}"
    assert "broken.json" in said.err


def test_without_results_an_old_report_stays_whole(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "index.html").write_text("old")
    empty = tmp_path / "empty"
    empty.mkdir()
    foreign = tmp_path / "foreign.json"
    foreign.write_text('{"a": 1}')
    for source, words in (
        (tmp_path / "gone", "no such file or directory"),
        (empty, "no result file in"),
        (foreign, "not an asv result"),
        (factory.write(tmp_path / "box", factory.result({})), "no benchmark that could be read"),
    ):
        assert main(["build", str(source), "--out", str(out)]) == 1
        assert words in capsys.readouterr().err
    arguments = ["build", str(built / "results"), "--out", str(out), "--commit", "ffff"]
    assert main(arguments) == 1
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert (out / "index.html").read_text() == "old"


def test_a_crash_while_drawing_leaves_the_old_report(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frame: pd.DataFrame) -> None:
        raise OSError("disk full")

    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "notes.txt").write_text("mine")
    monkeypatch.setitem(figures.FIGURES, "sequence_time", broken)
    assert main(["build", str(built / "results"), "--out", str(tmp_path / "report")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["notes.txt"]


def test_out_being_a_file_is_refused(built: Path, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("mine")
    assert main(["build", str(built / "results"), "--out", str(target)]) == 1
    assert target.read_text() == "mine"


def test_list_names_each_result_file(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(built / "results")]) == 0
    assert "toybox  0123456789  2023-11-14" in capsys.readouterr().out


def test_a_run_of_failures_only_is_still_a_report(tmp_path: Path) -> None:
    rows = {factory.STEP: factory.row([["ntm"], [64], [1]], lambda *key: factory.FAIL, True)}
    source = factory.write(tmp_path / "toybox", factory.result(rows))
    assert main(["build", str(source), "--out", str(tmp_path / "r")]) == 0
    assert "1 failed" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")


def test_a_figure_draws_each_model_and_the_lstm_as_a_level(built: Path) -> None:
    runs, _ = files.find_runs(built / "results")
    figure = figures.figure_1a(results.tidy(runs[0])[0])
    main_panel = figure.axes[0]
    words = {text.get_text() for text in main_panel.texts}
    assert {"NTM", "DAM", "SAM linear", "LSTM, no memory"} <= words
    assert {"SAM k-d (recall ?)", "SAM LSH (recall ?)"} <= words
    assert {"paper: 12 s", "paper: 7 ms"} <= words
    assert len(figure.axes) == 3
    ntm = next(line for line in main_panel.get_lines() if len(line.get_xdata()) == 8)
    assert list(ntm.get_ydata()) == pytest.approx(
        [factory.step_seconds("ntm", size, 1) for size in factory.SIZES]
    )


@pytest.mark.parametrize(
    ("draw", "cost", "paper"),
    [
        (figures.figure_7a, lambda m, n: factory.linked_seconds(m, n, 10) / 10, "440x"),
        (figures.figure_7b, lambda m, n: factory.total_bytes(m, n, "full"), "240x"),
    ],
)
def test_figure_7_draws_a_bar_between_the_sides_of_the_paper_s_ratio(
    built: Path,
    draw: Callable[[pd.DataFrame], Figure],
    cost: Callable[[str, int], float],
    paper: str,
) -> None:
    runs, _ = files.find_runs(built / "results")
    main_panel, small = draw(results.tidy(runs[0])[0]).axes
    dnc, sdnc = cost("dnc", 2048), cost("sdnc-exact", 2048)
    bar = next(line for line in main_panel.get_lines() if set(line.get_xdata()) == {2048})
    assert list(bar.get_ydata()) == pytest.approx([sdnc, dnc])
    words = {text.get_text() for text in main_panel.texts}
    assert {"DNC", "SDNC linear", "SAM linear", f"{dnc / sdnc:.0f}x (paper: ≈ {paper})"} <= words
    assert len(small.get_lines()) == 5


def test_figure_7b_draws_empty_memories_beside_full_ones(built: Path) -> None:
    runs, _ = files.find_runs(built / "results")
    figure = figures.figure_7b(results.tidy(runs[0])[0])
    marker = models.look("sdnc-exact").marker
    for panel, memory in zip(figure.axes, ("full", "empty"), strict=True):
        line = next(line for line in panel.get_lines() if line.get_marker() == marker)
        assert list(line.get_ydata()) == [
            factory.total_bytes("sdnc-exact", size, memory) for size in factory.LINKED_SIZES
        ]


def test_figure_7_without_the_dnc_has_no_bar_and_without_data_says_so(built: Path) -> None:
    runs, _ = files.find_runs(built / "results")
    frame = results.tidy(runs[0])[0]
    without = frame[frame.model != "dnc"]
    for draw in (figures.figure_7a, figures.figure_7b):
        lines = draw(without).axes[0].get_lines()
        assert [len(line.get_xdata()) for line in lines] == [len(factory.LINKED_SIZES)] * 4
        (panel,) = draw(frame[frame.quantity == "step_time"]).axes
        assert [text.get_text() for text in panel.texts] == ["nothing measured\n(not run)"]


def test_labels_are_moved_apart_no_more_than_needed() -> None:
    gap = labels.LINE_HEIGHT
    assert labels.apart([0.0, 100.0]) == [0.0, 100.0]
    assert labels.apart([50.0, 50.0]) == pytest.approx([50 - gap / 2, 50 + gap / 2])
    moved = labels.apart([0.0, 1.0, 2.0, 90.0])
    assert all(high - low >= gap - 1e-9 for low, high in pairwise(moved))
    assert moved[3] == 90.0


def test_ticks_are_few_and_round() -> None:
    assert axes.value_ticks(2e-4, 20.0, "seconds") == pytest.approx([1e-3, 1e-2, 0.1, 1, 10])
    assert axes.value_ticks(0.9e-3, 11e-3, "seconds") == pytest.approx([1e-3, 2e-3, 5e-3, 1e-2])
    assert all(
        value in (2.0**20, 2.0**22, 2.0**24)
        for value in axes.value_ticks(2.0**19.5, 2.0**24.5, "bytes")
    )
    assert axes.thin([1.0, 2.0, 3.0, 4.0, 5.0], 3) == [1.0, 3.0, 5.0]
    low, high = axes.widened(2.0, 3.0)
    assert high / low == pytest.approx(30.0)


def test_reports_imports_nothing_that_it_measures() -> None:
    code = (
        "import sys, reports.__main__\n"
        "found = {'torch', 'numba', 'sam', 'ann_backends'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
