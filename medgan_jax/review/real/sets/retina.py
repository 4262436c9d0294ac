"""From photographs of the retina: vessel trees with their photographs, and crops at full resolution."""

import pathlib

import numpy as np

from medgan_jax.review.real.sets import files

TREE, FIELD = "vessels_1st", "fov"
COVERED = 0.35  # part of a reduced pixel that a vessel covers to be one
SEEN = 0.5  # part of a crop that is within the field of view


def pairs(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """`A/` trees of the first observer and `B/` photographs, both reduced to the configuration's size."""
    rows = []
    for split, records in files.parts(source):
        for record, _ in records:
            tree = files.reduced(record[TREE].astype(np.float32), config.size) > COVERED
            photograph = files.reduced(record["image"], config.size)
            name = f"{record['id']}.png"
            files.write_picture(target / "A" / name, (255 * tree).astype(np.uint8))
            files.write_picture(target / "B" / name, np.round(photograph).clip(0, 255).astype(np.uint8))
            rows.append({"id": record["id"], "split": split, "subject": record["subject"]})
    files.write_table(target, rows)
    return {"trees": "of the first observer"}


def crops(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Squares of full resolution that touch each other, those at least half within the field of view."""
    size, names = config.size, (config.vessels, config.field_of_view)
    for split, records in files.parts(source):
        columns = {"images": [], **{name: [] for name in names}, "ids": [], "subject": []}
        for record, _ in records:
            height, width = record["image"].shape[:2]
            for y in range(0, height - size + 1, size):
                for x in range(0, width - size + 1, size):
                    here = slice(y, y + size), slice(x, x + size)
                    if (record[names[1]][here] > 0).mean() < SEEN:
                        continue
                    columns["images"].append(np.round(record["image"][here]).astype(np.uint8))
                    for name in names:
                        columns[name].append((record[name][here][..., 0] > 0).astype(np.uint8))
                    columns["ids"].append(f"{record['id']}y{y}x{x}")
                    columns["subject"].append(record["subject"])
        files.write_archive(target, split, columns)
    return {"crops": f"{size} pixels of full resolution"}
