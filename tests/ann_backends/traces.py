"""Small traces with every case in them, and a slow account of the memories they describe."""

import numpy as np

from ann_backends import Trace

N, W, H, B, K, WRITES = 24, 5, 3, 2, 4, 6
# Episodes: from empty memories, from some rows of each, from full ones, from empty ones again.
FIRST_STEPS = np.array([0, 7, 12, 20])
T = 26


def make(metric="cosine", dtype="float32", seed=0, **changes):
    rng = np.random.default_rng(seed)
    slots = np.stack([rng.permutation(N)[:WRITES] for _ in range(T * B)]).reshape(T, B, WRITES)
    slots[rng.random(slots.shape) < 0.3] = -1
    start = [(1, 0, s) for s in (2, 3, 11)] + [(1, 1, s) for s in (0, 5, 7, 9, 23)]
    start += [(2, b, s) for b in range(B) for s in range(N)]
    episode, element, slot = np.array(start).T.copy()
    fields = {
        "memory_size": N,
        "k": K,
        "metric": metric,
        "queries": rng.standard_normal((T, B, H, W)).astype(dtype),
        "slots": slots,
        "rows": rng.standard_normal((T, B, WRITES, W)).astype(dtype),
        "first_steps": FIRST_STEPS,
        "start_episode": episode,
        "start_element": element,
        "start_slot": slot,
        "start_rows": rng.standard_normal((len(start), W)).astype(dtype),
        "info": {"task": "none", "seed": seed, "sizes": [N, W]},
    }
    return Trace(**fields | changes)


def memories(trace):
    """Per step, after its write: a list of B dicts from findable slot to its row."""
    for t in range(len(trace.queries)):
        if t in trace.first_steps:
            episode = trace.first_steps.tolist().index(t)
            content = [{} for _ in range(trace.queries.shape[1])]
            for i, own in enumerate(trace.start_episode):
                if own == episode:
                    content[trace.start_element[i]][trace.start_slot[i]] = trace.start_rows[i]
        for b, own in enumerate(content):
            for slot, row in zip(trace.slots[t, b], trace.rows[t, b], strict=True):
                if slot >= 0:
                    own[slot] = row
        yield [dict(own) for own in content]
