"""With K = N and an exact index SAM is DAM under one rule of usage (Rae et al. 2016, section 3)."""

import pytest
import torch

from sam.dam import DAM
from sam.sam import SAM

SIZES = {"memory_size": 7, "word_size": 5, "hidden_size": 6}


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@pytest.mark.parametrize("num_heads", [1, 3])
def test_sam_that_reads_every_word_is_dam(num_heads, similarity):
    sizes = {**SIZES, "num_heads": num_heads, "similarity": similarity}
    sparse = SAM(3, 2, k=7, ann="exact", **sizes).double()
    dense = DAM(3, 2, usage="least_recent", **sizes).double()
    with torch.no_grad():
        for parameter in sparse.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    dense.load_state_dict(sparse.state_dict())
    inputs = torch.randn(40, 2, 3, dtype=torch.double)
    results = []
    for model in (sparse, dense):
        memory = torch.randn(
            2, 7, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1)
        )
        memory.requires_grad_()
        outputs, state = model(inputs, model.initial_state(2, memory))
        gradients = torch.autograd.grad((outputs**2).sum(), [memory, *model.parameters()])
        results.append((outputs, state.memory, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
