"""Which classes of labelled images a generator covers: mode collapse, counted.

Images are told apart by a linear discriminant analysis (Fisher 1936) of a few numbers that describe texture,
fitted to real images of known classes. It is meant for classes that look different, such as kinds of
microscopy: of real images held out, the analysis must name nearly all rightly.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.errors import UserError
from medgan_jax.nn.resample import laplacian_pyramid

PERCENTILES = (5, 25, 50, 75, 95)
SMALL = 1e-6


def texture_numbers(images: jax.Array) -> jax.Array:
    """Percentiles of grey, and strength and skewness of the details of each size: `(N, H, W, C)` -> `(N, d)`.

    Details are those of a Laplacian pyramid of the mean over channels, halved down to a side of 4 or more.
    """
    grey = jnp.mean(images, -1, keepdims=True)
    side, levels = min(grey.shape[1:3]), 0
    while side % 2 == 0 and side // 2 >= 4:
        side, levels = side // 2, levels + 1
    over = (1, 2, 3)
    numbers = [*jnp.percentile(grey, jnp.array(PERCENTILES), axis=over)]
    for detail in laplacian_pyramid(grey, levels)[:-1]:
        deviation = jnp.sqrt(jnp.mean(jnp.square(detail), over) + SMALL)
        numbers += [jnp.log(deviation), jnp.mean(detail**3, over) / deviation**3]
    return jnp.stack(numbers, axis=1)


@dataclasses.dataclass(frozen=True)
class Regions:
    """Where the images of each class lie among the discriminants.

    names: labels `(K,)` of the classes. axes: `(d, K - 1)`, on which the spread within classes is one. means:
    `(K, K - 1)`. radii: `(K,)`, distances from the mean within which 99 % of a class lie. shares: `(K,)` of
    the classes among the images fitted to.
    """

    names: np.ndarray
    axes: np.ndarray
    means: np.ndarray
    radii: np.ndarray
    shares: np.ndarray

    def classes(self, numbers: np.ndarray) -> np.ndarray:
        """The nearest class of each image `(N,)`, or -1 where it lies beyond twice that class's radius."""
        distances = _distances(np.asarray(numbers, np.float64) @ self.axes, self.means)
        nearest = distances.argmin(1)
        return np.where(distances.min(1) <= 2 * self.radii[nearest], self.names[nearest], -1)

    def covered(self, classes: np.ndarray, *, least: float = 0.25) -> int:
        """How many classes have at least `least` times their real share among images of these `classes`."""
        found = np.array([np.mean(np.asarray(classes) == name) for name in self.names])
        return int((found >= least * self.shares).sum())


def fit_regions(numbers: np.ndarray, labels: np.ndarray) -> Regions:
    """The regions of the classes among real images with these `numbers` `(N, d)` and `labels` `(N,)`.

    UserError where all are of one class.
    """
    numbers = np.asarray(numbers, np.float64)
    names, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise UserError(f"modes are counted among two classes or more; all {len(labels)} images are of one")
    means = np.stack([numbers[labels == each].mean(0) for each in range(len(names))])
    within = np.cov((numbers - means[labels]).T)
    within += 1e-3 * np.diag(np.diag(within)) + 1e-12 * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(values)
    _, _, directions = np.linalg.svd((means - means.mean(0)) @ whiten, full_matrices=False)
    axes = whiten @ directions[: len(names) - 1].T
    distances = _distances(numbers @ axes, means @ axes)
    own = distances[np.arange(len(labels)), labels]
    radii = np.array([np.quantile(own[labels == each], 0.99) for each in range(len(names))])
    return Regions(names, axes, means @ axes, radii, counts / len(labels))


def _distances(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - means, axis=-1)
