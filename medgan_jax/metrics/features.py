"""Features of images for distribution metrics, each with the name under which its distance is reported.

A Fréchet distance is a number of an extractor as much as of images: only Inception-v3 with its published
weights gives "FID" (`medgan_jax.models.inception.load_inception`); any other gives `fd[<name>]`. Three need
no file: fixed random convolutions, plain pixels, and a network trained on the data at hand (`pooled`, named
'proxy').
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.metrics.checks import as_float

INCEPTION = "inception_v3"


@dataclass(frozen=True)
class FeatureExtractor:
    """A function from images `(B, [D], H, W, C)` to features `(B, d)`, and what it is called in results.

    `name` is one word for the kind ('random_conv', 'proxy', 'own_classifier'); `detail` says which one
    exactly (a seed, a training set, a file's checksum). The name 'inception_v3' is reserved for the published
    weights.
    """

    name: str
    detail: str
    function: Callable[[jax.Array], jax.Array]

    @property
    def distance_name(self) -> str:
        """What the Fréchet distance of these features is called: 'fid', or 'fd[<name>]'."""
        return "fid" if self.name == INCEPTION else f"fd[{self.name}]"

    @property
    def kernel_distance_name(self) -> str:
        """What the kernel distance of these features is called: 'kid', or 'kd[<name>]'."""
        return "kid" if self.name == INCEPTION else f"kd[{self.name}]"

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.function(images)


def extract(
    extractor: FeatureExtractor, images: jax.Array | Iterable[jax.Array], *, batch: int
) -> np.ndarray:
    """Features `(N, d)` in float64 on the host, of images in parts of `batch`, or of an iterable of
    batches."""
    if not hasattr(images, "shape"):
        parts = list(images)
    else:
        parts = [images[i : i + batch] for i in range(0, len(images), batch)]
    return np.concatenate([np.asarray(extractor(part), np.float64) for part in parts])


def pooled(name: str, detail: str, features: Callable[[jax.Array], jax.Array]) -> FeatureExtractor:
    """An extractor from a network's spatial features `(B, ..., C)`, averaged over space.

    For a small network trained on the data at hand (`models.features.small_vgg` on its proxy task) the name
    is 'proxy'; for one's own classifier, 'own_classifier'.
    """

    def function(images):
        values = features(images)
        return jnp.mean(values, axis=tuple(range(1, values.ndim - 1)))

    return FeatureExtractor(name, detail, jax.jit(function))


def pixels(*, sides: tuple[int, ...]) -> FeatureExtractor:
    """Images averaged down to `sides` and flattened: features that anyone can check, blind to fine
    texture."""

    def function(images):
        images = as_float(images)
        shape = (images.shape[0], *sides, images.shape[-1])
        return jax.image.resize(images, shape, "linear", antialias=True).reshape(images.shape[0], -1)

    return FeatureExtractor("pixels", "x".join(map(str, sides)), jax.jit(function))


def random_conv(
    *, channels: int, rank: int, seed: int, widths: tuple[int, ...] = (16, 32, 64)
) -> FeatureExtractor:
    """Fixed random convolutions of images with `channels`, rank 2 or 3, in [-1, 1]: `(B, 2 * sum(widths))`
    features.

    Each level is a 3-wide convolution with kernels N(0, 2 / fan in) that depend on `seed` only, leaky ReLU
    and an average over blocks of two; the mean and the standard deviation over space of every map are
    features. No training and no file, the same on every machine: comparable between papers that name the seed
    and the range of values.
    """
    generator, kernels, fan = np.random.default_rng(seed), [], channels
    for width in widths:
        shape = (*(3,) * rank, fan, width)
        scale = math.sqrt(2 / math.prod(shape[:-1]))
        kernels.append((scale * generator.standard_normal(shape)).astype(np.float32))
        fan = width

    def function(images):
        x = as_float(images).astype(jnp.float32)
        if x.ndim != rank + 2 or x.shape[-1] != channels or min(x.shape[1:-1]) < 2 ** len(widths):
            raise ValueError(
                f"these features are of {channels}-channel images of rank {rank} with sides of at least "
                f"{2 ** len(widths)}, not {x.shape}"
            )
        letters = "DHW"[-rank:]
        layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        spatial = tuple(range(1, rank + 1))
        features = []
        for kernel in kernels:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1,) * rank, "SAME", dimension_numbers=layout, precision=jax.lax.Precision.HIGHEST
            )
            x = jax.nn.leaky_relu(x, 0.2)
            mean = jnp.mean(x, spatial)
            variance = jnp.mean(jnp.square(x - jnp.expand_dims(mean, spatial)), spatial)
            features += [mean, jnp.sqrt(variance + 1e-12)]
            window = (1, *(2,) * rank, 1)
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 2**rank
        return jnp.concatenate(features, axis=1)

    return FeatureExtractor("random_conv", f"widths {widths}, seed {seed}", jax.jit(function))
