"""Recorded traces, against what the index was told and against the states themselves."""

import copy
import gc
import io
import itertools
import weakref

import numpy as np
import pytest
import torch

import ann_backends
import sam

SIZES = {"memory_size": 40, "word_size": 4, "num_heads": 2, "k": 3, "hidden_size": 6}


def make(**settings):
    return sam.SAM(3, 2, **SIZES | settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.npz"


class Listener:
    """Notes what the indexes of a model are told in its steps from now on, at that moment."""

    def __init__(self, model, monkeypatch):
        self.steps, self.slots, self.written = [], None, None
        make_index = model._make_index

        def listened(memory, findable):
            index = make_index(memory, findable)
            update, search = index.update, index.search

            def note_update(slots):
                self.slots = slots.copy()
                self.rows = memory[np.arange(len(slots))[:, None], slots].copy()
                update(slots)

            def note_search(queries, k):
                found = search(queries, k)
                self.steps.append((self.slots, self.rows, queries.copy(), found[0].copy()))
                return found

            index.update, index.search = note_update, note_search
            return index

        monkeypatch.setattr(model, "_make_index", listened)


def memories(trace):
    """Per step, after its write: the memory [B, N, W] and bool [B, N], the findable rows."""
    shape = (trace.batch_size, trace.memory_size, trace.word_size)
    for episode in range(trace.num_episodes):
        memory, known = np.zeros(shape, trace.rows.dtype), np.zeros(shape[:2], bool)
        element, slot, rows = trace.start(episode)
        memory[element, slot], known[element, slot] = rows, True
        for t in trace.steps(episode):
            for b, i in itertools.product(range(trace.batch_size), range(trace.slots.shape[2])):
                if trace.slots[t, b, i] >= 0:
                    memory[b, trace.slots[t, b, i]] = trace.rows[t, b, i]
                    known[b, trace.slots[t, b, i]] = True
            yield memory.copy(), known.copy()


def last_of(trace, episode):
    """The memory [B, N, W] as an episode leaves it."""
    return list(memories(trace))[trace.steps(episode)[-1]][0]


@pytest.mark.parametrize("ann", ["exact", "kd_forest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [False, True])
def test_a_trace_of_training_is_what_the_index_was_told(path, monkeypatch, ann, dtype, given):
    model = make(ann=ann).to(dtype)
    words = torch.randn(40, 4, dtype=dtype) if given else None
    listener = Listener(model, monkeypatch)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    info = {"task": "noise", "seed": 0}
    with sam.record_trace(model, path, info=info):
        for length in (30, 1, 25):
            inputs = torch.randn(length, 2, 3, dtype=dtype)
            outputs, state = model(inputs, model.initial_state(2, words))
            optimizer.zero_grad()
            outputs.square().sum().backward()
            optimizer.step()
    model(torch.randn(4, 2, 3, dtype=dtype))
    trace = ann_backends.Trace.load(path)
    assert (trace.memory_size, trace.k, trace.metric, trace.info) == (40, 3, "cosine", info)
    assert trace.queries.dtype == trace.rows.dtype == trace.start_rows.dtype == words_dtype(dtype)
    assert trace.first_steps.tolist() == [0, 30, 31]
    told = listener.steps[: trace.num_steps]
    for t, (slots, rows, queries, _) in enumerate(told):
        assert np.array_equal(trace.slots[t], slots)
        assert np.array_equal(trace.queries[t], queries)
        assert np.array_equal(trace.rows[t], np.where(slots[..., None] >= 0, rows, 0))
    assert len(listener.steps) == trace.num_steps + 4 == 60
    assert np.array_equal(last_of(trace, 2), state.memory.detach().numpy())
    for episode in range(3):
        start_rows = trace.start(episode)[2]
        expected = words.expand(2, 40, 4).reshape(-1, 4).numpy() if given else np.zeros((0, 4))
        assert np.array_equal(start_rows, expected)


def words_dtype(dtype):
    return torch.zeros(0, dtype=dtype).numpy().dtype


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_exact_search_in_the_traced_memory_gives_the_slots_that_sam_read(path, similarity):
    model, states = make(similarity=similarity), []
    state = model.initial_state(2)
    with sam.record_trace(model, path):
        for _ in range(40):
            _, state = model(torch.randn(1, 2, 3), state)
            states.append((state, state.memory.detach().clone()))
    trace = ann_backends.Trace.load(path)
    assert trace.num_episodes == 1
    assert trace.metric == similarity
    for t, (memory, known) in enumerate(memories(trace)):
        state, its_memory = states[t]
        assert np.array_equal(memory, its_memory.detach().numpy())
        queries = model.interface(state.hidden).view(2, 2, -1)[..., :4].detach().numpy()
        np.testing.assert_allclose(trace.queries[t], queries, atol=1e-6)
        index = ann_backends.create("exact", memory, metric=similarity, findable="none")
        announced = [np.pad(np.flatnonzero(own), (0, 40 - own.sum())) for own in known]
        index.update(np.stack(announced))
        if known.sum(1).min() >= 3:
            slots, _ = index.search(trace.queries[t], 3)
            assert np.array_equal(slots, state.read_slots.numpy())
    assert known.sum(1).min() > 30


@pytest.mark.parametrize("given", [False, True])
def test_a_state_that_is_carried_on_continues_its_episode(path, given):
    model = make()
    state = model.initial_state(2, torch.randn(40, 4) if given else None)
    _, state = model(torch.randn(5, 2, 3), state)
    before, written = state.memory.detach().clone(), state.version.store.written.copy()
    with sam.record_trace(model, path):
        for _ in range(3):
            outputs, state = model(torch.randn(7, 2, 3), state.detach())
            outputs.sum().backward()
    trace = ann_backends.Trace.load(path)
    assert trace.first_steps.tolist() == [0]
    element, slot, rows = trace.start(0)
    assert list(zip(element, slot, strict=True)) == list(zip(*np.nonzero(written), strict=True))
    assert np.array_equal(rows, before.numpy()[element, slot])
    assert np.array_equal(last_of(trace, 0), state.memory.detach().numpy())


@pytest.mark.parametrize("given", [False, True])
def test_going_back_to_an_older_state_starts_an_episode_from_it(path, given):
    model = make(memory_size=16)
    state = model.initial_state(2, torch.randn(16, 4) if given else None)
    with sam.record_trace(model, path):
        _, middle = model(torch.randn(6, 2, 3), state)
        at_middle, written = middle.memory.clone(), middle.version.store.written.copy()
        _, later = model(torch.randn(20, 2, 3), middle)
        _, branch = model(torch.randn(6, 2, 3), middle)
        at_branch = branch.memory.clone()
        _, end = model(torch.randn(6, 2, 3), later)
    trace = ann_backends.Trace.load(path)
    assert trace.first_steps.tolist() == [0, 26, 32]
    for episode, memory, known in ((1, at_middle, written), (2, later.memory, np.ones((2, 16)))):
        element, slot, rows = trace.start(episode)
        assert np.array_equal(np.stack([element, slot]), np.nonzero(known))
        assert np.array_equal(rows, memory.detach().numpy()[element, slot])
    assert written.all() == given
    assert np.array_equal(last_of(trace, 0), later.memory.detach().numpy())
    assert np.array_equal(last_of(trace, 1), at_branch.detach().numpy())
    assert np.array_equal(last_of(trace, 2), end.memory.detach().numpy())


def test_a_long_pass_without_gradient_is_one_episode(path):
    model = make(batch_first=True)
    with torch.no_grad(), sam.record_trace(model, path) as recording:
        _, state = model(torch.randn(2, 600, 3))
        assert recording.num_steps == 600
        assert not recording.is_full
    trace = ann_backends.Trace.load(path)
    assert trace.first_steps.tolist() == [0]
    assert trace.queries.shape == (600, 2, 2, 4)
    assert np.array_equal(last_of(trace, 0), state.memory.detach().numpy())


@pytest.mark.parametrize("max_steps", [1, 10, 12, 30, 31])
def test_at_most_max_steps_are_recorded_and_the_model_goes_on(path, max_steps):
    model, inputs = make(), torch.randn(10, 2, 3)
    expected = [model(inputs)[0] for _ in range(3)]
    with sam.record_trace(model, path, max_steps=max_steps) as recording:
        outputs = [model(inputs)[0] for _ in range(3)]
        assert recording.num_steps == min(max_steps, 30)
        assert recording.is_full == (max_steps <= 30)
        if max_steps < 30:
            model(torch.randn(4, 5, 3))  # no longer looked at
    for came, want in zip(outputs, expected, strict=True):
        assert torch.equal(came, want)
    trace = ann_backends.Trace.load(path)
    assert trace.num_steps == min(max_steps, 30)
    assert trace.first_steps.tolist() == [t for t in (0, 10, 20) if t < max_steps]


def test_recording_changes_no_output_no_gradient_and_no_state(path):
    model, inputs = make(), torch.randn(30, 2, 3)

    def train():
        outputs, state = model(inputs)
        gradients = torch.autograd.grad(outputs.square().sum(), model.parameters())
        return [outputs, state.memory.detach().clone(), *gradients, model(inputs, state)[0]]

    expected = train()
    with sam.record_trace(model, path):
        recorded = train()
    assert all(map(torch.equal, recorded, expected))


def test_a_failed_step_is_not_recorded(path, monkeypatch):
    model, inputs = make(), torch.randn(8, 2, 3)
    with sam.record_trace(model, path):
        _, state = model(inputs)
        with monkeypatch.context() as patch:
            patch.setattr(state.version.store.index, "search", None)
            with pytest.raises(TypeError):
                model(inputs, state)
        _, state = model(inputs, state)
    trace = ann_backends.Trace.load(path)
    assert trace.num_steps == 16
    assert trace.num_episodes == 1
    assert np.array_equal(last_of(trace, 0), state.memory.detach().numpy())


def test_another_batch_size_or_dtype_is_refused_and_the_state_still_good(path):
    model, inputs = make(), torch.randn(8, 2, 3)
    with sam.record_trace(model, path):
        _, state = model(inputs)
        with pytest.raises(ValueError, match="inputs: got batch size 5, expected 2 as in the"):
            model(torch.randn(8, 5, 3))
        with pytest.raises(ValueError, match="inputs: got dtype float64, expected float32"):
            model.double()(inputs.double())
        _, state = model.float()(inputs, state)
    trace = ann_backends.Trace.load(path)
    assert (trace.num_steps, trace.num_episodes) == (16, 1)
    assert np.array_equal(last_of(trace, 0), state.memory.detach().numpy())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_writes_nothing_and_ends_the_recording(path, error):
    path.write_bytes(b"an older file")
    model = make()

    def interrupted():
        with sam.record_trace(model, path):
            model(torch.randn(8, 2, 3))
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"an older file"
    assert list(path.parent.iterdir()) == [path]
    with sam.record_trace(model, path):
        model(torch.randn(3, 2, 3))
    assert ann_backends.Trace.load(path).num_steps == 3


def test_a_block_without_a_step_says_so(path):
    model = make()
    with pytest.raises(ValueError, match="model: made no step"), sam.record_trace(model, path):
        pass
    assert not path.exists()
    assert model.recorder is None


def test_what_cannot_be_recorded_is_named(path):
    def refuses(error, message, *arguments, **settings):
        with pytest.raises(error, match=message), sam.record_trace(*arguments, **settings):
            pytest.fail("the block was entered")

    model = make()
    refuses(TypeError, "model: got LSTM, expected a SAM", sam.LSTM(3, 2), path)
    refuses(TypeError, "model: got DAM, expected a SAM", sam.DAM(3, 2), path)
    refuses(ValueError, "max_steps: got 0", model, path, max_steps=0)
    refuses(TypeError, "info: got .*expected a dict of JSON", model, path, info={"a": {1}})
    refuses(TypeError, "info: got", model, path, info={"loss": float("nan")})
    refuses(TypeError, "info: got", model, path, info=["copy"])
    refuses(FileNotFoundError, "path: got .*none", model, path.parent / "none" / "a.npz")
    with sam.record_trace(model, path):
        refuses(ValueError, "model: got one that is being recorded", model, path)
        model(torch.randn(3, 2, 3))
    assert ann_backends.Trace.load(path).num_steps == 3


def test_a_copy_of_a_recorded_model_is_not_recorded(path):
    model = make()
    with sam.record_trace(model, path) as recording:
        model(torch.randn(3, 2, 3))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert other.recorder is None
            other(torch.randn(3, 2, 3))
        assert recording.num_steps == 3


def test_recording_keeps_no_memory_that_the_model_has_let_go(path):
    model = make()
    with sam.record_trace(model, path):
        state = model(torch.randn(3, 2, 3))[1]
        store = weakref.ref(state.version.store)
        del state
        gc.collect()
        assert store() is None
        model(torch.randn(3, 2, 3))
    assert ann_backends.Trace.load(path).num_episodes == 2


@pytest.mark.parametrize("ann", ["exact", "kd_forest", "lsh"])
def test_a_recorded_trace_replays(path, ann):
    model = make(ann=ann)
    with sam.record_trace(model, path):
        for _ in range(3):
            model(torch.randn(20, 2, 3))
    replayed = ann_backends.replay(ann_backends.Trace.load(path), model.ann)
    assert replayed.recall.shape == (60,)
    assert replayed.mean_recall == 1 if ann == "exact" else replayed.mean_recall > 0.5


def test_the_first_memories_of_a_batch_are_recorded_as_if_all_were(tmp_path):
    traces = []
    for memories_recorded in (None, 2):
        torch.manual_seed(0)
        model = make()
        state = model.initial_state(3, torch.randn(40, 4))
        with sam.record_trace(model, tmp_path / "trace.npz", memories=memories_recorded):
            for _ in range(3):
                outputs, state = model(torch.randn(5, 3, 3), state)
                outputs.sum().backward()
                state = state.detach()
        traces.append(ann_backends.Trace.load(tmp_path / "trace.npz"))
    whole, part = traces
    assert (whole.batch_size, part.batch_size) == (3, 2)
    for name in ("queries", "slots", "rows"):
        assert (getattr(part, name) == getattr(whole, name)[:, :2]).all()
    own = whole.start_element < 2
    for name in ("start_episode", "start_element", "start_slot", "start_rows"):
        assert (getattr(part, name) == getattr(whole, name)[own]).all()
    with (
        pytest.raises(ValueError, match="memories: got 0"),
        sam.record_trace(make(), tmp_path / "trace.npz", memories=0),
    ):
        pass
