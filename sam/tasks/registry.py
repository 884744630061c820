"""The tasks by name."""

from __future__ import annotations

import inspect

from sam import checks
from sam.tasks.associative_recall import AssociativeRecall
from sam.tasks.babi import Babi
from sam.tasks.copy import Copy
from sam.tasks.omniglot import Omniglot
from sam.tasks.priority_sort import PrioritySort
from sam.tasks.repeat_copy import RepeatCopy
from sam.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "copy": Copy,
    "associative_recall": AssociativeRecall,
    "priority_sort": PrioritySort,
    "repeat_copy": RepeatCopy,
    "babi": Babi,
    "omniglot": Omniglot,
}


def build(name: str, /, **settings: object) -> Task:
    """The task of that name (`TASKS` lists them), with its class's keyword arguments.

    Raises ValueError for an unknown name, TypeError for a setting that the task does not have.
    """
    checks.one_of("name", name, TASKS)
    checks.settings_of(name, settings, inspect.signature(TASKS[name]).parameters)
    return TASKS[name](**settings)
