"""The tasks that memory networks are trained on, the curriculum, and minibatches of both."""

from sam.tasks.associative_recall import AssociativeRecall
from sam.tasks.copy import Copy
from sam.tasks.curriculum import Curriculum, Progress
from sam.tasks.episode import Episode
from sam.tasks.minibatches import Minibatches
from sam.tasks.priority_sort import PrioritySort
from sam.tasks.registry import TASKS, build
from sam.tasks.repeat_copy import RepeatCopy
from sam.tasks.task import BitTask, Task

__all__ = [
    "TASKS",
    "AssociativeRecall",
    "BitTask",
    "Copy",
    "Curriculum",
    "Episode",
    "Minibatches",
    "PrioritySort",
    "Progress",
    "RepeatCopy",
    "Task",
    "build",
]
