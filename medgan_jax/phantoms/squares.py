"""Squares in smooth noise, the synthetic set of VA-GAN, on which the whole effect of a "disease" is known.

After Baumgartner et al., CVPR 2018 (arXiv 1711.08998), and the authors' code. An image of class 0 is noise
alone. One of class 1 has a square in its centre and a second one, towards the lower right (subtype 1) or the
upper left (subtype 2) of it. A classifier can do with the square that both share; a map of all that the
disease adds cannot. That makes the class easy by intent (its brightness tells it), so no task is declared.

Values are those of the code: 112 x 112 pixels; noise of SD 50, smoothed by 2.5 pixels; squares of 100, 20
pixels wide; the second one 32 pixels off along both axes; places jittered by -5 to 4 pixels along each axis.
At other sizes all lengths are scaled.
"""

import math

import jax
import jax.numpy as jnp

from medgan_jax.phantoms.shapes import blur

SIZE, SIDE, OFFSET, JITTER = 112, 20, 32, 5
NOISE, SMOOTHING, HEIGHT = 50.0, 2.5, 100.0


def squares_image(
    key: jax.Array, size: int = SIZE, *, subtype: int | jax.Array, contrast: float | jax.Array = 1.0
) -> dict[str, jax.Array]:
    """One image; `subtype` (it may be traced) 0 is noise alone, see above for 1 and 2.

    contrast: factor of the squares' height. Two images of one key differ in the squares alone, up to scale.

    Returns `image` `(H, W, 1)`, mapped to [-1, 1] by its least and largest value; `effect_map` `(H, W, 1)`,
    what the squares add, in the same scale; `effect_mask` `(H, W)` bool. Raises `ValueError` for a size
    below 28.
    """
    if size < 28:
        raise ValueError(f"three squares need at least 28 x 28 pixels, not {size} x {size}")
    noise_key, place_key = jax.random.split(key)
    scale = size / SIZE
    noise = blur(jax.random.normal(noise_key, (size, size)), [SMOOTHING * scale] * 2)
    noise = NOISE * noise / jnp.std(noise)
    jitter = math.ceil(JITTER * scale)
    moves = jax.random.randint(place_key, (2, 2), -jitter, jitter)
    # Towards larger indices for subtype 1, smaller ones for 2; on the first square for none.
    direction = jnp.array([0, 1, -1])[subtype]
    mask = _square(size, moves[0], scale) | _square(size, moves[1] + direction * round(OFFSET * scale), scale)
    mask = mask & (jnp.asarray(subtype) > 0)
    effect = contrast * HEIGHT * mask
    image = noise + effect
    least, largest = image.min(), image.max()
    return {
        "image": (2 * (image - least) / (largest - least) - 1)[..., None],
        "effect_map": (2 * effect / (largest - least))[..., None],
        "effect_mask": mask,
    }


def _square(size: int, move: jax.Array, scale: float) -> jax.Array:
    """A square `(H, W)` bool, `move` `(2,)` pixels off the image's centre."""
    side = round(SIDE * scale)
    start = (size - side) // 2 + move
    rows, columns = ((jnp.arange(size) >= first) & (jnp.arange(size) < first + side) for first in start)
    return rows[:, None] & columns


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: both subtypes with their effects, and noise alone."""

    def draw(key):
        first, second, none = (squares_image(key, subtype=subtype) for subtype in (1, 2, 0))
        shown = (first["image"], first["effect_map"], second["image"], second["effect_map"], none["image"])
        return [each[..., 0] for each in shown]

    first, first_map, second, second_map, none = jax.jit(jax.vmap(draw))(keys)
    return {
        "subtype 1": (first + 1) / 2,
        "what it adds": first_map / 2,
        "subtype 2": (second + 1) / 2,
        "what that adds": second_map / 2,
        "noise alone": (none + 1) / 2,
    }
