"""The models by name."""

from __future__ import annotations

import inspect

from sam import checks
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
    checks.one_of("name", name, MODELS)
    checks.settings_of(name, config, settings_of(MODELS[name]))
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
