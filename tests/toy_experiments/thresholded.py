"""The toy denoiser on a folder of images, with a measure whose threshold is chosen; it notes on how many cases.

The game is that of `denoiser`.
"""

import dataclasses

import numpy as np
from toy_experiments import denoiser

from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import SPLITS, open_folder
from medgan_jax.game import Metric

Config = denoiser.Config
SEEN = []


def errors(outputs, batch):
    return {"error": denoiser.squared_error(outputs, batch)}


def threshold(values):
    SEEN.append(len(values["error"]))
    return float(np.median(values["error"]))


def experiment(config):
    base = denoiser.experiment(config)
    train, validation, test = (open_folder(config.data.source, split=split) for split in SPLITS)
    data = Data(Stream(train, config.batch_size), validation, test, fields=("image",))

    def prepare(batch, key):
        return denoiser.add_noise({"image": batch["image"] / 128 - 1}, key)

    stage = dataclasses.replace(base.stages[0], data=data, prepare=prepare)
    above = Metric("above", errors, "", False, lambda values, limit: float((values["error"] > limit).mean()), threshold)
    return dataclasses.replace(base, id="thresholded", stages=(stage,), metrics=(*base.metrics, above))
