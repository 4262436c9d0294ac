"""The procedural neuron: styles of one cell, a connected reconstruction, and no threshold that finds it."""

import functools
from typing import get_args

import jax
import numpy as np
import pytest
from scipy.ndimage import label

from medgan_jax.phantoms import neurons

SIZE, NUMBER = 96, 6
QUICK = {"xla_backend_optimization_level": 0}
KEYS = functools.partial(jax.random.split, num=NUMBER)


@functools.cache
def program(size=SIZE):
    def draw(key):
        return {style: neurons.neuron_image(key, size, style=style) for style in get_args(neurons.Style)}

    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def cells(size=SIZE):
    return jax.tree.map(np.asarray, program(size)(KEYS(jax.random.key(2))))


def dice(one, other):
    return 2 * np.sum(one & other) / max(np.sum(one) + np.sum(other), 1)


def test_shapes_types_and_ranges():
    for drawn in cells().values():
        assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
        assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
        assert drawn["labels"].dtype == np.int32 and drawn["neuron_mask"].dtype == bool


def test_styles_are_registered():
    one, other, third = (cells()[style] for style in ("fluorescence", "brightfield", "phase"))
    np.testing.assert_array_equal(one["labels"], other["labels"])
    np.testing.assert_array_equal(one["labels"], third["labels"])
    mask = one["neuron_mask"]
    assert one["image"][mask].mean() > 1.3 * one["image"][~mask].mean()
    assert other["image"][mask].mean() < 0.85 * other["image"][~mask].mean()


def test_same_key_same_neuron_and_no_two_alike():
    turned = program()(KEYS(jax.random.key(2))[::-1])["phase"]["image"]
    np.testing.assert_allclose(turned[::-1], cells()["phase"]["image"], atol=1e-5)
    masks = cells()["phase"]["neuron_mask"]
    assert all(dice(masks[i], masks[j]) < 0.5 for i in range(NUMBER) for j in range(i))


def test_reconstruction_is_one_piece_round_the_soma():
    drawn = cells()["fluorescence"]
    for mask, soma, labels in zip(drawn["neuron_mask"], drawn["soma"], drawn["labels"], strict=True):
        row, column = np.rint(soma).astype(int)
        assert labels[row, column] == neurons.SOMA
        pieces, _ = label(mask, np.ones((3, 3)))
        assert np.mean(pieces[mask] == pieces[row, column]) > 0.75
        assert 0.02 < mask.mean() < 0.25


def test_no_threshold_finds_the_neuron():
    drawn = cells()["fluorescence"]
    images = drawn["image"][..., 0]
    scores = [
        np.mean([dice(image > level, mask) for image, mask in zip(images, drawn["neuron_mask"], strict=True)])
        for level in np.linspace(0.05, 0.9, 35)
    ]
    assert max(scores) < 0.72


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="style"):
        neurons.neuron_image(jax.random.key(0), style="gold")
    with pytest.raises(ValueError, match="32"):
        neurons.neuron_image(jax.random.key(0), 16)
