"""Classical methods that experiments are scored beside: total variation, non-local means, interpolation.

Those with a weight have it chosen on training cases, by the least squared error, so that they enter at their
best.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from medgan_jax.game import Baseline
from medgan_jax.inference import total_variation
from medgan_jax.inference.nonlocal_means import nonlocal_means
from medgan_jax.physics import fourier
from medgan_jax.physics.resolution import truncate_kspace


def tuned(
    name: str,
    method: Callable[[jax.Array, jax.Array], jax.Array],
    weights: Sequence[float],
    *outputs: str,
    source: str,
    target: str,
) -> Baseline:
    """`method`, a function of the batch's `source` and a weight, as `outputs`; the weight is the best.

    It is the one with the least squared error to `target` on the first training batch.
    """
    compiled = jax.jit(method)

    def fit(batches):
        batch = next(iter(batches))

        def error(weight):
            return float(jnp.square(compiled(batch[source], jnp.float32(weight)) - batch[target]).mean())

        return jnp.float32(min(weights, key=error))

    return Baseline(
        name, lambda weight, batch, key: dict.fromkeys(outputs, method(batch[source], weight)), fit
    )


def total_variation_reconstruction(mask: jax.Array, *outputs: str, source: str, target: str) -> Baseline:
    """Magnitudes with the least total variation that agree with the sampled frequencies of complex `source`.

    source: zero-filled images F^-1 M F x, (B, H, W, 2); target: magnitudes (B, H, W, 1), largest about 1.
    """

    def method(images, weight):
        measured = mask * fourier.fft2c(fourier.to_complex(images))
        image = total_variation.reconstruct(measured, mask, weight)
        return jnp.abs(image)[..., None]

    weights = [10 ** (exponent / 4) for exponent in range(-16, -5)]
    return tuned("total variation", method, weights, *outputs, source=source, target=target)


def total_variation_denoising(*outputs: str, source: str, target: str, scale: float = 1.0) -> Baseline:
    """`source` (B, *S, C) denoised by total variation; scale: about the noise's standard deviation."""
    weights = [scale * 2 ** (exponent / 2) for exponent in range(-6, 7)]
    return tuned("total variation", total_variation.denoise, weights, *outputs, source=source, target=target)


def nonlocal_means_denoising(*outputs: str, source: str, target: str, scale: float = 1.0) -> Baseline:
    """`source` (B, H, W, C) denoised by non-local means; scale: about the noise's standard deviation."""
    weights = [scale * 2 ** (exponent / 2) for exponent in range(-4, 6)]
    return tuned("non-local means", nonlocal_means, weights, *outputs, source=source, target=target)


def denoisers(output: str, *, source: str, target: str, scale: float, untouched: str) -> dict:
    """What an experiment that denoises shows, and is compared with: `source`, called `untouched`, and both.

    `Experiment(..., **denoisers("denoised", source="low", target="target", scale=0.1, untouched="low dose"))`
    """
    images = dict(source=source, target=target, scale=scale)
    return {
        "baseline": Baseline(untouched, lambda fitted, batch, key: {output: batch[source]}),
        "others": (total_variation_denoising(output, **images), nonlocal_means_denoising(output, **images)),
        "images": (source, output, target),
        "compare": (output, target),
    }


def cubic_interpolation(*outputs: str, source: str, factor: Sequence[int], axes: Sequence[int]) -> Baseline:
    """`source` (B, *S, C), of whose spectrum only the central 1 / factor along `axes` is there, interpolated.

    The samples that such an acquisition has are every factor-th ones of the zero-filled image; between them a
    cubic spline goes through four of them (Keys 1981), instead of the sinc of zero filling.
    """

    def apply(fitted, batch, key):
        image = batch[source]
        samples = truncate_kspace(image, factor, axes, same_grid=False)
        scale = jnp.array(factor, jnp.float32)
        # Sample j lies at voxel j * factor; centres of pixels are at half numbers here.
        shift = (1 - scale) / 2
        full = jax.image.scale_and_translate(
            samples, image.shape, [axis % image.ndim for axis in axes], scale, shift, "cubic", antialias=False
        )
        return dict.fromkeys(outputs, full)

    return Baseline("cubic interpolation", apply)
