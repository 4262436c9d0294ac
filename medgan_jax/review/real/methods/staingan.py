"""StainGAN on two unpaired stains: structure, colours and a segmenter's Dice in the place of a truth.

The game is unchanged. A small U-Net C learns the nuclei of the target stain beside it and judges every
method's output on the nuclei of the source stain.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax import cli
from medgan_jax.data.pipeline import Stream
from medgan_jax.data.sources import cached, mapped, open_domains
from medgan_jax.data.transforms import flip
from medgan_jax.game import Metric, Phase, Terms
from medgan_jax.losses.segmentation import binary_cross_entropy
from medgan_jax.metrics import image, overlap
from medgan_jax.models.pooling_unet import PoolingUNet
from medgan_jax.physics.staining import unstain

BASE = cli.load("staingan")
Config = BASE.module.Config
WIDTH = 16
PIXELS = 64  # of each case, that colours are compared by


def experiment(config):
    """The experiment with the judge C, and with what unpaired stains let us measure."""
    base = BASE.factory(config)
    (stage,) = base.stages
    widths = tuple((min(WIDTH, 4 * config.base) * 2**level,) for level in range(3))
    segmenter = PoolingUNet(1, widths, widths[1::-1])
    adam = stage.phases[0].optimizer
    stage = dataclasses.replace(
        stage,
        networks={**stage.networks, "C": segmenter},
        phases=(*stage.phases, Phase("C", ("C",), segmenter_loss, adam)),
        data=with_nuclei(stage.data, config),
    )

    def judge(nets, outputs, batch):
        return {"nuclei": jax.nn.sigmoid(nets.C.eval(outputs["translation"]))}

    metrics = (
        *base.metrics,
        structure("A", "translation"),
        nuclei_dice("nuclei", "label"),
        colours("translation", "B"),
    )
    return dataclasses.replace(base, stages=(stage,), judge=judge, metrics=metrics)


def with_nuclei(data, config):
    """Batches with labelled images of the target, and cases with the labels of their source image."""
    labels = {}
    for split in ("validation", "test"):
        source = next(iter(open_domains(config.data.source, split=split).values()))
        labels |= {source.ids[index]: source[index]["label"] for index in range(len(source))}

    def labelled(record):
        return {**record, "label": labels[record["id"].split("|")[0]]}

    judged = Stream(data.train["B"].source, config.batch_size, flip, ("image", "label"))
    validation, test = (cached(mapped(part, labelled)) for part in (data.validation, data.test))
    return dataclasses.replace(data, train={**data.train, "judged": judged}, validation=validation, test=test)


def segmenter_loss(nets, batch, context):
    """BCE(C(y), nuclei of y); no other network takes part."""
    score, nets = nets.C.update(batch["judged"]["image"])
    return binary_cross_entropy(score, (batch["judged"]["label"] > 0).astype(score.dtype)), Terms(nets)


def haematoxylin(picture: jax.Array) -> jax.Array:
    """Concentration (B, H, W, 1) over its 99th percentile, in [0, 1]; pictures (B, H, W, 3) in [-1, 1]."""
    amount = unstain((picture + 1) / 2)[..., :1]
    highest = jnp.percentile(amount, 99, axis=(1, 2, 3), keepdims=True)
    return (amount / jnp.maximum(highest, 1e-3)).clip(0, 1)


def structure(source: str, output: str) -> Metric:
    """SSIM of the haematoxylin channels of input and output."""

    def per_case(outputs, batch):
        pair = haematoxylin(outputs[output]), haematoxylin(batch[source])
        return image.ssim(*pair, data_range=1.0, window=image.WANG_2004)

    return Metric("structure_ssim", per_case, "", True)


def nuclei_dice(output: str, label: str) -> Metric:
    """Dice of C's nuclei, at its own threshold of a half, with those that are drawn."""

    def per_case(outputs, batch):
        return overlap.dice(outputs[output] > 0.5, batch[label] > 0, empty_policy="nan")

    return Metric("nuclei_dice", per_case, "", True)


def colours(output: str, target: str) -> Metric:
    """Wasserstein distance of the colours of all outputs to the target's, the channels' mean."""

    def per_case(outputs, batch):
        step = max(1, outputs[output].shape[1] // int(PIXELS**0.5))
        return {"made": outputs[output][:, ::step, ::step], "real": batch[target][:, ::step, ::step]}

    def distance(values):
        made, real = (
            np.sort(values[name].reshape(-1, values[name].shape[-1]), 0) for name in ("made", "real")
        )
        return float(np.abs(made - real).mean() / 2)

    return Metric("colour_distance", per_case, "of the range", False, distance)
