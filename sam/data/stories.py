"""Stories of bAbI: lines of words, some of them questions, as text and as symbols."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from sam.data.source import DataError

# The words of tasks 1 to 20, questions and answers, in English.
WORDS = tuple(importlib.resources.files(__package__).joinpath("babi_words.txt").read_text().split())
STOP, QUESTION, ANSWER = ".", "?", "-"
SYMBOLS = (*WORDS, STOP, QUESTION, ANSWER)
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
NO_ANSWER = -1


class Line(NamedTuple):
    """A sentence, or a question with its answer of one or more words; all in lower case."""

    words: tuple[str, ...]
    answer: tuple[str, ...] = ()


Story = tuple[Line, ...]


class Encoded(NamedTuple):
    """A story as symbols.

    symbols: uint8 [L], places in SYMBOLS: each sentence ends with a full stop, each question with
    its mark and one answer marker per word of the answer. answers: int16 [L], what is to be said at
    the answer markers, NO_ANSWER elsewhere.
    """

    symbols: np.ndarray
    answers: np.ndarray


def parse(text: str, where: str) -> list[Story]:
    """The stories of a file of bAbI: "ID text" or "ID question<TAB>answer<TAB>facts" in each line.

    A line of ID 1 begins a story; which facts support an answer is left out. where: the file, for
    errors. Raises DataError, naming file and line, for what is no such line or a story that asks
    nothing.
    """
    stories: list[Story] = []
    lines: list[Line] = []
    begun = 0
    for number, text_line in enumerate(text.splitlines(), start=1):
        identifier, _, rest = text_line.partition(" ")
        if identifier == "1":
            if lines:
                stories.append(_story(lines, f"{where}, line {begun}"))
            lines, begun = [], number
        if identifier != str(len(lines) + 1) or not rest.strip():
            raise DataError(
                f"{where}, line {number}: got {text_line[:60]!r}, expected the ID "
                f"{len(lines) + 1} or 1 and a sentence; get the file anew"
            )
        lines.append(_line(rest, f"{where}, line {number}"))
    if not lines:
        raise DataError(f"{where}: got no stories, expected at least one; get the file anew")
    return [*stories, _story(lines, f"{where}, line {begun}")]


def encode(story: Story, where: str = "story") -> Encoded:
    """Raises DataError for a word that is not of the twenty tasks."""
    try:
        parts = [_encode_line(line) for line in story]
    except KeyError as error:
        raise DataError(
            f"{where}: got the word {error.args[0]!r}, expected one of the {len(WORDS)} of the "
            "English tasks 1 to 20 (sam.data.stories.WORDS); take the folders en or en-10k"
        ) from error
    return Encoded(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def decode(encoded: Encoded) -> Story:
    """The story that `encode` was given."""
    lines, words, answer = [], list[str](), list[str]()
    asked = False
    for number, said in zip(encoded.symbols.tolist(), encoded.answers.tolist(), strict=True):
        symbol = SYMBOLS[number]
        if asked and symbol != ANSWER:
            lines.append(Line(tuple(words), tuple(answer)))
            words, answer, asked = [], [], False
        if symbol == STOP:
            lines.append(Line(tuple(words)))
            words = []
        elif symbol == QUESTION:
            asked = True
        elif symbol == ANSWER:
            answer.append(SYMBOLS[said])
        else:
            words.append(symbol)
    if asked:
        lines.append(Line(tuple(words), tuple(answer)))
    return tuple(lines)


def _story(lines: Iterable[Line], where: str) -> Story:
    story = tuple(lines)
    if not any(line.answer for line in story):
        raise DataError(
            f"{where}: got a story without a question, expected at least one, "
            "ID question<TAB>answer<TAB>facts; get the file anew"
        )
    return story


@functools.lru_cache(maxsize=1 << 16)  # the same sentences come again and again
def _line_of(rest: str) -> Line | None:
    text, *asked = rest.split("\t")
    words = tuple(re.findall("[a-z]+", text.lower()))
    if not asked:
        return Line(words) if words and text.rstrip().endswith(STOP) else None
    answer = tuple(asked[0].strip().lower().split(","))
    complete = words and all(answer) and text.rstrip().endswith(QUESTION)
    return Line(words, answer) if complete else None


def _line(rest: str, where: str) -> Line:
    line = _line_of(rest)
    if line is None:
        raise DataError(
            f"{where}: got {rest[:60]!r}, expected a sentence with a full stop, or a question with "
            "its mark, a tab and an answer; get the file anew"
        )
    return line


@functools.lru_cache(maxsize=1 << 16)
def _encode_line(line: Line) -> tuple[np.ndarray, np.ndarray]:
    end = (QUESTION, *(ANSWER for _ in line.answer)) if line.answer else (STOP,)
    symbols = np.array([_NUMBERS[each] for each in (*line.words, *end)], np.uint8)
    answers = np.full(len(symbols), NO_ANSWER, np.int16)
    if line.answer:
        answers[-len(line.answer) :] = [_NUMBERS[each] for each in line.answer]
    return symbols, answers
