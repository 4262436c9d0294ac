"""Head phantoms in two modalities, as folders of images with a given prevalence of lesions.

Everyone of the test set is drawn twice, with a lesion and without, so that what a translation invents or
loses is known person by person. The sets of all prevalences are of the same people: who has a lesion at 25 %
has one at 50 %.
"""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax
import numpy as np

from medgan_jax.data.records import digest
from medgan_jax.errors import UserError
from medgan_jax.phantoms.head_study import head_study
from medgan_jax.review import code, learning
from medgan_jax.review.real.sets.files import write_picture

MODALITIES = ("t1", "flair")
INPUT_PREVALENCE = 0.5  # of the unpaired source set
SCALE = 50000  # whole numbers of 16 bits for an intensity of 1, of which no pixel is far above
PARTS = {"train": 0, "validation": 1, "test": 2}
DONE = "done.json"
CHUNK = 8


@dataclasses.dataclass(frozen=True)
class Cohort:
    """People of one part: images (N, H, W) of both modalities with and without the lesion, and its place."""

    present: dict[str, np.ndarray]
    absent: dict[str, np.ndarray]
    lesions: np.ndarray
    brains: np.ndarray


@functools.partial(jax.jit, static_argnames=("size",))
def _draw(keys: jax.Array, present: jax.Array, size: int):
    def one(key, ill):
        return head_study(key, size, modalities=MODALITIES, disease="tumour", present=ill, mass_effect=0.0)

    return jax.vmap(one)(keys, present)


@functools.lru_cache(maxsize=16)
def cohort(size: int, count: int, part: str, first: int = 0) -> Cohort:
    """People number `first` to `first + count - 1` of a part; nobody is in two parts."""
    root = jax.random.fold_in(jax.random.key(0), PARTS[part])
    drawn = {True: [], False: []}
    for start in range(first, first + count, CHUNK):
        keys = jax.vmap(lambda number: jax.random.fold_in(root, number))(start + np.arange(CHUNK))
        for ill in drawn:
            drawn[ill].append(jax.device_get(_draw(keys, np.full(CHUNK, ill), size)))
    joined = {ill: {name: np.concatenate([each[name] for each in found])[:count] for name in found[0]}
              for ill, found in drawn.items()}  # fmt: skip
    present, absent = (
        {name: np.asarray(joined[ill]["image"][..., channel]) for channel, name in enumerate(MODALITIES)}
        for ill in (True, False)
    )
    lesions, brains = joined[True]["lesion_mask"], joined[True]["brain_mask"]
    present = {name: like(image, absent[name], brains & ~lesions) for name, image in present.items()}
    present, absent = (
        {name: rounded(image) for name, image in images.items()} for images in (present, absent)
    )
    return Cohort(present, absent, lesions, brains)


def like(images: np.ndarray, others: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Images (N, H, W) times the number that makes the mean of their region that of the others.

    A phantom's largest value is 1, so that a bright lesion darkens all else, by which it could be told.
    """
    wanted, found = ((regions * each).sum((1, 2), keepdims=True) for each in (others, images))
    return images * wanted / np.maximum(found, 1e-6)


def rounded(images: np.ndarray) -> np.ndarray:
    """Intensities as whole numbers of a file."""
    return np.round(SCALE * np.asarray(images)).clip(0, 65535).astype(np.uint16)


def with_lesion(count: int, prevalence: float) -> np.ndarray:
    """Who of `count` people has one: a fixed order, of whom the first share `prevalence`."""
    order = np.random.default_rng(0).permutation(count)
    return order < round(prevalence * count)


def unpaired_set(
    root: pathlib.Path, size: int, counts: tuple[int, int, int], prevalence: float
) -> pathlib.Path:
    """`trainA trainB ...`: source images, half with lesions, and other people's of the target."""

    def make(folder: pathlib.Path) -> None:
        for part, count in zip(PARTS, counts, strict=True):
            for number, (domain, share) in enumerate((("A", INPUT_PREVALENCE), ("B", prevalence))):
                people = cohort(size, count, part, first=number * count)
                for person, image in enumerate(images_of(people, MODALITIES[number], share)):
                    write_picture(
                        folder / f"{part}{domain}" / f"{part}_{domain.lower()}{person:04d}.png", image
                    )

    return made(root, "unpaired", size, counts, prevalence, make)


def paired_set(
    root: pathlib.Path, size: int, counts: tuple[int, int, int], prevalence: float
) -> pathlib.Path:
    """`train/A train/B ...`: both modalities of the same people, a share `prevalence` with a lesion."""

    def make(folder: pathlib.Path) -> None:
        for part, count in zip(PARTS, counts, strict=True):
            people = cohort(size, count, part)
            for domain, modality in zip("AB", MODALITIES, strict=True):
                for person, image in enumerate(images_of(people, modality, prevalence)):
                    write_picture(folder / part / domain / f"{part}_p{person:04d}.png", image)

    return made(root, "paired", size, counts, prevalence, make)


def images_of(people: Cohort, modality: str, prevalence: float) -> np.ndarray:
    """Their images (N, H, W), of those who have a lesion with it."""
    ill = with_lesion(len(people.lesions), prevalence)
    return np.where(ill[:, None, None], people.present[modality], people.absent[modality])


def made(root: pathlib.Path, kind: str, size: int, counts, prevalence: float, make) -> pathlib.Path:
    """The folder of a set, drawn where it is not there whole; named by the code that draws it."""
    settings = {"kind": kind, "size": size, "counts": list(counts), "prevalence": prevalence}
    drawing = learning.fingerprint("medgan_jax.phantoms.head_study", settings)
    name = f"{kind}_{round(100 * prevalence)}"
    place = root / digest(drawing, code.code(__name__))[:12]
    if not (place / DONE).is_file():
        shutil.rmtree(place, ignore_errors=True)
        try:
            (place / name).mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{place} cannot be made: {error.strerror}") from error
        make(place / name)
        (place / DONE).write_text(json.dumps(settings) + "\n")
    return (place / name).absolute()
