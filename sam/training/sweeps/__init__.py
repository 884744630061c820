"""Many runs: each in a process and a folder of its own, handed out by joblib, here or elsewhere."""

from sam.training.sweeps.engines import ENGINES, Place
from sam.training.sweeps.run import Sweep, sweep

__all__ = ["ENGINES", "Place", "Sweep", "sweep"]
