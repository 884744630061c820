"""The models by name."""

from __future__ import annotations

import difflib
import inspect

from sam.dam import DAM
from sam.dnc import DNC
from sam.lstm import LSTM
from sam.model import RecurrentModel
from sam.ntm import NTM
from sam.sam import SAM
from sam.sdnc import SDNC

MODELS: dict[str, type[RecurrentModel]] = {
    "lstm": LSTM,
    "ntm": NTM,
    "dam": DAM,
    "dnc": DNC,
    "sam": SAM,
    "sdnc": SDNC,
}


def build(name: str, **config: object) -> RecurrentModel:
    """The model of that name (`MODELS` lists them), with its class's keyword arguments.

    Raises ValueError for an unknown name, TypeError for a setting that the model does not have.
    """
    if name not in MODELS:
        nearest = difflib.get_close_matches(str(name), MODELS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(MODELS)}{hint}")
    known = settings_of(MODELS[name])
    for setting in config:
        if setting not in known:
            raise TypeError(f"{setting}: not a setting of {name!r}, expected of {', '.join(known)}")
    return MODELS[name](**config)  # type: ignore[arg-type]


def settings_of(model: type[RecurrentModel]) -> list[str]:
    """The arguments that a model takes, with those that it hands on to the model it extends."""
    names: list[str] = []
    for owner in model.__mro__:
        parameters = inspect.signature(owner).parameters.values()
        names += [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            break
    return names
