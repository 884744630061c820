"""What SAM refuses besides what every model does."""

import pytest
import torch

from sam.sam import SAM


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"k": 9}, ValueError, r"k: got 9, expected at most memory_size=8"),
        ({"num_heads": 9}, ValueError, r"num_heads: got 9, expected at most memory_size=8"),
        ({"k": 0}, ValueError, r"k: got 0"),
        ({"k": 1.5}, TypeError, r"k: got 1\.5"),
        ({"similarity": "dot"}, ValueError, r"similarity: got 'dot', expected 'cosine' or 'l2'"),
        ({"ann": "exakt"}, ValueError, r"exact"),
        ({"ann": 3}, TypeError, r"got 3, expected a name"),
    ],
)
def test_settings(settings, error, message):
    with pytest.raises(error, match=message):
        SAM(3, 2, **{"memory_size": 8, "word_size": 4, "num_heads": 2, "k": 3} | settings)


@pytest.mark.parametrize("place", ["meta", torch.float16])
def test_places_where_a_sparse_memory_cannot_live(place):
    model = SAM(3, 2, memory_size=8).to(place)
    with pytest.raises(ValueError, match=r"model: got .*, expected SAM in float32 or float64"):
        model.initial_state(2)


def test_a_state_of_another_sam():
    inputs = torch.zeros(2, 1, 3)
    model = SAM(3, 2, memory_size=8, k=3)
    for other in (SAM(3, 2, memory_size=9, k=3), SAM(3, 2, memory_size=8, k=2)):
        with pytest.raises(ValueError, match=r"state: got one made for .*expected one for"):
            model(inputs, other.initial_state(1))
