"""Writes what derived sets consist of: archives of a part, pictures, and the table that names the parts."""

import csv
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from medgan_jax.data.records import Record
from medgan_jax.data.sources import SPLITS, open_folder


def parts(source: pathlib.Path) -> Iterator[tuple[str, Iterable[tuple[Record, Mapping[str, str]]]]]:
    """(name of the part, its records with what the table says of each)."""
    for split in SPLITS:
        part = open_folder(source, split=split)
        yield split, ((part[index], part.metadata[index]) for index in range(len(part)))


def write_archive(folder: pathlib.Path, split: str, columns: Mapping[str, Sequence]) -> None:
    """`split.npz` with the columns as arrays, one entry a record."""
    np.savez(folder / f"{split}.npz", **{name: np.stack(values) for name, values in columns.items()})


def write_picture(path: pathlib.Path, image: np.ndarray) -> None:
    """A PNG of whole numbers (H, W), (H, W, 1) or (H, W, 3), of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image).save(path)


def write_table(folder: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> None:
    """`split.csv`."""
    with (folder / "split.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def generator(identifier: str) -> np.random.Generator:
    """Chance that belongs to a record's name, on every machine."""
    return np.random.default_rng(zlib.crc32(identifier.encode()))


def evenly(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spread."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def reduced(image: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, C) amid a square that is reduced to `size`, float32."""
    from medgan_jax.data import transforms

    side = max(image.shape[:-1])
    record = transforms.pad({"image": np.asarray(image, np.float32)}, (side, side))
    return transforms.resize(record, (size, size))["image"]
