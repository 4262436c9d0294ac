"""Which spatial sizes a network takes, and the one-line error for those that it does not."""

import dataclasses
import math
from collections.abc import Sequence

import jax

from medgan_jax.errors import UserError

Size = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Every side a multiple of `multiple` and at least `minimum`; or exactly the sides `exact`."""

    multiple: int = 1
    minimum: int = 1
    exact: tuple[int, ...] | None = None

    def fit(self, sides: Sequence[int]) -> bool:
        """Whether an image with these spatial `sides` can be taken."""
        if self.exact is not None:
            return tuple(sides) == self.exact
        return all(side % self.multiple == 0 and side >= self.minimum for side in sides)

    def check(self, title: str, x: jax.Array) -> None:
        """UserError, about what is called `title`, where the sides of `x` (B, *S, C) do not fit."""
        if not self.fit(x.shape[1:-1]):
            raise UserError(f"{title} takes {self}; this one is {in_words(x.shape[1:-1])}")

    def __str__(self) -> str:
        if self.exact is not None:
            return f"images of exactly {in_words(self.exact)}"
        if self.multiple == 1:
            return f"images with sides of at least {self.minimum}"
        least = f" of at least {self.minimum}" if self.minimum > self.multiple else ""
        return f"images whose sides are multiples of {self.multiple}{least}"


class Sized:
    """Mixin of networks on images: they say in `sizes` what they take, and in `title` who they are."""

    @property
    def sizes(self) -> Sizes:
        raise NotImplementedError

    @property
    def title(self) -> str:
        return f"the {type(self).__name__}"

    @property
    def size_multiple(self) -> int | tuple[int, ...]:
        """What every side must be a multiple of; for networks of one size, its sides."""
        return self.sizes.exact or self.sizes.multiple

    def check_sizes(self, x: jax.Array) -> None:
        """UserError where the sides of `x` (B, *S, C) do not fit; ValueError where it is no image."""
        if x.ndim not in (3, 4, 5):
            raise ValueError(f"{self.title} takes (B, *S, C) with 1 to 3 spatial axes, not {x.shape}")
        self.sizes.check(self.title, x)


def in_words(sides: Sequence[int]) -> str:
    """'256x256'."""
    return "x".join(str(side) for side in sides)


def sides_of(size: Size, rank: int = 2) -> tuple[int, ...]:
    """One side for each of `rank` axes, from one number or from the sides themselves."""
    return (size,) * rank if isinstance(size, int) else tuple(size)


def halvings(size: Size, *, smallest: int = 1, most: int | None = None) -> int:
    """How often all sides can be halved exactly, none falling below `smallest`; at most `most` times."""
    sides = sides_of(size)
    whole = math.gcd(*sides)
    count = 0
    while whole % 2 == 0 and min(sides) // 2 ** (count + 1) >= smallest and count != most:
        whole, count = whole // 2, count + 1
    return count
