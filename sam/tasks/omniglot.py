"""Omniglot: name characters after one showing of each (Rae et al. 2016, section 4.5)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sam import checks
from sam.data import omniglot, source
from sam.tasks import bounds
from sam.tasks.class_task import ClassTask
from sam.tasks.episode import Episode

PIXELS = omniglot.SIZE**2
INPUT_BYTES = 100_000_000  # of a held-out minibatch: one sequence of 500 characters has 18 million


@dataclasses.dataclass(frozen=True)
class Omniglot(ClassTask):
    """Characters never seen before, each shown `presentations` times: which label has it here?

    An episode draws distinct characters and gives each a label of its own, one of `labels`, both
    anew for every sequence. Each character is shown `presentations` times, all in random order,
    every time in any one of its 20 drawings. The inputs have 400 pixels, 0 for paper to 1 for
    ink, then the one-hot label of the character of the step before (zeros at first); the target
    is the label of the character that is shown, so the first showing can only be guessed and
    the later ones need memory. Every step is scored.

    Of each character the four rotations by 90 degrees are characters of their own (Santoro et al.
    2016). In each episode a character is furthermore stretched along both axes, by independent
    factors between 1 / max_stretch and max_stretch, log-uniform, then rotated by an angle uniform
    within max_rotation degrees of 0, the same for all its showings. Rae et al. 2016 say "rotated
    and stretched" and Santoro et al. "translating and rotating", neither how far: the ranges are
    this project's. 0 and 1 switch them off.

    Characters of three sets: training ones in `sample`, others in `held_out`
    (`sam.data.omniglot.split`). data_dir: where the two zips are; see `sam.data.source.find`. They
    are read when first needed, which may raise DataError, and kept for the whole process.

    An episode's level is its number of characters; T = presentations x level. Rae et al. 2016
    train on 130 steps at most, and test up to 500 characters, 5,000 steps.
    """

    labels: int = 512
    presentations: int = 10
    min_characters: int = 1
    max_characters: int = 12
    max_rotation: float = 10.0
    max_stretch: float = 1.2
    data_dir: str | None = None

    splits: ClassVar[tuple[str, ...]] = ("validation", "test")

    def __post_init__(self) -> None:
        checks.positive_sizes(
            labels=self.labels,
            presentations=self.presentations,
            min_characters=self.min_characters,
            max_characters=self.max_characters,
        )
        bounds.check("characters", self.min_characters, self.max_characters)
        if self.max_characters > self.labels:
            raise ValueError(
                f"max_characters: got {self.max_characters}, expected at most "
                f"labels={self.labels}, as an episode's labels are distinct"
            )
        checks.number("max_rotation", self.max_rotation, "[0, 45]")
        checks.number("max_stretch", self.max_stretch, "[1, 2]")
        if not isinstance(self.data_dir, str | None):
            raise TypeError(f"data_dir: got {self.data_dir!r}, expected a string or None")

    @property
    def input_size(self) -> int:
        return PIXELS + self.labels

    @property
    def output_size(self) -> int:
        return self.labels

    @property
    def min_level(self) -> int:
        return self.min_characters

    @property
    def max_level(self) -> int:
        return self.max_characters

    @property
    def level_limit(self) -> int:
        """As many characters as there are labels, and as the smallest set has. Reads the data."""
        return min(self.labels, *map(len, self._drawings().values()))

    def chance(self, level: int) -> float:
        """As for every task: at each step any of the episode's labels, all equally likely.

        Which labels are the episode's must be remembered for that; of errors, such guessing makes
        1 - 1 / level.
        """
        return self.presentations * level * math.log2(level)

    def prepare(self) -> None:
        """Reads the drawings. Raises as `sam.data.omniglot.load`, and as `sample`."""
        if self.max_characters > self.level_limit:
            raise ValueError(
                f"max_characters: got {self.max_characters}, expected at most {self.level_limit}, "
                "the characters of the smallest set"
            )

    def sample(
        self, batch_size: int, generator: torch.Generator, level: int | None = None
    ) -> Episode:
        """As for every task; of training characters."""
        checks.positive_sizes(batch_size=batch_size)
        self.prepare()
        return self._episode("training", batch_size, generator, self._level(level, generator))

    def held_out(
        self, split: str, level: int, sequences: int, batch_size: int, generator: torch.Generator
    ) -> Iterator[Episode]:
        """As for every task: fresh episodes, of that split's characters.

        The minibatches are smaller than batch_size where their inputs would exceed 100 MB.
        """
        checks.one_of("split", split, self.splits)
        checks.positive_sizes(sequences=sequences, batch_size=batch_size)
        level = self._level(level, generator)
        fitting = INPUT_BYTES // (4 * self.presentations * level * self.input_size)
        batch_size = min(batch_size, max(1, fitting))
        for start in range(0, sequences, batch_size):
            yield self._episode(split, min(batch_size, sequences - start), generator, level)

    def breakdown(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """errors_by_presentation: float64 [B, presentations].

        The share of a sequence's characters that were named wrongly when they were shown for the
        first time, the second time, and so on.
        """
        wrong = (outputs.argmax(-1) != episode.targets).double()
        # Sorted stably by character, each has its showings in a row, first to last.
        by_character = wrong.gather(0, episode.targets.argsort(dim=0, stable=True))
        shares = by_character.unflatten(0, (-1, self.presentations)).mean(0)
        return {"errors_by_presentation": shares.T}

    def _drawings(self) -> dict[str, Tensor]:
        folder = source.given_folder(self.data_dir)
        return _drawings(folder and folder.resolve())

    def _episode(
        self, split: str, batch_size: int, generator: torch.Generator, level: int
    ) -> Episode:
        drawings = self._drawings()[split]
        characters = _distinct(batch_size, level, len(drawings), generator)
        labels = _distinct(batch_size, level, self.labels, generator)
        shape = (batch_size, level, self.presentations)
        drawn = torch.randint(0, omniglot.DRAWINGS, shape, generator=generator)
        images = self._transformed(drawings[characters.unsqueeze(-1), drawn] / 255, generator)
        # Which character [T, B] is shown at each step, and in which of its showings.
        steps = self.presentations * level
        order = torch.rand(batch_size, steps, generator=generator).argsort(1).T
        every = torch.arange(batch_size)
        targets = labels[every, order // self.presentations]
        inputs = torch.zeros(steps, batch_size, self.input_size)
        inputs[:, :, :PIXELS] = images.view(batch_size, steps, PIXELS)[every, order]
        inputs[1:, :, PIXELS:].scatter_(2, targets[:-1].unsqueeze(-1), 1)
        mask = torch.ones(steps, batch_size, dtype=torch.bool)
        return Episode(inputs, targets, mask, level)

    def _transformed(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, characters, presentations, 20, 20], each character's changed alike."""
        if self.max_rotation == 0 and self.max_stretch == 1:
            return images
        count = images.shape[:2].numel()
        angles, *stretches = (2 * torch.rand(3, count, generator=generator) - 1).unbind()
        return _warped(
            images.flatten(0, 1),
            angles * math.radians(self.max_rotation),
            torch.stack(stretches, -1).mul(math.log(self.max_stretch)).exp(),
        ).view_as(images)


@functools.cache
def _drawings(folder: Path | None) -> dict[str, Tensor]:
    """Of each set, with the rotations: uint8 [4 x characters, 20 drawings, 20, 20]."""
    characters = omniglot.load(folder)
    images = torch.from_numpy(characters.images)
    # Split before they are rotated, so that no character is in two sets.
    return {
        split: torch.cat([images[members].rot90(turns, (-2, -1)) for turns in range(4)])
        for split, members in omniglot.split(characters.names).items()
    }


def _distinct(rows: int, count: int, bound: int, generator: torch.Generator) -> Tensor:
    """Integers below `bound`, distinct within each row, in random order: int64 [rows, count]."""
    return torch.rand(rows, bound, generator=generator).topk(count).indices


def _warped(images: Tensor, angles: Tensor, stretches: Tensor) -> Tensor:
    """Stretched, then rotated about their centre, bilinear, with paper around them.

    images: [N, channels, height, width], the channels alike. angles: [N], radians,
    counterclockwise. stretches: [N, 2], along the width and along the height.
    """
    cos, sin = angles.cos(), angles.sin()
    # Where the colour of each place comes from: turned back, then shrunk. y points down.
    back = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    theta = functional.pad(back / stretches.unsqueeze(-1), (0, 1))
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
