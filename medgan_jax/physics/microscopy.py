"""Transparent cells in the light microscope: phase contrast and differential interference contrast (DIC).

Conventions, kept by every function here: maps and images are `(..., H, W)` without channels, lengths in
pixels unless said otherwise, phases in radians, intensity 1 is the background of a phase contrast image and
the brightest possible light of DIC. The two images of one phase map are a registered pair. Every function is
pure and works under `jit`, `vmap` and `grad`.
"""

import jax
import jax.numpy as jnp

from medgan_jax.physics import resolution


def phase_delay(
    thickness: jax.Array, *, index_difference: float | jax.Array = 0.03, wavelength: float = 0.55
) -> jax.Array:
    """Phase `2 pi dn t / wavelength` that cells of `thickness` t `(..., H, W)` add to light, in radians.

    Thickness and wavelength share a unit (micrometres); a cell's refractive index exceeds that of its medium
    by about 0.03 (cytoplasm 1.36 to 1.37 against 1.335).
    """
    return 2 * jnp.pi * index_difference / wavelength * jnp.asarray(thickness, jnp.float32)


def phase_contrast(
    phase: jax.Array,
    *,
    halo: float = 8.0,
    amplitude: float | jax.Array = 0.5,
    shift: float | jax.Array = -jnp.pi / 2,
    absorption: jax.Array | float = 0.0,
) -> jax.Array:
    """Zernike's image `(..., H, W)` of a map of `phase`: background 1, cells dark with a bright halo.

    The light `t = exp(i phase - absorption)` behind the cells is parted into what a lens's plate meets, the
    mean of t over a Gaussian of deviation `halo`, and the rest; the plate passes the former with `amplitude`
    and turns it by `shift`, and both interfere: `|t + (amplitude exp(i shift) - 1) G * t|^2 / amplitude^2`.
    A weak phase gives `1 + 2 sin(shift) (phase - G * phase) / amplitude`: the halo and the shade-off
    are what the Gaussian takes from the phase. `shift` = pi / 2 makes cells bright (negative contrast).

    After Zernike, Physica 9, 1942, and Yin, Kanade and Chen, Med. Image Anal. 16(5), 2012, whose plate is a
    ring.
    """
    phase = jnp.asarray(phase, jnp.float32)
    passed = jnp.exp(-jnp.asarray(absorption, jnp.float32))
    field = passed * jnp.cos(phase), passed * jnp.sin(phase)
    undiffracted = [resolution.blur(part[..., None], halo, (-3, -2))[..., 0] for part in field]
    real, imaginary = amplitude * jnp.cos(shift) - 1, amplitude * jnp.sin(shift)
    seen_real = field[0] + real * undiffracted[0] - imaginary * undiffracted[1]
    seen_imaginary = field[1] + real * undiffracted[1] + imaginary * undiffracted[0]
    return (jnp.square(seen_real) + jnp.square(seen_imaginary)) / jnp.square(amplitude)


def differential_interference_contrast(
    phase: jax.Array,
    *,
    shear: float | jax.Array = 1.0,
    angle: float | jax.Array = jnp.pi / 4,
    bias: float | jax.Array = jnp.pi / 2,
    absorption: jax.Array | float = 0.0,
) -> jax.Array:
    """Nomarski's image `(..., H, W)` of a map of `phase`, in [0, 1]: relief, lit from one side.

    Two images of the light, `shear` pixels apart along `angle` (0 to the right, growing downwards), interfere
    with the phase `bias` between them: `|t1 exp(i bias / 2) - t2 exp(-i bias / 2)|^2 / 4`, which without
    absorption is `sin^2((phase1 - phase2 + bias) / 2)`. Shifts interpolate linearly; beyond the border phase
    goes on as its outermost pixel. Preza, Snyder and Conchello, J. Opt. Soc. Am. A 16(9), 1999.
    """
    phase = jnp.asarray(phase, jnp.float32)
    absorption = jnp.broadcast_to(jnp.asarray(absorption, jnp.float32), phase.shape)
    half = shear / 2 * jnp.stack([jnp.sin(angle), jnp.cos(angle)])
    ahead, behind = (_shifted(phase, half), _shifted(phase, -half))
    passed, other = (jnp.exp(-_shifted(absorption, offset)) for offset in (half, -half))
    interference = 2 * passed * other * jnp.cos(ahead - behind + bias)
    return (jnp.square(passed) + jnp.square(other) - interference) / 4


def _shifted(image: jax.Array, offset: jax.Array) -> jax.Array:
    """`image(x + offset)`, `(..., H, W)`: one linear interpolation along each axis."""
    for axis, step in ((-2, offset[0]), (-1, offset[1])):
        last = image.shape[axis] - 1
        place = jnp.clip(jnp.arange(last + 1) + step, 0, last)
        lower = jnp.clip(jnp.floor(place), 0, max(last - 1, 0)).astype(jnp.int32)
        share = jnp.expand_dims(place - lower, tuple(range(axis + 1, 0)))
        upper = jnp.take(image, jnp.minimum(lower + 1, last), axis)
        image = (1 - share) * jnp.take(image, lower, axis) + share * upper
    return image
