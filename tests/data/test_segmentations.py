"""Images with masks: fields, sizes and classes of phantoms, and a folder's images fitted to one size."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.data import effects, fitting, parts, segmentations
from medgan_jax.data.sources import ArraySource
from medgan_jax.errors import UserError

COUNTS = (2, 1, 1)


@pytest.mark.parametrize(
    "opened, shapes",
    [
        (
            functools.partial(segmentations.open_gliomas, size=32, modalities=("t1", "flair")),
            {"image": (32, 32, 2), "mask": (32, 32, 1)},
        ),
        (
            functools.partial(segmentations.open_chests, size=32, framing=1.0),
            {"image": (32, 32, 1), "mask": (32, 32, 1)},
        ),
        (
            functools.partial(segmentations.open_glands, size=32, channels=1, field=96.0),
            {"image": (32, 32, 1), "label": (32, 32, 1)},
        ),
        (
            functools.partial(
                segmentations.open_retinas, size=32, channels=1, vessels="v", field_of_view="f"
            ),
            {"image": (32, 32, 1), "v": (32, 32, 1), "f": (32, 32, 1)},
        ),
    ],
)
def test_fields_of_phantoms(opened, shapes):
    source = opened("phantom", counts=COUNTS).train
    found = jax.eval_shape(source._generate, jax.random.key(0))
    assert {name: value.shape for name, value in found.items()} == shapes
    assert all(value.dtype == np.int32 for name, value in found.items() if name != "image")


def test_held_out_heads_are_the_same_with_and_without_the_effect():
    sets = effects.open_effects("phantom", size=32, rank=2, strength=1.0, counts=COUNTS)
    assert list(sets.train) == ["c0", "c1"]
    found = jax.eval_shape(sets.test._generate, jax.random.key(0))
    assert set(found) == {"c0", "c1", "effect_map", "subtype"}
    assert found["effect_map"].shape == (32, 32, 1)


def test_images_of_any_size_are_fitted():
    images = np.random.default_rng(0).uniform(0, 1, (3, 20, 30, 3)).astype(np.float32)
    masks = np.zeros((3, 20, 30, 1), np.int32)
    masks[:, :, 15:] = 2
    source = ArraySource({"image": images, "mask": masks})
    fitted = fitting.fitted(parts.Parts(source, source, source), 16, channels=1)
    record = fitted.train[1]
    assert record["image"].shape == (16, 16, 1)
    # Amid a square, of whole classes.
    assert set(np.unique(record["mask"])) == {0, 2}
    assert not record["mask"][0].any() and record["mask"][8, -1] == 2
    parts.require_image(fitted, channels=1, size=16)
    with pytest.raises(UserError, match="no 'label'"):
        parts.require_image(fitted, channels=1, size=16, field="label")
