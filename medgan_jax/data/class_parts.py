"""Cases of several classes, apart in training, for methods that have networks of their own for each class."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import Draw, Parts, open_parts, require_image, value_range
from medgan_jax.data.pipeline import Augment, Data, Stream
from medgan_jax.data.sources import SPLITS, PhantomSource, Source, subset
from medgan_jax.errors import UserError
from medgan_jax.phantoms.liver_lesions import LABELS, liver_lesion_patch
from medgan_jax.phantoms.torso import windowed

LIVER_LESIONS = tuple(LABELS)


@dataclasses.dataclass(frozen=True)
class ClassParts:
    """Training cases by class; validation and test cases of all classes, with their `label`."""

    train: Mapping[str, Source]
    validation: Source
    test: Source

    def data(self, rows: int, augment: Augment | None = None) -> Data:
        """Training batches of `rows` images of each class, `{class: (rows, H, W, C)}`; labelled cases."""
        streams = {each: Stream(source, rows, augment, ("image",)) for each, source in self.train.items()}
        return Data(streams, self.validation, self.test, evaluation_batch_size=60, fields=("image", "label"))

    def symmetric_range(self) -> MinMax:
        """The map of the range of the training images of all classes onto [-1, 1]."""
        ends = [value_range(source) for source in self.train.values()]
        return MinMax(min(low for low, _ in ends), max(high for _, high in ends), "input", (-1, 1))


def open_class_parts(
    source: str,
    phantom: functools.partial,
    classes: Sequence[str],
    *,
    size: int,
    channels: int,
    name: str,
    counts: tuple[Sequence[int], int, int],
    seed: int = 0,
    version: int = 1,
) -> ClassParts:
    """Checked cases with an `image` of sides `size`, in training by class, else with a `label`.

    Labels are the numbers of `classes`. phantom: (key, label) -> record. counts: training phantoms of each
    class, and validation and test phantoms of all, equally frequent. UserError where a folder has others.
    """
    labels = range(len(classes))
    if source == "phantom":
        train = {
            each: PhantomSource(
                f"{name}_{each}",
                functools.partial(phantom, label=label),
                counts[0][label],
                seed + label,
                version=version,
            )
            for label, each in zip(labels, classes, strict=True)
        }
        mixed = functools.partial(_of_any_class, phantom.func, len(classes), **phantom.keywords)
        held = [
            PhantomSource(name, mixed, count, seed, split=split, version=version)
            for split, count in zip(SPLITS[1:], counts[1:], strict=True)
        ]
        return _checked(ClassParts(train, *held), channels, size)
    parts = open_parts(source, phantom, name=name, counts=counts)
    found = [_class_of(parts.train, index) for index in range(len(parts.train))]
    if set(found) != set(labels):
        raise UserError(
            f"'{parts.train.name}' has training cases of the classes {sorted(set(found))}; this experiment "
            f"takes {', '.join(f'{label} ({each})' for label, each in zip(labels, classes, strict=True))}"
        )
    train = {
        each: subset(parts.train, [index for index, own in enumerate(found) if own == label])
        for label, each in zip(labels, classes, strict=True)
    }
    return _checked(ClassParts(train, parts.validation, parts.test), channels, size)


def open_liver_lesions(
    source: str, *, size: int, counts: tuple[Sequence[int], int, int], margin: int = 0, noise: float = 12.0
) -> ClassParts:
    """Checked patches of the `LIVER_LESIONS`, of sides `size`: what `source` names, or phantoms of CT.

    Phantoms are seen through a window from -40 to 210 HU, their labels are the numbers of these classes.
    margin: pixels of a larger phantom that are cut off at each side, so that its lesion fills the patch more.
    noise: of phantoms, in HU.
    """
    phantom = functools.partial(_liver_lesion, size=size, margin=margin, noise=noise)
    name = f"liver_lesion_{size}"
    return open_class_parts(source, phantom, LIVER_LESIONS, size=size, channels=1, name=name, counts=counts)


def _liver_lesion(
    key: jax.Array, label: jax.Array | int, *, size: int, margin: int, noise: float
) -> dict[str, jax.Array]:
    image = windowed(liver_lesion_patch(key, label, size + 2 * margin, noise=noise)["image"], 85, 250)
    return {"image": image[margin : margin + size, margin : margin + size]}


def _checked(parts: ClassParts, channels: int, size: int) -> ClassParts:
    for train in parts.train.values():
        require_image(Parts(train, parts.validation, parts.test), channels=channels, size=size)
    return parts


def _of_any_class(draw: Draw, classes: int, key: jax.Array, **options) -> dict[str, jax.Array]:
    choice, key = jax.random.split(key)
    label = jax.random.randint(choice, (), 0, classes)
    return {**draw(key, label=label, **options), "label": label}


def _class_of(part: Source, index: int) -> int:
    record = part[index]
    if "label" not in record or np.ndim(record["label"]):
        raise UserError(f"'{part.name}' has no class for each case, such as a column 'label' in its table")
    return int(record["label"])
