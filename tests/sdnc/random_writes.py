"""Random writes of two memories at once, made to our links and to slow ones alike."""

import numpy as np

from sam.sparse.links import Links
from tests.sdnc import slow_links

BATCH_SIZE, MEMORY_SIZE, NUM_HEADS, K = 2, 12, 2, 3


def some_slots(rng, count, size=MEMORY_SIZE):
    """Distinct slots, the lower the likelier."""
    return np.argsort(rng.random(size) * np.arange(1, size + 1))[:count]


def soft_write(rng):
    """popped [H], popped_weights [H], read_slots [H, K], write_weights [H, K] of one memory."""
    popped = some_slots(rng, NUM_HEADS)
    read_slots = np.array([some_slots(rng, K) for _ in popped])
    alpha, gamma = rng.random((2, NUM_HEADS, 1))
    reads = rng.dirichlet(np.ones(K), NUM_HEADS)
    return popped, (alpha * (1 - gamma))[:, 0], read_slots, alpha * gamma * reads


def one_hot_write(rng):
    """As `soft_write`: one slot written with weight 1, popped or read before; often ties."""
    popped, weights, read_slots, added = soft_write(rng)
    weights[:], added[:] = 0, 0
    if rng.random() < 0.5:
        weights[0] = 1
    else:
        added[0, 0] = 1
    return popped, weights, read_slots, added


def equal_write(rng):
    """As `soft_write`: one power of 2 everywhere, 1 in all at most: cuts among equals."""
    popped, weights, read_slots, added = soft_write(rng)
    weights[:] = added[:] = 0.5 ** rng.integers(3, 7)
    return popped, weights, read_slots, added


KINDS = {"soft": soft_write, "one-hot": one_hot_write, "equal": equal_write}


def record(links, writes, journal=None):
    """Make one write a memory."""
    parts = [np.stack(part) for part in zip(*writes, strict=True)]
    dtype = links.weights.dtype
    popped, weights, read_slots, added = parts
    links.record_write(
        popped, weights.astype(dtype), read_slots, added.astype(dtype), journal or links.journal()
    )


def heads(write):
    """w^W of each head of a write, {slot: weight}."""
    result = []
    for slot, weight, slots, weights in zip(*write, strict=True):
        head = {int(slot): float(weight)}
        for other, added in zip(slots, weights, strict=True):
            if other >= 0:
                head[int(other)] = head.get(int(other), 0.0) + float(added)
        result.append(head)
    return result


def record_slowly(slow, write):
    slow.write(heads(write), [int(slot) for slot in write[0]])


def make(link_size, strict=False, dtype=np.float64, memory_size=MEMORY_SIZE):
    """Our links of both memories, and a slow model of each."""
    ours = Links((BATCH_SIZE, memory_size), link_size, np.dtype(dtype), strict=strict)
    return ours, [slow_links.Links(link_size, strict) for _ in range(BATCH_SIZE)]


def dense(links):
    """L [B, N, N] of our links."""
    batch_size, memory_size, _ = links.sources.shape
    matrix = np.zeros((batch_size, memory_size, memory_size))
    b, i, place = np.nonzero(links.sources)
    matrix[b, i, links.sources[b, i, place] - 1] = links.weights[b, i, place]
    return matrix


def dense_precedence(links):
    """p [B, N] of our links."""
    weights = np.zeros(links.sources.shape[:2])
    b, place = np.nonzero(links.precedence_slots)
    weights[b, links.precedence_slots[b, place] - 1] = links.precedence_weights[b, place]
    return weights


def from_dict(weights, *shape):
    """{index: weight} as an array."""
    array = np.zeros(shape)
    for index, weight in weights.items():
        array[index] = weight
    return array


def assert_equal(ours, slow):
    """Our links and precedence are those of the slow models."""
    size = ours.sources.shape[1]
    links = [from_dict(model.links, size, size) for model in slow]
    precedence = [from_dict(model.precedence, size) for model in slow]
    np.testing.assert_allclose(dense(ours), links, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dense_precedence(ours), precedence, rtol=0, atol=1e-12)


def assert_sound(ours, tolerance=1e-12):
    """What holds of all links; both directions of storage are of one matrix."""
    links, link_size = dense(ours), ours.sources.shape[2]
    counts = links > 0
    assert links.min() >= 0
    assert links.max() <= 1 + tolerance
    assert links.sum(2).max() <= 1 + tolerance
    assert max(counts.sum(1).max(), counts.sum(2).max()) <= link_size
    assert ours.strict or not counts[:, range(len(counts[0])), range(len(counts[0]))].any()
    b, j, place = np.nonzero(ours.followers)
    reverse = np.zeros_like(counts)
    reverse[b, ours.followers[b, j, place] - 1, j] = True
    np.testing.assert_array_equal(counts, reverse)
    precedence = dense_precedence(ours)
    assert precedence.min() >= 0
    assert precedence.sum(1).max() <= 1 + tolerance
