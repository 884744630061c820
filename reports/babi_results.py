"""bAbI: test errors by task, the best run by validation, means over seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from reports import answers, learning_lines, paper, paper_babi, runs
from reports.learning_lines import Curve
from reports.runs import Runs

RESULT_COLUMNS = (
    *("name", "model", "seed", "task", "task_name", "split", "reads"),
    *("error_percent", "questions", "best_run"),
)
SUMMARY_COLUMNS = (
    *("name", "model", "tasks", "seeds", "best_seed"),
    *("error_best", "error_mean", "error_sd", "failed_best", "failed_mean", "failed_sd"),
    *("without_task_3_best", "without_task_3_mean", "without_task_3_sd", "zeroed_mean"),
    *("paper_error_best", "paper_error_mean", "paper_error_sd"),
    *("paper_failed_best", "paper_failed_mean", "paper_failed_sd"),
)
TOTALS = ("error", "without_task_3", "failed")
SHORT_TASK = 3  # whose training file may be missing, see `babi_page`


def of_babi(found: Runs) -> Runs:
    return runs.of_tasks(found, lambda task: task == paper.BABI)


def results(found: Runs) -> pd.DataFrame:
    """A row per run, task, split and reads; `RESULT_COLUMNS` and `run`.

    error_percent: of the questions, those of which any word of the answer is wrong. best_run:
    whether it is a row of the run that is the best of its name by validation.
    """
    rows = answers.evaluated(of_babi(found))
    rows = rows[rows.level.isin(paper_babi.TASKS)]
    best = {
        answers.best_run(own, answers.kept(own, "validation")) for _, own in rows.groupby("name")
    }
    named = rows.assign(
        task=rows.level,
        task_name=rows.level.map(paper_babi.TASKS),
        error_percent=(100 * rows.error).round(9),  # so that 50 of 1,000 questions are 5 %
        questions=(rows.scored * rows.sequences).round().astype("Int64"),
        best_run=rows.run.isin(best),
    )
    return named[["run", *RESULT_COLUMNS]].sort_values(
        ["name", "seed", "split", "reads", "task"], kind="stable"
    )


def summary(found: Runs) -> pd.DataFrame:
    """A row per name, columns `SUMMARY_COLUMNS`, test errors in %, means over tasks.

    tasks: how many were evaluated. seeds: runs with all twenty tasks, over which mean and sd go;
    without one of them there is no error. failed: tasks with an error above `paper_babi.FAILED`.
    zeroed: with reads zeroed.
    """
    rows = results(found)
    own = of_babi(found).runs
    found_rows = [_summary(curve, rows[rows.name == curve.name]) for curve in curves(own)]
    return pd.DataFrame(found_rows, columns=list(SUMMARY_COLUMNS))


def _summary(curve: Curve, rows: pd.DataFrame) -> dict[str, Any]:
    test = answers.kept(rows, "test")
    best = test[test.best_run]
    per_run = _over_tasks(test)
    of_best = per_run[per_run.index.isin(best.run)]
    zeroed = _over_tasks(rows[(rows.split == "test") & (rows.reads == "zeroed")])
    return {
        "name": curve.name,
        "model": curve.model,
        "tasks": test.task.nunique(),
        "seeds": len(per_run),
        "best_seed": best.seed.iloc[0] if len(of_best) else pd.NA,
        **{f"{key}_best": of_best[key].mean() for key in of_best},
        **{f"{key}_mean": per_run[key].mean() for key in per_run},
        **{f"{key}_sd": per_run[key].std() for key in per_run},
        "zeroed_mean": zeroed.error.mean(),
        **_of_paper(family(curve.model)),
    }


def _over_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """By run with all tasks: error, error without `SHORT_TASK`, number of failed tasks."""
    wide = rows.pivot(index="run", columns="task", values="error_percent")
    wide = wide.reindex(columns=list(paper_babi.TASKS)).dropna()
    return pd.DataFrame(
        {
            "error": wide.mean(axis=1),
            "failed": (wide > paper_babi.FAILED).sum(axis=1),
            "without_task_3": wide.drop(columns=SHORT_TASK).mean(axis=1),
        }
    ).astype(float)


def _of_paper(model: str) -> dict[str, float]:
    if model not in paper_babi.models():
        return {}
    printed = paper_babi.by_model(model)
    return {
        f"paper_{total}_{kind}": printed.loc[total, kind]
        for total in ("error", "failed")
        for kind in ("best", "mean", "sd")
    }


class Column(NamedTuple):
    """Test errors of one kind of run, or of the paper's runs of one model.

    errors: best, mean and sd, in %, NaN where there is none, by "1" to "20" and `TOTALS`, of which
    "failed" is a number of tasks.
    """

    label: str
    ours: bool
    errors: pd.DataFrame


def columns(found: Runs) -> list[Column]:
    """Of each model of the paper every kind of run here, then the paper's; then other models."""
    rows, totals = results(found), summary(found).set_index("name")
    ours = curves(of_babi(found).runs)
    made = []
    for model in dict.fromkeys([*paper_babi.models(), *(family(each.model) for each in ours)]):
        own = [curve for curve in ours if family(curve.model) == model]
        for curve in own:
            errors = _by_task(rows[rows.name == curve.name])
            made.append(Column(curve.label, True, _with_totals(errors, totals.loc[curve.name])))
        if model in paper_babi.models():
            label = own[-1].label if own else model.upper()
            made.append(Column(label, False, _printed(model)))
    return made


def _by_task(rows: pd.DataFrame) -> pd.DataFrame:
    test = answers.kept(rows, "test")
    test = test[test.run.isin(answers.complete(test))]  # as for the means over tasks
    grouped = test.groupby("task").error_percent
    best = test[test.best_run].groupby("task").error_percent.first()
    found = pd.DataFrame({"best": best, "mean": grouped.mean(), "sd": grouped.std()})
    found = found.reindex(list(paper_babi.TASKS))
    return found.set_axis(found.index.map(str))


def _with_totals(errors: pd.DataFrame, totals: pd.Series) -> pd.DataFrame:
    """`totals`: of `summary`."""
    kinds = ("best", "mean", "sd")
    rows = {total: [totals[f"{total}_{kind}"] for kind in kinds] for total in TOTALS}
    added = pd.DataFrame.from_dict(rows, orient="index", columns=list(kinds))
    return pd.concat([errors, added]).astype(float)


def _printed(model: str) -> pd.DataFrame:
    """The paper's numbers; the mean without task 3 is taken over the printed ones."""
    errors = paper_babi.by_model(model)
    tasks = errors.loc[[str(task) for task in paper_babi.TASKS if task != SHORT_TASK]]
    rest = tasks.mean().where(tasks.columns != "sd")
    return pd.concat([errors, rest.to_frame("without_task_3").T]).loc[
        [*map(str, paper_babi.TASKS), *TOTALS]
    ]


def family(model: str) -> str:
    """The paper's name of a model, which does not say which index it has."""
    return model.partition("-")[0]


def curves(rows: pd.DataFrame) -> list[Curve]:
    """A curve per kind of run, in the order of the paper's tables."""
    order = paper_babi.models()

    def place(curve: Curve) -> int:
        known = family(curve.model)
        return order.index(known) if known in order else len(order)

    return sorted(learning_lines.curves(rows), key=place)
