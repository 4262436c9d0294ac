"""Transforms of records on the host: random augmentations, and sizes that a network can take.

Each takes a record and gives a new one, in which all fields that lie on the image's grid (arrays of at least
three axes, channels last, whose spatial size is that of the first such field; or the `fields` named) are
transformed alike. Whole numbers are labels: they are resampled by the nearest neighbour and keep their values
and dtype; other arrays linearly. Random ones take a NumPy generator after the record. Angles are in degrees,
lengths in pixels unless said otherwise. An augmentation is a function that calls some of them in turn:

    def augment(record, random):
        record = transforms.flip(record, random)
        record = transforms.elastic(record, random, alpha=765, sigma=25.5)
        record = transforms.affine(record, random, rotation=10, shift=0.1, zoom=(0.9, 1.1))
        return transforms.gamma(record, random, 0.05, span=(-1, 1))
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import fft, ndimage

from medgan_jax.data.records import Record
from medgan_jax.errors import UserError

Fields = Sequence[str] | None


def flip(
    record: Record,
    random: np.random.Generator,
    *,
    axis: int = -2,
    probability: float = 0.5,
    fields: Fields = None,
) -> Record:
    """Mirrors along `axis` of (D, H, W, C): -2 left to right, -3 top to bottom, -4 along the depth."""
    if random.random() >= probability:
        return record
    return _each(record, fields, lambda array: np.ascontiguousarray(np.flip(array, axis)))


def quarter_turns(record: Record, random: np.random.Generator, *, fields: Fields = None) -> Record:
    """Turns the plane by a random multiple of 90 degrees; for images without an upside, such as cells."""
    turns = int(random.integers(4))
    return _each(record, fields, lambda array: np.ascontiguousarray(np.rot90(array, turns, (-3, -2))))


def affine(
    record: Record,
    random: np.random.Generator,
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    zoom: tuple[float, float] = (1.0, 1.0),
    fill: str | float = "nearest",
    fields: Fields = None,
) -> Record:
    """Rotation in the plane, shift and zoom about the centre, by one interpolation.

    rotation: up to this angle either way. shift: up to this fraction of each side. zoom: between these
    factors, above 1 magnifies. fill: a value for what comes from outside (labels get 0), or 'nearest',
    'reflect'. Volumes are turned about their depth axis.
    """
    size = _grid(record, fields)
    angle = np.deg2rad(random.uniform(-rotation, rotation))
    moved = random.uniform(-shift, shift, len(size)) * size
    turn = np.eye(len(size))
    turn[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = turn / random.uniform(*zoom)
    centre = (np.array(size) - 1) / 2
    offset = centre - matrix @ (centre + moved)

    def resample(channel: np.ndarray, order: int, mode: str, value: float) -> np.ndarray:
        return ndimage.affine_transform(channel, matrix, offset, order=order, mode=mode, cval=value)

    return _resampled(record, fields, fill, resample)


def elastic(
    record: Record,
    random: np.random.Generator,
    *,
    alpha: float,
    sigma: float,
    fill: str | float = "nearest",
    fields: Fields = None,
) -> Record:
    """Elastic deformation (Simard et al., ICDAR 2003): displaced by smoothed uniform noise times `alpha`.

    sigma: standard deviation of the Gaussian in pixels. The noise is zero outside the image. fill as in
    `affine`.
    """
    size = _grid(record, fields)
    places = np.indices(size, np.float32)
    for axis in range(len(size)):
        noise = random.random(size, np.float32) * 2 - 1
        places[axis] += alpha * _smoothed(noise, sigma)

    def resample(channel: np.ndarray, order: int, mode: str, value: float) -> np.ndarray:
        return ndimage.map_coordinates(channel, places, order=order, mode=mode, cval=value)

    return _resampled(record, fields, fill, resample)


def gamma(
    record: Record,
    random: np.random.Generator,
    amount: float,
    *,
    span: tuple[float, float],
    fields: Sequence[str] = ("image",),
) -> Record:
    """Brightness: values in `span`, taken as [0, 1] and clipped, to a power in 1 - amount ... 1 + amount."""
    low, high = span
    power = np.float32(random.uniform(1 - amount, 1 + amount))
    return _each(
        record, fields, lambda x: low + (high - low) * np.clip((x - low) / (high - low), 0, 1) ** power
    )


def random_crop(
    record: Record, random: np.random.Generator, size: Sequence[int], *, fields: Fields = None
) -> Record:
    """A part of `size` (H, W) or (D, H, W) at a random place. Raises UserError if the image is smaller."""
    start = [int(random.integers(room + 1)) for room in _room(record, size, fields)]
    return _cropped(record, start, size, fields)


def centre_crop(record: Record, size: Sequence[int], *, fields: Fields = None) -> Record:
    """The middle part of `size` (H, W) or (D, H, W). Raises UserError if the image is smaller."""
    return _cropped(record, [room // 2 for room in _room(record, size, fields)], size, fields)


def extended(record: Record, voxels: int, *, fields: Fields = None) -> Record:
    """The image with so many more voxels on every side, as its outermost ones are."""
    widths = [(voxels, voxels)] * len(_grid(record, fields)) + [(0, 0)]
    return _each(record, fields, lambda array: np.pad(array, widths, mode="edge"))


def pad(record: Record, size: Sequence[int], value: float | None = None, *, fields: Fields = None) -> Record:
    """The image amid at least `size`, with `value` round it (None: the image's least; labels get 0)."""
    grid = _grid(record, fields)
    missing = [max(wanted - side, 0) for wanted, side in zip(size, grid, strict=True)]
    widths = [(room // 2, room - room // 2) for room in missing] + [(0, 0)]

    def padded(array: np.ndarray) -> np.ndarray:
        outside = 0 if _is_label(array) else array.min() if value is None else value
        return np.pad(array, widths, constant_values=outside)

    return _each(record, fields, padded) if any(missing) else record


def resize(record: Record, size: Sequence[int], *, fields: Fields = None) -> Record:
    """The whole image on a grid of `size` (H, W) or (D, H, W), by linear interpolation between pixel centres.

    A smaller image is first smoothed by a Gaussian of standard deviation (factor - 1) / 2 pixels along each
    axis, so that fine structure does not alias.
    """
    grid = _grid(record, fields)
    if tuple(size) == grid:
        return record
    if len(size) != len(grid):
        raise UserError(f"record '{record.get('id')}' has size {grid} and cannot be resized to {tuple(size)}")
    factors = np.array(grid) / np.array(size)
    offset = (factors - 1) / 2
    blur = np.maximum(offset, 0)

    def resample(channel: np.ndarray, order: int, mode: str, value: float) -> np.ndarray:
        if order and blur.any():
            channel = ndimage.gaussian_filter(channel, blur, mode="nearest")
        return ndimage.affine_transform(
            channel, factors, offset, tuple(size), order=order, mode=mode, cval=value
        )

    return _resampled(record, fields, "nearest", resample)


def grey(record: Record, *, fields: Sequence[str] = ("image",)) -> Record:
    """One channel: the luma of RGB (ITU-R BT.601); the opacity in a second or fourth channel is dropped."""

    def luma(array: np.ndarray) -> np.ndarray:
        if array.shape[-1] < 3:
            return array[..., :1]
        return array[..., :3] @ np.array([[0.299], [0.587], [0.114]], np.float32)

    return _each(record, fields, luma)


def colour(record: Record, *, fields: Sequence[str] = ("image",)) -> Record:
    """Three channels: RGB without opacity, grey three times."""
    return _each(record, fields, lambda x: np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3])


def _each(record: Record, fields: Fields, function: Callable[[np.ndarray], np.ndarray]) -> Record:
    changed = {name: function(record[name]) for name in _chosen(record, fields)}
    kept = {name: changed[name].astype(record[name].dtype, copy=False) for name in changed}
    return {**record, **kept}


def _chosen(record: Record, fields: Fields) -> list[str]:
    """The fields named, or those on the grid of the first field that is an image."""
    if fields is not None:
        return list(fields)
    maps = {name: value.shape[:-1] for name, value in record.items() if np.ndim(value) >= 3}
    return [name for name, shape in maps.items() if shape == next(iter(maps.values()))]


def _grid(record: Record, fields: Fields) -> tuple[int, ...]:
    chosen = _chosen(record, fields)
    if not chosen:
        raise ValueError(f"record '{record.get('id')}' holds no image: {', '.join(record)}")
    return record[chosen[0]].shape[:-1]


def _is_label(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub"


def _resampled(
    record: Record,
    fields: Fields,
    fill: str | float,
    resample: Callable[[np.ndarray, int, str, float], np.ndarray],
) -> Record:
    """Every channel by `resample(channel, order, mode, value)`; order 0 for labels, 1 for others."""

    def channels(array: np.ndarray) -> np.ndarray:
        label = _is_label(array)
        mode = fill if isinstance(fill, str) else "constant"
        value = 0.0 if label or isinstance(fill, str) else fill
        order = 0 if label else 1
        # SciPy has no resampling of bool.
        source = array.astype(np.uint8) if array.dtype.kind == "b" else array
        return np.stack(
            [resample(source[..., c], order, mode, value) for c in range(array.shape[-1])], axis=-1
        )

    return _each(record, fields, channels)


def _smoothed(noise: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian filter with zeros outside, as SciPy's but in Fourier space: far faster for a wide filter."""
    radius = int(4 * sigma + 0.5)
    padded = [fft.next_fast_len(side + radius, real=True) for side in noise.shape]
    spectrum = fft.rfftn(noise, padded)
    for axis, side in enumerate(padded):
        transfer = _transfer(side, sigma)[: spectrum.shape[axis]]
        spectrum *= transfer.reshape(-1, *[1] * (noise.ndim - 1 - axis))
    return fft.irfftn(spectrum, padded)[tuple(slice(side) for side in noise.shape)]


@functools.lru_cache(maxsize=16)
def _transfer(side: int, sigma: float) -> np.ndarray:
    """Fourier transform `(side,)` of the Gaussian, which is cut off at four standard deviations."""
    radius = int(4 * sigma + 0.5)
    places = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    kernel = np.bincount(places % side, weights / weights.sum(), side)
    return fft.fft(kernel).real.astype(np.float32)


def _room(record: Record, size: Sequence[int], fields: Fields) -> list[int]:
    grid = _grid(record, fields)
    if len(size) != len(grid) or any(wanted > side for wanted, side in zip(size, grid, strict=True)):
        raise UserError(
            f"record '{record.get('id')}' has size {grid}, too small for a crop of {tuple(size)}: pad it"
        )
    return [side - wanted for wanted, side in zip(size, grid, strict=True)]


def _cropped(record: Record, start: Sequence[int], size: Sequence[int], fields: Fields) -> Record:
    window = tuple(slice(first, first + side) for first, side in zip(start, size, strict=True))
    return _each(record, fields, lambda array: array[window])
