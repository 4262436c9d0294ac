"""VA-GAN on slices with inserted effects, whose true maps are known; the game is unchanged."""

import dataclasses
import pathlib

import numpy as np

from medgan_jax import cli
from medgan_jax.data.effects import SUBTYPES
from medgan_jax.data.sources import cached, mapped
from medgan_jax.errors import UserError
from medgan_jax.measures import attribution

BASE = cli.load("va_gan")
Config = BASE.module.Config


def experiment(config):
    """The experiment with the maps that `c1/effects.npz` holds, for validation and test."""
    base = BASE.factory(config)
    effects = read(pathlib.Path(config.data.source) / "c1" / "effects.npz")
    stages = tuple(dataclasses.replace(stage, data=known(stage.data, effects)) for stage in base.stages)
    return dataclasses.replace(
        base,
        stages=stages,
        metrics=attribution("map", "effect_map", "subtype", SUBTYPES),
        select="ncc",
        images=(*base.images, "effect_map"),
    )


def read(path: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Effect map and subtype by id."""
    if not path.is_file():
        raise UserError(f"{path} is missing: it holds the true maps of the inserted effects")
    with np.load(path, allow_pickle=False) as file:
        columns = file["ids"].tolist(), file["effect_map"], file["subtype"]
    return {name: (effect, subtype) for name, effect, subtype in zip(*columns, strict=True)}


def known(data, effects):
    """Cases that know their effect; records of two domains are called `c0|c1`."""

    def with_effect(record):
        effect, subtype = effects[record["id"].split("|")[1]]
        return {**record, "effect_map": effect, "subtype": np.int32(subtype)}

    held = (cached(mapped(part, with_effect)) for part in (data.validation, data.test))
    validation, test = held
    fields = ("c0", "c1", "effect_map", "subtype")
    return dataclasses.replace(data, validation=validation, test=test, fields=fields)
