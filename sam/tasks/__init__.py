"""The tasks that memory networks are trained on."""

from sam.tasks.copy import Copy
from sam.tasks.episode import Episode, loss, wrong_bits

__all__ = ["Copy", "Episode", "loss", "wrong_bits"]
