"""The tasks that memory networks are trained on."""

from sam.tasks.associative_recall import AssociativeRecall
from sam.tasks.copy import Copy
from sam.tasks.episode import Episode, loss, wrong_bits
from sam.tasks.repeat_copy import RepeatCopy

__all__ = ["AssociativeRecall", "Copy", "Episode", "RepeatCopy", "loss", "wrong_bits"]
