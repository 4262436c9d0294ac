"""Forward models as a stage's `prepare`: what a scanner would have measured of a batch of images.

And what prepares a batch without any: values in the range of the networks, masks of labels.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from medgan_jax.data.intensity import Intensity
from medgan_jax.nn.crops import turned
from medgan_jax.nn.resample import resize
from medgan_jax.physics import fourier, resolution


def in_range(forward: Callable[[jax.Array], jax.Array], **fields: str) -> Callable[[dict, jax.Array], dict]:
    """`fields`, new name = field, by `forward`, as far as a batch has them; what they do not name is kept."""

    def prepare(batch, key):
        kept = {name: values for name, values in batch.items() if name not in fields.values()}
        return kept | {name: forward(batch[field]) for name, field in fields.items() if field in batch}

    return prepare


def in_ranges(ranges: Mapping[str, Intensity], **records: str) -> Callable[[dict, jax.Array], dict]:
    """Every field of `ranges` by its own map, in a batch or in each batch of a dictionary; others are kept.

    records: name = field, for fields that hold records, whose `image` goes by the map of that field.
    """

    def prepare(batch, key):
        if not set(ranges) & set(batch):
            return {name: prepare(part, key) for name, part in batch.items()}
        mapped = {field: ranges[field].forward(batch[field]) for field in ranges}
        for name in records.keys() & batch.keys():
            mapped[name] = batch[name] | {"image": ranges[records[name]].forward(batch[name]["image"])}
        return batch | mapped

    return prepare


def in_unit_range(
    forward: Callable[[jax.Array], jax.Array], **fields: str
) -> Callable[[dict, jax.Array], dict]:
    """`in_range` by a `forward` onto [0, 1]; `signed_NAME` is the same in [-1, 1], for feature networks."""
    in_unit = in_range(forward, **fields)

    def prepare(batch, key):
        batch = in_unit(batch, key)
        return batch | {f"signed_{name}": 2 * batch[name] - 1 for name in fields if name in batch}

    return prepare


def each_largest_is_one(*fields: str) -> Callable[[dict, jax.Array], dict]:
    """Each image of `fields`, (B, *S, C), divided by its largest value; an empty one stays empty."""

    def scaled(images):
        largest = images.max(tuple(range(1, images.ndim)), keepdims=True)
        return images / jnp.maximum(largest, 1e-6)

    return lambda batch, key: batch | {name: scaled(batch[name]) for name in fields}


def partly_annotated(forward: Callable[[jax.Array], jax.Array]) -> Callable[[dict, jax.Array], dict]:
    """Annotated records and images without a label -> `x`, `u` (B, H, W, C) by `forward`, and masks of x.

    `annotated` holds `image` and `label` (B, H, W, 1), a number for each gland; cases for evaluation hold
    these themselves, and no `unannotated`. `y` (B, H, W, 2) is one-hot, background first, `glands`
    (B, H, W, 1) its second channel, `labels` the numbers.
    """

    def prepare(batch, key):
        known = batch.get("annotated", batch)
        y = jax.nn.one_hot((known["label"][..., 0] > 0).astype(jnp.int32), 2)
        others = {"u": forward(batch["unannotated"])} if "unannotated" in batch else {}
        x = forward(known["image"])
        return {"x": x, "y": y, "glands": y[..., 1:], "labels": known["label"], **others}

    return prepare


def made_smaller(
    forward: Callable[[jax.Array], jax.Array], factor: int
) -> Callable[[dict, jax.Array], dict]:
    """`image` (B, H, W, C) -> `high`, in [-1, 1] by `forward`, and `low`, in [0, 1] with sides / `factor`.

    Bicubic interpolation with a kernel as wide as `factor` makes them smaller; `bicubic` is `low` enlarged
    again, in [-1, 1].
    """

    def prepare(batch, key):
        high = forward(batch["image"])
        low = resize(high, tuple(side // factor for side in high.shape[1:-1]), "cubic", antialias=True)
        return {"low": (low + 1) / 2, "high": high, "bicubic": resize(low, high.shape[1:-1], "cubic")}

    return prepare


def two_domains(
    forward: Callable[[jax.Array], jax.Array], *, turn: bool
) -> Callable[[dict, jax.Array], dict]:
    """Labelled images of a source domain, and images of a target: both by `forward`, and `label`.

    `source` holds `image` (B, S, S, C) and `label` (B,), `target` is images. turn: each by quarter turns, and
    mirrored, at random. Cases for a test hold `image` and `label` themselves, and become `x` and `label`.
    """

    def prepare(batch, key):
        if "image" in batch:
            return {"x": forward(batch["image"]), "label": batch["label"]}
        images, keys = (batch["source"]["image"], batch["target"]), jax.random.split(key)
        images = [forward(each) for each in images]
        if turn:
            images = [turned(each, one) for each, one in zip(images, keys, strict=True)]
        return {"source": images[0], "target": images[1], "label": batch["source"]["label"]}

    return prepare


def photographs(
    forward: Callable[[jax.Array], jax.Array], dark: float, **masks: str
) -> Callable[[dict, jax.Array], dict]:
    """`image` (B, H, W, C) by `forward` into [0, 1], the same `standardised` as `x`, and `masks` of 0 and 1.

    masks: new name = field; inside is what is above 0.
    """

    def prepare(batch, key):
        image = forward(batch["image"])
        inside = {name: (batch[field] > 0).astype(jnp.float32) for name, field in masks.items()}
        return {"image": image, "x": standardised(image, dark), **inside}

    return prepare


def standardised(image: jax.Array, dark: float) -> jax.Array:
    """Photographs (B, H, W, C) in [0, 1] at mean 0 and deviation 1 of each channel over what is not dark.

    Those are the pixels whose first channel is above `dark`. A deviation below 0.01 counts as 0.01.
    """
    seen = (image[..., :1] > dark).astype(jnp.float32)
    count = jnp.maximum(seen.sum((1, 2), keepdims=True), 1)
    mean = (seen * image).sum((1, 2), keepdims=True) / count
    variance = (seen * jnp.square(image - mean)).sum((1, 2), keepdims=True) / count
    return (image - mean) / jnp.sqrt(jnp.maximum(variance, 1e-4))


def undersampled_magnitudes(mask: jax.Array, noise: float = 0.0) -> Callable[[dict, jax.Array], dict]:
    """`image` (B, H, W, 1), magnitudes of any positive range -> `target` x and `zero_filled` |F^-1 M F x|.

    Each image is divided by its maximum and then mapped from [0, 1] to [-1, 1]. mask: (H, W), centred. noise:
    standard deviation of complex noise in k-space, as a part of that maximum.
    """

    def prepare(batch, key):
        x = batch["image"] / jnp.maximum(batch["image"].max((1, 2, 3), keepdims=True), 1e-6)
        x_zf = fourier.zero_filled(x[..., 0], mask, noise=noise, key=key if noise else None)
        return {"target": 2 * x - 1, "zero_filled": 2 * jnp.abs(x_zf)[..., None] - 1}

    return prepare


def undersampled_complex(mask: jax.Array, noise: float = 0.0) -> Callable[[dict, jax.Array], dict]:
    """Complex `image` (B, H, W, 2), or magnitudes (B, H, W, 1) -> `target` x and `zero_filled` F^-1 M F x.

    Both are (B, H, W, 2), divided by the largest magnitude, so that 0 stays 0; magnitudes have the imaginary
    part 0. `magnitude` and `aliased` (B, H, W, 1) are for the eye. mask and noise: see above.
    """

    def prepare(batch, key):
        x = batch["image"]
        x = x if x.shape[-1] == 2 else jnp.concatenate([x, jnp.zeros_like(x)], axis=-1)
        peak = fourier.magnitude(x).max((1, 2, 3), keepdims=True)
        x = x / jnp.maximum(peak, 1e-6)
        x_zf = fourier.zero_filled(fourier.to_complex(x), mask, noise=noise, key=key if noise else None)
        x_zf = fourier.to_channels(x_zf)
        return {"target": x, "zero_filled": x_zf, "magnitude": fourier.magnitude(x),
                "aliased": fourier.magnitude(x_zf)}

    return prepare


def partly_defocused(images: jax.Array, key: jax.Array, *, deviations: tuple[float, ...]) -> jax.Array:
    """Images (B, H, W, C), blurred in parts that differ by case, as photographs with a shallow focus are.

    A case is blurred by a Gaussian of one of the `deviations` in pixels, where a smooth random field is
    positive; the border of that part is smooth, too.
    """
    which_key, where_key = jax.random.split(key)
    case = (len(images), 1, 1, 1)
    blurred = jnp.stack([resolution.blur(images, each, (-3, -2)) for each in deviations])
    which = jax.random.randint(which_key, (1, *case), 0, len(deviations))
    chosen = jnp.take_along_axis(blurred, jnp.broadcast_to(which, (1, *images.shape)), axis=0)[0]
    coarse = jax.random.normal(where_key, (len(images), 4, 4, 1))
    field = jax.image.resize(coarse, (*images.shape[:3], 1), "cubic")
    share = jax.nn.sigmoid(8 * field)
    return share * chosen + (1 - share) * images
