"""What SAM's index finds: a figure of speed alone would flatter an index that finds little."""

from __future__ import annotations

from . import grid

UPDATES, ROWS_PER_UPDATE, QUERIES = 64, 20, 256
# Of clustered rows: how many share a centre, their spread about it, and a query's about its row.
ROWS_PER_CENTRE, ROW_SPREAD, QUERY_SPREAD = 256, 0.3, 0.1


class Recall:
    """recall@4 of an index in its default settings, tie-tolerant, after a stream of updates.

    Rows have 32 numbers of unit variance. Random rows with random queries are the hardest case,
    as there is no structure to use; clustered rows have queries near stored rows.
    """

    version = "1"
    unit = "recall@4"
    timeout = 600
    params = ([model for model in grid.MODELS if grid.is_sparse(model)], [1024, 65536, 1048576])
    param_names = ("model", "memory_size")

    def setup(self, model: str, memory_size: int) -> None:
        profiles = {"quick", "figure"} if memory_size == max(self.params[1]) else ()
        reason = grid.reason_to_skip(model, memory_size, 0, 1, profiles)
        if reason:
            grid.skip(type(self).__name__, (model, memory_size), reason)

    def track_random_rows(self, model: str, memory_size: int) -> float:
        return _recall(model, memory_size, clustered=False)

    def track_clustered_rows(self, model: str, memory_size: int) -> float:
        return _recall(model, memory_size, clustered=True)


def _recall(model: str, memory_size: int, *, clustered: bool) -> float:
    import numpy as np

    import ann_backends

    generator = np.random.default_rng(0)
    centres = generator.standard_normal((memory_size // ROWS_PER_CENTRE, grid.WORD_SIZE))

    def rows(count: int) -> np.ndarray:
        noise = generator.standard_normal((count, grid.WORD_SIZE))
        if not clustered:
            return noise
        return centres[generator.integers(len(centres), size=count)] + ROW_SPREAD * noise

    memory = np.empty((1, memory_size, grid.WORD_SIZE), np.float32)
    memory[0] = rows(memory_size)
    backend = model.partition("-")[2]
    index, exact = (ann_backends.create(name, memory=memory) for name in (backend, "exact"))
    for _ in range(UPDATES):
        slots = generator.choice(memory_size, (1, ROWS_PER_UPDATE), replace=False)
        memory[0, slots[0]] = rows(ROWS_PER_UPDATE)
        index.update(slots)
        exact.update(slots)
    queries = rows(QUERIES)
    if clustered:
        near = generator.integers(memory_size, size=QUERIES)
        queries = memory[0, near] + QUERY_SPREAD * generator.standard_normal(queries.shape)
    queries = queries.astype(np.float32)
    slots, _ = index.search(queries[None], grid.K)
    _, best = exact.search(queries[None], grid.K)
    found = ann_backends.similarity(queries[:, None], memory[0][slots[0]])[:, 0]
    # A row as similar as the worst of the true ones is as good as that one.
    return float(np.mean((slots[0] >= 0) & (found >= best[0, :, -1:] - 1e-6)))
