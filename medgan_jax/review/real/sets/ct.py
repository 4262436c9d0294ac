"""From slices of computed tomography: pairs of a low and the routine dose, the middle of each slice."""

import functools
import pathlib
import zlib

import jax
import numpy as np

from medgan_jax.data import transforms
from medgan_jax.physics.tomography import HIGHEST_HU, LOWEST_HU, low_dose
from medgan_jax.review.real.sets import files

PIXEL_MM = 0.7  # where the set does not say


def doses(source: pathlib.Path, target: pathlib.Path, config) -> dict:
    """`image` x + FBP(noisy) - FBP(clean), `target` x, in HU; scanned whole, then cut to the middle.

    Noise is that of the fewest of the configuration's photons a ray, at the slice's own size of pixels.
    """
    photons = min(config.photons)
    scan = jax.jit(functools.partial(low_dose, photons=photons))
    added = []
    for split, records in files.parts(source):
        columns = {name: [] for name in ("images", "targets", "ids", "patient", "kernel", "manufacturer")}
        for record, row in records:
            clean = np.clip(record["image"][..., 0], LOWEST_HU, HIGHEST_HU).astype(np.float32)
            pixel_cm = float(row.get("pixel_spacing_mm") or PIXEL_MM) / 10
            key = jax.random.key(zlib.crc32(record["id"].encode()))
            noisy = np.asarray(scan(clean, key=key, pixel_size=pixel_cm))
            pair = {"image": noisy[..., None], "target": clean[..., None]}
            pair = transforms.centre_crop(pair, (config.size, config.size))
            added.append(float((pair["image"] - pair["target"]).std()))
            for name in pair:
                columns[f"{name}s"].append(np.round(pair[name][..., 0]).astype(np.int16))
            columns["ids"].append(record["id"])
            for name in ("patient", "kernel", "manufacturer"):
                columns[name].append(row.get(name, "") or record["subject"])
        files.write_archive(target, split, columns)
    return {"photons a ray": photons, "SD of added noise, HU, median over slices": float(np.median(added))}
