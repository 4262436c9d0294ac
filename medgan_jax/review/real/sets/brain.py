"""From slices of the brain: complex images, slices with known effects, patches with inserted lesions.

Where something is inserted, the subjects that carry it and those that do not are different people in every
part.
"""

import pathlib

import numpy as np

from medgan_jax.data.records import held_out
from medgan_jax.review.real.sets import files

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
PATCHES = 4  # of a slice, for validation and test
# Of the effects: a part of the image's intensity, width and places in parts of the head.
STRENGTH, WIDTH = 0.35, 0.14
PLACES = {1: -0.28, 2: 0.28}


def complex_slices(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Magnitudes with a smooth phase within about half a turn, as real and imaginary parts."""
    for split, records in files.parts(source):
        rows = {"images": [], "ids": [], "subject": []}
        for record, _ in records:
            image = record["image"][..., 0] / max(float(record["image"].max()), 1e-6)
            phase = smooth_phase(image.shape, files.generator(record["id"]))
            rows["images"].append(
                np.stack([image * np.cos(phase), image * np.sin(phase)], -1).astype(np.float16)
            )
            rows["ids"].append(record["id"])
            rows["subject"].append(record["subject"])
        files.write_archive(target, split, rows)
    return {"phase": "simulated, six slow waves, within about half a turn"}


def smooth_phase(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A phase in radians (H, W): the sum of six waves of one or two periods over the field of view."""
    y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in shape), indexing="ij")
    waves = (
        random.normal(0, 0.5) * np.cos(2 * np.pi * (a * y + b * x) / 2 + random.uniform(0, 2 * np.pi))
        for a, b in DIRECTIONS
    )
    return np.sum(list(waves), axis=0)


def carriers(subjects, split: str) -> frozenset[str]:
    """The half of a part's subjects in whom something is inserted."""
    return held_out(subjects, 0.5, f"inserted {split}", "the set")


def inserted_effects(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """`c0/` untouched slices, `c1/` those of other subjects with an effect of subtype 1 or 2, in `c1/effects.npz`.

    Both subtypes darken the middle of the head; 1 also a place above it in the picture, 2 one below.
    """
    rows, effects = [], {"ids": [], "effect_map": [], "subtype": []}
    for split, records in files.parts(source):
        records = list(records)
        chosen = carriers([record["subject"] for record, _ in records], split)
        for record, _ in records:
            image = files.reduced(record["image"], config.size)[..., 0]
            image = image / max(float(image.max()), 1e-6)
            domain = "c1" if record["subject"] in chosen else "c0"
            if domain == "c1":
                subtype = 1 + files.generator(f"subtype {record['subject']}").integers(2)
                effect = known_effect(image, int(subtype), files.generator(record["id"]))
                image = image + effect
                effects["ids"].append(record["id"])
                effects["effect_map"].append(effect[..., None].astype(np.float32))
                effects["subtype"].append(np.int32(subtype))
            whole = np.round(65535 * image.clip(0, 1)).astype(np.uint16)
            files.write_picture(target / domain / "images" / f"{record['id']}.png", whole)
            rows.append({"id": record["id"], "domain": domain, "split": split, "subject": record["subject"]})
    files.write_table(target, rows)
    np.savez(target / "c1" / "effects.npz", **{name: np.stack(values) for name, values in effects.items()})
    return {"effect": f"multiplicative darkening by up to {STRENGTH:g}, two smooth spots, simulated"}


def known_effect(image: np.ndarray, subtype: int, random: np.random.Generator) -> np.ndarray:
    """What the effect adds to an image (H, W) in [0, 1]: a part of what is there, taken off."""
    inside = np.argwhere(image > 0.2 * np.quantile(image, 0.99))
    top, left = inside.min(0)
    height, width = np.maximum(inside.max(0) - (top, left), 1)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    y, x = (y - top) / height - 0.5, (x - left) / width - 0.5
    spots = sum(np.exp(-((y - place) ** 2 + x**2) / (2 * WIDTH**2)) for place in (0.0, PLACES[subtype]))
    return -STRENGTH * random.uniform(0.7, 1.3) * np.minimum(spots, 1) * image


def inserted_lesions(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Patches of halved slices, healthy ones to train on; else half of the subjects have a lesion."""
    for split, records in files.parts(source):
        records, rows = list(records), {"images": [], "masks": [], "ids": [], "subject": []}
        subjects = [record["subject"] for record, _ in records]
        chosen = frozenset() if split == "train" else carriers(subjects, split)
        for record, _ in records:
            found = patches(record["image"][..., 0], config.size)
            if split != "train":
                found = files.evenly(found, PATCHES)
            for number, patch in enumerate(found):
                mask = np.zeros(patch.shape, np.uint8)
                identifier = f"{record['id']}p{number}"
                if record["subject"] in chosen:
                    patch, mask = with_lesion(patch, files.generator(identifier))
                for name, value in (("images", patch), ("masks", mask), ("ids", identifier)):
                    rows[name].append(value)
                rows["subject"].append(record["subject"])
        files.write_archive(target, split, rows)
    return {"lesion": "simulated: a smooth disc, 25 to 45 % of the slice's brightness, brighter or darker"}


def patches(image: np.ndarray, size: int) -> list[np.ndarray]:
    """Patches in [0, 1] of the slice at half its resolution that lie in the head, half overlapping."""
    image = files.reduced(image[..., None], image.shape[0] // 2)[..., 0]
    image = (image / max(float(image.max()), 1e-6)).astype(np.float32)
    if min(image.shape) < size:
        raise ValueError(f"a slice of {image.shape} has no patch of {size}")
    step = max(size // 2, 1)
    corners = [(y, x) for y in range(0, image.shape[0] - size + 1, step)
               for x in range(0, image.shape[1] - size + 1, step)]  # fmt: skip
    cut = [image[y : y + size, x : x + size] for y, x in corners]
    bright = sorted(cut, key=lambda patch: -float(patch.mean()))
    within = [patch for patch in cut if float(patch.mean()) > 0.3]
    return within or bright[:1]


def with_lesion(patch: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The patch (S, S) with a smooth disc, and where it is."""
    size = len(patch)
    radius = random.uniform(0.08, 0.16) * size
    centre = random.uniform(0.25, 0.75, 2) * size
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - centre[0], x - centre[1])
    disc = np.clip((radius + 1 - distance) / 2, 0, 1)
    contrast = random.uniform(0.25, 0.45) * random.choice((-1, 1))
    return (patch + contrast * disc).clip(0, 1).astype(np.float32), (disc > 0.5).astype(np.uint8)
