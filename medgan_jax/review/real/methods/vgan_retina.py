"""V-GAN on real photographs: besides what it measures, Dice of each test child; the game is unchanged."""

import dataclasses

import numpy as np

from medgan_jax import cli
from medgan_jax.data.sources import mapped
from medgan_jax.game import Metric

BASE = cli.load("vgan_retina")
Config = BASE.module.Config


def experiment(config):
    """The experiment with `dsc_child_NAME` for each subject of the test part, at the threshold of `dsc`."""
    base = BASE.factory(config)
    (stage,) = base.stages
    photographs = stage.prepare
    children = sorted(set(stage.data.test.subjects))

    def prepare(batch, key):
        return photographs(batch, key) | ({"child": batch["child"]} if "child" in batch else {})

    metrics = tuple(of_child(base.metric("dsc"), number, name) for number, name in enumerate(children))
    stage = dataclasses.replace(stage, prepare=prepare, data=numbered(stage.data, children))
    return dataclasses.replace(base, stages=(stage,), metrics=(*base.metrics, *metrics))


def numbered(data, children):
    """Cases with the number of their child, -1 for those of other parts; training batches as they were."""

    def with_child(record):
        number = children.index(record["subject"]) if record["subject"] in children else -1
        return {**record, "child": np.int32(number)}

    train = dataclasses.replace(data.train, fields=data.fields)
    validation, test = (mapped(part, with_child) for part in (data.validation, data.test))
    return dataclasses.replace(
        data, train=train, validation=validation, test=test, fields=(*data.fields, "child")
    )


def of_child(dice: Metric, number: int, name: str) -> Metric:
    """`dice` over the cases of one child."""

    def per_case(outputs, batch):
        return {**dice.per_case(outputs, batch), "child": batch["child"]}

    def summary(values, threshold):
        own = {key: value[values["child"] == number] for key, value in values.items() if key != "child"}
        return dice.summary(own, threshold) if len(own["score"]) else float("nan")

    return Metric(f"dsc_child_{name}", per_case, "", True, summary, dice.calibrate)
