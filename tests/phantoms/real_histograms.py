"""Histograms of the real sets that phantoms are held to, stored so that tests need no images.

    MEDGAN_JAX_TEST_DATA=FOLDER python -m tests.phantoms.real_histograms

measures them anew and writes `real_histograms.json`: for each set up to 30 subjects, the values at 5, 15, ...
95 % of the pixels of each channel.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from medgan_jax.data.sources import SPLITS, open_folder
from tests.phantoms.image_statistics import histogram

FILE = pathlib.Path(__file__).with_suffix(".json")
MOST = 30


@dataclasses.dataclass(frozen=True)
class RealSet:
    """A folder of real images. each: count every image, where what is known of subjects is neighbourhood."""

    folder: str
    channels: int = 1
    scale: float = 1 / 255
    least: float = 0.0
    each: bool = False


SETS = {
    # The padding outside the circle of reconstruction is below air.
    "ct": RealSet("ct_chest_tcga", scale=1.0, least=-1000.0),
    "fundus": RealSet("retina_chase", channels=3),
    # Some are stored in colours, all of them grey, and some with an opacity.
    "chest_xray": RealSet("cxr_lungs_nc"),
    "tissue_a": RealSet("histology_stain_dsb2018/purple_white", channels=3, each=True),
    "tissue_b": RealSet("histology_stain_dsb2018/purple_purple", channels=3, each=True),
    "nuclei": RealSet("nuclei_fluo_dsb2018", each=True),
}


def root() -> pathlib.Path:
    """The folder of the real sets."""
    return pathlib.Path(os.environ["MEDGAN_JAX_TEST_DATA"])


def images(name: str) -> Iterator[np.ndarray]:
    """One image of each of up to 30 subjects of a set, in the units of the phantom."""
    chosen = SETS[name]
    places = {}
    for split in SPLITS:
        source = open_folder(root() / chosen.folder, split=split)
        for index, subject in enumerate(source.ids if chosen.each else source.subjects):
            places.setdefault(subject, (source, index))
    places = list(places.values())
    for number in np.linspace(0, len(places) - 1, min(MOST, len(places))).round().astype(int):
        source, index = places[number]
        yield np.maximum(source[index]["image"][..., : chosen.channels] * chosen.scale, chosen.least)


def measured(name: str) -> np.ndarray:
    """Histograms `(subjects, channels, shares)` of a set, from its files."""
    return np.array([histogram(image) for image in images(name)])


def stored(name: str) -> np.ndarray:
    """Histograms `(subjects, channels, shares)` of a set, as they were measured."""
    return np.array(json.loads(FILE.read_text())[name])


def main() -> None:
    digits = {name: 0 if chosen.scale == 1 else 3 for name, chosen in SETS.items()}
    found = {name: measured(name).round(digits[name]).tolist() for name in SETS}
    rows = (f' "{name}": {json.dumps(values)}' for name, values in found.items())
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
