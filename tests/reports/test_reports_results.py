"""Reading asv's files: values and statuses, and every way in which a file can be bad."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from reports import files, results
from tests.reports import reports_factory as factory


def tidy(folder: Path, content: object, **side_files: object) -> pd.DataFrame:
    path = factory.write(folder / "toybox", content)
    for name, data in side_files.items():
        place = folder if name == "benchmarks" else folder / "toybox"
        (place / f"{name}.json").write_text(json.dumps(data))
    runs, problems = files.find_runs(path)
    assert problems == []
    frame, problems = results.tidy(runs[0])
    assert problems == []
    return frame


def one(frame: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_step_time_is_the_pass_divided_by_its_length(tmp_path: Path) -> None:
    params = [["ntm", "sam-exact"], [64, 256], [1, 10]]
    rows = factory.row(params, lambda model, size, length: size * length * 1e-3, True)
    frame = tidy(tmp_path, factory.result({factory.STEP: rows}))
    row = one(frame, model="sam-exact", memory_size=256, sequence_length=10)
    assert row.value == pytest.approx(0.256)
    assert (row.q25, row.q75) == pytest.approx((0.256 * 0.97, 0.256 * 1.04))
    assert (row.quantity, row.unit, row.samples, row.status) == (
        "step_time",
        "seconds",
        10,
        "measured",
    )
    assert (row.machine, row.commit, row.date) == ("toybox", factory.COMMIT, "2023-11-14")


def test_what_a_memory_holds_at_first_has_a_column(tmp_path: Path) -> None:
    params = [["sdnc-exact"], [64], ["empty", "full"]]
    total = factory.row(params, lambda model, size, memory: 3.0 if memory == "full" else 2.0, False)
    linked = factory.row([["sdnc-exact"], [64], [10]], lambda *key: 0.02, True)
    frame = tidy(tmp_path, factory.result({factory.TOTAL: total, factory.LINKED: linked}))
    row = one(frame, quantity="total_memory", memory="full")
    assert (row.value, row.unit, row.sequence_length) == (3.0, "bytes", 10)
    assert one(frame, quantity="total_memory", memory="empty").value == 2.0
    assert one(frame, quantity="linked_time").value == pytest.approx(0.002)


def test_a_pass_time_is_not_divided(tmp_path: Path) -> None:
    rows = factory.row([["ntm"], [64], [10]], lambda *key: 3.0, True)
    frame = tidy(tmp_path, factory.result({factory.SEQUENCE: rows}))
    assert one(frame, quantity="sequence_time").value == 3.0


def test_nan_is_a_skip_and_null_a_failure(tmp_path: Path) -> None:
    costs = {64: 1.0, 256: factory.SKIP, 1024: factory.FAIL}
    rows = factory.row([["ntm"], [64, 256, 1024]], lambda model, size: costs[size], False)
    frame = tidy(tmp_path, factory.result({factory.PEAK: rows}))
    found = {size: one(frame, quantity="training_peak", memory_size=size) for size in costs}
    assert [found[size].status for size in costs] == ["measured", "skipped", "failed"]
    assert "needs more memory or time" in found[256].reason
    assert found[64].sequence_length == 100
    assert found[256].value is pd.NA or pd.isna(found[256].value)


def test_a_benchmark_all_null_is_all_failed(tmp_path: Path) -> None:
    rows = factory.row([["ntm"], [64, 256]], lambda *key: factory.FAIL, False)
    assert rows[0] is None
    frame = tidy(tmp_path, factory.result({factory.PEAK: rows}))
    assert list(frame[frame.quantity == "training_peak"].status) == ["failed"] * 2


def test_what_never_ran_is_said(tmp_path: Path) -> None:
    rows = factory.row([["ntm"], [64]], lambda *key: 1.0, False)
    entry = {"params": [["'ntm'"], ["64", "256"]], "param_names": ["model", "memory_size"]}
    declared = {factory.PEAK: entry, factory.INITIAL: entry, "version": 2}
    frame = tidy(tmp_path, factory.result({factory.PEAK: rows}), benchmarks=declared)
    assert one(frame, quantity="training_peak", memory_size=256).status == "not run"
    assert list(frame[frame.quantity == "initial_memory"].status) == ["not run"] * 2
    assert list(frame[frame.quantity == "step_time"].status) == ["not run"]


def test_samples_give_quartiles_where_statistics_are_missing(tmp_path: Path) -> None:
    samples = [1.0, 2.0, 3.0, 4.0, 5.0]
    row = [[3.0], [["'ntm'"], ["64"], ["10"]], "1", 0, 1.0, *[None] * 6, [samples]]
    frame = tidy(tmp_path, factory.result({factory.STEP: row}))
    found = one(frame, model="ntm")
    assert (found.value, found.q25, found.q75) == pytest.approx((0.3, 0.2, 0.4))
    assert found.samples == 5


def test_unknown_benchmarks_and_their_parameters_are_kept(tmp_path: Path) -> None:
    row = factory.row([["lsh"], [64], [4]], lambda *key: 0.5, False)
    declared = {"recall.track": {"param_names": ["backend", "memory_size", "k"], "unit": "share"}}
    content = factory.result({"recall.track": row, "toy.track_plain": [[3], []]})
    frame = tidy(tmp_path, content, benchmarks=declared)
    found = one(frame, benchmark="recall.track", status="measured")
    assert (found.memory_size, found.parameters, found.unit) == (64, "backend=lsh, k=4", "share")
    assert one(frame, benchmark="toy.track_plain").value == 3.0


def test_a_skip_has_its_own_reason_where_it_was_recorded(tmp_path: Path) -> None:
    rows = factory.row([["ntm", "dam"], [64]], lambda *key: factory.SKIP, False)
    line = {"benchmark": "TrainingMemory", "params": ["ntm", 64], "reason": "needs 31 GiB"}
    (tmp_path / "toybox").mkdir()
    (tmp_path / "toybox" / "reasons-training_memory.jsonl").write_text(json.dumps(line) + "\n")
    content = factory.result({factory.PEAK: rows})
    frame = tidy(tmp_path, content, environment={"commit": "01234567"})
    assert one(frame, model="ntm").reason == "skipped: needs 31 GiB"
    assert one(frame, model="dam").reason == results.SKIPPED


def test_an_environment_of_another_commit_is_not_this_run_s(tmp_path: Path) -> None:
    path = factory.write(tmp_path / "toybox", factory.result({}))
    (path.parent / "environment.jsonl").write_text('{"commit": "fedcba98", "torch": "1.0"}')
    runs, _ = files.find_runs(path)
    assert runs[0].environment == {}


def test_what_the_benchmarks_keep_beside_their_results_is_no_result(tmp_path: Path) -> None:
    path = factory.write(tmp_path / "toybox", factory.result({}))
    (path.parent / "reasons-step_time.jsonl").write_text('{"benchmark": "StepTi')
    runs, problems = files.find_runs(tmp_path)
    assert len(runs) == 1
    assert [Path(problem.path).name for problem in problems] == ["reasons-step_time.jsonl"]
    assert runs[0].reasons == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ('{"commit_hash": "01', "truncated or damaged (line 1, column"),
        ("[1, 2]", "of type list and not an object"),
        ('{"name": "something else"}', "not an asv result: no commit_hash"),
        (json.dumps(factory.result({}, version=1)), "api_version 1, expected 2"),
        (json.dumps(factory.result({}, version=3)), "api_version 3, expected 2"),
        (json.dumps(factory.result({}, results=[])), "results is not an object of rows"),
        (json.dumps(factory.result({}, result_columns=["a"])), "no 'result' and 'params'"),
        (json.dumps(factory.result({}, params=None)), "wrong type"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    good = factory.write(tmp_path / "toybox", factory.result({}))
    bad = factory.write(tmp_path / "toybox", text, "bad.json")
    runs, problems = files.find_runs(tmp_path)
    assert [run.path for run in runs] == [good]
    assert [problem.path for problem in problems] == [str(bad)]
    assert reason in problems[0].reason


def test_binary_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    _, problems = files.find_runs(tmp_path)
    assert "not a text file" in problems[0].reason
    assert files.find_runs(tmp_path / "gone")[1][0].reason == "no such file or directory"


def test_a_damaged_side_file_does_not_hide_the_result(tmp_path: Path) -> None:
    path = factory.write(tmp_path / "toybox", factory.result({}))
    (path.parent / "machine.json").write_text("{")
    runs, problems = files.find_runs(tmp_path)
    assert [run.machine for run in runs] == ["toybox"]
    assert problems[0].path.endswith("machine.json")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([[1.0, 2.0], [["'ntm'"], ["64"]]], "2 result values for 1 parameter"),
        ([[1.0], [["'ntm'"]]], "1 parameters, expected 2"),
        ([[1.0], [["'ntm'"], ["'big'"]]], "memory_size is 'big'"),
        ([[1.0], "ntm"], "not lists"),
    ],
)
def test_a_benchmark_that_makes_no_sense_spoils_no_other(
    tmp_path: Path, row: list, reason: str
) -> None:
    good = factory.row([["ntm"], [64]], lambda *key: 1.0, False)
    content = factory.result({factory.PEAK: row, factory.INITIAL: good})
    runs, _ = files.find_runs(factory.write(tmp_path / "toybox", content))
    frame, problems = results.tidy(runs[0])
    assert reason in problems[0].reason
    assert factory.PEAK in problems[0].reason
    assert one(frame, quantity="initial_memory").value == 1.0


def test_the_latest_commit_is_chosen_and_others_by_name(tmp_path: Path) -> None:
    new, old = "b" * 40, "a" * 40
    for machine, commit, date in (("one", old, 5), ("one", new, 9), ("two", old, 3)):
        content = factory.result({}, commit_hash=commit, date=date, params={"machine": machine})
        factory.write(tmp_path / machine, content, f"{commit[:8]}-env.json")
    runs, problems = files.find_runs(tmp_path)
    assert (len(runs), problems) == (3, [])
    assert files.choose(runs).commit == new
    assert files.choose(runs, commit="aaa").machine == "one"
    assert files.choose(runs, machine="two").commit == old
    with pytest.raises(files.NoSuchRun, match="one bbbbbbbb"):
        files.choose(runs, commit="ccc")
