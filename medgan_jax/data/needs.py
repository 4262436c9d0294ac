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
from collections.abc import Iterable

SEGMENTATION, DETECTION = "segmentation", "detection"


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
    """What a source has: its fields; rank and channels of its images, 0 where they differ; its domains, if unpaired.

    maps: the fields that are maps of whole numbers on the grid of the image. healthy: whether a training case
    has an empty mask. None: not known.
    """

    fields: frozenset[str]
    rank: int | None = None
    channels: int | None = None
    domains: int = 0
    maps: frozenset[str] | None = None
    healthy: bool | None = None


@dataclasses.dataclass(frozen=True)
class Declaration:
    """An experiment that takes data: what it declares, its application, and which needed fields options rename.

    In segmentation `label` is a map, elsewhere the class of a case; detection trains on cases with an empty
    mask.
    """

    needs: Needs
    application: str = ""
    renamed: frozenset[str] = frozenset()


def declared(module: str) -> Needs | None:
    """The `NEEDS` of an experiment's module, which is read and not imported; None where it declares none."""
    found = importlib.util.find_spec(module)
    return None if found is None or found.origin is None else _declared(pathlib.Path(found.origin))


@functools.cache
def _declared(path: pathlib.Path) -> Needs | None:
    for line in _parsed(path).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "NEEDS":
            return Needs(**{word.arg: ast.literal_eval(word.value) for word in line.value.keywords})
    return None


@functools.cache
def _parsed(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def declaration(module: str, application: str) -> Declaration | None:
    """An experiment's module as it takes data, read and not imported; None where it does not declare that.

    A needed field is renamed by `--config.FIELD NAME` where the `Config` has a field of its name with its name
    as the default, such as `vessels: str = "vessels"`.
    """
    needs = declared(module)
    if needs is None:
        return None
    tree = _parsed(pathlib.Path(importlib.util.find_spec(module).origin))
    classes = (line for line in tree.body if isinstance(line, ast.ClassDef) and line.name == "Config")
    defaults = {
        (line.target.id, line.value.value)
        for config in classes
        for line in config.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Constant)
    }
    return Declaration(needs, application, frozenset(name for name in needs.fields if (name, name) in defaults))


def fits(experiment: Declaration, offers: Iterable[Offer]) -> bool:
    """Whether one of the ways in which a source can be taken has what an experiment takes, sizes aside."""
    return any(
        _has_images(experiment.needs, offer)
        and not _lacking(experiment, offer)
        and not (_needs_healthy(experiment) and offer.healthy is False)
        for offer in offers
    )


def instead(experiment: Declaration, offer: Offer) -> str:
    """What makes maps of other names serve an experiment that does not fit; '' where nothing does.

    `--config.FIELD NAME ...`, or `after renaming NAME to 'FIELD'`; NAME is that of a map.
    """
    missing = _lacking(experiment, offer)
    spare = (offer.maps or frozenset()) - set(experiment.needs.fields)
    if not missing or len(missing) > len(spare) or not _has_images(experiment.needs, offer):
        return ""
    if missing <= experiment.renamed:
        return " ".join(f"--config.{name} NAME" for name in experiment.needs.fields if name in missing)
    maps = {"mask", "label"} if experiment.application == SEGMENTATION else {"mask"}
    if len(missing) > 1 or not missing <= maps or _needs_healthy(experiment):
        return ""
    return f"after renaming NAME to '{min(missing)}'"


def _has_images(needs: Needs, offer: Offer) -> bool:
    """Whether domains, rank and channels are those that are needed."""
    return (
        (offer.domains >= needs.domains if needs.domains else not offer.domains)
        and offer.rank in (None, needs.rank)
        and (needs.channels is None or offer.channels in (None, needs.channels))
    )


def _lacking(experiment: Declaration, offer: Offer) -> set[str]:
    """Needed fields that a source does not have; `label`, too, where it is a map for a class or a class for a map."""
    missing = set(experiment.needs.fields) - offer.fields
    if "label" in experiment.needs.fields and offer.maps is not None:
        is_map = "label" in offer.maps
        return missing | ({"label"} if is_map != (experiment.application == SEGMENTATION) else set())
    return missing


def _needs_healthy(experiment: Declaration) -> bool:
    return experiment.application == DETECTION and "mask" in experiment.needs.fields
