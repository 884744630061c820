"""Where a training step on real data goes: into the model, not into data and bookkeeping."""

import os
from pathlib import Path

import pytest

from sam.training import RunSettings
from sam.training.trainer import Trainer

EXCERPT = Path(__file__).parent.parent / "data"
STEPS = 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings", "model", "most"),
    [
        # What reports/published/babi.toml trains.
        ("babi", {}, {"hidden_size": 128, "memory_size": 256, "num_heads": 4}, 0.10),
        (
            "omniglot",
            {"max_characters": 4},
            {"hidden_size": 200, "memory_size": 1024, "num_heads": 1, "word_size": 64},
            0.25,
        ),
    ],
)
def test_most_of_a_step_is_forward_and_backward(task, settings, model, most):
    if "SAM_DATA_DIR" not in os.environ:
        settings = settings | {"data_dir": str(EXCERPT)}
        if task == "babi":
            settings["tasks"] = [1, 4, 8, 19]
    trainer = Trainer(
        RunSettings(
            model="sam",
            task=task,
            task_settings=settings,
            model_settings=model,
            episodes=10**6,
        )
    )
    for _ in range(5):
        trainer.step()
    before = trainer.seconds, trainer.model_seconds, trainer.data_seconds
    for _ in range(STEPS):
        trainer.step()
    total, own, data = (
        now - then
        for now, then in zip(
            (trainer.seconds, trainer.model_seconds, trainer.data_seconds), before, strict=True
        )
    )
    print(f"{task}: {1 - own / total:.1%} outside the model, {data / total:.1%} for the data")
    assert 1 - own / total < most
