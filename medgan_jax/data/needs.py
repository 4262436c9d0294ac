"""What an experiment takes from a data source, and whether a source has it.

An experiment declares it in one line of its module, with plain values, so that it is known without importing
the experiment:

    NEEDS = Needs(fields=("image", "mask"), channels=1)
"""

import ast
import dataclasses
import functools
import importlib.util
import pathlib


@dataclasses.dataclass(frozen=True)
class Needs:
    """What records have to hold.

    fields: their names. rank: spatial axes of the images. channels: of the images; None takes any. domains:
    how many unpaired domains; 0 for none.
    """

    fields: tuple[str, ...] = ("image",)
    rank: int = 2
    channels: int | None = None
    domains: int = 0


@dataclasses.dataclass(frozen=True)
class Offer:
    """What a source has: its fields, rank and channels of its images (None: not known), and its domains."""

    fields: frozenset[str]
    rank: int | None = None
    channels: int | None = None
    domains: int = 0


def declared(module: str) -> Needs | None:
    """The `NEEDS` of an experiment's module, which is read and not imported; None where it declares none."""
    found = importlib.util.find_spec(module)
    return None if found is None or found.origin is None else _declared(pathlib.Path(found.origin))


@functools.cache
def _declared(path: pathlib.Path) -> Needs | None:
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "NEEDS":
            return Needs(**{word.arg: ast.literal_eval(word.value) for word in line.value.keywords})
    return None


def fits(needs: Needs, offer: Offer) -> bool:
    """Whether a source has what an experiment takes, sizes aside."""
    if needs.domains:
        return offer.domains >= needs.domains
    return (
        set(needs.fields) <= offer.fields
        and offer.rank in (None, needs.rank)
        and (needs.channels is None or offer.channels in (None, needs.channels))
    )
