"""Ordered pairs of records, folds by subject, and sources that know their shapes without drawing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.data.sources import ArraySource, PhantomSource, folds, mapped, ordered_pairs, subset
from medgan_jax.errors import UserError


def source(count, per_subject=1):
    arrays = {"image": np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1), "mask": np.arange(count)}
    return ArraySource(arrays, [f"s{number // per_subject}" for number in range(count)])


def test_every_ordered_pair_of_two_records():
    pairs = ordered_pairs(source(3), ("moving", "fixed"))
    found = [(float(record["moving"][0, 0, 0]), float(record["fixed"][0, 0, 0])) for record in pairs]
    assert found == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    record = pairs[3]
    assert (record["moving_mask"], record["fixed_mask"]) == (1, 2)
    assert (record["id"], record["subject"]) == ("1|2", "s1|s2")
    assert pairs.fingerprint != source(3).fingerprint


def test_folds_share_no_subject_and_leave_none_out():
    whole = source(12, per_subject=2)
    parts = folds(whole, 3)
    subjects = [set(part.subjects) for part in parts]
    assert set.union(*subjects) == set(whole.subjects)
    assert sum(map(len, subjects)) == 6
    assert [len(part) for part in parts] == [4, 4, 4]
    with pytest.raises(UserError, match="2 training subjects, too few for 3"):
        folds(source(2), 3)


def test_shapes_of_phantoms_are_known_without_drawing_them():
    drawn = []

    def phantom(key):
        jax.debug.callback(lambda: drawn.append(1))
        return {"image": jax.random.normal(key, (4, 5, 1)), "label": jnp.int32(3)}

    phantoms = PhantomSource("counted", phantom, 10, 0)
    blank = mapped(subset(phantoms, [1, 3]), lambda record: record | {"image": record["image"] + 1}).blank()
    assert len(blank) == 2
    assert blank.ids == ("train-00001", "train-00003")
    assert blank[1]["image"].shape == (4, 5, 1)
    assert blank[1]["image"].max() == 1
    assert blank[1]["label"].dtype == np.int32
    assert not drawn
    assert source(2).blank()[1]["mask"] == 1
