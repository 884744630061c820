"""Physical memory of this process, to the page on Linux."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

ON_LINUX = sys.platform == "linux"
# The names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
SMALLEST_MAPPED = 16 * 1024
SAMPLING_SECONDS = 0.001
KNOWN_SIZE = 2**20


def return_freed_memory_at_once() -> None:
    """Let glibc take larger blocks from the system one by one, and give them back when freed.

    Otherwise what it keeps for later counts as used: a pass of 182 MiB read as 813 to 1068. It
    slows allocation, so it is for measurements of memory only, and comes before any allocation.
    """
    if ON_LINUX:
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, SMALLEST_MAPPED)
        library.mallopt(M_TRIM_THRESHOLD, 0)
        library.mallopt(M_TOP_PAD, 0)


def by_a_process_on_one_cpu(module: str, *arguments: object) -> int:
    """The number that a module of this package prints, run as a program by itself.

    Linux counts pages for each CPU and adds up in batches of 32; only a process that has had but
    one since it began sees its high-water mark to within one batch.
    """
    package = __name__.rpartition(".")[0]
    root = Path(__file__).parents[package.count(".") + 1]
    usable = os.sched_getaffinity(0) if ON_LINUX else set()
    try:
        if usable:
            os.sched_setaffinity(0, {min(usable)})
        done = subprocess.run(
            [sys.executable, "-m", f"{package}.{module}", *map(str, arguments)],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        if usable:
            os.sched_setaffinity(0, usable)
    return int(done.stdout)


def block(num_bytes: int) -> mmap.mmap:
    """So many bytes more of memory, all of them resident."""
    block = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, num_bytes, mmap.PAGESIZE):
        block[start] = 1
    return block


def mean_peak_of(
    function: Callable[[], object], repeats: int, *, before_each: Callable[[], object]
) -> int:
    """The mean of `peak_of` over several calls, less by how much a block of known size is off.

    One more page is taken before each call, so that the calls meet the batches at all stages.
    """
    gc.collect()
    gc.freeze()  # what stays anyway would take most of the time if each call looked through it
    pages, peaks, errors = [], [], []
    for _ in range(repeats):
        before_each()
        pages.append(block(mmap.PAGESIZE))
        peaks.append(peak_of(function))
        errors.append(peak_of(lambda: block(KNOWN_SIZE)) - KNOWN_SIZE)
    return round(statistics.mean(peaks) - statistics.mean(errors))


def now() -> int:
    """Bytes resident now, after what can be freed has been."""
    gc.collect()
    if ON_LINUX:
        ctypes.CDLL(None).malloc_trim(0)
        return _status("VmRSS")
    return psutil.Process().memory_info().rss


def peak_of(function: Callable[[], object]) -> int:
    """By how many bytes the high-water mark during a call stands above what is resident before."""
    before = now()
    if ON_LINUX:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # resets VmHWM
        function()
        return _status("VmHWM") - before
    return _sampled_peak_of(function) - before


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        found = re.search(rf"^{key}:\s+(\d+) kB", file.read(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _sampled_peak_of(function: Callable[[], object]) -> int:
    process, peaks, finished = psutil.Process(), [0], threading.Event()

    def sample() -> None:
        while not finished.wait(SAMPLING_SECONDS):
            peaks[0] = max(peaks[0], process.memory_info().rss)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        function()
    finally:
        finished.set()
        thread.join()
    return max(peaks[0], process.memory_info().rss)
