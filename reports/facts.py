"""What is known about a run: machine, threads, versions, commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports import units
from reports.files import Run
from reports.text import LONGEST_NAME, shortened

NOT_RECORDED = "not recorded"
_PACKAGES = ("torch", "numpy", "numba")
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")


def facts(run: Run) -> dict[str, str]:
    """Label -> value in the order of the page; what the files do not say is "not recorded"."""
    machine = {**run.machine_info, **run.data["params"]}
    environment = run.environment
    found = {
        "Machine": run.machine,
        "CPU": _first("cpu", machine, environment),
        "CPUs": _first("num_cpu", machine, environment),
        "RAM": _ram(_first("ram", machine, environment)),
        "OS": _first("os", machine, environment),
        "Threads": _threads(run),
        "Python": _python(run),
        **{name: _version(run, name) for name in _PACKAGES},
        "Commit": _commit(run),
        "Commit date": run.date.date().isoformat() if run.date else NOT_RECORDED,
        "Measured": _minute(run),
    }
    for label, key in (("Profile", "profile"), ("Command", "command")):
        if environment.get(key):
            found[label] = shortened(environment[key])
    return found


def lead(known: Mapping[str, str]) -> str:
    """The title line: where, with what and of which commit."""
    threads = known["Threads"]
    if threads != NOT_RECORDED:
        threads += " thread" if threads == "1" else " threads"
    else:
        threads = f"threads {threads}"
    versions = ", ".join(f"{name} {known[name]}" for name in ("Python", *_PACKAGES))
    place = f"{known['Machine']}: {known['CPU']}, {known['RAM']} RAM, {known['OS']}"
    return (
        f"{place}; {threads}; {versions}; commit {known['Commit']} (dated {known['Commit date']})."
    )


def _first(key: str, *places: Mapping[str, Any]) -> str:
    return next((_short(place[key]) for place in places if place.get(key)), NOT_RECORDED)


def _short(value: object) -> str:
    return shortened(value, LONGEST_NAME)


def _ram(text: str) -> str:
    """asv writes bytes, older versions wrote KiB; words are left as they are."""
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        return text
    amount = int(text)
    return units.bytes_(amount if amount >= 2**30 else amount * 1024)


def _threads(run: Run) -> str:
    if run.environment.get("threads") is not None:
        return _short(run.environment["threads"])
    variables = run.data.get("env_vars") or {}
    return _first_of(_THREADS, variables)


def _first_of(keys: tuple[str, ...], place: object) -> str:
    if not isinstance(place, dict):
        return NOT_RECORDED
    return next((_short(place[key]) for key in keys if place.get(key)), NOT_RECORDED)


def _python(run: Run) -> str:
    if run.environment.get("python"):
        return _short(run.environment["python"])
    python = _short(run.data.get("python") or "")
    # For an existing environment asv stores the interpreter's path instead of a version.
    return python if python[:1].isdigit() else NOT_RECORDED


def _version(run: Run, name: str) -> str:
    if run.environment.get(name):
        return _short(run.environment[name])
    return _first_of((name, f"pip+{name}"), run.data.get("requirements"))


def _commit(run: Run) -> str:
    changed = " with uncommitted changes" if run.environment.get("uncommitted_changes") else ""
    return run.commit[:10] + changed


def _minute(run: Run) -> str:
    return run.measured_at.strftime("%Y-%m-%d %H:%M UTC") if run.measured_at else NOT_RECORDED
