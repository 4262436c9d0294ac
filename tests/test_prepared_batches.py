"""What prepares a batch without any forward model: values in the ranges of networks."""

import jax.numpy as jnp

from medgan_jax.data.intensity import Affine
from medgan_jax.forward_models import in_ranges, in_unit_range

RANGES = {"A": Affine(2.0, 0.0, "input"), "B": Affine(1.0, -1.0, "input")}


def test_each_field_goes_by_its_own_map_and_others_stay():
    batch = {"A": jnp.ones(2), "B": jnp.ones(2), "mask": jnp.ones(2)}
    prepared = in_ranges(RANGES)(batch, None)
    assert {name: values.tolist() for name, values in prepared.items()} == {"A": [2, 2], "B": [0, 0], "mask": [1, 1]}


def test_batches_within_a_batch_and_records_that_go_by_a_field():
    part = {"A": jnp.ones(1), "B": jnp.ones(1)}
    nested = in_ranges(RANGES)({"fold_0": part, "fold_1": part}, None)
    assert [float(nested[name]["A"][0]) for name in ("fold_0", "fold_1")] == [2, 2]
    judged = in_ranges(RANGES, judged="B")(part | {"judged": {"image": jnp.zeros(1), "label": jnp.ones(1)}}, None)
    assert {name: values.tolist() for name, values in judged["judged"].items()} == {"image": [-1], "label": [1]}
    assert "judged" not in in_ranges(RANGES, judged="B")(part, None)


def test_signed_values_stand_beside_those_from_zero_to_one():
    prepared = in_unit_range(lambda x: x / 4, low="image")({"image": jnp.array([0.0, 4.0]), "id": jnp.ones(2)}, None)
    assert {name: values.tolist() for name, values in prepared.items()} == {
        "low": [0, 1], "signed_low": [-1, 1], "id": [1, 1]}
