"""Trace files of others, and disks that are full: one clear error, and nothing out of bounds."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ann_backends
from ann_backends import Trace, trace_file
from tests.ann_backends import traces

MEBIBYTE = 1 << 20
FUZZ = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("trace") / "whole"
    traces.make().save(path)
    return path.read_bytes()


def loaded(path: Path, content: bytes) -> Trace | str:
    """The trace in a file of this content, or the message of its ValueError; within bounds."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        return Trace.load(path)
    except ValueError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * MEBIBYTE + 16 * len(content)
    assert message.startswith(f"{path}: ")
    assert len(message) < 2000 + len(str(path))
    return message


def numbers(header: str, data: bytes = b"") -> bytes:
    """An .npy file with this header, true or not."""
    text = header.encode("latin1", "replace")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(shape: str, dtype: str = "<f4", fortran: str = "False") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def archive(whole: bytes, **members: bytes) -> bytes:
    """The archive with other members, their checksums right."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, members.get(name.removesuffix(".npy"), old.read(name)))
    return made.getvalue()


def header(**changes: Any) -> bytes:
    fields = {"format": "ann_backends.Trace", "version": 1, "memory_size": 24, "k": 4}
    text = json.dumps(fields | {"metric": "cosine", "info": {}} | changes)
    made = io.BytesIO()
    np.save(made, np.array(text))
    return made.getvalue()


@pytest.mark.parametrize(
    ("member", "shape", "dtype"),
    [
        ("queries", "(1000000000000,)", "<f4"),
        ("queries", "(1000000, 1000, 1000, 1000)", "<f8"),
        ("slots", "(26, 2, 1000000000000)", "<i8"),
        ("start_rows", f"({10**30}, 5)", "<f4"),
        ("rows", "(26, 2, 7, 5)", "<f4"),
        ("first_steps", "(-4,)", "<i8"),
        ("first_steps", "(4,)", "<U500000000"),
        ("header", "()", "<U500000000"),
        ("header", "(1000000000000,)", "<U0"),
    ],
)
def test_a_header_that_claims_more_than_the_file_holds(
    tmp_path: Path, whole: bytes, member: str, shape: str, dtype: str
) -> None:
    content = archive(whole, **{member: numbers(described(shape, dtype), bytes(64))})
    message = loaded(tmp_path / "a", content)
    assert isinstance(message, str)
    assert f"{member}: got" in message
    if "1000" in shape + dtype:
        assert "takes" in message
        assert "the file holds 64" in message


def test_an_archive_that_claims_sizes_that_cannot_be(tmp_path: Path, whole: bytes) -> None:
    entry = whole.rindex(b"queries.npy") - 46
    for place, name in ((24, "unpacked"), (20, "packed")):
        content = bytearray(whole)
        content[entry + place : entry + place + 4] = (2**31).to_bytes(4, "little")
        if name == "packed":
            content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
        message = loaded(tmp_path / "a", bytes(content))
        assert isinstance(message, str), name
        assert "which cannot be" in message, name


def test_a_trace_that_this_machine_cannot_hold(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1000}.__getitem__)
    message = loaded(tmp_path / "a", whole)
    assert isinstance(message, str)
    assert "got arrays of" in message
    assert "this machine has 1000" in message


def test_a_memory_that_no_machine_holds_is_refused_when_it_is_replayed() -> None:
    for memory_size in (10**12, 10**15, 2**62):
        trace = traces.make(memory_size=memory_size)
        if memory_size == 10**12:
            try:
                ann_backends.lazy_zeros((2, memory_size, 5), np.float32)
            except OSError:
                pass
            else:
                continue
        with pytest.raises(ValueError, match=f"trace: got memory_size {memory_size}, 2 memories"):
            ann_backends.replay(trace, "exact")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "header|recursion|nested"),
        ("[1, 2]", "list indices"),
        ("{}", "format"),
        ('"text"', "string indices"),
        ("1" * 5000, "4300 digits"),
        ("", "Expecting value"),
    ],
)
def test_a_header_of_other_json(tmp_path: Path, whole: bytes, content: str, message: str) -> None:
    made = io.BytesIO()
    np.save(made, np.array(content))
    said = loaded(tmp_path / "a", archive(whole, header=made.getvalue()))
    assert isinstance(said, str)
    assert re.search(message, said)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_size": 10**30},
        {"memory_size": 1e300},
        {"memory_size": True},
        {"k": 10**400},
        {"info": {"a" * 10_000: ["b"] * 10_000}, "metric": "?"},
        {"info": ["x" * 100_000]},
        {"info": {"a": float("nan")}},
        {"version": ["x" * 100_000]},
        {"metric": {}},
    ],
)
def test_a_header_of_other_values_is_told_in_one_line(
    tmp_path: Path, whole: bytes, changes: dict[str, Any]
) -> None:
    said = loaded(tmp_path / "a", archive(whole, header=header(**changes)))
    assert isinstance(said, str)
    assert "\n" not in said


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_give_an_error(tmp_path: Path, content: bytes) -> None:
    assert isinstance(loaded(tmp_path / "a", content), str)


@FUZZ
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 40)), min_size=1
    )
)
def test_any_edit_of_a_trace_gives_an_error_or_a_trace(
    tmp_path: Path, whole: bytes, edits: list[tuple[float, bytes, int]]
) -> None:
    content = whole
    for share, put, cut in edits:
        place = int(share * len(content))
        content = content[:place] + put + content[place + cut :]
    loaded(tmp_path / "a", content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
SHAPES = st.lists(st.integers(-2, 10**13) | st.integers(0, 30), max_size=5).map(
    lambda sizes: str(tuple(sizes))
)
DTYPES = st.sampled_from(
    ["<f4", "<f8", ">f8", "<i8", "|O", "<U9", "V0", "|b1", "M8[s]", "f2,(9,)i8"]
)
NUMBERS = st.one_of(
    st.builds(numbers, st.builds(described, SHAPES, DTYPES), st.binary(max_size=99)),
    st.builds(numbers, st.text(max_size=60), st.binary(max_size=9)),
    st.builds(numbers, st.sampled_from(["(" * 9000, "{" * 200, "-" * 9000, "1" * 5000, "'\\\n"])),
    st.binary(max_size=60),
)


@FUZZ
@given(
    fields=st.dictionaries(
        st.sampled_from(["format", "version", "memory_size", "k", "metric", "info"]), JSON
    ),
    members=st.dictionaries(st.sampled_from(["header", *Trace.ARRAYS]), NUMBERS, max_size=3),
)
def test_any_header_and_any_arrays_give_an_error_or_a_trace(
    tmp_path: Path, whole: bytes, fields: dict[str, Any], members: dict[str, bytes]
) -> None:
    loaded(tmp_path / "a", archive(whole, **{"header": header(**fields)} | members))


FULL = """
import resource, signal, sys
from ann_backends import Trace
trace = Trace.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for room in 0, 100, 3000, 9000:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        trace.save(sys.argv[2])
    except OSError as error:
        print(error, error.__suppress_context__, error.filename == sys.argv[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the file's size stands for a disk")
def test_where_the_file_has_no_room_the_old_one_stays_alone(tmp_path: Path, whole: bytes) -> None:
    source, target = tmp_path / "whole", tmp_path / "folder" / "trace"
    source.write_bytes(whole)
    target.parent.mkdir()
    target.write_bytes(b"old")
    command = [sys.executable, "-c", FULL, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    least = sum(getattr(traces.make(), name).nbytes for name in Trace.ARRAYS)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert "File too large: a trace of up to " in line
        assert int(line.split(" of up to ")[1].split()[0]) > least
        assert line.endswith(f"bytes are free: '{target}' True True")
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"old"]


def test_a_folder_in_the_way_or_none_is_told_by_the_path_given(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory: a trace of up to"):
        traces.make().save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"No such file .*/none/trace'"):
        traces.make().save(tmp_path / "none" / "trace")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    traces.make().save(tmp_path / ("a" * 255))
    assert Trace.load(tmp_path / ("a" * 255)).k == 4
    assert trace_file.HEADER == "header"
