"""How each model is named, ordered and drawn, those not known here included."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

# Okabe and Ito's colours, which stay apart for colour-blind readers, without their yellow
# (too faint on white). INK and PAPER stand for the page's text and background colours.
INK = "#1a1a1b"
PAPER = "#fefefd"
PALETTE = {
    "blue": "#0072b2",
    "green": "#009e73",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "vermillion": "#d55e00",
    "orange": "#e69f00",
    "brown": "#8c5a2b",
    "grey": "#7a7a7a",
}


@dataclass(frozen=True)
class Look:
    """One model's label, colour, marker and line style."""

    label: str
    colour: str
    marker: str
    line: str = "-"


LOOKS: dict[str, Look] = {
    "ntm": Look("NTM", PALETTE["vermillion"], "s"),
    "ntm-dp": Look("NTM, steps made again", PALETTE["vermillion"], "P", ":"),
    "dnc": Look("DNC", PALETTE["brown"], "X"),
    "dam": Look("DAM", PALETTE["orange"], "^"),
    "sam-exact": Look("SAM linear", PALETTE["blue"], "o"),
    "sam-kd_forest": Look("SAM k-d", PALETTE["green"], "D"),
    "sam-lsh": Look("SAM LSH", PALETTE["purple"], "v"),
    "sam-nn_descent": Look("SAM NN-descent", PALETTE["sky"], "P"),
    "sam-hnsw": Look("SAM HNSW", PALETTE["grey"], "p"),
    "sam-ivf": Look("SAM IVF", PALETTE["brown"], "*"),
    "sdnc-exact": Look("SDNC linear", PALETTE["purple"], "h", "--"),
    "sdnc-kd_forest": Look("SDNC k-d", PALETTE["sky"], "d", "--"),
    "lstm": Look("LSTM", INK, "", "--"),
}

_BACKEND_LABELS = {"exact": "exact", "kd_forest": "k-d forest"}
_SPARE_MARKERS = "<>H8dpX"
_FAMILIES = {"sam": "SAM", "sdnc": "SDNC"}


def look(model: str) -> Look:
    """The look of `model`; a name not known here always gets the same spare one."""
    if model in LOOKS:
        return LOOKS[model]
    # crc32, not hash(): the same name must look the same in every report.
    number = zlib.crc32(model.encode())
    colours = list(PALETTE.values())
    family, _, index = model.partition("-")
    label = f"{_FAMILIES[family]} {index}".strip() if family in _FAMILIES else model
    return Look(
        label,
        colours[number % len(colours)],
        _SPARE_MARKERS[number // 7 % len(_SPARE_MARKERS)],
        "-.",
    )


def look_of_backend(backend: str) -> Look:
    """The look of an index by itself: that of SAM with it, under the index's own name."""
    found = look(f"sam-{backend}")
    return replace(found, label=_BACKEND_LABELS.get(backend, found.label.removeprefix("SAM ")))


def backends_in_order(backends: Iterable[str]) -> list[str]:
    """As `in_order`, for indexes by themselves."""
    return [name.removeprefix("sam-") for name in in_order(f"sam-{name}" for name in backends)]


def in_order(models: Iterable[str]) -> list[str]:
    """Known models in the order of `LOOKS` (heavy to light), then the others by name."""
    known = list(LOOKS)
    return sorted(
        set(models), key=lambda name: (known.index(name) if name in LOOKS else len(known), name)
    )


def is_sam(model: str) -> bool:
    """Whether `model` is SAM with any index."""
    return model == "sam" or model.startswith("sam-")


def backend_of(model: str) -> str:
    """The index of a SAM or SDNC, by the name of its backend; "" of a model without."""
    family, _, index = model.partition("-")
    return index if family in _FAMILIES else ""


def is_approximate(model: str) -> bool:
    """Whether `model` has an index that may miss some of the nearest words."""
    return backend_of(model) not in ("", "exact")
