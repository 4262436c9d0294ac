"""Forms of a volume's convolution and of its weight gradient, by the rate that XLA reaches on this CPU.

    PYTHONPATH=. python tests/benchmarks/volume_forms.py [--publish]

The library brings a volume to planes (`nn/conv_cpu.py`). Here that stands beside what else was thought of: the
planes that a kernel sees as channels of one convolution, and the gradient as matrix products of shifted copies
of the flattened volume. The rate of a square matrix product is the machine's. `--publish` stores the figures
in `records/` and in the README.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tests.benchmarks.published import publish

TAPS, REACH = 3, 1
LAYERS = ((64, 16), (64, 32), (32, 64), (16, 128))  # side of the volume, channels in and out
REPEATS = 5


def convolution(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """The library's, in two dimensions."""
    pads = [(REACH, REACH)] * 2
    return lax.conv_general_dilated(image, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def planes(x: jax.Array) -> list[jax.Array]:
    """For each tap along the depth, what it sees: (D, H, W, C)."""
    padded = jnp.pad(x, ((REACH, REACH), (0, 0), (0, 0), (0, 0)))
    return [padded[tap : tap + len(x)] for tap in range(TAPS)]


def sum_of_planes(x, kernel, y):
    return sum(convolution(plane, kernel[tap]) for tap, plane in enumerate(planes(x)))


def planes_as_channels(x, kernel, y):
    joined = jnp.moveaxis(kernel, 0, 2).reshape(TAPS, TAPS, -1, kernel.shape[-1])
    return convolution(lax.optimization_barrier(jnp.concatenate(planes(x), -1)), joined)


def gradient(image: jax.Array, y: jax.Array) -> jax.Array:
    """Of a plane's kernel: a convolution with channels as batch and the batch as channels."""
    missing = max(0, 32 - y.shape[-1])
    y = jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, missing)))
    return convolution(image.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3))


def gradient_by_planes(x, kernel, y):
    return jnp.stack([gradient(plane, y) for plane in planes(x)])


def gradient_of_joined_planes(x, kernel, y):
    return gradient(jnp.concatenate(planes(x), -1), y)


def gradient_by_shifts(x, kernel, y):
    """A tap is an offset in the flattened, padded volume: 27 products of long, thin matrices."""
    side = len(x) + 2 * REACH
    x = jnp.pad(x, ((REACH, REACH),) * 3 + ((0, 0),)).reshape(-1, x.shape[-1])
    y = jnp.pad(y, ((0, 2 * REACH),) * 3 + ((0, 0),)).reshape(-1, y.shape[-1])
    x = jnp.pad(x, ((0, 2 * REACH * (side * side + side + 1)), (0, 0)))
    offsets = [(a * side + b) * side + c for a in range(TAPS) for b in range(TAPS) for c in range(TAPS)]
    return jnp.stack([x[offset : offset + len(y)].T @ y for offset in offsets])


FORMS = (sum_of_planes, planes_as_channels, gradient_by_planes, gradient_of_joined_planes, gradient_by_shifts)


def rate(function: Callable, work: float, *arrays: jax.Array) -> float:
    """GFLOP/s of the fastest of some calls."""
    run, fastest = jax.jit(function), float("inf")
    run(*arrays).block_until_ready()
    for _ in range(REPEATS):
        began = time.perf_counter()
        run(*arrays).block_until_ready()
        fastest = min(fastest, time.perf_counter() - began)
    return work / fastest / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--publish", action="store_true", help="store the figures in records/ and in README.md")
    options = parser.parse_args()
    square = jnp.ones((2048, 2048))
    machine = rate(lambda a: a @ a, 2 * 2048**3, square)
    rows = []
    for side, channels in LAYERS:
        x, y = jax.random.normal(jax.random.key(0), (2, side, side, side, channels))
        kernel = jax.random.normal(jax.random.key(1), (TAPS, TAPS, TAPS, channels, channels))
        work = 2 * side**3 * TAPS**3 * channels**2
        found = {form.__name__.replace("_", " "): f"{rate(form, work, x, kernel, y):.0f}" for form in FORMS}
        rows.append({"layer": f"{side}³, {channels} channels", **found, "matrix product": f"{machine:.0f}"})
        print(rows[-1], flush=True)
    if options.publish:
        publish("volume-forms", rows, ("jax", "jaxlib"))


if __name__ == "__main__":
    main()
