"""Milliseconds for a batch of 32 images of 256 x 256: jitted metrics beside scikit-image in a loop.

    PYTHONPATH=. JAX_PLATFORMS=cpu python tests/benchmarks/metrics_against_scikit_image.py [--publish]

`--publish` stores the figures in `records/` and in the README.
"""

import sys
import time
from functools import partial

import jax
import numpy as np
import skimage.metrics as reference
from published import publish

from medgan_jax.metrics import image

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
ROWS = {
    "mse": (image.mse, reference.mean_squared_error),
    "nrmse": (
        partial(image.nrmse, denominator="min-max"),
        partial(reference.normalized_root_mse, normalization="min-max"),
    ),
    "psnr": (partial(image.psnr, data_range=1.0), partial(reference.peak_signal_noise_ratio, data_range=1.0)),
    "ssim, Wang 2004": (
        partial(image.ssim, data_range=1.0, window=image.WANG_2004),
        partial(reference.structural_similarity, data_range=1.0, **WANG),
    ),
    "ssim, uniform 7": (
        partial(image.ssim, data_range=1.0, window=image.UNIFORM_7),
        partial(reference.structural_similarity, data_range=1.0),
    ),
}


def fastest(*functions, seconds: float = 7.0) -> list[float]:
    """Milliseconds of the fastest call of each; calls alternate, so that all see the same busy machine."""
    for function in functions * 3:
        function()  # compiles, and lets the allocator keep its memory
    times = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [1000 * min(taken) for taken in times]


def measure() -> list[dict]:
    """A row for each metric: milliseconds of either, how often ours is faster, and the largest difference."""
    generator = np.random.default_rng(0)
    y = generator.random((32, 256, 256, 1)).astype(np.float32)
    x = np.clip(y + 0.1 * generator.normal(size=y.shape), 0, 1).astype(np.float32)
    on_device = jax.device_put((x, y))
    rows = []
    for name, (metric, loop) in [("", ROWS["mse"]), *ROWS.items()]:
        jitted = jax.jit(metric)
        ours, theirs = fastest(
            lambda f=jitted: f(*on_device).block_until_ready(),
            lambda f=loop: [f(b, a) for a, b in zip(x[..., 0], y[..., 0], strict=True)],
        )
        expected = [loop(b, a) for a, b in zip(np.float64(x[..., 0]), np.float64(y[..., 0]), strict=True)]
        error = np.abs(np.asarray(jitted(x, y)) - expected).max()
        if not name:
            continue  # the first row of a process pays for its start
        rows.append(
            {
                "metric": name,
                "jitted, ms": f"{ours:.1f}",
                "scikit-image in a loop, ms": f"{theirs:.1f}",
                "times as fast": f"{theirs / ours:.1f}",
                "largest difference": f"{error:.0e}",
            }
        )
        print(*rows[-1].values(), sep=" | ", flush=True)
    return rows


if __name__ == "__main__":
    measured = measure()
    if sys.argv[1:] == ["--publish"]:
        publish("metrics-speed", measured, ("jax", "scikit-image", "numpy", "scipy"))
