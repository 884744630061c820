"""Ctrl-C and SIGTERM as a wish to stop, not as an end in the middle of something."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class StopWish:
    """`number` is that of the signal which asked to stop, 0 while none has."""

    def __init__(self, words: str = "") -> None:
        self.number, self._words = 0, words

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.number:  # asked twice: at once
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.number = number
        if sys.__stderr__ is not None:  # else its number may be that of any file of the run
            with contextlib.suppress(OSError):  # not by `print`, which may be under way
                os.write(2, self._words.encode())


@contextlib.contextmanager
def stop_wishes(words: str = "") -> Iterator[StopWish]:
    """Within, the first Ctrl-C or SIGTERM is only noted; the second ends what is going on.

    words: for standard error when the first comes. The second raises KeyboardInterrupt, or
    SystemExit. Outside the main thread, where Python hands out no signals, none is ever noted.
    """
    wish = StopWish(words)
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {each: signal.signal(each, wish.note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
