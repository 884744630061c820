"""A report is put in place whole or not at all, whatever its folder is."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports import folders
from reports.__main__ import main
from tests.reports import reports_factory as factory
from tests.reports import runs_factory, users

NEW = {"index.html": b"new page", "a.csv": b"new a", "b.csv": b"new b"}
OLD = {"index.html": b"old page", "a.csv": b"old a", "notes.txt": b"mine"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an old report and a file of the user's."""
    folder = tmp_path / "report"
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    return folder


def test_files_are_replaced_and_others_are_left_alone(out: Path) -> None:
    assert folders.put(NEW, out, "index.html") == out / "index.html"
    assert contents(out) == OLD | NEW


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "c"
    folders.put(NEW, out, "index.html")
    assert contents(out) == NEW
    assert os.stat(out / "a.csv").st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.fixture
def public() -> Iterator[Path]:
    with users.public_folder() as folder:
        yield folder


def test_a_writable_folder_in_a_read_only_parent_is_written(public: Path) -> None:
    out = public / "parent" / "report"
    out.mkdir(parents=True)
    out.chmod(0o777)
    out.parent.chmod(0o555)
    with users.nobody():
        folders.put(NEW, out, "index.html")
    assert contents(out) == NEW


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = public / "closed"
    out.mkdir()
    (out / "index.html").write_text("old")
    out.chmod(0o555)
    for place in (out, out / "new" / "folder"):
        with users.nobody():
            assert main(["build", str(public / "gone"), "--out", str(place)]) == 1
            assert main(["learning", str(public / "gone"), "--out", str(place)]) == 1
        said = capsys.readouterr()
        assert said.err.count("no report: ") == 2
        assert said.err.count("cannot be written to") == 2
    assert contents(out) == {"index.html": b"old"}


@pytest.mark.parametrize("place", ["same", "other", "dangling", "chain", "parent"])
def test_a_link_is_followed(tmp_path: Path, place: str) -> None:
    target = tmp_path / "target"
    link = tmp_path / "link"
    if place == "other":  # on another file system, as a volume is
        shm = Path("/dev/shm")
        if not shm.is_dir() or os.stat(shm).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("needs a second file system")
        target = Path(tempfile.mkdtemp(dir=shm))
    elif place != "dangling":
        target.mkdir()
    try:
        link.symlink_to(target)
        if place == "chain":
            (tmp_path / "first").symlink_to(link)
            link = tmp_path / "first"
        out = link / "deeper" if place == "parent" else link
        assert folders.put(NEW, out, "index.html") == out / "index.html"
        assert contents(target / "deeper" if place == "parent" else target) == NEW
        assert link.is_symlink()
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_a_mount_point_is_written(tmp_path: Path) -> None:
    """Nothing is made beside a mount point: its parent is another file system."""
    out = Path("/dev/shm")
    if not os.path.ismount(out) or not os.access(out, os.W_OK):
        pytest.skip("needs a mount point that can be written")
    files = {f"report-of-test-{os.getpid()}.csv": b"new"}
    before = set(os.listdir("/dev"))
    try:
        folders.put(files, out, next(iter(files)))
        assert (out / next(iter(files))).read_bytes() == b"new"
        assert set(os.listdir("/dev")) == before
    finally:
        (out / next(iter(files))).unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["a.csv", "index.html", "b.csv"])
def test_with_a_folder_in_the_way_of_a_file_nothing_is_touched(out: Path, name: str) -> None:
    (out / name).unlink(missing_ok=True)
    (out / name).mkdir()
    (out / name / "mine").touch()
    kept = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(IsADirectoryError, match="a folder is in the way of a file"):
        folders.put(NEW, out, "index.html")
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == kept
    assert (out / name / "mine").exists()
    assert not list(out.glob(".report-*"))


def test_a_link_in_the_way_of_a_file_is_replaced_and_not_followed(
    out: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine").write_text("mine")
    (out / "a.csv").unlink()
    (out / "a.csv").symlink_to(tmp_path / "mine")
    (out / "b.csv").symlink_to(tmp_path / "elsewhere")
    folders.put(NEW, out, "index.html")
    assert contents(out) == OLD | NEW
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("fault", ["file", "loop", "below a file", "long"])
def test_what_can_be_no_folder_is_refused_in_one_line(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if fault == "loop":
        out.symlink_to(out)
    elif fault == "long":
        out = tmp_path / ("x" * 300)
    else:
        out.write_text("mine")
        out = out / "below" if fault == "below a file" else out
    source = factory.write(tmp_path / "toybox", factory.result({}))
    assert main(["build", str(source), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("no report: ")
    assert said.count("\n") == 1
    assert fault in ("loop", "long") or (tmp_path / "out").read_text() == "mine"


def disk_of(free: int, total: int = 10**9) -> Any:
    return lambda path: shutil._ntuple_diskusage(total, total - free, free)  # type: ignore[attr-defined]


def test_a_full_disk_is_said_with_what_is_needed_and_free(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk_of(3 * 4096 - 1))
    with pytest.raises(folders.NoRoom) as caught:
        folders.put(NEW, out, "index.html")
    words = f"{out}: no space left on device: needs 12,288 bytes, 12,287 are free"
    assert str(caught.value) == words
    assert contents(out) == OLD
    monkeypatch.setattr(shutil, "disk_usage", disk_of(3 * 4096))
    folders.put(NEW, out, "index.html")
    monkeypatch.setattr(shutil, "disk_usage", disk_of(0, total=0))  # a file system without sizes
    folders.put(NEW, out, "index.html")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_disk_that_fills_up_meanwhile_leaves_the_old_report(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, writes: int
) -> None:
    write, left = Path.write_bytes, [writes]

    def full(path: Path, content: bytes) -> int:
        if not left[0]:
            write(path, content[: len(content) // 2])
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    for place in (out, tmp_path / "new" / "folder"):
        left[0] = writes
        with pytest.raises(folders.NoRoom, match=r"needs 12,288 bytes, [0-9,]+ are free"):
            folders.put(NEW, place, "index.html")
    assert contents(out) == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("moves", [0, 1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "busy"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_moved_brings_the_old_report_back(
    out: Path, monkeypatch: pytest.MonkeyPatch, links: bool, moves: int, error: BaseException
) -> None:
    replace, left = os.replace, [moves]

    def stuck(source: Path, target: Path) -> None:
        if Path(source).parent.name == "ready":
            if not left[0]:
                raise error
            left[0] -= 1
        replace(source, target)

    def no_links(*arguments: object, **named: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "replace", stuck)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(type(error)):
        folders.put(NEW, out, "index.html")
    assert contents(out) == OLD
    left[0] = len(NEW)
    folders.put(NEW, out, "index.html")
    assert contents(out) == OLD | NEW


def test_a_file_that_cannot_be_kept_stays(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is a mount point itself, or another user's in a folder like /tmp."""
    rename = os.rename

    def refused(source: Path, target: Path, **named: object) -> None:
        if Path(source).name == "index.html":
            raise PermissionError(errno.EPERM, "not yours")
        rename(source, target)

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError):
        folders.put(NEW, out, "index.html")
    assert contents(out) == OLD


KILLED = """
import os, signal, sys
from pathlib import Path
from reports import folders
left = int(sys.argv[2])
replace = os.replace
def stop(source, target):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(source, target)
os.replace = stop
folders.put({name: b"killed " + name.encode() for name in ("index.html", "a.csv", "b.csv")},
            Path(sys.argv[1]), "index.html")
"""


def test_what_a_killed_process_left_is_put_in_place_by_the_next(out: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(out), "1"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list(out.glob(".report-*"))) == 1
    folders.put({"c.csv": b"c"}, out, "c.csv")
    killed = {name: f"killed {name}".encode() for name in NEW}
    assert contents(out) == OLD | killed | {"c.csv": b"c"}


def test_a_folder_of_the_user_s_that_is_called_alike_is_left_alone(out: Path) -> None:
    (out / ".report-mine").mkdir()
    (out / ".report-mine" / "notes").write_text("mine")
    (out / ".report-file").write_text("mine")
    (out / ".report-link").symlink_to(out / "elsewhere")
    (out / ".report-1.unfinished").mkdir()  # of a process that was killed before it wrote anything
    for name in ("new", "old", "ready"):  # what a scratch folder holds
        (out / ".report-all" / name).mkdir(parents=True)
        (out / ".report-all" / name / "thesis.txt").write_text("mine")
    folders.put(NEW, out, "index.html")
    assert (out / ".report-mine" / "notes").read_text() == "mine"
    assert len(list((out / ".report-all").glob("*/thesis.txt"))) == 3
    assert not (out / "thesis.txt").exists()
    assert sorted(path.name for path in out.glob(".report-*")) == [
        ".report-all",
        ".report-file",
        ".report-link",
        ".report-mine",
    ]


@pytest.mark.parametrize("stdout", ["closed", "pipe", "full", "ascii"])
def test_a_report_does_not_depend_on_who_reads_how_it_is_made(tmp_path: Path, stdout: str) -> None:
    runs_factory.write(
        tmp_path / "runs" / "中",
        runs_factory.settings("中", "babi"),  # of which there is no figure without evaluations
        [],
    )
    (tmp_path / "runs" / "bad 中").mkdir()
    (tmp_path / "runs" / "bad 中" / "run.json").write_text("{")
    made = f"{sys.executable} -m reports learning {tmp_path / 'runs'} --out {tmp_path / 'out'}"
    ends = {"closed": ">&- 2>&-", "pipe": "2>&1 | true", "full": ">/dev/full", "ascii": ""}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{made} {ends[stdout]}"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0
    assert b"Error" not in done.stderr
    assert (tmp_path / "out" / "learning.html").exists()
    if stdout == "ascii":
        assert b"bad \\u4e2d/run.json: not valid JSON" in done.stderr


def test_an_interrupt_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "check", interrupted)
    assert main(["build", str(tmp_path), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "no report: interrupted\n"


def test_two_at_once_leave_one_of_the_two_reports(out: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reports import folders\n"
        "files = {f'{n}.csv': sys.argv[2].encode() for n in range(20)}\n"
        "for _ in range(8): folders.put(files, Path(sys.argv[1]), '0.csv')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(out), each], stderr=subprocess.PIPE)
        for each in ("one", "two")
    ]
    assert [process.communicate()[1] for process in started] == [b"", b""]
    found = contents(out)
    assert len({found[f"{number}.csv"] for number in range(20)}) == 1
    assert set(found) == set(OLD) | {f"{number}.csv" for number in range(20)}
