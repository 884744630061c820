"""How many different things one report has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reports.untrusted import Problem, Row, problem

# Lines and panels beyond these nobody could tell apart, and drawing them would take minutes.
MOST_VALUES = 32  # of one kind: models, indexes, memory sizes, tasks, ...
MOST_NAMES = 128  # of training runs
MOST_PANELS = 12  # of one figure on asv's results
MOST_POINTS = 200_000  # of all curves of one file
MOST_EVALUATIONS = 2_000  # of one training run
MOST_ROWS = 20_000  # of one result file's table


def keep_few(
    rows: Sequence[Row], names: Sequence[str], most: int, path: Path
) -> tuple[list[Row], list[Problem]]:
    """The rows with the first `most` different values of the fields `names` together; what is left.

    Rows that lack one of the fields are kept.
    """
    seen: set[str] = set()
    kept: list[Row] = []
    for row in rows:
        value = [row.get(name) for name in names]
        text = str(value)
        if None in value:
            kept.append(row)
        elif text in seen or len(seen) < most:
            seen.add(text)
            kept.append(row)
    if len(kept) == len(rows):
        return kept, []
    words = " and ".join(name.replace("_", " ") for name in names)
    more = f"{len(rows) - len(kept):,} of {len(rows):,} left out"
    return kept, [problem(path, f"{more}: more than {most} different values of {words}")]


def keep_first(
    rows: Sequence[Row], size: Callable[[Row], int], most: int, path: Path
) -> tuple[list[Row], list[Problem]]:
    """As many rows, from the first on, as have together at most the size `most`; what is left."""
    total = 0
    for number, row in enumerate(rows):
        total += size(row)
        if total > most:
            reason = f"{len(rows) - number:,} of {len(rows):,} left out: there is room for {most:,}"
            return list(rows[:number]), [problem(path, reason)]
    return list(rows), []
