"""Raw images of one entrant as a folder that all entrants of a track read: the same subjects for all."""

import os
import pathlib
import shutil

import numpy as np

from medgan_jax.data.sources import SPLITS
from medgan_jax.review.benchmark.track import Track, configuration, factory


def write(track: Track, preset: str, folder: pathlib.Path) -> None:
    """The parts of the phantoms of the track's `origin` as npz archives; nothing where they are there
    already.
    """
    if folder.is_dir():
        return
    origin = track.entrants[track.origin]
    config = configuration(track, origin, preset, "phantom")
    data = factory(track, origin, preset, "phantom")(config).stages[-1].data
    sources = dict(zip(SPLITS, (data.train.source, data.validation, data.test), strict=True))
    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    unfinished.mkdir(parents=True)
    for split, source in sources.items():
        records = [source[index] for index in range(len(source))]
        arrays = {name: np.stack([record[name] for record in records]) for name in track.shared}
        np.savez(
            unfinished / f"{split}.npz", ids=np.array(source.ids), subject=np.array(source.subjects), **arrays
        )
    try:
        unfinished.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished)
