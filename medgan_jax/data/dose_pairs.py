"""CT slices at a low dose, each with the same slice at the routine dose: phantoms, or a folder's slices."""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.augmentations import tissue_crop
from medgan_jax.data.parts import Counts, Draw, Parts, open_parts, require_image
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import PhantomSource, Record, cached, mapped
from medgan_jax.phantoms.abdomen import abdomen_slice
from medgan_jax.phantoms.catphan import catphan_slice
from medgan_jax.physics.tomography import LOWEST_HU, low_dose


def open_dose_pairs(
    source: str,
    phantom: functools.partial,
    *,
    name: str,
    counts: Counts,
    size: int,
    photons: Sequence[float],
    routine: float = 0.0,
    pixel_mm: float,
    version: int = 1,
) -> Parts:
    """Checked parts with `image`, the low dose, and `target`, the routine one, (H, W, 1) in HU.

    phantom: key -> record with a clean `image`, `size` among its keywords. It is scanned twice: with one of
    `photons` incident on each ray, drawn for each case and recorded as `photons`, and with `routine`, or not
    at all where that is 0. A folder has both images, or those of routine dose alone, to which the noise of
    the first of `photons` is added. pixel_mm: side of a pixel.
    """
    settings = dict(photons=tuple(photons), routine=routine, pixel_mm=pixel_mm)
    scanned = functools.partial(
        _scanned_twice, phantom.func, phantom_options=tuple(phantom.keywords.items()), **settings
    )
    parts = open_parts(source, scanned, name=name, counts=counts, version=version)
    require_image(parts, channels=1, size=size)
    if "target" in parts.train[0]:
        require_image(parts, channels=1, size=size, field="target")
        return parts
    # Scans are made when a record is first read: that of a large slice takes seconds.
    scan = jax.jit(lambda image, key: _scan(image, key, photons[0], pixel_mm))
    noisy = functools.partial(_with_noise, scan)
    return Parts(*(cached(mapped(part, noisy)) for part in (parts.train, parts.validation, parts.test)))


def open_catphans(
    source: str, size: int, counts: Counts, photons: Sequence[float], pixel_mm: float
) -> Parts:
    """`open_dose_pairs` with phantoms of the Catphan, whose target is free of noise; they have `edge`."""
    draw = functools.partial(catphan_slice, size=size)
    settings = dict(size=size, photons=photons, pixel_mm=pixel_mm)
    return open_dose_pairs(source, draw, name="catphan_dose", counts=counts, **settings)


def open_abdomens(
    source: str, size: int, counts: Counts, photons: tuple[float, float], pixel_mm: float
) -> Parts:
    """`open_dose_pairs` with phantom abdomens; photons: incident on each ray at routine and at low dose."""
    draw = functools.partial(abdomen_slice, size=size, noise=0.0)
    settings = dict(size=size, routine=photons[0], photons=photons[1:], pixel_mm=pixel_mm)
    return open_dose_pairs(source, draw, name="abdomen_dose", counts=counts, **settings)


def tissue_patches(
    slices: Parts, batch_size: int, side: int, *, least: float, known: Sequence[str] = ()
) -> Data:
    """Patches of `side` pixels with a mean target of `least` HU or more for training, else whole slices.

    known: what phantoms have beside `image` and `target` that is measured, too.
    """
    pair = ("image", "target")
    train = Stream(slices.train, batch_size, tissue_crop(side, least=least), pair)
    fields = (*pair, *known) if isinstance(slices.test, PhantomSource) else pair
    return Data(train, slices.validation, slices.test, fields=fields)


def _scan(image: jax.Array, key: jax.Array, photons: jax.Array | float, pixel_mm: float) -> jax.Array:
    return low_dose(image[..., 0], photons, key, pixel_size=pixel_mm / 10)[..., None]


def _scanned_twice(
    draw: Draw, key: jax.Array, *, phantom_options, photons, routine, pixel_mm
) -> Mapping[str, jax.Array]:
    body, low_key, routine_key, dose = jax.random.split(key, 4)
    record, low = draw(body, **dict(phantom_options)), jax.random.choice(dose, jnp.array(photons))
    clean = record["image"]
    target = _scan(clean, routine_key, routine, pixel_mm) if routine else clean
    return {**record, "image": _scan(clean, low_key, low, pixel_mm), "target": target, "photons": low}


def _with_noise(scan: Callable, record: Record) -> Record:
    # Padding outside the circle of reconstruction is air.
    target = np.maximum(record["image"], np.float32(LOWEST_HU))
    key = jax.random.key(zlib.crc32(record["id"].encode()))
    return {**record, "image": np.asarray(scan(target, key)), "target": target}
