"""Figures and sections on indexes by themselves, an index of someone else's among them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reports import backend_figures, figures, files, models, records, results, training_figures
from reports.__main__ import main
from tests.reports import records_factory
from tests.reports import reports_factory as factory

MINE = "my_index"


def lines() -> list[records_factory.Record]:
    point, wear, trace = records_factory.point, records_factory.wear, records_factory.trace
    return [
        point("exact", 1.0, 420.0),
        *(point("kd_forest", r, us, search={"checks": c})
          for r, us, c in [(0.4, 80.0, 32), (0.93, 150.0, 512)]),
        *(point("lsh", r, 100.0 + tables, build={"tables": tables})
          for r, tables in [(0.8, 8), (0.9, 16)]),
        point(MINE, 0.7, 200.0),
        point(MINE, 0.6, 300.0, data="random", memory_size=1024),
        {"measure": "frontier", "backend": "hnsw", "reason": "pip install <hnswlib>"}
        | records_factory.source(),
        wear(MINE, 0.95, 0.9),
        trace(MINE, "copy-start", [0.9, 0.8]),
        trace(MINE, "copy-end", [0.7, 0.6]),
        trace("lsh", "copy-start", [1.0, 1.0], default=False),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with records of every measure beside asv's results."""
    folder = tmp_path_factory.mktemp("backends")
    toybox = folder / "results" / "toybox"
    recall = factory.row(
        [["exact", "lsh", MINE], [65536, 1048576], ["random", "clustered"]],
        lambda backend, size, data: 0.25 if data == "random" else 0.875,
        False,
    )
    step = factory.row(
        [["ntm", "sam-exact", "sam-kd_forest", "sam-lsh", f"sam-{MINE}"], factory.SIZES[:6], [1]],
        lambda model, size, length: 1e-3 * size,
        True,
    )
    factory.write(toybox, factory.result({factory.STEP: step, factory.RECALL: recall}))
    records_factory.write(toybox, lines())
    curves = [records_factory.learning(name, [0.6, 0.1]) for name in ("exact", MINE)]
    records_factory.write(toybox, curves, "learning.jsonl")
    assert main(["build", str(folder / "results"), "--out", str(folder / "report")]) == 0
    return folder


def found(built: Path) -> records.Records:
    return records.load(built / "results" / "toybox", factory.COMMIT)[0]


def curves(panel: object) -> dict[str, list[tuple[float, float]]]:
    """Colour -> points of each line in data coordinates."""
    lines = [line for line in panel.get_lines() if line.get_transform() == panel.transData]  # type: ignore[attr-defined]
    return {
        line.get_color(): [tuple(pair) for pair in line.get_xydata().tolist()]
        for line in lines
        if len(line.get_xydata())
    }


def test_a_frontier_has_a_panel_per_kind_and_size_and_a_line_per_build(built: Path) -> None:
    figure = backend_figures.frontier(found(built))
    panels = {panel.get_title(loc="left"): panel for panel in figure.axes}
    assert set(panels) == {f"{k}, N = {n}" for k in ("clustered", "random") for n in ("1K", "64K")}
    drawn = curves(panels["clustered, N = 64K"])
    forest = models.look_of_backend("kd_forest").colour
    assert drawn[forest] == [pytest.approx((80e-6, 0.4)), pytest.approx((150e-6, 0.93))]
    tables = models.look_of_backend("lsh").colour
    both = [line for line in panels["clustered, N = 64K"].get_lines() if line.get_color() == tables]
    assert [line.get_ydata().tolist() for line in both] == [[0.8], [0.9]]
    mine = models.look_of_backend(MINE).colour
    assert curves(panels["random, N = 1K"])[mine] == [pytest.approx((300e-6, 0.6))]
    empty = [text.get_text() for text in panels["random, N = 64K"].texts]
    assert empty == ["not measured"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["exact", "k-d forest", "LSH, tables=8", "LSH, tables=16", MINE]


def test_a_build_in_default_settings_has_a_line_of_its_own(tmp_path: Path) -> None:
    builds = [{}, {"trees": 1, "sketch": True}]
    points = [
        records_factory.point("kd_forest", recall, us + 10 * n, build=build, search={"checks": c})
        for n, build in enumerate(builds)
        for recall, us, c in [(0.4 + n / 10, 80.0, 32), (0.8 + n / 10, 150.0, 512)]
    ]
    records_factory.write(tmp_path, points)
    figure = backend_figures.frontier(records.load(tmp_path, factory.COMMIT)[0])
    (panel,) = figure.axes
    drawn = [line.get_ydata().tolist() for line in panel.get_lines()]
    assert drawn == [[0.4, 0.8], [0.5, pytest.approx(0.9)]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["k-d forest", "k-d forest, trees=1, sketch"]


def test_panels_of_one_size_share_their_axis_of_cost(built: Path) -> None:
    figure = backend_figures.frontier(found(built))
    limits = {panel.get_title(loc="left"): panel.get_xlim() for panel in figure.axes}
    assert limits["clustered, N = 64K"] == limits["random, N = 64K"]
    low, high = limits["clustered, N = 64K"]
    assert low < 80e-6 < 420e-6 < high


def test_recall_over_time_is_that_of_default_settings_stage_after_stage(built: Path) -> None:
    figure = training_figures.recall_over_time(found(built))
    (panel,) = figure.axes
    points = [
        pair
        for line in panel.get_lines()
        if line.get_color() == models.look_of_backend(MINE).colour
        for pair in line.get_xydata().tolist()
    ]
    assert [y for _, y in points] == [0.9, 0.8, 0.7, 0.6]
    assert [int(x) for x, _ in points] == [0, 0, 1, 1]
    assert models.look_of_backend("lsh").colour not in curves(panel)
    labels = [label.get_text() for label in panel.get_xticklabels()]
    assert labels == ["start\n(500)", "end\n(500)"]


def test_losses_are_drawn_over_minibatches(built: Path) -> None:
    (panel,) = training_figures.learning(found(built)).axes
    assert panel.get_title(loc="left") == "copy"
    assert curves(panel)[models.look_of_backend("exact").colour] == [(100.0, 0.6), (200.0, 0.1)]


def test_each_approximate_curve_has_its_recall_beside_its_name(built: Path) -> None:
    runs, _ = files.find_runs(built / "results")
    figure = figures.figure_1a(results.tidy(runs[0])[0])
    words = {text.get_text() for text in figure.axes[0].texts}
    assert {
        "SAM linear",
        "SAM k-d (recall ?)",
        "SAM LSH 0.25 / 0.88 (at 1M)",
        f"SAM {MINE} 0.25 / 0.88 (at 1M)",
    } <= words


def test_the_page_tells_costs_wear_and_what_is_not_installed(built: Path) -> None:
    page = (built / "report" / "index.html").read_text(encoding="utf-8")
    for words in (
        "<li>HNSW: pip install &lt;hnswlib&gt;</li>",
        "<td>checks=512</td>",
        "0.90, 0.95, 0.99 not reached",
        ">150 µs<",
        f"<td>{MINE}</td>",
    ):
        assert words in page, words
    assert page.count("<svg ") == len(figures.FIGURES) + 4
    wear = pd.read_csv(built / "report" / "wear.csv")
    assert wear.recall_ratio[0] == pytest.approx(0.9 / 0.95)
    names = {path.name for path in (built / "report").iterdir()}
    assert {"frontier.svg", "frontier_traces.png", "recall_over_time.svg", "learning.png"} <= names


def test_without_records_the_page_says_how_to_measure(tmp_path: Path) -> None:
    factory.write(tmp_path / "results" / "toybox", factory.result(factory.realistic()))
    assert main(["build", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count("<code>python -m asv_bench.frontier</code> measures it") == 4
    assert not (tmp_path / "report" / "frontier.svg").exists()


def test_an_index_of_someone_else_s_looks_the_same_in_every_report() -> None:
    assert models.look_of_backend(MINE) == models.look_of_backend(MINE)
    assert models.look_of_backend(MINE).label == MINE
    assert models.backends_in_order([MINE, "lsh", "exact"]) == ["exact", "lsh", MINE]
