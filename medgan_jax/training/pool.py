"""A pool of past generated images as part of a stage's memory (Shrivastava et al., CVPR 2017; used by CycleGAN)."""

import flax.struct
import jax
import jax.numpy as jnp

from medgan_jax import axes


@flax.struct.dataclass
class ImagePool:
    """images: `(size, ...)`. count: int32 scalar, number of places that have been filled."""

    images: jax.Array
    count: jax.Array


def empty_pool(size: int, image_shape: tuple[int, ...]) -> ImagePool:
    """A pool of `size` places for images of this shape (without batch axis); size 0 returns images unchanged."""
    return ImagePool(jnp.zeros((size, *image_shape), jnp.float32), jnp.zeros((), jnp.int32))


def query(pool: ImagePool, images: jax.Array, key: jax.Array) -> tuple[ImagePool, jax.Array]:
    """Puts `images` `(B, ...)` in the pool and gives as many to show to the discriminator, one after another.

    While the pool is not full each image is stored and returned. Then, with probability 1/2, a random stored image
    is returned and replaced by the new one; else the new image is returned and not stored. Gradients are stopped.
    Every device sees the images of all, so that all hold the same pool.
    """
    images = jax.lax.stop_gradient(images)
    size = pool.images.shape[0]
    if size == 0:
        return pool, images
    everyone = axes.gather(images)
    key = axes.of_first_device(key)

    def one(pool, numbered):
        image, key = numbered
        place_key, swap_key = jax.random.split(key)
        full = pool.count >= size
        place = jnp.where(full, jax.random.randint(place_key, (), 0, size), pool.count)
        swap = full & jax.random.bernoulli(swap_key)
        shown = jnp.where(swap, pool.images[place], image)
        stored = jnp.where(full & ~swap, pool.images[place], image)
        return ImagePool(pool.images.at[place].set(stored), jnp.minimum(pool.count + 1, size)), shown

    pool, shown = jax.lax.scan(one, pool, (everyone, jax.random.split(key, everyone.shape[0])))
    return pool, axes.own_rows(shown, images.shape[0])
