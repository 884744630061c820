"""Foreign JSON: what is read, what is refused and in which words, and that the work is bounded."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from reports import limits, untrusted
from reports.text import LONGEST_NAME, shortened, visible
from reports.untrusted import AMOUNT, COUNT, NAME, NUMBER, POSITIVE, SEED, SHARE, SIZE, Unreadable

GOOD = {
    NUMBER: [(1, 1.0), (-2.5, -2.5), (1e30, 1e30), (1e-31, 0.0), (-1e-300, 0.0), (10**18, 1e18)],
    AMOUNT: [(0, 0.0), (1e30, 1e30), (1e-40, 0.0)],
    POSITIVE: [(1e-30, 1e-30), (3, 3.0)],
    SHARE: [(0, 0.0), (1, 1.0), (0.25, 0.25)],
    COUNT: [(0, 0), (20.0, 20), (10**15, 10**15)],
    SIZE: [(1, 1), (2.0, 2)],
    SEED: [(-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1), (0, 0)],
    NAME: [("", ""), ("x" * LONGEST_NAME, "x" * LONGEST_NAME)],
}
NO_NUMBERS = [None, True, "1", "0.5 s", [], [1], {}, math.nan, math.inf, -math.inf, 1e31, -1e308]
BAD = {
    NUMBER: NO_NUMBERS,
    AMOUNT: [*NO_NUMBERS, -1, -1e-20],
    POSITIVE: [*NO_NUMBERS, 0, -1, 1e-31],
    SHARE: [*NO_NUMBERS, 1.001, -0.001],
    COUNT: [*NO_NUMBERS, -1, 1.5, 10**15 + 1, 10**18],
    SIZE: [*NO_NUMBERS, 0, -1, 0.5, 1e-40],
    SEED: [*NO_NUMBERS, 2**63, -(2**63) - 1, 0.5],
    NAME: [None, 1, [], "x" * (LONGEST_NAME + 1)],
}


@pytest.mark.parametrize(
    ("kind", "value", "read"), [(kind, *pair) for kind, pairs in GOOD.items() for pair in pairs]
)
def test_a_value_of_its_kind_is_read(kind: untrusted.Kind, value: Any, read: Any) -> None:
    found = untrusted.field("field", value, kind)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in BAD.items() for value in values]
)
def test_a_value_of_another_kind_is_refused_by_name(kind: untrusted.Kind, value: Any) -> None:
    with pytest.raises(Unreadable, match=r"^field: got .*, expected ") as caught:
        untrusted.field("field", value, kind)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "b"]}', {"a": [1, 2.5, True, None, "b"]}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # a byte-order mark
        (b"1" * 400, math.inf),
        (b"-" + b"9" * 400, -math.inf),
        (b"12345678901234567890", 12345678901234567890.0),
        (b'"\\ud800 \\u202e \\u001b[31m \\n"', "\\ud800 \\u202e \\x1b[31m \\n"),
        (b'{"\\ufeffa": "\\u4e2d\\u200d"}', {"\\ufeffa": "中\u200d"}),
        (b"[" * 32 + b"]" * 32, json.loads("[" * 32 + "]" * 32)),
    ],
)
def test_json_is_read_with_its_text_made_visible(raw: bytes, value: Any) -> None:
    assert untrusted.parse(raw) == value


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xfe\x00", "not a text file in UTF-8 (byte 1)"),
        (b'{"a": "caf\xe9"}', "not a text file in UTF-8 (byte 11)"),
        (b'{"a"', "not valid JSON, truncated or damaged (line 1, column 5"),
        (b"[" * 33 + b"]" * 33, "nested too deeply: more than 32 levels"),
        (b"[" * 10**6, "nested too deeply"),
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "nested too deeply"),
        (b"[" + b"[]," * 2_000_000 + b"[]]", "holds more than 2,000,000 values"),
        (b"nul", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(Unreadable) as caught:
        untrusted.parse(raw)
    assert words in str(caught.value)


def test_only_regular_files_of_bounded_length_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    with open(tmp_path / "long.json", "wb") as file:
        file.truncate(10**11)  # takes no room on the disk
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(Unreadable, match="not a regular file"):
            untrusted.load(tmp_path / f"{name}.json")
    with pytest.raises(Unreadable, match="100,000,000,000 bytes long, at most 33,554,432 are read"):
        untrusted.load(tmp_path / "long.json")
    with pytest.raises(untrusted.Missing):
        untrusted.load(tmp_path / "gone.json")
    (problem,) = untrusted.lines(tmp_path / "long.json", dict)[1]
    assert "at most 134,217,728 are read" in problem.reason
    assert untrusted.lines(tmp_path / "gone.json", dict) == ([], [])


def test_of_lines_each_fault_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    long = b'{"a": "' + b"x" * 2**23 + b'"}'
    path.write_bytes(b'{"a": 1}\n\n\xe9\n[]\n' + long + b'\n{"a": "\xe2\x80\xa8"}\n{"a": 2')
    found, problems = untrusted.lines(path, dict)
    assert found == [{"a": 1}, {"a": "\\u2028"}]  # a separator within a line does not end it
    assert [problem.reason for problem in problems] == [
        "line 3: not a text file in UTF-8 (byte 1)",
        "line 4: got list, expected a table",
        "line 5: longer than 8,388,608 bytes",
        "line 7: not valid JSON, truncated or damaged (line 1, column 8: Expecting ',' delimiter)",
    ]
    assert len(untrusted.lines(path, dict, cut_short=True)[1]) == 3


def test_a_binary_file_is_not_taken_for_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    for raw in (b"\x89PNG\r", b"\0" * 100, b"\xff", b"text"):
        path.write_bytes(raw)
        (problem,) = untrusted.lines(path, dict, cut_short=True)[1]
        assert problem.reason.startswith("line 1: not ")


def test_of_very_many_faults_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("[]\n" * 1_000 + '{"a": 1}\n')
    found, problems = untrusted.lines(path, dict)
    assert found == [{"a": 1}]
    assert [problem.reason for problem in problems][-2:] == [
        "line 5: got list, expected a table",
        "995 more that make no sense",
    ]


def test_of_too_many_different_values_the_first_are_kept(tmp_path: Path) -> None:
    rows = [{"a": number % 7, "b": [number % 2]} for number in range(70)] + [{"a": 1}]
    kept, problems = limits.keep_few(rows, ("a",), 7, tmp_path)
    assert (kept, problems) == (rows, [])
    kept, (problem,) = limits.keep_few(rows, ("a", "b"), 3, tmp_path)
    assert kept == [row for row in rows[:70] if row["a"] < 3 and rows.index(row) < 3] + [{"a": 1}]
    assert problem.reason == "55 of 71 left out: more than 3 different values of a and b"


def test_of_too_many_rows_the_first_are_kept(tmp_path: Path) -> None:
    rows = [{"loss": [1.0] * 10} for _ in range(5)]
    assert limits.keep_first(rows, lambda row: len(row["loss"]), 50, tmp_path) == (rows, [])
    kept, (problem,) = limits.keep_first(rows, lambda row: len(row["loss"]), 49, tmp_path)
    assert kept == rows[:4]
    assert problem.reason == "1 of 5 left out: there is room for 49"


def test_of_very_many_lines_the_first_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted, "MOST_LINES", 3)
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n' * 4)
    found, (problem,) = untrusted.lines(path, dict)
    assert found == [{"a": 1}] * 3
    assert problem.reason == "longer than 3 lines: the others are left out"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 中 🚀", "plain é 中 🚀"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("\u2066x\u2069\u200b\ufeff", "\\u2066x\\u2069\\u200b\\ufeff"),
        ("\udcff\ud83d", "\\udcff\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
        ("👩\u200d💻 \xa0", "👩\u200d💻 \xa0"),
    ],
)
def test_what_cannot_be_seen_is_written_by_its_number(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert shortened(text) == shown
    shown.encode("utf-8")


def test_long_text_is_shortened() -> None:
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("x" * 11, 10) == "x" * 9 + "…"
    assert shortened([1, "\ud800"], 100) == "[1, '\\ud800']"
    assert len(shortened({"a": list(range(10**5))})) == 2_000
