"""`sam.warm_up`: afterwards there is nothing left to compile, and nothing else has changed."""

from __future__ import annotations

import json

import pytest
import torch

import sam
import sam.warm_up
from tests.ann_backends.kernel_package import run

# `signatures()` gives the kernels that were compiled, or read from disk, for arguments of a type.
START = """
import json, sys, torch, sam
from numba.extending import is_jitted
def signatures():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("sam", "ann_backends"):
            for each in vars(module).values():
                if is_jitted(each):
                    found[f"{each.__module__}.{each.__name__}"] = len(each.overloads)
    return {name: count for name, count in found.items() if count}
assert not signatures()
sizes = dict(input_size=5, output_size=4, memory_size=512, word_size=16, hidden_size=12)
"""
# What people do with a model.
USE = """
before = signatures()
dtype = next(model.parameters()).dtype
for steps, batch_size in ((5, 3), (1, 1), (1, 3), (5, 1)):
    x = torch.randn(steps, batch_size, 5, dtype=dtype)
    for words in (None, torch.randn(512, 16, dtype=dtype)):
        start = model.initial_state(batch_size, words)
        y, first = model(x, start)
        y.sum().backward()
        y, second = model(x.clone().requires_grad_(), first.detach())
        z, third = model(x, second)
        (y.sum() + z.sum() + third.memory.sum()).backward()
        with torch.no_grad():
            for state in (start, third, first, second):
                model(x, state)
with torch.no_grad():
    for _ in range(60):
        _, third = model(torch.randn(10, batch_size, 5, dtype=dtype), third)
print(json.dumps([before, signatures()]))
"""
CASES = {
    "by name": 'sam.warm_up("sam"); model = sam.SAM(**sizes)',
    "with settings": 'sam.warm_up("sdnc", ann="lsh"); model = sam.SDNC(**sizes, ann="lsh")',
    "a model": "model = sam.SAM(**sizes, num_heads=1, k=1).double(); sam.warm_up(model)",
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_to_compile(case):
    before, after = json.loads(run(START + CASES[case] + USE).stdout)
    assert before
    assert after == before
    if case != "with settings":  # no kernel of an index that is not used
        assert not [name for name in after if "lsh" in name or "kd_forest" in name]


def test_every_model_is_tried_without_a_name(monkeypatch):
    tried = []
    module = __import__("sys").modules["sam.warm_up"]
    monkeypatch.setattr(module, "_run", tried.append)
    sam.warm_up()
    assert [type(model) for model in tried] == list(sam.MODELS.values())


@pytest.mark.parametrize("name", ["sam", "sdnc", "dnc"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_nothing_else_changes(name, batch_first):
    model = sam.build(name, input_size=5, output_size=4, memory_size=16, batch_first=batch_first)
    inputs = torch.randn(4, 3, 5)
    outputs, _ = model(inputs)
    outputs.sum().backward()
    gradients = [each.grad.clone() for each in model.parameters()]
    random = torch.get_rng_state()
    with torch.no_grad():  # as around an evaluation
        sam.warm_up(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(map(torch.equal, gradients, (each.grad for each in model.parameters())))
    assert torch.equal(model(inputs)[0], outputs)
    assert model.training


def test_a_frozen_model_is_warmed_up_too():
    model = sam.SAM(5, 4, memory_size=16).requires_grad_(False)
    sam.warm_up(model)
    assert not any(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (["no_such"], {}, ValueError, "name: got 'no_such'"),
        ([7], {}, TypeError, "model: got int, expected a model, a name or None"),
        ([torch.nn.Linear(1, 1)], {}, TypeError, "model: got Linear, expected a model"),
        ([], {"ann": "lsh"}, TypeError, "settings: got ann without a model's name"),
        (["sam"], {"odd": 1}, TypeError, "odd"),
        (["sam"], {"ann": "no_such"}, ValueError, "no_such"),
    ],
)
def test_what_is_no_model_is_refused(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        sam.warm_up(*arguments, **settings)


def test_a_model_takes_no_settings():
    with pytest.raises(TypeError, match="settings: got ann beside a model, expected none"):
        sam.warm_up(sam.SAM(1, 1, memory_size=8), ann="lsh")
