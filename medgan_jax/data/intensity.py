"""Invertible intensity maps: from the unit of a source to the range of a network, and back to that unit.

Every map is a frozen dataclass with `forward`, `inverse`, the `unit` that it starts from, and `clips`:
whether values outside its range are lost. Arrays may be NumPy or JAX. Integers become float32, which holds
every 16-bit value, so -1024 HU comes back as -1024 wherever the map does not clip it. No map guesses a range:
the source range, the target range and the unit are arguments.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from medgan_jax.errors import UserError

Range = tuple[float, float]

# Hounsfield units, from level and width: -600 and 1500, 40 and 400, 400 and 1800, 40 and 80; all of 12 bits.
HU_RANGES: dict[str, Range] = {
    "lung": (-1350.0, 150.0),
    "soft_tissue": (-160.0, 240.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "full": (-1024.0, 3071.0),
}


class Intensity(Protocol):
    """What every map has."""

    unit: str

    @property
    def clips(self) -> bool:
        """Whether values outside the map's range cannot be restored."""

    def forward(self, x: Any) -> Any:
        """Values in `unit`, any shape, to the network's range."""

    def inverse(self, y: Any) -> Any:
        """The network's range, any shape, to values in `unit`."""


def _floating(x: Any) -> Any:
    """Integers and booleans as float32 (NumPy integers over 16 bits as float64); floats as they are."""
    if np.issubdtype(x.dtype, np.integer) or x.dtype == bool:
        wide = isinstance(x, np.ndarray) and x.dtype.itemsize > 2
        return x.astype(np.float64 if wide else np.float32)
    return x


def _require_range(values: Range, name: str) -> None:
    low, high = values
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UserError(f"{name} must be two finite numbers that rise, not {low} and {high}")


def _fitted(array: Any, mask: Any | None) -> np.ndarray:
    """The values that a map is fitted to, as float64; none, NaN or infinity among them is an error."""
    values = np.asarray(array, np.float64)
    values = values.ravel() if mask is None else values[np.broadcast_to(np.asarray(mask, bool), values.shape)]
    if not values.size:
        raise UserError("an intensity map cannot be fitted to no values: the image or its mask is empty")
    if not np.isfinite(values).all():
        raise UserError("an intensity map cannot be fitted to NaN or infinity")
    return values


@dataclass(frozen=True)
class Affine:
    """y = scale · x + offset. Exact inverse (x = (y - offset) / scale) for every x."""

    scale: float
    offset: float
    unit: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and np.isfinite(self.offset)) or self.scale == 0:
            raise UserError(
                f"an affine map needs a finite scale other than 0, not {self.scale} and {self.offset}"
            )

    @property
    def clips(self) -> bool:
        """False: nothing is lost."""
        return False

    def forward(self, x: Any) -> Any:
        """scale · x + offset."""
        return _floating(x) * self.scale + self.offset

    def inverse(self, y: Any) -> Any:
        """(y - offset) / scale."""
        return (_floating(y) - self.offset) / self.scale


@dataclass(frozen=True)
class _Ranged:
    """A linear map of [low, high] in `unit` onto the interval `to`."""

    low: float
    high: float
    unit: str
    to: Range

    def __post_init__(self) -> None:
        _require_range((self.low, self.high), "the source range of an intensity map")
        _require_range(self.to, "the target range of an intensity map")

    @property
    def _scale(self) -> float:
        return (self.to[1] - self.to[0]) / (self.high - self.low)

    def forward(self, x: Any) -> Any:
        """to[0] + (x - low) · (to[1] - to[0]) / (high - low)."""
        return (_floating(x) - self.low) * self._scale + self.to[0]

    def inverse(self, y: Any) -> Any:
        """low + (y - to[0]) · (high - low) / (to[1] - to[0])."""
        return (_floating(y) - self.to[0]) / self._scale + self.low


@dataclass(frozen=True)
class Window(_Ranged):
    """[low, high] onto `to`; values outside are clipped and lost, values inside come back exactly.

    For CT: `Window(-160, 240, "HU", to=(-1, 1))`.
    """

    @property
    def clips(self) -> bool:
        """True: values outside [low, high] come back as its ends."""
        return True

    def forward(self, x: Any) -> Any:
        """The linear map of x clipped to [low, high]."""
        return super().forward(_floating(x).clip(self.low, self.high))

    def inverse(self, y: Any) -> Any:
        """Values in [low, high]: a network's overshoot is clipped to the window too."""
        return super().inverse(_floating(y).clip(*self.to))

    @classmethod
    def level_width(cls, level: float, width: float, unit: str, to: Range) -> "Window":
        """A window by its level (centre) and width, as radiology writes it."""
        return cls(level - width / 2, level + width / 2, unit, to)

    @classmethod
    def fit_percentiles(
        cls, array: Any, lower: float, upper: float, unit: str, to: Range, mask: Any | None = None
    ) -> "Window":
        """A window between two percentiles (0 to 100) of the values, or of those under a mask.

        Where both percentiles are one value, the window is one unit wide above it.
        """
        if not 0 <= lower < upper <= 100:
            raise UserError(f"percentiles must rise within 0 to 100, not {lower} and {upper}")
        low, high = (float(value) for value in np.percentile(_fitted(array, mask), [lower, upper]))
        return cls(low, high if high > low else low + 1.0, unit, to)


@dataclass(frozen=True)
class MinMax(_Ranged):
    """The smallest and largest value of an image onto the ends of `to`; linear beyond, nothing is lost."""

    @property
    def clips(self) -> bool:
        """False: values beyond the fitted range land beyond `to`."""
        return False

    @classmethod
    def fit(cls, array: Any, unit: str, to: Range, mask: Any | None = None) -> "MinMax":
        """From the values of one image; a constant image lands on to[0]."""
        values = _fitted(array, mask)
        low, high = float(values.min()), float(values.max())
        return cls(low, high if high > low else low + 1.0, unit, to)


@dataclass(frozen=True)
class MaxScale:
    """y = x / maximum: zero stays zero."""

    maximum: float
    unit: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.maximum) and self.maximum > 0):
            raise UserError(
                f"the maximum of an intensity map must be positive and finite, not {self.maximum}"
            )

    @property
    def clips(self) -> bool:
        """False: nothing is lost."""
        return False

    def forward(self, x: Any) -> Any:
        """x / maximum."""
        return _floating(x) / self.maximum

    def inverse(self, y: Any) -> Any:
        """y · maximum."""
        return _floating(y) * self.maximum

    @classmethod
    def fit(cls, array: Any, unit: str, mask: Any | None = None) -> "MaxScale":
        """From the largest magnitude in one image; an image of zeros is left as it is."""
        return cls(float(np.abs(_fitted(array, mask)).max()) or 1.0, unit)


@dataclass(frozen=True)
class ZScore:
    """y = (x - mean) / deviation."""

    mean: float
    deviation: float
    unit: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and np.isfinite(self.deviation) and self.deviation > 0):
            raise UserError(
                f"a z-score needs a finite mean and positive deviation, not {self.mean} and {self.deviation}"
            )

    @property
    def clips(self) -> bool:
        """False: nothing is lost."""
        return False

    def forward(self, x: Any) -> Any:
        """(x - mean) / deviation."""
        return (_floating(x) - self.mean) / self.deviation

    def inverse(self, y: Any) -> Any:
        """y · deviation + mean."""
        return _floating(y) * self.deviation + self.mean

    @classmethod
    def fit(cls, array: Any, mask: Any | None, unit: str) -> "ZScore":
        """Mean and population deviation under a mask (None: of all values); a constant image lands on 0."""
        values = _fitted(array, mask)
        return cls(float(values.mean()), float(values.std()) or 1.0, unit)


@dataclass(frozen=True)
class Chain:
    """Maps one after another; the inverse runs them backwards."""

    maps: tuple[Intensity, ...]

    def __post_init__(self) -> None:
        if not self.maps:
            raise UserError("a chain of intensity maps needs at least one map")

    @property
    def unit(self) -> str:
        """The unit of the first map."""
        return self.maps[0].unit

    @property
    def clips(self) -> bool:
        """Whether any map of the chain does."""
        return any(each.clips for each in self.maps)

    def forward(self, x: Any) -> Any:
        """All maps, first to last."""
        return functools.reduce(lambda value, each: each.forward(value), self.maps, x)

    def inverse(self, y: Any) -> Any:
        """All inverses, last to first."""
        return functools.reduce(lambda value, each: each.inverse(value), reversed(self.maps), y)


def compose(maps: Sequence[Intensity]) -> Chain:
    """The chain of maps, first to last."""
    return Chain(tuple(maps))


def hu_window(tissue: str, to: Range) -> Window:
    """A Hounsfield window by name: lung, soft_tissue, bone, brain or full (-1024 to 3071, 12 bits).

    Args:
      tissue: a key of `HU_RANGES`.
      to: the network's range, such as (-1, 1).
    """
    if tissue not in HU_RANGES:
        raise UserError(
            f"no window is named {tissue!r}; use one of {', '.join(HU_RANGES)}, or a Window of your own"
        )
    return Window(*HU_RANGES[tissue], "HU", to)


def require_unit(intensity: Intensity, unit: str, name: str) -> None:
    """Refuse a map on values of another unit.

    Args:
      intensity: the map.
      unit: the unit of the values, such as `MedicalImage.unit`.
      name: what the values are, for the message: a path.
    """
    if intensity.unit != unit:
        raise UserError(f"{name}: its values are in {unit}, the intensity map is for {intensity.unit}")
