"""Total variation, the prior of piecewise smooth images: denoising, and images from few frequencies."""

import jax
import jax.numpy as jnp

from medgan_jax.physics import fourier


def denoise(images: jax.Array, weight: float | jax.Array, *, steps: int = 50) -> jax.Array:
    """argmin_x 1/2 ||x - y||^2 + weight TV(x) of images y (B, *S, C) by fast gradient projection.

    TV is isotropic over the spatial axes and joint over channels, so that real and imaginary part keep their
    edges together. Beck and Teboulle, IEEE Trans. Image Process. 18(11), 2009.
    """
    axes = tuple(range(1, images.ndim - 1))
    rate = 1 / (4 * len(axes) * weight)

    def step(carry, _):
        dual, ahead, momentum = carry
        estimate = images - weight * _adjoint(ahead, axes)
        moved = ahead + rate * _gradient(estimate, axes)
        length = jnp.sqrt(jnp.sum(jnp.square(moved), axis=(0, -1), keepdims=True))
        fresh = moved / jnp.maximum(length, 1)
        next_momentum = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead = fresh + (momentum - 1) / next_momentum * (fresh - dual)
        return (fresh, ahead, next_momentum), None

    start = jnp.zeros((len(axes), *images.shape), images.dtype)
    (dual, _, _), _ = jax.lax.scan(step, (start, start, jnp.float32(1)), length=steps)
    return images - weight * _adjoint(dual, axes)


def reconstruct(
    kspace: jax.Array, mask: jax.Array, weight: float | jax.Array, *, steps: int = 60, inner: int = 10
) -> jax.Array:
    """argmin_x 1/2 ||M F x - y||^2 + weight TV(x): complex image (B, H, W) of samples y (B, H, W), by FISTA.

    mask: (H, W), centred. Beck and Teboulle, SIAM J. Imaging Sciences 2(1), 2009.
    """

    def step(carry, _):
        image, ahead, momentum = carry
        nearer = fourier.hard_data_consistency(ahead, kspace, mask)
        fresh = fourier.to_complex(denoise(fourier.to_channels(nearer), weight, steps=inner))
        next_momentum = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead = fresh + (momentum - 1) / next_momentum * (fresh - image)
        return (fresh, ahead, next_momentum), None

    start = fourier.adjoint(kspace, mask)
    (image, _, _), _ = jax.lax.scan(step, (start, start, jnp.float32(1)), length=steps)
    return image


def _gradient(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Forward differences (axes, *x.shape), zero at the far border."""
    return jnp.stack(
        [jnp.diff(x, axis=axis, append=jax.lax.slice_in_dim(x, -1, None, axis=axis)) for axis in axes]
    )


def _adjoint(dual: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The transpose of `_gradient`."""
    total = 0.0
    for part, axis in zip(dual, axes, strict=True):
        inside = jax.lax.slice_in_dim(part, 0, part.shape[axis] - 1, axis=axis)
        zero = jnp.zeros_like(jax.lax.slice_in_dim(part, 0, 1, axis=axis))
        total = total - jnp.diff(jnp.concatenate([zero, inside, zero], axis=axis), axis=axis)
    return total
