"""Train some minibatches of each of several runs, and save what this process saw of them.

By itself or as one of torchrun's processes. Arguments: the runs' settings as JSON, how many
minibatches of each, and the folder for <rank>.pt.
"""

import json
import sys
from pathlib import Path

import torch

from sam.training import RunSettings, parallel
from sam.training.trainer import Trainer


def seen(run, minibatches):
    trainer = Trainer(RunSettings.of(run))
    steps = [[*trainer.step(), trainer.level or 0] for _ in range(minibatches)]
    return {"steps": torch.tensor(steps, dtype=torch.float64), "model": trainer.model.state_dict()}


def refused(run):
    try:
        Trainer(RunSettings.of(run))
    except ValueError as error:
        return str(error)


def main(runs, minibatches, folder):
    runs = json.loads(runs)
    torch.set_num_threads(1)
    with parallel.processes():
        results = [seen(run, int(minibatches)) for run in runs]
        odd = refused(runs[0] | {"batch_size": 9})
        path = Path(folder) / f"{parallel.rank()}.pt"
    torch.save({"runs": results, "odd": odd}, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
