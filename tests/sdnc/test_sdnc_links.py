"""The kernels of the links against slow models, with writes chosen or drawn for them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sam.sparse import ring
from sam.sparse.links import Links
from tests.sdnc import random_writes, slow_links
from tests.sdnc.oracle_sdnc import link
from tests.sdnc.random_writes import KINDS, assert_equal, assert_sound, dense, record

N = random_writes.MEMORY_SIZE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("link_size", [1, 3, 8])
def test_the_dense_and_the_slow_model_agree(link_size, strict, kind):
    """The two truths that the model and its kernels are held to are one."""
    rng, slow = np.random.default_rng(link_size), slow_links.Links(link_size, strict)
    links, precedence = torch.zeros(N, N).double(), torch.zeros(N).double()
    for _ in range(200):
        write = KINDS[kind](rng)
        random_writes.record_slowly(slow, write)
        heads = [random_writes.from_dict(head, N) for head in random_writes.heads(write)]
        links, precedence = link(
            links, precedence, torch.tensor(np.array(heads)), write[0], link_size, strict
        )
    expected = random_writes.from_dict(slow.links, N, N)
    np.testing.assert_allclose(links, expected, rtol=0, atol=1e-12)
    expected = random_writes.from_dict(slow.precedence, N)
    np.testing.assert_allclose(precedence, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("link_size", [1, 3, 8, N])
def test_random_writes_equal_a_slow_model(link_size, strict, kind):
    rng = np.random.default_rng(link_size)
    ours, slow = random_writes.make(link_size, strict)
    for _ in range(300):
        writes = [KINDS[kind](rng) for _ in slow]
        record(ours, writes)
        for model, write in zip(slow, writes, strict=True):
            random_writes.record_slowly(model, write)
        assert_equal(ours, slow)
        assert_sound(ours)


def test_slots_that_were_never_read_count_for_nothing():
    rng = np.random.default_rng(0)
    ours, slow = random_writes.make(3)
    for _ in range(50):
        writes = [random_writes.soft_write(rng) for _ in slow]
        for write in writes:
            write[2][rng.random(write[2].shape) < 0.3] = -1
        record(ours, writes)
        for model, write in zip(slow, writes, strict=True):
            random_writes.record_slowly(model, write)
    assert_equal(ours, slow)


@pytest.mark.parametrize("strict", [False, True])
def test_in_single_precision_the_links_stay_sound(strict):
    rng = np.random.default_rng(0)
    ours, slow = random_writes.make(3, strict, np.float32)
    for step in range(500):
        kind = list(KINDS.values())[step % 3]
        record(ours, [kind(rng) for _ in slow])
        assert_sound(ours, tolerance=1e-6)


@pytest.mark.parametrize("link_size", [1, 3])
def test_where_the_links_lead(link_size):
    """f = N w^R and b = P w^R of several slots read at once, each slot reached named once."""
    rng = np.random.default_rng(1)
    ours, _ = random_writes.make(link_size)
    for _ in range(40):
        record(ours, [random_writes.soft_write(rng) for _ in range(2)])
        read_slots = np.array([[random_writes.some_slots(rng, 3) for _ in range(2)] for _ in "ab"])
        read_slots[0, 0, 1] = -1
        read_weights = rng.random(read_slots.shape)
        backward, forward = follow(ours, read_slots, read_weights)
        reads = np.zeros((2, 2, N + 1))  # the last for what was read at slot -1, which is nothing
        np.put_along_axis(reads, read_slots, read_weights, -1)
        reads = reads[..., :N]
        np.testing.assert_allclose(forward, reads @ dense(ours).swapaxes(1, 2), atol=1e-12)
        np.testing.assert_allclose(backward, reads @ dense(ours), atol=1e-12)
    assert forward.any()
    assert backward.any()


def test_where_the_links_of_many_slots_lead():
    """So many that some share an entry of the hash table of those reached."""
    rng, memory_size = np.random.default_rng(0), 1000
    ours, _ = random_writes.make(8, memory_size=memory_size)
    for _ in range(200):
        writes = []
        for _ in range(2):
            slots = rng.permutation(memory_size)[:22].reshape(2, 11)
            weights = rng.random(slots.shape) / 11
            writes.append((slots[:, 0], weights[:, 0], slots[:, 1:], weights[:, 1:]))
        record(ours, writes)
    read_slots = np.stack([rng.permutation(memory_size)[:40].reshape(2, 20) for _ in range(2)])
    read_weights = rng.random(read_slots.shape)
    reads = np.zeros((2, 2, memory_size))
    np.put_along_axis(reads, read_slots, read_weights, -1)
    backward, forward = follow(ours, read_slots, read_weights)
    np.testing.assert_allclose(forward, reads @ dense(ours).swapaxes(1, 2), atol=1e-12)
    np.testing.assert_allclose(backward, reads @ dense(ours), atol=1e-12)
    assert min((forward > 0).sum(), (backward > 0).sum()) > 100


def follow(links, read_slots, read_weights):
    """b and f [B, H, N] of the reads [B, H, K]; the kernel names each slot reached once."""
    slots, weights = links.follow(read_slots, read_weights.astype(links.weights.dtype))
    result = np.zeros((2, *slots.shape[:2], links.sources.shape[1]))
    for b, h in np.ndindex(slots.shape[:2]):
        reached = np.cumprod(slots[b, h] >= 0, dtype=bool)  # beyond the first -1, anything
        assert len({*slots[b, h, reached]}) == reached.sum()
        result[:, b, h, slots[b, h, reached]] = weights[b, h, reached].T
    return result


def from_slot(links, slot):
    """b and f of a read of one slot of the first memory, {slot: weight} each."""
    reads = np.full((len(links.sources), 1, 1), slot)
    both = follow(links, reads, np.ones(reads.shape))[:, 0, 0]
    return [{int(s): float(w[s]) for s in np.nonzero(w)[0]} for w in both]


def written_in_turn(slots, *, strict, weight=1.0, erased=True, memory_size=N):
    """Links, up to 8 a slot, of one memory after a write to each of these slots in turn.

    The slots are popped and so erased before, or else only added to, as slots read before are.
    """
    links = Links((1, memory_size), 8, np.dtype(float), strict=strict)
    for slot in slots:
        here, elsewhere = np.array([slot]), np.array([memory_size - 1])
        if erased:
            record(links, [(here, np.array([weight]), -np.ones((1, 1), int), np.zeros((1, 1)))])
        else:
            record(links, [(elsewhere, np.zeros(1), here[None], np.array([[weight]]))])
    return links


def soft_links(link_size=3, strict=False):
    rng = np.random.default_rng(2)
    links, _ = random_writes.make(link_size, strict)
    for _ in range(100):
        record(links, [random_writes.soft_write(rng) for _ in range(2)])
    return links


@pytest.mark.parametrize("strict", [False, True])
def test_trap_1_both_directions_are_of_one_matrix(strict):
    links = soft_links(strict=strict)
    links_forward, links_backward = {}, {}
    for slot in range(N):
        backward, forward = from_slot(links, slot)
        links_forward |= {(i, slot): weight for i, weight in forward.items()}
        links_backward |= {(slot, j): weight for j, weight in backward.items()}
    assert links_forward == links_backward
    assert len(links_forward) > N


def test_trap_1_cut_each_by_itself_the_printed_matrices_drift_apart():
    rng, printed = np.random.default_rng(2), slow_links.PrintedLinks(3)
    for _ in range(100):
        printed.write(slow_links.total_write(random_writes.heads(random_writes.soft_write(rng))))
    following, preceding = (
        random_writes.from_dict(links, N, N) for links in (printed.following, printed.preceding)
    )
    assert np.abs(following - preceding).max() > 0.05


@pytest.mark.parametrize("num_writes", [10, 100, 400])
def test_trap_1_the_printed_columns_grow_with_the_steps(num_writes):
    """Writes to 0, 1, 0, 2, 0, 3, ...: all slots were written after slot 0."""
    printed, slots = slow_links.PrintedLinks(8), [s for n in range(num_writes) for s in (0, n + 1)]
    for slot in slots:
        printed.write({slot: 1.0})
    assert sum(slow_links.product(printed.following, {0: 1.0}, 1).values()) == num_writes
    ours = written_in_turn(slots, strict=True, memory_size=num_writes + 1)
    assert from_slot(ours, 0)[1] == dict.fromkeys(range(1, 9), 1)
    ours = written_in_turn(slots, strict=False, memory_size=num_writes + 1)
    assert from_slot(ours, 0)[1] == {num_writes: 1}


def test_trap_2_links_of_a_recycled_slot_are_cleared():
    assert from_slot(written_in_turn([0, 1, 0, 2], strict=False), 0) == [{1: 1}, {2: 1}]
    assert from_slot(written_in_turn([0, 1, 0, 2], strict=True), 0) == [{1: 1}, {1: 1, 2: 1}]


def test_trap_2_nothing_is_left_of_a_recycled_slot():
    links = soft_links()
    before = dense(links)[0]
    assert before[5].any()
    assert before[:, 5].any()
    nothing = (np.array([5, 6]), np.zeros(2), np.full((2, 3), -1), np.zeros((2, 3)))
    record(links, [nothing, nothing])
    before[[5, 6]] = before[:, [5, 6]] = 0
    np.testing.assert_array_equal(dense(links)[0], before)


def test_trap_3_no_slot_is_linked_to_itself():
    for weight in (1.0, 0.5):
        for erased in (True, False):
            twice = {"slots": [3, 3], "weight": weight, "erased": erased}
            assert from_slot(written_in_turn(**twice, strict=False), 3) == [{}, {}]
            linked = {3: weight * weight}
            assert from_slot(written_in_turn(**twice, strict=True), 3) == [linked, linked]


@pytest.mark.parametrize("strict", [False, True])
def test_trap_4_a_rewrite_decays_all_links_to_a_slot_in_both_directions(strict):
    links = soft_links(N, strict)
    newest = random_writes.dense_precedence(links)[0]
    slot = int((dense(links)[0] > 0).sum(1).argmax())
    before, popped = from_slot(links, slot)[0], np.array([N - 2, N - 1])
    sources = [j for j in before if newest[j] == 0 and j not in popped]
    assert len(sources) >= 2
    rewrite = (popped, np.zeros(2), np.full((2, 1), slot), np.array([[0.25], [0]]))
    record(links, [rewrite, rewrite])
    after = from_slot(links, slot)[0]
    for j in sources:
        assert after[j] == from_slot(links, j)[1][slot] == 0.75 * before[j]


@pytest.mark.parametrize("link_size", [1, 2, 8])
@pytest.mark.parametrize("strict", [False, True])
def test_one_hot_writes_to_fresh_slots_link_as_in_the_dnc(link_size, strict):
    slots = np.random.default_rng(0).permutation(N)
    links = Links((1, N), link_size, np.dtype(float), strict=strict)
    none = (-np.ones((1, 1), int), np.zeros((1, 1)))
    for t, slot in enumerate(slots, 1):
        record(links, [(np.array([slot]), np.ones(1), *none)])
        expected, precedence = slow_links.dnc_links(np.eye(N)[slots[:t]])
        np.testing.assert_array_equal(dense(links)[0], expected)
        np.testing.assert_array_equal(random_writes.dense_precedence(links)[0], precedence)
    assert dense(links).sum() == N - 1


def test_uncut_partial_writes_to_fresh_slots_link_as_in_the_dnc():
    rng = np.random.default_rng(0)
    links = Links((1, N), N, np.dtype(float))
    none = (-np.ones((1, 1), int), np.zeros((1, 1)))
    slots, alphas = rng.permutation(N), rng.random(N)
    for slot, alpha in zip(slots, alphas, strict=True):
        record(links, [(np.array([slot]), np.array([alpha]), *none)])
    expected, _ = slow_links.dnc_links(np.eye(N)[slots] * alphas[:, None])
    np.testing.assert_allclose(dense(links)[0], expected, rtol=0, atol=1e-15)


def arrays(links):
    """Everything that links stand for, bit for bit."""
    parts = (links.sources, links.weights, links.followers)
    precedence = (links.precedence_slots, links.precedence_weights)
    return tuple(part.tobytes() for part in (*parts, *precedence))


@pytest.mark.parametrize("kind", KINDS)
def test_a_journal_carries_the_links_back_and_forward_again(kind):
    rng = np.random.default_rng(3)
    links, _ = random_writes.make(3)
    kept, journals = [arrays(links)], []
    for _ in range(4):
        journals.append(links.journal())
        for _ in range(25):
            record(links, [KINDS[kind](rng) for _ in range(2)], journals[-1])
        kept.append(arrays(links))
    assert len({*kept}) == 5
    for _ in range(2):
        for t in reversed(range(4)):
            links.carry(journals[t], forward=False)
            assert arrays(links) == kept[t]
        for t in range(4):
            links.carry(journals[t], forward=True)
            assert arrays(links) == kept[t + 1]


@pytest.mark.parametrize(
    "num_steps", [2_000, pytest.param(100_000, marks=pytest.mark.slow)], ids=str
)
def test_links_and_ring_stay_those_of_a_slow_model(num_steps):
    """As SDNC uses them: slots are popped from the ring, what is read is written to next."""
    rng, threshold = np.random.default_rng(4), 0.005
    ours, slow = random_writes.make(8, memory_size=32)
    neighbours, heads = np.zeros((2, 32, 2), np.int32), np.zeros(2, np.int64)
    slow_rings = [slow_links.Ring(32) for _ in slow]
    popped = np.empty((2, 2), np.int64)
    reads = (np.full((2, 2, 3), -1), np.zeros((2, 2, 3)))
    for step in range(1, num_steps + 1):
        ring.least_recent(neighbours, heads, popped)
        assert popped.tolist() == [model.order[:2] for model in slow_rings]
        alpha, gamma = rng.random((2, 2, 2, 1)) ** 2
        added = alpha * gamma * reads[1]
        parts = (popped, (alpha * (1 - gamma))[..., 0], reads[0], added)
        writes = list(zip(*parts, strict=True))
        record(ours, writes)
        written = reads[0], added
        slots = [[random_writes.some_slots(rng, 3, 32) for _ in range(2)] for _ in slow]
        reads = np.array(slots), rng.dirichlet(np.full(3, 0.2), (2, 2))
        moves = np.full((2, 2, 14), -1, np.int32)
        ring.record_access(neighbours, heads, popped, written, reads, threshold, tuple(moves))
        for b, model in enumerate(slow):
            random_writes.record_slowly(model, writes[b])
            accessed = dict.fromkeys(popped[b], 1.0)
            for slot, weight in zip(
                np.stack([written[0][b], reads[0][b]]).flat,
                np.stack([written[1][b], reads[1][b]]).flat,
                strict=True,
            ):
                accessed[slot] = accessed.get(slot, 0.0) + weight
            slow_rings[b].access(slot for slot in accessed if accessed[slot] > threshold)
        if step % 100 == 0:
            assert_equal(ours, slow)
            assert_sound(ours)


WRITES_AND_READS = """
import numpy as np
from sam.sparse.links import Links

rng = np.random.default_rng(0)
for num_heads, k, link_size in ((1, 1, 8), (2, 3, 1), (2, 3, 8), (4, 4, 8)):
    links = Links((2, 30), link_size, np.dtype(np.float64))
    for _ in range(300):
        popped = rng.permuted(np.tile(np.arange(30), (2, 1)), axis=1)[:, :num_heads]
        read = rng.integers(30, size=(2, num_heads, k))
        weights = rng.random((2, num_heads, k)) / (2 * k)
        links.record_write(popped, rng.random((2, num_heads)) / 2, read, weights, links.journal())
        links.follow(read, weights)
"""


@pytest.mark.slow
def test_no_kernel_leaves_its_arrays(tmp_path):
    """Whatever the heads, K and K_L; numba checks it where it is asked to."""
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WRITES_AND_READS], check=True, env=os.environ | checked)
