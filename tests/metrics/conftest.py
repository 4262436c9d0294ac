"""The kinds of input on which every metric is compared with its reference, and the comparison itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    if kind in ("random", "constant"):
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
    a, b = (x.astype(np.float32) for x in masks(kind, shape, generator))
    if kind == "random":
        a, b = (np.clip(0.5 * x + 0.5 * generator.random(shape), 0, 1).astype(np.float32) for x in (b, b))
    return a, b


@pytest.fixture
def mixed_masks():
    """`mixed_masks(shape)` gives masks of all kinds as one batch, `(K, *shape, 1)` twice."""

    def build(shape):
        generator = np.random.default_rng(7)
        pairs = [masks(kind, shape, generator) for kind in KINDS]
        return tuple(np.stack(x)[..., None] for x in zip(*pairs, strict=True))

    return build


@pytest.fixture
def mixed_images():
    """`mixed_images(shape)` gives images of all kinds as one batch, `(K, *shape, 1)` twice."""

    def build(shape):
        generator = np.random.default_rng(8)
        pairs = [images(kind, shape, generator) for kind in KINDS]
        return tuple(np.stack(x)[..., None] for x in zip(*pairs, strict=True))

    return build


@pytest.fixture
def mixed_masks_and_images(mixed_masks, mixed_images):
    """Images and the masks of their regions, as one batch of every kind, `(K, *shape, 1)` twice."""
    return lambda shape: (mixed_images(shape)[0], mixed_masks(shape)[1].astype(np.float32))


def assert_agree(values, expected, rtol, atol, way):
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=rtol, atol=atol, err_msg=f"{name}, {way}")


@pytest.fixture
def agree():
    """Compares metrics, called eagerly, jitted and vmapped, on float32 and bfloat16, with references.

    `cases` is `{name: (metric, reference)}`; they are compiled together, which takes a fraction of the time.
    A reference is called on each case, and on bfloat16 input it gets the rounded values.
    """

    def compare(cases, a, b, rtol=1e-5, atol=1e-6):
        def metrics(x, y):
            return {name: metric(x, y) for name, (metric, _) in cases.items()}

        def expected(x, y):
            pairs = list(zip(x, y, strict=True))
            return {
                name: np.stack([np.asarray(f(*pair)) for pair in pairs]) for name, (_, f) in cases.items()
            }

        for dtype in (jnp.float32, jnp.bfloat16):
            x, y = (jnp.asarray(z, dtype) for z in (a, b))
            known = expected(*(np.asarray(z.astype(jnp.float32)) for z in (x, y)))
            jitted = jax.jit(metrics)(x, y)
            assert all(value.dtype == jnp.float32 for value in jitted.values())
            assert_agree(metrics(x, y), known, rtol, atol, f"eager, {dtype.__name__}")
            assert_agree(jitted, known, rtol, atol, f"jit, {dtype.__name__}")
            doubled = jax.jit(jax.vmap(metrics))(jnp.stack([x, x[::-1]]), jnp.stack([y, y[::-1]]))
            both = {name: np.stack([z, z[::-1]]) for name, z in known.items()}
            assert_agree(doubled, both, rtol, atol, f"vmap, {dtype.__name__}")

    return compare
