"""Derived numbers: exact ratios, known power laws, words for what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import files, growth, models, results, tables, units
from tests.reports import reports_factory as factory


def frame_of(folder: Path, rows: dict[str, list]) -> pd.DataFrame:
    runs, _ = files.find_runs(factory.write(folder / "toybox", factory.result(rows)))
    return results.tidy(runs[0])[0]


def steps(cost: Callable[..., float | None], models: list[str], sizes: list[int]) -> dict:
    return {factory.STEP: factory.row([models, sizes, [1]], cost, True)}


def by_key(frame: pd.DataFrame) -> pd.DataFrame:
    return tables.ratios(frame).set_index("key")


def test_ratios_are_exact_and_stand_beside_the_paper_s(tmp_path: Path) -> None:
    seconds = {"ntm": 4.0, "dam": 1.0, "sam-exact": 0.02, "sam-kd_forest": 0.005}
    rows = steps(lambda model, *sizes: seconds[model], list(seconds), [2**20])
    memory = {"ntm": 2.0**32, "sam-exact": 2.0**22}
    rows[factory.PEAK] = factory.row([list(memory), [65536]], lambda m, n: memory[m], False)
    found = by_key(frame_of(tmp_path, rows))
    assert found.measured["step_ntm_sam_linear"] == pytest.approx(200.0)
    assert found.measured["step_ntm_sam_kd"] == pytest.approx(800.0)
    assert found.measured_over_paper["step_ntm_sam_kd"] == pytest.approx(0.5)
    assert found.measured["step_dam_sam_linear"] == pytest.approx(50.0)
    assert found.measured["memory_ntm_sam"] == 1024.0
    assert found.paper["memory_ntm_sam"] == 3700
    assert found.measured["memory_sam"] == 2**22
    assert found.status["memory_dam_sam"] == "DAM not measured"
    assert found.status["initial_sam_1m"] == "not measured"


def test_what_making_steps_again_costs_and_saves(tmp_path: Path) -> None:
    seconds, memory = {"ntm": 2.0, "ntm-dp": 5.0}, {"ntm-dp": 6.0, "sam-exact": 2.0}
    rows = {
        factory.STEP: factory.row([list(seconds), [1024], [100]], lambda m, *_: seconds[m], True),
        factory.PEAK: factory.row([list(memory), [65536]], lambda m, n: memory[m], False),
    }
    found = by_key(frame_of(tmp_path, rows))
    assert found.measured["step_ntm_recomputing"] == pytest.approx(2.5)
    assert found.measured["memory_ntm_recomputing_sam"] == 3.0
    # It has no index, so that nothing is said of a recall.
    assert not models.is_approximate("ntm-dp")
    assert models.look("ntm-dp").label == "NTM, steps made again"


def test_a_missing_side_moves_the_ratio_and_says_why(tmp_path: Path) -> None:
    def cost(model: str, size: int, length: int) -> float | None:
        if model == "ntm":
            return {64: 1.0, 1024: 8.0, 2**20: factory.SKIP}[size]
        return 0.5

    found = by_key(frame_of(tmp_path, steps(cost, ["ntm", "sam-exact"], [64, 1024, 2**20])))
    row = found.loc["step_ntm_sam_linear"]
    assert (row.measured, row.memory_size) == (16.0, 1024)
    assert row.note.startswith("at 1,048,576 words: NTM skipped in setup")
    # A quotient with the paper's number, which is for another size, would mislead.
    assert pd.isna(row.measured_over_paper)
    assert found.status["step_ntm_sam_kd"].endswith("SAM k-d not measured")


def test_a_ratio_with_nothing_in_common_says_failed(tmp_path: Path) -> None:
    def cost(model: str, *sizes: int) -> float | None:
        return factory.FAIL if model == "ntm" else 1.0

    row = by_key(frame_of(tmp_path, steps(cost, ["ntm", "sam-exact"], [2**20])))
    assert row.status["step_ntm_sam_linear"] == "NTM failed: an error or a timeout"
    assert math.isnan(row.measured["step_ntm_sam_linear"])


def linked(seconds: dict[str, float | None], sizes: list[int]) -> dict[str, list]:
    """Of passes of 10 steps, the seconds of a step."""
    cost = {model: value and 10 * value for model, value in seconds.items()}
    rows = factory.row([list(cost), sizes, [10]], lambda model, *key: cost[model], True)
    return {factory.LINKED: rows}


def test_links_are_compared_in_time_and_in_memory_by_what_it_holds(tmp_path: Path) -> None:
    rows = linked({"dnc": 0.5, "sdnc-exact": 0.001, "sam-exact": 0.0006}, [2048])
    total = {("dnc", "full"): 300, ("sdnc-exact", "full"): 2, ("dnc", "empty"): 280}
    params = [["dnc", "sdnc-exact"], [2048], ["empty", "full"]]
    rows[factory.TOTAL] = factory.row(params, lambda m, n, kind: total.get((m, kind), 1.0), False)
    found = by_key(frame_of(tmp_path, rows))
    assert found.measured["linked_dnc_sdnc"] == pytest.approx(500.0)
    assert found.measured_over_paper["linked_dnc_sdnc"] == pytest.approx(500 / 440)
    assert found.measured["total_dnc_sdnc_full"] == 150.0
    assert found.measured["total_dnc_sdnc_empty"] == 280.0
    # 0.4 ms more than SAM in a step of 8 memories.
    assert found.measured["links_linear"] == pytest.approx(50e-6)
    assert found.unit["links_linear"] == "seconds"
    assert found.measured_over_paper["links_linear"] == pytest.approx(0.5)
    assert found.status["links_kd"] == "SDNC k-d not measured; SAM k-d not measured"


def test_the_links_share_may_be_none_at_all_and_is_said_where_it_fails(tmp_path: Path) -> None:
    rows = linked({"sdnc-exact": 0.001, "sam-exact": 0.0014}, [512])
    row = by_key(frame_of(tmp_path / "slow", rows)).loc["links_linear"]
    assert (row.measured, row.memory_size) == (pytest.approx(-50e-6), 512)
    assert row.note == "at 2,048 words: SDNC linear not measured; SAM linear not measured"
    assert pd.isna(row.measured_over_paper)
    rows = linked({"sdnc-exact": factory.FAIL, "sam-exact": 0.0014}, [2048])
    row = by_key(frame_of(tmp_path / "failed", rows)).loc["links_linear"]
    assert row.status == "SDNC linear failed: an error or a timeout"


def test_any_further_index_gets_its_ratio(tmp_path: Path) -> None:
    seconds = {"ntm": 3.0, "sam-exact": 1.0, "sam-mine": 0.5}
    rows = steps(lambda model, *sizes: seconds[model], list(seconds), [2**20])
    assert by_key(frame_of(tmp_path, rows)).measured["step_time_ntm_sam-mine"] == 6.0


def test_flatness_is_the_largest_over_the_smallest(tmp_path: Path) -> None:
    costs = {64: 4.0e6, 1024: 5.0e6, 4096: 4.4e6}
    rows = {factory.PEAK: factory.row([["sam-exact"], list(costs)], lambda m, n: costs[n], False)}
    row = by_key(frame_of(tmp_path, rows)).loc["flatness_sam-exact"]
    assert row.measured == pytest.approx(1.25)
    assert row.note == "over 3 sizes, 64 to 4,096 words"


def test_zero_bytes_give_no_ratio_and_no_slope(tmp_path: Path) -> None:
    rows = {factory.PEAK: factory.row([["sam-exact"], [64, 256]], lambda m, n: n - 64, False)}
    frame = frame_of(tmp_path, rows)
    assert by_key(frame).status["flatness_sam-exact"].startswith("no ratio")
    assert growth.slopes(frame).empty


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0, 2.0])
def test_a_power_law_has_its_exponent_as_slope(exponent: float) -> None:
    sizes = np.array([64.0, 1024.0, 65536.0])
    assert growth.power_law(sizes, 3e-4 * sizes**exponent) == pytest.approx(exponent, abs=1e-9)


def test_the_last_points_have_a_slope_without_the_fixed_cost(tmp_path: Path) -> None:
    rows = steps(lambda m, n, t: 1.0 if n < 4096 else n / 4096, ["ntm"], factory.SIZES)
    found = growth.slopes(frame_of(tmp_path, rows)).iloc[0]
    assert (found.model, found.points, found.smallest, found.largest) == ("ntm", 8, 64, 2**20)
    assert found.slope < 0.8
    assert (found.last_points, found.last_smallest) == (3, 65536)
    assert found.slope_last == pytest.approx(1.0)


def test_full_and_empty_memories_have_slopes_of_their_own(tmp_path: Path) -> None:
    params = [["sdnc-exact"], [64, 1024], ["empty", "full"]]
    rows = factory.row(params, lambda m, n, memory: n if memory == "full" else 7.0, False)
    found = growth.slopes(frame_of(tmp_path, {factory.TOTAL: rows})).set_index("memory")
    assert found.slope["full"] == pytest.approx(1.0)
    assert found.slope["empty"] == pytest.approx(0.0, abs=1e-9)
    assert list(found.sequence_length) == [10, 10]


def test_passes_have_a_slope_against_their_length(tmp_path: Path) -> None:
    rows = factory.row([["sam-exact"], [64], [10, 100, 1000]], lambda m, n, t: t * 1e-3, True)
    found = growth.slopes(frame_of(tmp_path, {factory.SEQUENCE: rows}))
    assert list(found.against) == ["sequence_length"]
    assert found.slope[0] == pytest.approx(1.0)
    assert found.memory_size[0] == 64


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.0, "seconds", "12.0 s"),
        (0.0073, "seconds", "7.30 ms"),
        (42e-6, "seconds", "42.0 µs"),
        (7.8 * 2**20, "bytes", "7.80 MiB"),
        (512.0, "bytes", "512 B"),
        (0.0, "bytes", "0 B"),
        (1630.2, "x", "1,630x"),
        (0.5, "share", "0.500 share"),
        (math.nan, "x", "-"),
    ],
)
def test_quantities_read_with_their_unit(value: float, unit: str, text: str) -> None:
    assert units.quantity(value, unit) == text


def test_ticks_and_sizes_are_short() -> None:
    assert [units.tick(10.0**power, "seconds") for power in (-5, -1, 1)] == [
        "10 µs",
        "100 ms",
        "10 s",
    ]
    assert [units.short_size(size) for size in (64, 1024, 65536, 2**20)] == [
        "64",
        "1K",
        "64K",
        "1M",
    ]
