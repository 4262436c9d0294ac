"""mDCSRN-GAN on volumes reflected outside, scored where the volume itself is; the game is unchanged."""

import dataclasses

from medgan_jax import cli
from medgan_jax.game import Metric
from medgan_jax.metrics import image

BASE = cli.load("mdcsrn_gan")
Config = BASE.module.Config


def experiment(config):
    """The experiment with PSNR and SSIM within the `mask` of each volume."""
    base = BASE.factory(config)
    stages = tuple(dataclasses.replace(stage, data=with_mask(stage.data)) for stage in base.stages)
    own = [metric for metric in base.metrics if metric.name not in ("psnr", "ssim")]
    return dataclasses.replace(base, stages=stages, metrics=(*interior("fine", "image"), *own))


def with_mask(data):
    """Training batches as they were; cases that are measured bring their `mask`."""
    train = dataclasses.replace(data.train, fields=data.fields)
    return dataclasses.replace(data, train=train, fields=(*data.fields, "mask"))


def interior(output: str, reference: str) -> tuple[Metric, ...]:
    """`psnr` and `ssim` (windows whose middle counts) of images in [0, 1] within the batch's `mask`."""

    def psnr(outputs, batch):
        return image.psnr(outputs[output], batch[reference], data_range=1.0, mask=batch["mask"])

    def ssim(outputs, batch):
        options = {"data_range": 1.0, "window": image.WANG_2004, "mask": batch["mask"]}
        return image.ssim(outputs[output], batch[reference], **options)

    return Metric("psnr", psnr, "dB", True), Metric("ssim", ssim, "", True)
