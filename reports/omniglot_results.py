"""Omniglot: errors by the number of characters, and by presentation of a character."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reports import answers, learning_curves, paper, runs
from reports.runs import Runs

COLUMNS = (
    *("name", "model", "seed", "split", "reads", "characters", "sequences"),
    *("error", "error_without_first", "chance"),
)
DEFAULT_CHARACTERS = 12  # the task's own, where a run's settings do not say


def of_omniglot(found: Runs) -> Runs:
    return runs.of_tasks(found, lambda task: task == paper.OMNIGLOT)


def results(found: Runs) -> pd.DataFrame:
    """A row per run, split, number of characters and reads; `COLUMNS`, `run` and `presentations`.

    error: the share of wrong names over all presentations of all characters; error_without_first:
    over those but each character's first, which can only be guessed. presentations: the share of
    wrong names at the first one, the second and so on, a list, or None where it was not recorded.
    chance: of any name of the episode, 1 - 1 / characters.
    """
    rows = answers.evaluated(of_omniglot(found))
    shares = [each if isinstance(each, list) else None for each in rows.errors_by_presentation]
    later = [np.mean(each[1:]) if each and len(each) > 1 else np.nan for each in shares]
    named = rows.assign(
        characters=rows.level,
        error_without_first=np.array(later, dtype=float),
        chance=1 - 1 / rows.level.astype(float),
        presentations=pd.Series(shares, index=rows.index, dtype=object),
    )
    return named[["run", *COLUMNS, "presentations"]].sort_values(
        ["name", "seed", "split", "reads", "characters"], kind="stable"
    )


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """`results` as `COLUMNS`, and a column `presentation_1` and so on for each presentation."""
    longest = max((len(each) for each in rows.presentations if each), default=0)
    columns = [f"presentation_{number + 1}" for number in range(longest)]
    padded = [[*(each or []), *[None] * (longest - len(each or []))] for each in rows.presentations]
    shares = pd.DataFrame(padded, index=rows.index, columns=columns or None)
    return rows[list(COLUMNS)].join(shares)


def trained_to(found: Runs) -> pd.Series:
    """Run -> the most characters that it was trained on, NA if its curriculum has not begun."""
    own = of_omniglot(found)
    fixed = {
        run: (settings.get("task_settings") or {}).get("max_characters", DEFAULT_CHARACTERS)
        for run, settings in own.settings.items()
        if not settings.get("curriculum")
    }
    return own.runs.set_index("run").level.fillna(pd.Series(fixed, dtype="Int64"))


def common_level(found: Runs, rows: pd.DataFrame) -> int:
    """A level to compare all models at: the evaluated one nearest to what all were trained on.

    Of each kind of run the seed that came furthest counts, and an LSTM alone, which stays at the
    first levels, only where there is nothing else. rows: of `results`, not empty.
    """
    names = rows.groupby("characters")["name"].nunique()
    shared = list(names.index[names == names.max()])
    which = found.runs.set_index("run")[["name", "model"]]
    hardest = which.assign(level=trained_to(found)).dropna()
    hardest = hardest[hardest.index.isin(rows.run)]
    others = hardest[hardest.model != "lstm"]
    furthest = (hardest if others.empty else others).groupby("name")["level"].max()
    aim = float(furthest.min()) if len(furthest) else float(max(shared))
    return int(min(shared, key=lambda level: (abs(math.log(level / aim)), level)))


def best_run(rows: pd.DataFrame) -> str | None:
    """Of one name's runs the best on the validation split with the most characters."""
    validated = answers.kept(rows, "validation")
    return answers.best_run(rows, validated[validated.characters == validated.characters.max()])


def by_characters(rows: pd.DataFrame, value: str) -> pd.Series:
    """The mean of `value` over one name's runs, by number of characters that all have."""
    return learning_curves.over_seeds(rows, value, "characters").set_index("characters")["mean"]


def by_presentation(rows: pd.DataFrame) -> np.ndarray:
    """Means over runs of the shares of wrong names: [presentations], empty if not recorded."""
    known = [each for each in rows.presentations if each]
    return np.mean(known, axis=0) if known else np.empty(0)


def summary(found: Runs, level: int) -> pd.DataFrame:
    """A row per name on its test errors at one level: means over seeds, and the best run's."""
    rows = results(found)
    here = rows[(rows.split == "test") & (rows.characters == level)]
    made: list[dict[str, Any]] = []
    for name, own in here.groupby("name"):
        kept = own[own.reads == "kept"]
        shares = by_presentation(kept)
        best = kept[kept.run == best_run(rows[rows.name == name])]
        made.append(
            {
                "name": name,
                "error": kept.error.mean(),
                "sd": kept.error.std(),
                "best": best.error.mean(),
                "without_first": kept.error_without_first.mean(),
                **{f"presentation_{n}": shares[n - 1] for n in (1, 2) if n <= len(shares)},
                "last_presentation": shares[-1] if len(shares) else np.nan,
                "zeroed": own[own.reads == "zeroed"].error.mean(),
            }
        )
    return pd.DataFrame(made)
