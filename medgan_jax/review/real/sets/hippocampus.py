"""From volumes about the hippocampus: padded by reflection for super-resolution, matched for registration."""

import pathlib

import numpy as np

from medgan_jax.data import transforms
from medgan_jax.review.real.sets import files

RIM = 4  # voxels of a volume's own border that are not scored


def reflected(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Volumes over their maximum, reflected outside to the wanted size; `masks` is what is scored."""
    cut = 0
    for split, records in files.parts(source):
        columns = {"images": [], "masks": [], "ids": [], "subject": []}
        for record, _ in records:
            image = record["image"][..., 0]
            inner = np.zeros(image.shape, np.uint8)
            inner[tuple(slice(RIM, -RIM) for _ in image.shape)] = 1
            missing = [max(0, wanted - side) for wanted, side in zip(config.size, image.shape, strict=True)]
            widths = [(room // 2, room - room // 2) for room in missing]
            cut += any(side > wanted for wanted, side in zip(config.size, image.shape, strict=True))
            padded = {
                "image": np.pad(image, widths, mode="reflect")[..., None],
                "mask": np.pad(inner, widths)[..., None],
            }
            padded = transforms.centre_crop(padded, config.size)
            columns["images"].append(
                (padded["image"][..., 0] / max(float(image.max()), 1e-6)).astype(np.float32)
            )
            columns["masks"].append(padded["mask"][..., 0])
            columns["ids"].append(record["id"])
            columns["subject"].append(record["subject"])
        files.write_archive(target, split, columns)
    return {"scored": f"the interior of each volume less {RIM} voxels", "volumes cut": cut}


def matched(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """Volumes whose percentiles 0.5 and 99.5 are 0 and 1, amid the wanted shape; labels as `masks`."""
    for split, records in files.parts(source):
        columns = {"images": [], "masks": [], "ids": [], "subject": []}
        for record, _ in records:
            low, high = np.percentile(record["image"], (0.5, 99.5))
            image = ((record["image"] - low) / max(float(high - low), 1e-6)).clip(0, 1).astype(np.float32)
            padded = transforms.pad({"image": image, "label": record["label"]}, config.shape)
            padded = transforms.centre_crop(padded, config.shape)
            columns["images"].append(padded["image"][..., 0])
            columns["masks"].append(padded["label"][..., 0].astype(np.uint8))
            columns["ids"].append(record["id"])
            columns["subject"].append(record["subject"])
        files.write_archive(target, split, columns)
    return {"intensities": "percentiles 0.5 and 99.5 of each volume are 0 and 1; labels take no part"}
