"""Bags: no image is lost, no subject is mixed, one label."""

import numpy as np
import pytest

from medgan_jax.data.bags import bags
from medgan_jax.data.records import ArraySource
from medgan_jax.errors import UserError


def source(labels=(0, 1, 0, 0, 1, 0, 0)):
    images = np.arange(7, dtype=np.float32).reshape(7, 1, 1, 1)
    subjects = ["a", "b", "a", "c", "b", "a", "a"]
    return ArraySource({"image": images, "label": np.array(labels)}, subjects, class_names=("low", "high"))


def test_each_bag_is_of_one_subject_and_the_last_is_filled_up():
    made = bags(source(), 3)
    assert made.subjects == ("a", "a", "b", "c")
    members = [made[n]["image"].ravel().tolist() for n in range(4)]
    assert members == [[0, 2, 5], [6, 0, 2], [1, 4, 1], [3, 3, 3]]
    assert [int(made[n]["label"]) for n in range(4)] == [0, 0, 1, 0]
    assert made[0]["image"].shape == (3, 1, 1, 1)
    assert len(set(made.ids)) == 4
    assert made.class_names == ("low", "high")
    assert made.fingerprint != bags(source(), 2).fingerprint


def test_labels_of_a_bag_agree():
    with pytest.raises(UserError, match="subject 'b' different labels"):
        bags(source(labels=(0, 1, 0, 0, 0, 0, 0)), 3)[2]
