"""Sampling masks in k-space: which frequencies an accelerated scan measures.

Masks are made on the host with NumPy, once for a run or once for a case, and are deterministic by their seed.
They are stored centred (zero frequency at index `n // 2`), as `fourier` expects them. `rate` is the retained
fraction. Point masks keep the number of samples nearest to it, which is within 1 % of the rate from 50 kept
samples on. Masks of whole columns keep the number of columns nearest to it, which may be further away: 10 % of
256 columns are 26 of them, 10.16 %.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from medgan_jax.physics import fourier

MaskKind = Literal[
    "gaussian1d", "gaussian2d", "poisson2d", "radial", "spiral", "cartesian_vardens", "power1d", "vdrad"
]
MASK_KINDS: tuple[str, ...] = get_args(MaskKind)

# Fully sampled centres measured in the 256 x 256 mask files of tensorlayer/DAGAN, by nominal rate.
DAGAN_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
DAGAN_BANDS_1D = (0, 10, 20, 26, 36, 48, 256)
DAGAN_SQUARES_2D = (0, 10, 18, 26, 34, 44, 256)
DAGAN_SQUARE_POISSON = 30


def make_mask(
    kind: MaskKind, shape: Sequence[int], rate: float, seed: int | Sequence[int] = 0, **options: float
) -> np.ndarray:
    """A mask of zeros and ones, float32, of `shape` `(H, W)` or `(D, H, W)`, that keeps the fraction `rate`.

    In a volume the pattern lies in the plane of H and W (the two phase-encoding directions) and is repeated
    along D (the readout, always fully sampled). Columns, the last axis, are the lines of the one-dimensional
    kinds.

    `seed` is a whole number or several of them, so `(seed, case)` gives each case its own reproducible mask.

    Kinds and their options (all lengths in samples):

    * `gaussian1d`: columns drawn without replacement from a Gaussian density of standard deviation `spread`
      (default 0.15 of W), besides a full centre band of `centre` columns (default: as measured in DAGAN's
      files);
    * `gaussian2d`: points, likewise; `spread` is a fraction of each side (default 0.2), `centre` the side of
      the square;
    * `poisson2d`: variable-density Poisson disc: distances between points grow from the centre to the edge by
      a factor `1 + growth` (default 4); full centre square of side `centre` (default 30 of 256, as in DAGAN's
      files);
    * `radial`: equally spaced straight spokes through the centre, at a random first angle;
    * `spiral`: one Archimedean arm, `radius ~ time ** power` (default 2: the pitch widens outwards), in the
      disc;
    * `cartesian_vardens`: columns with density `exp(-(k / (W / 10))^2 / 2) + rate / 2`, as in kt-FOCUSS, and
      a band of `centre` (default 10) columns;
    * `power1d`: columns with density `(1 - |k| / (W / 2)) ** power` (default 2), and `centre` (default 3)
      columns;
    * `vdrad`: points with density `(1 - radius) ** power` (default 3), and a full disc of radius `centre`
      (default: a tenth of the samples).

    Default centres give way (to half of all samples) where the rate is too small for them.

    Raises `ValueError` for an unknown kind or option, a rate outside (0, 1], a rate that leaves not one
    column or sample, a `centre` that holds more than the rate allows, and a spiral over more than its disc.
    """
    shape = tuple(int(side) for side in shape)
    if kind not in MASK_KINDS:
        raise ValueError(f"unknown mask '{kind}'; there are {', '.join(MASK_KINDS)}")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"a mask has two or three sides of at least 1, not {shape}")
    if not 0 < rate <= 1:
        raise ValueError(f"the retained fraction of a mask lies in (0, 1], not {rate}")
    maker = _MAKERS[kind]
    allowed = maker.__kwdefaults__ or {}
    if unknown := sorted(set(options) - set(allowed)):
        known = ", ".join(allowed) or "none"
        raise ValueError(f"mask '{kind}' takes no option {', '.join(unknown)}; it takes {known}")
    plane = maker(shape[-2:], rate, np.random.default_rng(seed), **options)
    return np.broadcast_to(plane, shape).astype(np.float32)


def gaussian1d(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    *,
    spread: float = 0.15,
    centre: int | None = None,
) -> np.ndarray:
    """See `make_mask`."""
    k = _frequencies(shape[1])
    wanted = _dagan_centre(rate, DAGAN_BANDS_1D, shape[1])
    return _columns(shape, rate, random, -0.5 * (k / (spread * shape[1])) ** 2, centre, wanted)


def cartesian_vardens(
    shape: tuple[int, int], rate: float, random: np.random.Generator, *, centre: int | None = None
) -> np.ndarray:
    """See `make_mask`. Density of mseitzer/csmri-refinement, `compressed_sensing.py`."""
    k = _frequencies(shape[1])
    density = np.exp(-0.5 * (k / (shape[1] / 10)) ** 2) + rate / 2
    return _columns(shape, rate, random, np.log(density), centre, 10)


def power1d(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    *,
    power: float = 2.0,
    centre: int | None = None,
) -> np.ndarray:
    """See `make_mask`. Density of the GANCS code, there in unshifted order; its exponent is ours."""
    k = np.abs(_frequencies(shape[1]))
    return _columns(shape, rate, random, power * np.log1p(-k / (shape[1] / 2 + 1)), centre, 3)


def gaussian2d(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    *,
    spread: float = 0.2,
    centre: int | None = None,
) -> np.ndarray:
    """See `make_mask`."""
    y, x = _plane(shape)
    wanted = _dagan_centre(rate, DAGAN_SQUARES_2D, min(shape))
    full = _square(shape, _samples(shape, rate), centre, wanted)
    # `_plane` is in halves of a side, `spread` in sides.
    return _points(shape, rate, random, -0.5 * (y**2 + x**2) / (2 * spread) ** 2, full)


def vdrad(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    *,
    power: float = 3.0,
    centre: float | None = None,
) -> np.ndarray:
    """See `make_mask`. Stands for the variable density with radial view order of GANCS."""
    y, x = np.meshgrid(*(_frequencies(side) for side in shape), indexing="ij")
    radius = np.hypot(y, x)
    inside = np.sqrt(0.1 * _samples(shape, rate) / np.pi) if centre is None else centre
    log_density = power * np.log1p(-radius / (radius.max() + 1))
    return _points(shape, rate, random, log_density, radius <= inside)


def poisson2d(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    *,
    growth: float = 4.0,
    centre: int | None = None,
) -> np.ndarray:
    """See `make_mask`. Darts with a shrinking distance (McCool and Fiume, 1992) reach the exact count."""
    count = _samples(shape, rate)
    mask = _square(shape, count, centre, round(DAGAN_SQUARE_POISSON * min(shape) / 256))
    y, x = _plane(shape)
    # On a grid distances are few (1, sqrt 2, 2, ...); the jitter keeps them from showing as rings.
    relative = (1 + growth * np.hypot(y, x) / np.sqrt(2)) * random.uniform(0.6, 1.4, shape)
    distance = min(shape) / 16
    missing = count - int(mask.sum())
    while missing > 0:
        missing -= _throw_darts(mask, distance * relative, missing, random)
        distance *= 0.9
    return mask


def radial(shape: tuple[int, int], rate: float, random: np.random.Generator) -> np.ndarray:
    """See `make_mask`. Spokes reach the corners, less what would exceed the rate."""
    first = random.uniform(0, np.pi)
    reach = np.hypot(*shape) / 2 + 1
    steps = np.arange(0, reach, 0.5)
    along = np.stack([steps, -steps], axis=-1).reshape(-1, 1)

    def spokes(number: int) -> tuple[np.ndarray, np.ndarray]:
        # All spokes grow outwards together, so that they end alike.
        angle = first + np.pi * np.arange(number) / number
        return along * np.sin(angle), along * np.cos(angle)

    return _trajectory(shape, rate, spokes, most=4 * max(shape))


def spiral(
    shape: tuple[int, int], rate: float, random: np.random.Generator, *, power: float = 2.0
) -> np.ndarray:
    """See `make_mask`. The arm ends early where it would exceed the rate."""
    first = random.uniform(0, 2 * np.pi)
    parts = 8

    def arm(number: int) -> tuple[np.ndarray, np.ndarray]:
        turns = number / parts
        time = np.sqrt(np.linspace(0, 1, int(np.pi * max(shape) * (turns + 1) * 1.5)))
        angle = first + 2 * np.pi * turns * time
        radius = time**power
        return (shape[0] - 1) / 2 * radius * np.sin(angle), (shape[1] - 1) / 2 * radius * np.cos(angle)

    return _trajectory(shape, rate, arm, most=parts * 2 * max(shape))


_MAKERS: dict[str, Callable[..., np.ndarray]] = {
    "gaussian1d": gaussian1d,
    "gaussian2d": gaussian2d,
    "poisson2d": poisson2d,
    "radial": radial,
    "spiral": spiral,
    "cartesian_vardens": cartesian_vardens,
    "power1d": power1d,
    "vdrad": vdrad,
}


def _samples(shape: tuple[int, ...], rate: float) -> int:
    """How many of the samples of `shape` make up `rate`; at least one."""
    count = round(rate * float(np.prod(shape)))
    if count < 1:
        raise ValueError(f"a rate of {rate} leaves no sample of {shape}")
    return count


def _frequencies(side: int) -> np.ndarray:
    """Centred whole frequencies `-(n // 2) ... `, `(side,)`."""
    return np.arange(side) - side // 2


def _plane(shape: tuple[int, int]) -> list[np.ndarray]:
    """Centred coordinates `y, x`, each `(H, W)`, in halves of a side."""
    return np.meshgrid(*(_frequencies(side) / (side / 2) for side in shape), indexing="ij")


def _dagan_centre(rate: float, sizes: tuple[int, ...], side: int) -> int:
    """The measured fully sampled centre of DAGAN's files, interpolated in the rate and scaled to `side`."""
    return round(float(np.interp(rate, DAGAN_RATES, sizes)) * side / 256)


def _middle(side: int, width: int) -> slice:
    """The `width` indices round the zero frequency of an axis of `side`."""
    start = side // 2 - width // 2
    return slice(max(start, 0), start + width)


def _columns(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    log_density: np.ndarray,
    centre: int | None,
    wanted: int,
) -> np.ndarray:
    """Whole columns drawn by `log_density` `(W,)`, and the band `centre` (or, if it fits, `wanted`)."""
    count = _samples(shape[1:], rate)
    band = min(wanted, max(1, count // 2)) if centre is None else int(centre)
    full = np.zeros(shape[1], bool)
    full[_middle(shape[1], band)] = True
    return np.broadcast_to(_draw(full, count, log_density, random), shape)


def _points(
    shape: tuple[int, int],
    rate: float,
    random: np.random.Generator,
    log_density: np.ndarray,
    full: np.ndarray,
) -> np.ndarray:
    """Points drawn by `log_density` `(H, W)` besides those in `full`."""
    return _draw(full.ravel(), _samples(shape, rate), log_density.ravel(), random).reshape(shape)


def _draw(
    full: np.ndarray, count: int, log_density: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """`full` and others up to `count`, without replacement, in proportion to the density (Gumbel trick)."""
    if full.sum() > count:
        raise ValueError(f"a full centre of {full.sum()} exceeds the {count} samples that the rate allows")
    score = np.where(full, np.inf, log_density + random.gumbel(size=full.shape))
    mask = np.zeros(full.shape, bool)
    mask[np.argsort(-score, kind="stable")[:count]] = True
    return mask


def _square(shape: tuple[int, int], count: int, centre: int | None, wanted: int) -> np.ndarray:
    """The full centre square `(H, W)` of side `centre`, or of `wanted` if that is at most half of `count`."""
    side = min(wanted, max(1, int(np.sqrt(count / 2)))) if centre is None else int(centre)
    mask = np.zeros(shape, bool)
    mask[_middle(shape[0], side), _middle(shape[1], side)] = True
    if mask.sum() > count:
        raise ValueError(f"a full centre of {mask.sum()} exceeds the {count} samples that the rate allows")
    return mask


def _throw_darts(mask: np.ndarray, distance: np.ndarray, most: int, random: np.random.Generator) -> int:
    """Adds to `mask`, in place, up to `most` points nowhere nearer than `distance` `(H, W)`; their number."""
    free = ndimage.distance_transform_edt(~mask) >= np.maximum(distance, 0.5)
    height, width = mask.shape
    added = 0
    for place in random.permutation(np.flatnonzero(free)):
        y, x = divmod(int(place), width)
        if not free[y, x]:
            continue
        mask[y, x] = True
        added += 1
        if added == most:
            break
        disc = _disc(float(np.ceil(distance[y, x] ** 2)))
        reach = disc.shape[0] // 2
        top, left = max(y - reach, 0), max(x - reach, 0)
        window = free[top : min(y + reach + 1, height), left : min(x + reach + 1, width)]
        start = top - y + reach, left - x + reach
        window &= ~disc[start[0] : start[0] + window.shape[0], start[1] : start[1] + window.shape[1]]
    return added


@functools.cache
def _disc(square: float) -> np.ndarray:
    """The grid points whose squared distance from the middle is less than `square`."""
    reach = int(np.ceil(np.sqrt(square)))
    offset = np.arange(-reach, reach + 1) ** 2
    return offset[:, None] + offset < square


def _trajectory(
    shape: tuple[int, int],
    rate: float,
    points: Callable[[int], tuple[np.ndarray, np.ndarray]],
    most: int,
) -> np.ndarray:
    """The first `rate` of the grid that the shortest sufficient trajectory `points(number)` visits."""
    count = _samples(shape, rate)
    low, high = 0, 1
    while len(_visited(shape, *points(high))) < count:
        if high >= most:
            raise ValueError(f"this trajectory cannot cover {rate:.0%} of {shape}")
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        enough = len(_visited(shape, *points(middle))) >= count
        low, high = (low, middle) if enough else (middle, high)
    mask = np.zeros(shape, bool)
    mask.flat[_visited(shape, *points(high))[:count]] = True
    return mask


def _visited(shape: tuple[int, int], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Flat indices of the grid points nearest to a path about the centre, in order of first visit."""
    row = np.rint(y.ravel()).astype(int) + shape[0] // 2
    column = np.rint(x.ravel()).astype(int) + shape[1] // 2
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index = row[inside] * shape[1] + column[inside]
    first = np.full(shape[0] * shape[1], len(index))
    np.minimum.at(first, index, np.arange(len(index)))
    order = np.argsort(first, kind="stable")
    return order[: np.count_nonzero(first < len(index))]


def describe_mask(kind: MaskKind, rate: float, mask: np.ndarray) -> str:
    """What a mask keeps, in words: nominal and actual rate, and the part of k-space it determines in real images."""
    determined = float(fourier.effective_rate(mask))
    return (
        f"{kind}, nominal {100 * rate:.4g} %, keeps {100 * mask.mean():.1f} % of the samples, "
        f"which determine {100 * determined:.1f} % of the k-space of a real image"
    )
