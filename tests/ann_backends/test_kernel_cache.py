"""Where machine code is kept, and that nothing that is wrong there is an error."""

from __future__ import annotations

import errno
import importlib.util
import logging
import pickle
import shutil
import subprocess
import sys
import threading

import pytest
from numba.core import config, event

from ann_backends.kernels import cache, folders, notices, patience
from tests.ann_backends import kernel_package
from tests.ann_backends.kernel_package import ROOT, run

SOURCE = """
from ann_backends import kernel

@kernel
def inner(x):
    return x + 1

@kernel
def outer(x):
    return 2 * inner(x)
"""


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch, tmp_path):
    """Nothing was compiled, said or tried yet, and the user has a cache of their own."""
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setitem(event._registered, "numba:compile", [patience.Stopwatch()])
    monkeypatch.setattr(patience, "PATIENCE", 1000.0)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    remembering = folders._candidates, folders.refusal
    for function in remembering:
        function.cache_clear()
    yield
    for function in remembering:
        function.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """That of the kernels' source."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "mine.py").write_text(SOURCE)
    return folder


def load(folder):
    """The kernel `outer`, as a new process finds it."""
    spec = importlib.util.spec_from_file_location("mine", folder / "mine.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine"] = module  # where numba looks for what a file refers to
    spec.loader.exec_module(module)
    return module.outer


def compiled(folder):
    """Whether the kernel had to be compiled; that it is right in any case."""
    kernel = load(folder)
    assert kernel(3) == 8
    return bool(kernel.stats.cache_misses)


def kept(folder, ending=".nbc"):
    return [path for path in folder.rglob(f"*outer*{ending}") if path.is_file()]


def test_a_kernel_is_kept_beside_its_source_and_compiled_once(folder, caplog):
    kernel = load(folder)
    assert not (folder / "__pycache__").exists() or not kept(folder)
    assert kernel(3) == 8
    assert kernel.stats.cache_path == str(folder / "__pycache__")
    assert len(kept(folder)) == 1
    assert not compiled(folder)
    assert load(folder)(2.5) == 7.0
    assert len(kept(folder)) == 2
    assert not caplog.records


def test_where_the_user_says(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "new" / "chosen"))
    assert compiled(folder)
    assert kept(tmp_path / "new")
    assert not kept(folder)
    assert not compiled(folder)
    assert not caplog.records


@pytest.mark.parametrize(
    "chosen", ["file", "file/below", "\udcff\udcfe/file/x"], ids=["file", "below", "no UTF-8"]
)
def test_what_the_user_says_may_not_be_possible(folder, tmp_path, monkeypatch, caplog, chosen):
    (tmp_path / "file").touch()
    (tmp_path / "\udcff\udcfe").mkdir()
    (tmp_path / "\udcff\udcfe" / "file").touch()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / chosen))
    assert compiled(folder)
    assert not compiled(folder)
    (record,) = caplog.records
    shown = str(tmp_path / chosen).encode("utf-8", "backslashreplace").decode()
    assert record.message.startswith(f"NUMBA_CACHE_DIR cannot be used ({shown}")
    assert record.message.endswith(f"kernels are kept in {folder / '__pycache__'}")


def test_beside_a_source_that_cannot_be_written_the_user_s_cache_is_taken(folder, tmp_path, caplog):
    (folder / "__pycache__").touch()  # a file, which stops even the system's administrator
    assert compiled(folder)
    assert kept(tmp_path / "home" / ".cache" / "numba")
    assert not compiled(folder)
    assert not caplog.records


def test_without_any_place_kernels_are_compiled_and_a_line_says_what_helps(
    folder, tmp_path, caplog
):
    (folder / "__pycache__").touch()
    (tmp_path / "home").touch()
    assert compiled(folder)
    assert compiled(folder)
    (record,) = caplog.records
    assert record.name == "ann_backends"
    for part in (f"{folder / '__pycache__'}: ", "Not a directory", "set NUMBA_CACHE_DIR to"):
        assert part in record.message


def test_what_somebody_has_filled_may_be_read_only(folder, tmp_path, monkeypatch):
    assert compiled(folder)
    own = str(folder / "__pycache__")
    may_be_written = folders.refusal
    monkeypatch.setattr(folders, "refusal", lambda f: "Read-only" * (f == own) or may_be_written(f))
    assert not compiled(folder)
    assert not (tmp_path / "home").exists() or not kept(tmp_path / "home")
    (folder / "mine.py").write_text(SOURCE.replace("x + 1", "1 + x"))
    assert compiled(folder)
    assert kept(tmp_path / "home")
    assert not compiled(folder)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_may_be_full_when_a_kernel_is_to_be_kept(folder, monkeypatch, caplog, number):
    def refuse(*arguments):
        raise OSError(number, "No room, on purpose")

    monkeypatch.setattr(cache._File, "_open_for_write", refuse)
    assert compiled(folder)
    (record,) = caplog.records
    assert f"({folder / '__pycache__'}: No room, on purpose)" in record.message
    assert not list(folder.rglob("*.tmp.*"))
    monkeypatch.undo()
    assert compiled(folder)


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "one bit": flip,
    "one bit near the end": lambda content: content[:-200] + flip(content[-200:]),
    "something else": lambda content: pickle.dumps({"a": 1}),
    "another class": lambda content: b"cno_such_module\nname\n.",
    "nothing": lambda content: pickle.dumps(None),
}


@pytest.mark.parametrize("ending", [".nbc", ".nbi"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_counts_for_none_and_is_replaced(folder, caplog, damage, ending):
    assert compiled(folder)
    (path,) = kept(folder, ending)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert compiled(folder)
    assert not compiled(folder)
    assert not caplog.records


def test_machine_code_for_other_arguments_is_not_taken(folder):
    """As when two processes write at the same time: one the index, the other the data."""
    kernel = load(folder)
    assert (kernel(3), kernel(2.5)) == (8, 7.0)
    first, second = sorted(kept(folder))
    shutil.copy(second, first)
    kernel = load(folder)
    assert (kernel(3), kernel(2.5)) == (8, 7.0)
    assert sum(kernel.stats.cache_hits.values()) == 1


def test_machine_code_of_an_older_version_is_not_taken_by_mistake(folder):
    assert compiled(folder)
    (old,) = kept(folder)
    content = old.read_bytes()
    (folder / "mine.py").write_text(SOURCE.replace("x + 1", "x + 1 * 1 + 0"))
    shutil.rmtree(folder / "__pycache__")
    assert compiled(folder)
    old.write_bytes(content)  # by a process that still runs the older version
    assert compiled(folder)


def test_settings_of_numba_that_change_the_machine_code_count(folder, monkeypatch):
    assert compiled(folder)
    monkeypatch.setattr(config, "BOUNDSCHECK", 1)
    assert compiled(folder)
    assert not compiled(folder)
    monkeypatch.setattr(config, "BOUNDSCHECK", None)
    assert not compiled(folder)


def test_numba_can_be_told_to_forget_and_to_leave_the_cache(folder):
    kernel = load(folder)
    kernel(3)
    kernel.recompile()
    assert not compiled(folder)
    kernel = load(folder)
    kernel._cache.disable()
    kernel(3)
    assert kernel.stats.cache_misses
    kernel._cache.enable()
    kernel._cache.flush()
    assert compiled(folder)


def test_what_was_typed_in_is_not_kept():
    names: dict = {}
    exec(SOURCE, names)
    assert names["outer"](3) == 8
    assert names["outer"].stats.cache_path is None


@pytest.mark.parametrize("source", ["<stdin>", "<ipython-input-1>", "/tmp/ipykernel_12/34.py"])
def test_what_is_typed_in_has_no_folder(source):
    assert folders.candidates(source) == ()


def test_what_comes_from_an_archive_is_kept_in_the_user_s_cache(tmp_path):
    (found,) = folders.candidates(str(tmp_path / "packages.zip" / "sam" / "step.py"))
    assert found.startswith(str(tmp_path / "home" / ".cache" / "numba"))


def test_a_user_without_a_home_has_no_cache_below_the_current_folder(folder, monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.chdir(folder)
    (folder / "__pycache__").touch()
    assert folders.candidates(str(folder / "mine.py")) == (str(folder / "__pycache__"),)
    assert compiled(folder)
    assert not (folder / "~").exists()


def test_a_folder_is_the_one_meant_when_the_kernel_was_made(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIR", "below")
    monkeypatch.chdir(tmp_path)
    kernel = load(folder)
    monkeypatch.chdir("/")
    assert kernel(3) == 8
    assert kept(tmp_path / "below")


def test_a_constant_that_changes_before_a_later_call_counts(folder):
    (folder / "mine.py").write_text(SOURCE.replace("x + 1", "x + MORE") + "\nMORE = 1\n")
    kernel = load(folder)
    assert kernel(3) == 8
    sys.modules["mine"].MORE = 5
    assert kernel(2.5) == 15.0
    kernel = load(folder)
    assert kernel(2.5) == 7.0


class Odd:
    """Has every attribute."""

    def __getattr__(self, name):
        return Odd()

    def __repr__(self):
        raise RuntimeError("on purpose")


def test_what_has_no_fingerprint_is_compiled_and_not_kept(folder, caplog):
    kernel = load(folder)
    sys.modules["mine"].inner.py_func.__defaults__ = (Odd(),)
    assert kernel(3) == 8
    assert not kept(folder)


def test_processes_that_compile_at_the_same_time_are_all_right(tmp_path):
    kernel_package.write(tmp_path)
    code = "from kernel_package.entry import entry; print(entry(1)[0], entry(2.5)[0], flush=True)"
    known = {"cwd": tmp_path, "text": True, "stdout": subprocess.PIPE}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r})\n{code}"], **known
        )
        for _ in range(3)
    ]
    assert [each.communicate()[0] for each in started] == ["1 2.5\n"] * 3


# Notices


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 1e-3)


def test_who_waits_is_told_once_what_is_compiled_and_where_it_is_kept(folder, caplog, impatient):
    kernel = load(folder)
    threads = [threading.Thread(target=kernel, args=[x]) for x in (3, 2.5, 1j, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("compiling mine.outer and other kernels")
    assert str(folder / "__pycache__") in record.message
    caplog.clear()
    notices._said.clear()
    assert not compiled(folder)
    assert not caplog.records


def test_who_waits_is_told_if_it_cannot_be_kept(folder, tmp_path, caplog, impatient):
    (folder / "__pycache__").touch()
    (tmp_path / "home").touch()
    assert compiled(folder)
    (record,) = caplog.records
    assert "cannot be kept" in record.message


class Event:
    def __init__(self, kernel):
        self.data = {"dispatcher": kernel}


def test_time_between_kernels_does_not_count_and_that_of_inner_ones_counts_once(
    folder, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE", 2.0)
    times = iter([0.0, 0.5, 100.0, 100.4, 200.0, 203.0, 300.0, 300.0])
    monkeypatch.setattr(patience.time, "monotonic", lambda: next(times))
    waits = []

    class Timer(threading.Timer):
        def start(self):
            waits.append(self.interval)

    monkeypatch.setattr(patience.threading, "Timer", Timer)
    watch, kernel = patience.Stopwatch(), Event(load(folder))
    for step in "( () ) ( ) ( ) ( )".replace(" ", ""):
        (watch.on_start if step == "(" else watch.on_end)(kernel)
    assert waits == pytest.approx([2.0, 1.5, 1.1, 0.0])


STDERR = {
    "silenced": "import logging; logging.getLogger('ann_backends').setLevel('ERROR')",
    "closed": "import sys; sys.stderr.close()",
    "closed below Python": "import os; os.close(2)",
    "absent": "import sys; sys.stderr = None",
    "full": "import sys; sys.stderr = open('/dev/full', 'w', buffering=1)",
}


@pytest.mark.parametrize("kind", STDERR)
def test_whatever_happens_to_the_line_the_kernel_runs(tmp_path, kind):
    kernel_package.write(tmp_path)
    code = f"""
from ann_backends.kernels import patience
patience.PATIENCE = 1e-3
from kernel_package.entry import entry
{STDERR[kind]}
print(entry(1)[0])
import os; os._exit(0)
"""
    done = run(code, tmp_path)
    assert (done.stdout or "1\n", done.stderr) == ("1\n", "")
