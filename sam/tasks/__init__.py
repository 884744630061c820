"""The tasks that memory networks are trained on, the curriculum, and minibatches of both."""

from sam.tasks.associative_recall import AssociativeRecall
from sam.tasks.babi import Babi
from sam.tasks.class_task import ClassTask
from sam.tasks.copy import Copy
from sam.tasks.curriculum import Curriculum, Progress
from sam.tasks.episode import Episode
from sam.tasks.minibatches import Minibatches
from sam.tasks.omniglot import Omniglot
from sam.tasks.priority_sort import PrioritySort
from sam.tasks.registry import TASKS, build
from sam.tasks.repeat_copy import RepeatCopy
from sam.tasks.task import BitTask, Task

__all__ = [
    "TASKS",
    "AssociativeRecall",
    "Babi",
    "BitTask",
    "ClassTask",
    "Copy",
    "Curriculum",
    "Episode",
    "Minibatches",
    "Omniglot",
    "PrioritySort",
    "Progress",
    "RepeatCopy",
    "Task",
    "build",
]
