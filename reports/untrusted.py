"""The one place where what a foreign file holds becomes typed values within bounds.

A file is read up to a number of bytes, values and levels, so that no file takes more time or memory
than its length allows. Then a table of kinds says of each field what it has to be.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from reports.text import LONGEST_NAME, got, shortened, visible

Row = dict[str, Any]

# Of a file with one JSON value, of a file of lines, and of one line.
MOST_BYTES, MOST_BYTES_OF_LINES, MOST_BYTES_OF_LINE = 2**25, 2**27, 2**23
MOST_LINES = 300_000
MOST_VALUES = 2_000_000
DEEPEST = 32
NAMED = 5  # of a file's lines that cannot be read; the others are counted

# Beyond these nothing was measured; within them squares and ratios are finite too.
LARGEST, SMALLEST = 1e30, 1e-30
MOST_COUNT = 10**15
_DIGITS = 19  # of the longest whole number that is kept as one


@dataclass(frozen=True)
class Problem:
    """Something that could not be read, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def problem(path: Path, reason: str) -> Problem:
    return Problem(visible(str(path)), reason)


class Unreadable(ValueError):
    """Raised with the reason why a file, a line or a field cannot be used."""


class Missing(Unreadable):
    """Raised where there is no such file."""


@dataclass(frozen=True)
class Kind:
    """What a field has to be: in words, and how it is read (ValueError if it is something else)."""

    words: str
    read: Callable[[Any], Any]


def typed(
    record: Mapping[str, Any], needed: Mapping[str, Kind], optional: Mapping[str, Kind]
) -> Row:
    """The named fields of `record`, each of its kind; optional ones may be missing or null.

    Raises `Unreadable` with the first field's name, what came and what was expected.
    """
    row: Row = {}
    for name, kind in (*needed.items(), *optional.items()):
        value = record.get(name)
        if value is not None or name in needed:
            row[name] = field(name, value, kind)
    return row


def field(name: str, value: Any, kind: Kind) -> Any:
    """One field's value. Raises `Unreadable` if it is not of its kind."""
    try:
        return kind.read(value)
    except ValueError as error:
        raise Unreadable(f"{name}: got {got(value)}, expected {kind.words}") from error


def number(value: Any) -> float:
    """A finite number of ordinary size, else ValueError; what is nearer to 0 than 1e-30 is 0."""
    return within(value, -LARGEST, LARGEST)


def within(value: Any, least: float, most: float) -> float:
    """As `number`, between bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not least <= value <= most:  # false of NaN as well
        raise ValueError(value)
    return float(value) if abs(value) >= SMALLEST else 0.0


def whole(value: Any, least: int = 0, most: int = MOST_COUNT) -> int:
    """A whole number, `20.0` included, else ValueError."""
    if number(value) != float(value // 1) or not least <= value <= most:
        raise ValueError(value)
    return int(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise ValueError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _table(value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError(value)
    return value


def list_of(kind: Kind, most: int) -> Kind:
    """A list of so many values of a kind."""

    def read(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(value)
        return [kind.read(each) for each in value]

    return Kind(f"a list of at most {most:,}, each {kind.words}", read)


def count(least: int = 0, most: int = MOST_COUNT) -> Kind:
    return Kind(f"a whole number from {least} to {most:,}", lambda value: whole(value, least, most))


NUMBER = Kind(f"a finite number of at most {LARGEST:g}", number)
AMOUNT = Kind(f"a finite number from 0 to {LARGEST:g}", lambda value: within(value, 0.0, LARGEST))
POSITIVE = Kind(
    f"a finite number above 0, at most {LARGEST:g}", lambda value: within(value, SMALLEST, LARGEST)
)
SHARE = Kind("a number from 0 to 1", lambda value: within(value, 0.0, 1.0))
NAME = Kind(f"a text of at most {LONGEST_NAME} characters", _name)
TEXT = Kind("a text", shortened)
FLAG = Kind("true or false", _flag)
TABLE = Kind("a table of settings", _table)
COUNT, SIZE = count(), count(1)
SEED = Kind("a whole number of 64 bits", lambda value: whole(value, -(2**63), 2**63 - 1))


def parse(raw: bytes) -> Any:
    """The JSON value in `raw`, its text made visible. Raises `Unreadable` with the reason."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not a text file in UTF-8 (byte {error.start + 1:,})") from error
    if sum(map(raw.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise Unreadable(f"holds more than {MOST_VALUES:,} values")
    try:
        return _tame(json.loads(text, parse_int=_int), DEEPEST)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise Unreadable(f"not valid JSON, truncated or damaged ({place})") from error
    except RecursionError as error:
        raise Unreadable("not valid JSON: nested too deeply") from error


def _int(digits: str) -> int | float:
    """Numbers too long for a machine's integers become floating-point ones, infinite if need be."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _tame(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return visible(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise Unreadable(f"nested too deeply: more than {DEEPEST} levels")
    if isinstance(value, list):
        return [_tame(each, levels - 1) for each in value]
    return {visible(name): _tame(each, levels - 1) for name, each in value.items()}


def load(path: Path) -> Row:
    """The JSON object in `path`. Raises `Unreadable` with the reason, `Missing` without a file."""
    try:
        with _opened(path, MOST_BYTES) as file:
            raw = file.read(MOST_BYTES)
    except FileNotFoundError as error:
        raise Missing("no such file") from error
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})") from error
    if not raw.strip():
        raise Unreadable("the file is empty")
    data = parse(raw)
    if not isinstance(data, dict):
        raise Unreadable(f"valid JSON, but of type {type(data).__name__} and not an object")
    return data


def lines(
    path: Path, read: Callable[[Row], Row | None], *, cut_short: bool = False
) -> tuple[list[Row], list[Problem]]:
    """What `read` makes of each line's object (None: nothing), and the lines that make no sense.

    cut_short: the last line may be, as a process that was killed leaves it. There may be no file.
    """
    found: list[Row] = []
    wrong: list[str] = []
    try:
        with _opened(path, MOST_BYTES_OF_LINES) as file:
            for at, raw in enumerate(_pieces(file), start=1):
                if at > MOST_LINES:
                    wrong.append(f"longer than {MOST_LINES:,} lines: the others are left out")
                    break
                try:
                    row = read(_record(raw)) if raw.strip() else None
                except Unreadable as error:
                    if not (cut_short and _is_cut(raw)):
                        wrong.append(f"line {at}: {error}")
                    continue
                if row is not None:
                    found.append(row)
    except FileNotFoundError:
        return found, []
    except (Unreadable, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        wrong.append(f"cannot be read ({reason})")
    return found, named(path, wrong)


def named(path: Path, reasons: Sequence[str], most: int = NAMED) -> list[Problem]:
    """A file's first problems; one more says how many others there are."""
    more = len(reasons) - most
    said = [*reasons[:most], *([f"{more:,} more that make no sense"] if more > 0 else [])]
    return [problem(path, reason) for reason in said]


def _is_cut(raw: bytes) -> bool:
    """Whether a line looks as if whoever wrote it was stopped."""
    return raw.startswith(b"{") and not raw.endswith(b"\n") and len(raw) <= MOST_BYTES_OF_LINE


def _opened(path: Path, most: int) -> BinaryIO:
    """A regular file that is not too long: anything else might never end. May raise OSError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable("not a regular file")
    if found.st_size > most:
        raise Unreadable(f"{found.st_size:,} bytes long, at most {most:,} are read")
    return open(path, "rb")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long only so much that this can be seen."""
    while line := file.readline(MOST_BYTES_OF_LINE + 1):
        rest = line
        while len(rest) > MOST_BYTES_OF_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MOST_BYTES_OF_LINE + 1)
        yield line


def _record(raw: bytes) -> Row:
    if len(raw) > MOST_BYTES_OF_LINE:
        raise Unreadable(f"longer than {MOST_BYTES_OF_LINE:,} bytes")
    record = parse(raw)
    if not isinstance(record, dict):
        raise Unreadable(f"got {type(record).__name__}, expected a table")
    return record
