import os

from asv_bench import compiled


def test_kernels_compiled_before_the_last_edit_of_any_are_dropped(tmp_path):
    times = {
        "one/kernels.py": 20,
        "one/page.py": 90,
        "two/inlined.py": 30,
        "one/__pycache__/kernels.old.nbi": 29,
        "one/__pycache__/kernels.old.nbc": 29,
        "two/__pycache__/inlined.new.nbi": 31,
    }
    for name, seconds in times.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "one/page.py" else "from numba import njit")
        os.utime(path, (seconds, seconds))
    folders = [tmp_path / "one", tmp_path / "two"]
    stale = tmp_path / "one/__pycache__/kernels.old.nbi"
    assert compiled.drop_stale(folders) == [stale]
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == {*times} - {"one/__pycache__/kernels.old.nbi"}
    assert compiled.drop_stale(folders) == []
