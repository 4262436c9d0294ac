"""What is shown of a change that heals."""

import jax.numpy as jnp

from medgan_jax.inference.attribution import attributed


def test_healed_image_map_and_its_size():
    shown = attributed(jnp.array([[1.0, 2.0]]), jnp.array([[-3.0, 0.5]]))
    assert {name: image.tolist() for name, image in shown.items()} == {
        "healed": [[-2.0, 2.5]], "map": [[-3.0, 0.5]], "attribution": [[3.0, 0.5]],
    }  # fmt: skip
