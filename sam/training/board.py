"""TensorBoard's files, where it is installed."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Protocol

INSTALL = "pip install 'sparse-access-memory[train]'"


class Board(Protocol):
    """Where scalars are drawn as they come."""

    def add_scalar(self, tag: str, value: float, minibatch: int) -> None: ...

    def close(self) -> None: ...


class NoBoard:
    """Draws nothing."""

    def add_scalar(self, tag: str, value: float, minibatch: int) -> None:
        pass

    def close(self) -> None:
        pass


class EventFile:
    """A file for TensorBoard to which each event is written as it comes, whole or not at all.

    What cannot be written is left out, with a warning: metrics.jsonl has it as well.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._event = Event
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        self._is_open = True
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        # What an earlier run drew from there on is no longer shown.
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first, session_log=start))

    def add_scalar(self, tag: str, value: float, minibatch: int) -> None:
        event = self._event(wall_time=time.time(), step=minibatch)
        event.summary.value.add(tag=tag, simple_value=value)
        self._write(event)

    def close(self) -> None:
        self._is_open = False

    def _write(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        if not self._is_open:
            return
        end = self._path.stat().st_size if self._path.exists() else 0
        try:
            with open(self._path, "ab") as file:
                RecordWriter(file).write(event.SerializeToString())
        except OSError as error:
            self._is_open = False
            if end:
                os.truncate(self._path, end)
            else:
                self._path.unlink(missing_ok=True)
            print(f"{self._path}: {error.strerror}: nothing more is drawn in it", file=sys.stderr)


def is_installed() -> bool:
    """Whether TensorBoard is, which takes a while to load; a hint where it is missing."""
    try:
        importlib.import_module("tensorboard.compat.proto.event_pb2")
        importlib.import_module("tensorboard.summary.writer.record_writer")
    except ImportError:
        print(f"TensorBoard is not installed, so metrics.jsonl is all there is ({INSTALL})")
        return False
    return True
