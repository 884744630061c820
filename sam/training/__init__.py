"""Training: runs with checkpoints that go on as if never stopped, and their evaluation."""

from sam.training.evaluation import evaluate, without_reads
from sam.training.loop import Result, train
from sam.training.settings import OptimizerSettings, RunSettings
from sam.training.sweeps import Place, Sweep, sweep

__all__ = [
    "OptimizerSettings",
    "Place",
    "Result",
    "RunSettings",
    "Sweep",
    "evaluate",
    "sweep",
    "train",
    "without_reads",
]
