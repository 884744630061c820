"""Traces as values and as files."""

import dataclasses
import json

import numpy as np
import pytest

from ann_backends import Trace
from tests.ann_backends import traces


@pytest.fixture
def saved(tmp_path):
    traces.make().save(tmp_path / "a.npz")
    return tmp_path / "a.npz"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["trace.npz", "trace"])
def test_a_file_gives_back_every_bit_and_stands_alone_in_its_folder(tmp_path, dtype, name):
    trace = traces.make(metric="l2", dtype=dtype)
    trace.save(str(tmp_path / name))
    back = Trace.load(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for field in dataclasses.fields(Trace):
        kept, came = getattr(trace, field.name), getattr(back, field.name)
        if isinstance(kept, np.ndarray):
            assert (came.dtype, came.shape, came.tobytes()) == (
                kept.dtype,
                kept.shape,
                kept.tobytes(),
            )
        else:
            assert came == kept
    assert back.queries.dtype == dtype


def test_another_program_can_read_the_file_by_its_description(saved):
    with np.load(saved, allow_pickle=False) as archive:
        header = json.loads(archive["header"].item())
        shapes = {name: (archive[name].shape, str(archive[name].dtype)) for name in archive.files}
    assert header == {
        "format": "ann_backends.Trace",
        "version": 1,
        "memory_size": 24,
        "k": 4,
        "metric": "cosine",
        "info": {"task": "none", "seed": 0, "sizes": [24, 5]},
    }
    del shapes["header"]
    assert shapes == {
        "queries": ((26, 2, 3, 5), "float32"),
        "slots": ((26, 2, 6), "int64"),
        "rows": ((26, 2, 6, 5), "float32"),
        "first_steps": ((4,), "int64"),
        "start_episode": ((56,), "int64"),
        "start_element": ((56,), "int64"),
        "start_slot": ((56,), "int64"),
        "start_rows": ((56, 5), "float32"),
    }


def test_the_same_trace_gives_the_same_file(tmp_path, saved):
    traces.make().save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_sizes_and_episodes():
    trace = traces.make()
    sizes = (trace.num_steps, trace.batch_size, trace.num_heads, trace.word_size)
    assert sizes == (26, 2, 3, 5)
    assert trace.num_episodes == 4
    ranges = [range(7), range(7, 12), range(12, 20), range(20, 26)]
    assert [trace.steps(episode) for episode in range(4)] == ranges
    starts = [trace.start(episode) for episode in range(4)]
    assert [len(rows) for _, _, rows in starts] == [0, 8, 48, 0]
    element, slot, rows = starts[1]
    assert element.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert slot.tolist() == [2, 3, 11, 0, 5, 7, 9, 23]
    assert np.array_equal(rows, trace.start_rows[:8])


def test_a_failing_save_leaves_the_old_file_and_nothing_beside_it(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(file, **_):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(KeyboardInterrupt):
        traces.make(seed=1).save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def changed(name, index, value):
    array = getattr(traces.make(), name).copy()
    array[index] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"memory_size": 0}, "memory_size"),
        ({"k": 25}, "k"),
        ({"k": 0}, "k"),
        ({"metric": "dot"}, "metric"),
        ({"info": {"a": {1, 2}}}, "info"),
        ({"info": {1: 2}}, "info"),
        ({"info": {"loss": np.inf}}, "info"),
        ({"queries": np.zeros((26, 2, 5), np.float32)}, "queries"),
        ({"queries": np.zeros((26, 2, 3, 5), np.int64)}, "queries"),
        ({"queries": [[1.0]]}, "queries"),
        ({"queries": traces.make().queries[:20]}, "slots"),
        ({"rows": traces.make().rows[:, :, :5]}, "rows"),
        ({"rows": traces.make().rows.astype(np.float64)}, "rows"),
        ({"slots": traces.make().slots.astype(np.int32)}, "slots"),
        (changed("slots", (3, 1, 2), 24), "slots"),
        (changed("slots", (3, 1, 2), -2), "slots"),
        (changed("slots", (3, 1), 7), "slots"),
        (changed("queries", (3, 1, 2, 4), np.nan), "queries"),
        (changed("rows", (3, 1, 2, 4), np.inf), "rows"),
        (changed("start_rows", (3, 1), -np.inf), "start_rows"),
        (changed("first_steps", 0, 1), "first_steps"),
        (changed("first_steps", 3, 26), "first_steps"),
        (changed("first_steps", 2, 7), "first_steps"),
        ({"first_steps": np.zeros(0, np.int64)}, "start_episode"),
        (changed("start_episode", 55, 4), "start_episode"),
        (changed("start_element", 0, -1), "start_element"),
        (changed("start_slot", 0, 24), "start_slot"),
        (changed("start_slot", 0, 3), "start_slot"),
        (changed("start_slot", 0, 4), "start_slot"),
        ({"start_rows": traces.make().start_rows[:-1]}, "start_rows"),
    ],
)
def test_a_field_that_cannot_be_is_named(changes, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: got"):
        traces.make(**changes)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(saved, share):
    saved.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    with pytest.raises(ValueError, match=r"a\.npz: got no zip archive or a truncated one"):
        Trace.load(saved)


def test_a_flipped_byte_anywhere_gives_an_error_or_the_same_trace(saved):
    content, expected = saved.read_bytes(), traces.make()
    errors = []
    for place in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        saved.write_bytes(damaged)
        try:
            back = Trace.load(saved)
        except ValueError as error:
            errors.append(str(error))
        else:
            for name in Trace.ARRAYS:
                assert np.array_equal(getattr(back, name), getattr(expected, name))
    assert len(errors) > 100
    assert all(str(saved) in error for error in errors)


def rewritten(path, header=None, drop=(), **arrays):
    """The file at `path` with changes to its header, members left out or replaced."""
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files if name not in drop}
    if header is not None:
        members["header"] = np.array(json.dumps(json.loads(members["header"].item()) | header))
    np.savez(path, **members | arrays)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": {"version": 2}}, r"format and version: got \('ann_backends.Trace', 2\)"),
        ({"header": {"format": "other"}}, "format and version: got"),
        ({"header": {"k": "4"}}, "k: got '4'"),
        ({"header": {"metric": None}}, "metric: got None"),
        ({"drop": ["slots"]}, "slots is not a file in the archive"),
        ({"drop": ["header"]}, "header is not a file in the archive"),
        ({"slots": np.array([{}], object)}, "slots: got Python objects"),
        ({"rows": np.zeros((1, 2))}, "rows: got shape"),
    ],
)
def test_a_file_that_is_no_trace_of_this_version_is_named(saved, changes, message):
    rewritten(saved, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        Trace.load(saved)
    assert str(saved) in str(caught.value)
    assert "expected a trace file, ann_backends.Trace of version 1" in str(caught.value)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "none.npz")
