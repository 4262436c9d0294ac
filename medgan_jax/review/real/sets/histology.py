"""From two stains of tissue: tiles with nuclei of one size, patches with or without a nucleus amid.

The domains are the first two of the set, in order of names, that have training images.
"""

import pathlib

import numpy as np
from scipy import ndimage

from medgan_jax.data import transforms
from medgan_jax.data.sources import SPLITS, open_domains
from medgan_jax.errors import UserError
from medgan_jax.review.real.sets import files

FREE = 8  # pixels about the centre of a patch without a nucleus
PATCHES = 8  # of each kind from an image
TILES = 24  # of an image at most, evenly spread


def opened(source: pathlib.Path) -> dict[str, dict]:
    """Sources by part and domain."""
    parts = {split: open_domains(source, split=split) for split in SPLITS}
    names = sorted(set.intersection(*(set(part) for part in parts.values())))[:2]
    if len(names) < 2:
        raise UserError(f"{source} has {len(names)} domains with training and test images; two are needed")
    return {split: {name: part[name] for name in names} for split, part in parts.items()}


def median_area(part) -> float:
    """Median number of pixels of a nucleus in a source with a map `label`."""
    areas = [np.bincount(part[index]["label"].ravel())[1:] for index in range(len(part))]
    areas = np.concatenate(areas)
    return float(np.median(areas[areas > 0]))


def tiles(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Tiles of both domains; the one whose nuclei are larger in training is reduced to the other's size."""
    parts, size, rows = opened(source), config.size, []
    areas = {name: median_area(part) for name, part in parts["train"].items()}
    scales = {name: (min(areas.values()) / area) ** 0.5 for name, area in areas.items()}
    for split, domains in parts.items():
        for name, part in domains.items():
            for index in range(len(part)):
                record = part[index]
                wanted = [max(size, round(scales[name] * side)) for side in record["image"].shape[:2]]
                record = transforms.resize(record, wanted, fields=("image", "label"))
                corners = [
                    (y, x)
                    for y in range(0, wanted[0] - size + 1, size)
                    for x in range(0, wanted[1] - size + 1, size)
                ]
                for y, x in files.evenly(corners, TILES):
                    here, tile = (slice(y, y + size), slice(x, x + size)), f"{record['id']}y{y}x{x}"
                    write(target / name, tile, record["image"][here], record["label"][here])
                    rows.append(row(tile, name, split, record["subject"]))
    files.write_table(target, rows)
    return {"median nucleus area in training, px": areas, "scale": scales}


def write(folder: pathlib.Path, name: str, image: np.ndarray, label: np.ndarray) -> None:
    """A tile and the numbers of its nuclei."""
    colours = np.round(image[..., :3]).clip(0, 255).astype(np.uint8)
    files.write_picture(folder / "images" / f"{name}.png", colours)
    files.write_picture(folder / "labels" / f"{name}.png", label.astype(np.uint16))


def row(identifier: str, domain: str, split: str, subject: str, **more: str) -> dict[str, str]:
    """A line of the table."""
    return {"id": identifier, "domain": domain, "split": split, "subject": subject, **more}


def centres(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Patches labelled by what is at their centre: a nucleus, or none within 8 pixels.

    The subject, of which bags are made, is the mosaic group with the class: images of a bag have one label.
    """
    size, rows = config.size, []
    half = size // 2
    for split, domains in opened(source).items():
        for name, part in domains.items():
            for index in range(len(part)):
                record = part[index]
                for label, places in centre_points(record["label"][..., 0], half).items():
                    for number, (y, x) in enumerate(files.evenly(places, PATCHES) if places else []):
                        patch = f"{record['id']}_{label}_p{number}"
                        cut = record["image"][y - half : y - half + size, x - half : x - half + size, :3]
                        picture = np.round(cut).clip(0, 255).astype(np.uint8)
                        files.write_picture(target / name / "images" / f"{patch}.png", picture)
                        rows.append(row(patch, name, split, f"{record['subject']}/{label}", label=label))
    files.write_table(target, rows)
    return {"label": "nucleus at the centre, or none within 8 pixels; no tumour labels exist"}


def centre_points(nuclei: np.ndarray, margin: int) -> dict[str, list[tuple[int, int]]]:
    """Centres of patches by class, at least `margin` from the border of a map (H, W) of numbered nuclei."""
    height, width = nuclei.shape
    inside = np.zeros(nuclei.shape, bool)
    inside[margin : height - margin + 1, margin : width - margin + 1] = True
    numbers = np.unique(nuclei[nuclei > 0])
    middles = ndimage.center_of_mass(nuclei > 0, nuclei, numbers) if len(numbers) else []
    rounded = [(round(y), round(x)) for y, x in middles]
    positive = [place for place in rounded if inside[place] and nuclei[place] > 0]
    away = ndimage.distance_transform_edt(nuclei == 0) > FREE
    # One place in sixteen along each side, so that patches differ.
    coarse = np.zeros(nuclei.shape, bool)
    coarse[::16, ::16] = True
    negative = [tuple(map(int, place)) for place in np.argwhere(inside & away & coarse)]
    return {"nucleus": positive, "background": negative}
