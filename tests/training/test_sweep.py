"""Many runs: what is asked for, what comes of it, and what a failure or a kill does to the rest."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sam import training
from sam.commands import main
from sam.commands.study import grid, runs_of
from sam.training import Place
from sam.training.folder import RunFolder
from sam.training.locks import FileLock
from sam.training.sweeps import table
from sam.training.sweeps.outcome import UNFINISHED
from tests.training.small_runs import SIZES, assert_same_run, lines, mapping, settings

ROOT = Path(__file__).parent.parent.parent
# Far above what a loss of 100 nats is stopped for, at the second minibatch.
WILD = {"name": "sgd", "learning_rate": 1e9, "clip_norm": 1e9, "cooldown": 0.0}
FEW = 120  # minibatches


def study():
    """Two recipes, one that diverges and one whose model cannot be built."""
    below = mapping("ntm", FEW, model_settings={"memory_size": 16, "num_heads": 2})
    shared = {name: value for name, value in below.items() if name not in ("model", "seed")}
    shared["model_settings"] |= SIZES
    return {
        **shared,
        "seeds": [0],
        "runs": [
            {"model": "lstm", "seeds": [1]},
            {"model": "ntm", "seeds": [5], "optimizer": {"learning_rate": 0.01}},
            {"name": "wild", "model": "lstm", "optimizer": WILD},
            {"name": "narrow/sam", "model": "sam", "model_settings": {"k": 17}},
        ],
    }


def rows(out, name="table.csv"):
    with open(out / name, newline="") as file:
        return list(csv.DictReader(file))


class TestWhichRuns:
    def test_recipes_take_what_they_have_of_what_is_shared(self):
        lstm, ntm, wild, narrow = runs_of(study(), {})
        assert lstm.model_settings == SIZES
        assert ntm.model_settings == {**SIZES, "memory_size": 16, "num_heads": 2}
        assert narrow.model_settings == {**ntm.model_settings, "k": 17}
        assert (lstm.optimizer.learning_rate, ntm.optimizer.learning_rate) == (3e-3, 0.01)
        assert (lstm.optimizer.cooldown, wild.optimizer.cooldown) == (0.25, 0.0)
        names = [(run.name, run.seed) for run in runs_of(study(), {})]
        assert names == [("copy/lstm", 1), ("copy/ntm", 5), ("wild", 0), ("narrow/sam", 0)]

    def test_flags_count_more_than_recipes(self):
        above = {"seeds": [7], "episodes": 5, "optimizer": {"learning_rate": 0.5}}
        runs = runs_of(study(), above | {"model_settings": {"memory_size": 20}})
        assert {run.seed for run in runs} == {7}
        assert {run.episodes for run in runs} == {5}
        assert {run.optimizer.learning_rate for run in runs} == {0.5}
        assert [run.model_settings.get("memory_size") for run in runs] == [None, 20, None, 20]

    def test_a_grid_has_an_index_for_models_that_have_one(self):
        recipes = grid(["sam", "lstm"], ["copy", "priority_sort"], ["exact", "lsh"])
        runs = runs_of({"episodes": 1, "runs": recipes, "seeds": [1, 2]}, {})
        of_a_task = ["sam-exact", "sam-lsh", "lstm"]
        names = [f"{task}/{each}" for task in ("copy", "priority_sort") for each in of_a_task]
        assert [(run.name, run.seed) for run in runs] == [
            (name, seed) for name in names for seed in (1, 2)
        ]
        assert [run.model_settings.get("ann") for run in runs[::2]] == ["exact", "lsh", None] * 2

    def test_an_index_with_settings_is_called_by_its_name(self):
        recipe = {"model": "sam", "model_settings": {"ann": {"name": "lsh", "tables": 2}}}
        (run,) = runs_of({"task": "copy", "episodes": 1, "runs": [recipe]}, {})
        assert run.name == "copy/sam-lsh"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"runs": {}}, r"runs: got \{\}, expected tables \[\[runs\]\]"),
            ({"seed": 3}, "seed: got 3, expected seeds, a list"),
            ({"seeds": 3}, "seeds: got 3, expected a list of integers"),
            ({"runs": [{"model": "rnn"}]}, "model: got 'rnn', expected one of lstm, ntm"),
            ({"runs": [{"task": "copy"}]}, "model: got None, expected one of lstm, ntm"),
            ({"modle": 1}, "modle.* expected one of model.*; did you mean 'model'"),
            ({"model_settings": {"link_size": 8}}, "model_settings.link_size: got one, expected"),
            ({"task_settings": {"max_pairs": 8}}, "task_settings.max_pairs: got one, expected"),
        ],
    )
    def test_what_makes_no_study_is_refused(self, change, message):
        with pytest.raises((TypeError, ValueError), match=message):
            runs_of(study() | change, {})

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ([], "settings: got no run"),
            (["a", "a"], "name: got 2 runs of 'a' with seed 3, expected names that differ"),
            (["../a"], "name: got '../a', expected a path below the sweep's folder"),
            (["/a"], "name: got '/a'"),
            ([""], "name: got ''"),
        ],
    )
    def test_runs_need_folders_of_their_own(self, tmp_path, names, message):
        with pytest.raises(ValueError, match=message):
            training.sweep([settings(name=name) for name in names], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_only_names_that_there_are(self, tmp_path):
        with pytest.raises(ValueError, match=r"only: got 'c\*', expected of a, b"):
            training.sweep([settings(name=name) for name in "ab"], tmp_path / "out", only=["c*"])
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("place", "message"),
        [
            ({"engine": "slurm"}, "engine: got 'slurm', expected one of processes, ray, dask"),
            ({"jobs": 0}, "jobs: got 0, expected an integer of at least 1"),
            ({"address": "tcp://here"}, "address: got 'tcp://here', expected none for processes"),
        ],
    )
    def test_a_place_there_is(self, place, message):
        with pytest.raises(ValueError, match=message):
            Place(**place)

    def test_a_missing_engine_says_what_installs_it(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "ray", None)
        arguments = ["--model", "lstm", "--task", "copy", "--episodes", "4", "--engine", "ray"]
        assert main(["sweep", *arguments, "--out", str(tmp_path / "out")]) == 2
        assert "ray is not installed: pip install 'sparse-access-memory[ray]'" in (
            capsys.readouterr().err
        )
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep as it ended here, and what it said."""
    out, said = tmp_path_factory.mktemp("sweep"), []
    result = training.sweep(runs_of(study(), {}), out, say=said.append)
    return out, result, said


class TestHere:
    def test_every_run_is_as_trained_by_itself(self, swept, tmp_path):
        out, result, _ = swept
        for run in result.runs[:2]:
            alone = tmp_path / run.folder.relative_to(out)
            training.train(run.settings, alone)
            assert_same_run(run.folder, alone)

    def test_the_table_holds_what_the_runs_did(self, swept):
        out, result, _ = swept
        for run in result.runs[:2]:
            own = rows_of(out, run.settings)
            evaluations = sorted(
                lines(run.folder / "evaluation.jsonl"),
                key=lambda each: (each["level"], each["reads"]),
            )
            for row, each in zip(own, evaluations, strict=True):
                assert {name: row[name] for name in table.EVALUATION} == {
                    name: str(each[name]) for name in table.EVALUATION
                }
            last = lines(run.folder / "metrics.jsonl")[-1]
            for row in own:
                assert (row["status"], row["message"]) == ("trained", "")
                assert (row["minibatches"], row["episodes"]) == (str(FEW), str(4 * FEW))
                assert row["train_loss"] == str(last["loss"])
                assert row["train_errors"] == str(last["errors"])
        assert [each["reads"] for each in rows_of(out, result.runs[1].settings)] == [
            *("kept", "zeroed"),
            *("kept", "zeroed"),
        ]

    def test_the_table_has_the_settings_that_differ(self, swept):
        out, result, _ = swept
        (wild,) = rows_of(out, result.runs[2].settings)
        assert (wild["model"], wild["task"], wild["ann"]) == ("lstm", "copy", "")
        assert wild["optimizer.learning_rate"] == "1000000000.0"
        assert not {"batch_size", "model_settings.hidden_size", "evaluate"} & wild.keys()
        keys = [(row["name"], int(row["seed"])) for row in rows(out)]
        assert keys == sorted(keys)

    def test_a_failure_has_its_reason_and_leaves_the_others(self, swept):
        out, result, said = swept
        assert [run.outcome.status for run in result.runs] == [
            "trained",
            "trained",
            "diverged",
            "failed",
        ]
        (wild,), (narrow,) = (rows_of(out, run.settings) for run in result.runs[2:])
        assert wild["message"].startswith("training stopped at minibatch 2: ")
        assert narrow["message"] == ("ValueError: k: got 17, expected at most memory_size=16")
        assert wild["level"] == narrow["level"] == wild["loss"] == ""
        assert "Traceback" in (result.runs[3].folder / "output.txt").read_text()
        assert said[0] == f"4 runs in {out}, of which 4 are to be trained"
        assert len(said) == 5
        assert sum("narrow/sam seed 0: failed: ValueError" in line for line in said) == 1
        assert {
            row["status"]: float(row["seconds"] or -1) > 0 for row in rows(out, "times.csv")
        } == {
            "trained": True,
            "diverged": True,
            "failed": False,
        }

    def test_again_only_what_failed_is_tried(self, swept):
        out, result, _ = swept
        before = (out / "table.csv").read_bytes()
        stood = [written(run.folder) for run in result.runs[:3]]
        said = []
        again = training.sweep(runs_of(study(), {}), out, say=said.append)
        assert said[0] == f"4 runs in {out}, of which 1 are to be trained"
        assert again == result
        assert [written(run.folder) for run in result.runs[:3]] == stood
        assert (out / "table.csv").read_bytes() == before

    def test_other_settings_in_the_same_folder_are_refused(self, swept):
        out, _, _ = swept
        before = written(out)
        with pytest.raises(ValueError, match="seed-1: got batch_size=8, expected batch_size=4"):
            training.sweep(runs_of(study(), {"batch_size": 8}), out)
        assert written(out) == before


def test_an_index_with_settings_has_a_column_for_each(tmp_path):
    """Its name is in the column of those without; runs that have not begun have rows as well."""
    indexes = ["exact", {"name": "lsh", "tables": 2}]
    runs = [
        settings("sam", name=str(number), model_settings={"ann": ann})
        for number, ann in enumerate(indexes)
    ]
    table.write(tmp_path, [table.Run(run, tmp_path / run.name, UNFINISHED) for run in runs])
    exact, lsh = rows(tmp_path)
    assert (exact["ann"], exact["model_settings.ann.tables"]) == ("exact", "")
    assert (lsh["ann"], lsh["model_settings.ann.tables"]) == ("lsh", "2")
    assert exact["status"] == lsh["status"] == "unfinished"
    assert "model_settings.ann.name" not in exact


def written(folder):
    """When each file was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def rows_of(out, run):
    return [row for row in rows(out) if (row["name"], int(row["seed"])) == (run.name, run.seed)]


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    code = (
        "import sys, pathlib; from sam.training.locks import FileLock; "
        "print(FileLock(pathlib.Path(sys.argv[1])).take(), flush=True); sys.stdin.read()"
    )
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "True\n"
        own = FileLock(path)
        assert own.is_held_elsewhere()
        assert not own.take()
        other.kill()
        other.wait()
    assert not own.is_held_elsewhere()
    assert own.take()
    own.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_the_table_is_the_same_to_the_bit_through(engine, swept, tmp_path):
    """On an engine that is started for it, at two jobs, and ended."""
    out, result, said = swept[0], swept[1], []
    other = training.sweep(
        runs_of(study(), {}), tmp_path / engine, place=Place(engine, jobs=2), say=said.append
    )
    assert (tmp_path / engine / "table.csv").read_bytes() == (out / "table.csv").read_bytes()
    assert len(said) == 5
    for run, here in zip(other.runs[:2], result.runs, strict=False):
        assert_same_run(run.folder, here.folder)


LONG = 2500  # minibatches of a run that is to be interrupted
SEEDS = (0, 1, 2)


def command(out, *more):
    return [
        *(sys.executable, "-m", "sam", "sweep", "--model", "lstm", "--task", "copy"),
        *("--hidden-size", "12", "--task-set", "bits=3", "--batch-size", "4", "--sequences", "8"),
        *("--seed", *map(str, SEEDS), "--episodes", str(4 * LONG), "--checkpoint-seconds", "0.2"),
        *("--jobs", "2", "--out", str(out), *more),
    ]


def start(out, *more):
    """In a group of its own, so that a signal to it is a Ctrl-C in a terminal."""
    return subprocess.Popen(
        command(out, *more),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(out, *more):
    process = start(out, *more)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


def folders(out):
    return [out / "copy/lstm" / f"seed-{seed}" for seed in SEEDS]


def until_two_are_under_way(out, process):
    deadline = time.monotonic() + 600
    while sum((folder / "metrics.jsonl").exists() for folder in folders(out)) < 2 or not all(
        lines(folder / "metrics.jsonl") for folder in folders(out)[:2]
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    finished(out)
    return out


def assert_same_sweep(left, right):
    assert (left / "table.csv").read_bytes() == (right / "table.csv").read_bytes()
    for one, other in zip(folders(left), folders(right), strict=True):
        assert_same_run(one, other)


@pytest.mark.slow
def test_killed_as_a_whole_it_goes_on_to_the_same_bits(undisturbed, tmp_path):
    for _ in range(2):
        process = start(tmp_path)
        until_two_are_under_way(tmp_path, process)
        process.kill()  # its runs' processes are left to find out
        process.communicate()
    assert "3 runs in" in finished(tmp_path)
    assert_same_sweep(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray", "dask"])
def test_ctrl_c_saves_all_runs_and_the_same_command_goes_on(undisturbed, tmp_path, engine):
    process = start(tmp_path, "--engine", engine)
    until_two_are_under_way(tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 130, printed
    assert "Stopping, as soon as the runs under way are saved" in printed
    assert "Stopped by SIGINT; the same command goes on" in printed
    assert "3 unfinished" in printed
    assert [row["status"] for row in rows(tmp_path)] == ["unfinished"] * 3
    for folder in folders(tmp_path)[:2]:
        lock = FileLock(folder / "run.lock")
        assert lock.take()  # no process trains it any more
        lock.close()
        at = RunFolder(folder).read_checkpoint()["minibatch"]
        assert 100 <= at < LONG
    finished(tmp_path, "--engine", engine)
    assert_same_sweep(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_killed_run_leaves_the_others_and_goes_on_with_the_next_call(undisturbed, tmp_path):
    process = start(tmp_path)
    until_two_are_under_way(tmp_path, process)
    second = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2
    assert "another sweep is at work in it" in second.stderr
    psutil.Process(process.pid).children()[0].kill()
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 1, printed
    statuses = {row["status"]: row["message"] for row in rows(tmp_path)}
    assert statuses == {"trained": "", "failed": "its process was killed by SIGKILL"}
    assert "1 failed, 2 trained" in printed
    assert "of which 1 are to be trained" in finished(tmp_path)
    assert_same_sweep(tmp_path, undisturbed)


def training_processes(out):
    """Those that train below a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if "sam.training.sweeps.process" in (process.info["cmdline"] or []) and any(
                file.path.startswith(str(out)) for file in process.open_files()
            ):
                found.append(process)
    return found


@pytest.mark.slow
def test_a_lost_worker_of_ray_costs_no_run(undisturbed, tmp_path):
    process = start(tmp_path, "--engine", "ray")
    until_two_are_under_way(tmp_path, process)
    worker = training_processes(tmp_path)[0].parent()
    assert "ray" in worker.cmdline()[0]
    worker.kill()
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert "ActorDiedError: lost a worker; what is left is handed out again" in printed
    assert_same_sweep(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_cluster_at_an_address_may_lose_workers_and_goes_on_without_the_sweep(
    undisturbed, tmp_path
):
    code = (
        "import sys; from distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as c:\n"
        "        print(c.scheduler_address, flush=True)\n"
        "        sys.stdin.read()\n"
    )
    script = tmp_path / "cluster.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    ) as cluster:
        address = cluster.stdout.readline().strip()
        out = tmp_path / "out"
        process = start(out, "--engine", "dask", "--address", address)
        until_two_are_under_way(out, process)
        worker = training_processes(out)[0].parent()
        assert cluster.pid in [each.pid for each in worker.parents()]
        worker.kill()
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed
        assert_same_sweep(out, undisturbed)
        assert cluster.poll() is None
        assert "of which 0 are to be trained" in finished(out, "--engine", "dask")
        cluster.stdin.close()
