"""The tasks by name."""

from __future__ import annotations

import difflib
import inspect

from sam.tasks.associative_recall import AssociativeRecall
from sam.tasks.copy import Copy
from sam.tasks.priority_sort import PrioritySort
from sam.tasks.repeat_copy import RepeatCopy
from sam.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "copy": Copy,
    "associative_recall": AssociativeRecall,
    "priority_sort": PrioritySort,
    "repeat_copy": RepeatCopy,
}


def build(name: str, **settings: object) -> Task:
    """The task of that name (`TASKS` lists them), with its class's keyword arguments.

    Raises ValueError for an unknown name, TypeError for a setting that the task does not have.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(str(name), TASKS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(TASKS)}{hint}")
    known = inspect.signature(TASKS[name]).parameters
    for setting in settings:
        if setting not in known:
            raise TypeError(f"{setting}: not a setting of {name!r}, expected of {', '.join(known)}")
    return TASKS[name](**settings)
