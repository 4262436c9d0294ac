"""Connected components on masks that can be counted by eye."""

import numpy as np

from medgan_jax.evaluation.components import count_components, objects

MASKS = np.array(
    [
        [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
)[..., None]


def test_components_touch_across_edges_only():
    assert count_components(MASKS).tolist() == [3, 0]
    assert count_components(np.ones((1, 2, 2, 2, 1))).tolist() == [1]


def test_objects_are_numbered_and_small_ones_left_out():
    labels = objects(MASKS)
    assert labels.shape == MASKS.shape
    assert sorted(np.unique(labels[0])) == [0, 1, 2, 3]
    assert not labels[1].any()
    large = objects(MASKS, smallest=2)
    assert sorted(np.unique(large[0])) == [0, 1, 2]
    assert large[0, 3, 0, 0] == 0
    # What stays is where it was.
    assert ((large > 0) <= (labels > 0)).all()
