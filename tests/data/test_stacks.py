"""Ends of stacks: the outermost slice first, and missing slices that follow from the id alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.data.records import ArraySource
from medgan_jax.data.stacks import as_found, draw_dropped, ends_as_found, open_stack_ends, stack_ends
from medgan_jax.errors import UserError


def stacks(count=3, slices=7):
    images = np.arange(count * slices, dtype=np.float32).reshape(count, slices, 1, 1, 1)
    return ArraySource({"image": images}, ids=[f"heart{n}" for n in range(count)])


def test_both_ends_from_outside_inwards():
    record = stack_ends(stacks(), 1)[1]
    assert record["image"].shape == (2, 3, 1, 1, 1)
    wanted = [[1 / 13, 3 / 13, 5 / 13], [1, 11 / 13, 9 / 13]]
    np.testing.assert_allclose(record["image"][..., 0, 0, 0], wanted, rtol=1e-6)
    assert record["subject"] == "heart1"


def test_half_of_the_stacks_miss_one_or_two_slices_at_each_end():
    ends = stack_ends(stacks(400), 1)
    dropped = np.stack([ends[n]["dropped"] for n in range(400)])
    assert set(dropped.ravel().tolist()) == {0, 1, 2}
    assert np.allclose((dropped == 0).mean(0), 0.5, atol=0.08)
    assert abs(np.corrcoef(dropped[:, 0] > 0, dropped[:, 1] > 0)[0, 1]) < 0.15
    assert np.array_equal(ends[7]["dropped"], stack_ends(stacks(9), 1)[7]["dropped"])


def test_a_stack_that_is_too_short_is_named():
    with pytest.raises(UserError, match=r"heart0 is \(5, 1, 1, 1\)"):
        stack_ends(stacks(slices=5), 1)[0]
    with pytest.raises(UserError, match="D, 8, 8, 1"):
        stack_ends(stacks(), 8)[0]


def test_slices_as_they_are_found():
    ends = jnp.arange(2 * 2 * 3).reshape(2, 2, 3, 1, 1, 1)
    found = as_found(ends, jnp.array([[0, 2], [1, 0]]))
    assert found[..., 0, 0, 0].tolist() == [[0, 5], [7, 9]]


def test_random_missing_slices_are_as_frequent_as_those_of_a_test():
    dropped = np.asarray(draw_dropped(jax.random.key(0), 600))
    shares = [(dropped == number).mean() for number in range(3)]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.05)


def drawn(key, *, slices):
    return {"image": jax.random.uniform(key, (slices, 1, 1, 1))}


def test_a_share_of_the_subjects_has_labels():
    parts = open_stack_ends(
        "phantom", functools.partial(drawn, slices=6), name="toy", counts=(10, 2, 3), side=1, labelled=0.3
    )
    known, without = set(parts.labelled.subjects), set(parts.unlabelled.subjects)
    assert (len(known), len(without), len(parts.validation), len(parts.test)) == (3, 7, 2, 3)
    assert not known & without
    assert parts.labelled[0]["image"].shape == (2, 3, 1, 1, 1)


def test_training_and_test_slices_as_they_are_found():
    change = jax.jit(ends_as_found(("mbs", "mas"), 5))
    # Stacks whose slices tell how far from the end they are.
    ends = jnp.broadcast_to(jnp.arange(3.0)[None, None, :, None, None, None], (64, 2, 3, 2, 2, 1))
    ready = change({"labelled": ends, "unlabelled": ends}, jax.random.key(0))
    for end in ("mbs", "mas"):
        depth = np.asarray(ready[end]["x"][:, 0, 0, 0])
        assert np.array_equal(ready[end]["y"], depth == 0)
        assert set(depth.tolist()) == {0, 1, 2}
        assert set(np.asarray(ready[end]["u"][:, 0, 0, 0]).tolist()) == {0, 1, 2}
        assert ready[end]["z"].shape == (64, 2, 5)
    test = change({"image": ends[:2], "dropped": jnp.array([[0, 2], [1, 0]])}, jax.random.key(0))
    assert np.asarray(test["mbs_slice"][:, 0, 0, 0]).tolist() == [0, 1]
    assert test["mas_truth"].tolist() == [True, False]
