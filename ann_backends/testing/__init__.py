"""The conformance suite: what every backend has to do, for anyone's backend.

    ann_backends.testing.check_backend("mine")

or, one test per check: parametrise over `trials(backend)` and `CHECKS`. It needs no test runner,
and trusts a backend's slots only: similarities are recomputed here, with code of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from ann_backends.index import Settings
from ann_backends.testing import answers, contract, copies, stream
from ann_backends.testing.trial import Trial, trials

__all__ = ["CHECKS", "Trial", "check_backend", "trials"]

# Each takes a Trial and raises AssertionError, saying what came and what was expected.
CHECKS: dict[str, Callable[[Trial], None]] = {
    check.__name__: check
    for check in (*answers.CHECKS, *contract.CHECKS, *copies.CHECKS, *stream.CHECKS)
}


def check_backend(
    backend: str | Settings, *, seed: int = 0, min_recall: float | None = None
) -> None:
    """Run every check on `backend`, in each of its metrics and both precisions.

    min_recall: recall@4 to reach on random rows, in [0, 1]; None takes the settings' own. Raises
    AssertionError at the first check that fails, naming it.
    """
    for trial in trials(backend, seed=seed, min_recall=min_recall):
        for name, check in CHECKS.items():
            try:
                check(trial)
            except Exception as error:
                raise AssertionError(f"{trial} fails {name}: {error!r}") from error
