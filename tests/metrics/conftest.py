"""The kinds of input on which every metric is compared with its reference, and the comparison itself."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = ("random", "identical", "disjoint", "empty", "one pixel", "border", "constant", "shifted")


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Compiling is most of what these tests cost: skip the optimisations that only make a program faster."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def masks(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a reference mask of one kind, uint8."""
    a, b = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    quarter, half = tuple(n // 4 for n in shape), tuple(n // 2 for n in shape)
    middle = tuple(slice(q, h + q) for q, h in zip(quarter, half, strict=True))
    if kind == "generated":
        a[:], b[:] = (generator.random(shape) < generator.random() for _ in "ab")
    elif kind in ("random", "constant"):
        a[:], b[:] = generator.random(shape) < 0.4, generator.random(shape) < 0.5
        if kind == "constant":
            a[:] = 1
    elif kind == "identical":
        a[middle] = b[middle] = 1
    elif kind == "disjoint":
        a[tuple(slice(0, q) for q in quarter)] = 1
        b[tuple(slice(h, h + q) for h, q in zip(half, quarter, strict=True))] = 1
    elif kind == "one pixel":
        a[quarter], b[half] = 1, 1
    elif kind == "border":
        a[0], b[:2] = 1, 1
    elif kind == "shifted":
        a[middle] = 1
        b[:] = np.roll(a, 1, axis=0)
    return a, b


def images(
    kind: str, shape: tuple[int, ...], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a reference image of one kind with values in [0, 1], float32."""
    if kind == "constant":
        return np.full(shape, 0.3, np.float32), np.full(shape, 0.6, np.float32)
    if kind == "generated":
        share, b = generator.random(), generator.random(shape)
        return tuple(z.astype(np.float32) for z in (share * b + (1 - share) * generator.random(shape), b))
    a, b = (x.astype(np.float32) for x in masks(kind, shape, generator))
    if kind == "random":
        a, b = (np.clip(0.5 * x + 0.5 * generator.random(shape), 0, 1).astype(np.float32) for x in (b, b))
    return a, b


@dataclass(frozen=True)
class Pairs:
    """Batches of predictions and references, `(K, *shape, 1)` twice.

    `()` gives one case of every kind, `(seed)` as many generated ones; `prepared` adds a step after either.
    """

    one: Callable
    shape: tuple[int, ...]
    prepare: Callable

    def __call__(self, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(7 if seed is None else seed)
        kinds = KINDS if seed is None else ("generated",) * len(KINDS)
        pairs = [self.one(kind, self.shape, generator) for kind in kinds]
        return self.prepare(*(np.stack(x)[..., None] for x in zip(*pairs, strict=True)))


def as_given(a, b):
    return a, b


@pytest.fixture
def mixed_masks():
    """`mixed_masks(shape)` are masks of all kinds, and generated ones."""
    return lambda shape, prepare=as_given: Pairs(masks, shape, prepare)


@pytest.fixture
def mixed_images():
    """`mixed_images(shape)` are images of all kinds, and generated ones."""
    return lambda shape, prepare=as_given: Pairs(images, shape, prepare)


@pytest.fixture
def mixed_images_and_masks():
    """`mixed_images_and_masks(shape)` are images, and the masks of a region of each."""

    def one(kind, shape, generator):
        return images(kind, shape, generator)[0], masks(kind, shape, generator)[1].astype(np.float32)

    return lambda shape, prepare=as_given: Pairs(one, shape, prepare)


@pytest.fixture
def agree():
    """Compares metrics with references on every kind of input and on generated ones.

    `cases` is `{name: (metric, reference)}`; they are compiled together, which takes a fraction of the time:
    jitted on float32, and jitted and vmapped on bfloat16, where the reference gets the rounded values. A
    reference is called on each case. Generated input is of the same shape, so nothing is compiled for it.
    """

    def compare(cases, pairs, rtol=1e-5, atol=1e-6, examples=3):
        def metrics(x, y):
            return {name: metric(x, y) for name, (metric, _) in cases.items()}

        jitted = jax.jit(metrics)
        vmapped = jax.jit(jax.vmap(metrics))

        def check(a, b):
            single, known = jitted(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)), expected(a, b)
            assert all(value.dtype == jnp.float32 for value in single.values())
            compared(single, known, "float32, jit")
            x, y = (jnp.asarray(z, jnp.bfloat16) for z in (a, b))
            known = expected(*(np.asarray(z, np.float32) for z in (x, y)))
            double = vmapped(*(jnp.stack([z, z[::-1]]) for z in (x, y)))
            both = {name: np.stack([z, z[::-1]]) for name, z in known.items()}
            compared(double, both, "bfloat16, vmap")

        def expected(x, y):
            pairs = list(zip(x, y, strict=True))
            return {
                name: np.stack([np.asarray(f(*pair)) for pair in pairs]) for name, (_, f) in cases.items()
            }

        def compared(values, known, way):
            for name, value in values.items():
                np.testing.assert_allclose(value, known[name], rtol=rtol, atol=atol, err_msg=f"{name}, {way}")

        check(*pairs())

        @settings(max_examples=examples, deadline=None, database=None)
        @given(st.integers(0, 2**32 - 1))
        def generated(seed):
            check(*pairs(seed))

        generated()

    return compare
