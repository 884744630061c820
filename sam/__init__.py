"""Memory networks that scale: SAM, SDNC, DAM, NTM, DNC and LSTM behind one call.

>>> model = sam.SAM(input_size=9, output_size=8, memory_size=65_536, ann="exact")
>>> outputs, state = model(inputs)  # [T, B, 9] -> [T, B, 8]
"""

from sam import tasks
from sam.dam import DAM
from sam.dnc import DNC
from sam.lstm import LSTM
from sam.models import MODELS, build
from sam.ntm import NTM
from sam.record import record_trace
from sam.sam import SAM
from sam.sdnc import SDNC
from sam.state import State
from sam.warm_up import warm_up

__all__ = [
    "DAM",
    "DNC",
    "LSTM",
    "MODELS",
    "NTM",
    "SAM",
    "SDNC",
    "State",
    "build",
    "record_trace",
    "tasks",
    "warm_up",
]
__version__ = "0.1.0"
