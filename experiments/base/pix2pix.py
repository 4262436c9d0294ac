"""pix2pix: image-to-image translation with conditional adversarial networks [3], section 3.3 of the review.

Isola, Zhu, Zhou, Efros. CVPR 2017; details from the authors' Torch code (phillipi/pix2pix). G translates an
image A to B; D sees A beside B or beside G(A) and scores 70x70 patches, averaged:

    L_D = 1/2 [BCE(D(A, B), 1) + BCE(D(A, G(A)), 0)]
    L_G = BCE(D(A, G(A)), 1) + lambda E|B - G(A)|                             lambda = 100

The only noise is dropout in three inner decoder stages, in training and at test time alike. Batch norm takes
its statistics from the image that is tested, as it does in training at batch 1.
Data: paired images A, B: folders `A/ B/`, or a T1- and a T2-weighted slice of the same phantom head.
Deviations: the state with the best validation PSNR is kept, not the last; no biases before batch norm.
Expected: no value in the review. `small`: minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.pix2pix --data.source FOLDER
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import identity
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.augmentations import enlarged_crop
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.phantoms.head import head_slice
from medgan_jax.schedules import constant_then_linear

NEEDS = Needs(fields=("A", "B"))


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    base: int = 64
    patch_layers: int = 3
    channels_a: int = 1
    channels_b: int = 1
    l1: float = 100.0
    adversarial: float = 1.0
    enlarge: float = 286 / 256  # random crops are cut from images enlarged by this
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 80000  # 200 epochs of 400 pairs
    decay_from: float = 1.0  # share of the steps before the rate falls to 0 linearly; 0.5 in the PyTorch port
    evaluate_every: int = 4000
    phantoms: tuple[int, int, int] = (400, 50, 100)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, patch_layers=1, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=24, patch_layers=2, batch_size=4, steps=1500, decay_from=0.5,
                   evaluate_every=250, evaluation_cases=32, phantoms=(300, 32, 64))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    generator = pix2pix_unet(config.size, out_channels=config.channels_b, base=config.base)
    discriminator = PatchGAN(config.patch_layers, config.base)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


def beside(a, b):
    """What D sees: condition and image joined along channels."""
    return jnp.concatenate([a, b], axis=-1)


def discriminator_loss(nets, batch, context):
    """L_D of A (B, H, W, channels_a) and B (B, H, W, channels_b) in [-1, 1]."""
    a, b = batch["A"], batch["B"]
    fake_b = nets.G.peek(a)
    real, nets = nets.D.update(beside(a, b))
    fake, nets = nets.D.update(beside(a, fake_b))
    loss = 0.5 * adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G: the adversarial term and lambda times the absolute error."""
        a, b = batch["A"], batch["B"]
        fake_b, nets = nets.G.update(a)
        terms = {"l1": config.l1 * pixel.l1(fake_b, b)}
        if config.adversarial:
            scores = nets.D.peek(beside(a, fake_b))
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(scores)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def translate(nets, batch, key):
    """G(A), each image by itself: with dropout and with its own statistics."""
    return {"translation": jax.vmap(lambda a: nets.G.peek(a[None])[0])(batch["A"])}


def phantom(key, *, size):
    """T1- and T2-weighted slices of one subject."""
    return {"A": head_slice(key, size)["image"], "B": head_slice(key, size, contrast="t2")["image"]}


def data(config):
    pairs = parts.open_parts(config.data.source, functools.partial(phantom, size=config.size),
                             name=f"head_t1_t2_{config.size}", counts=config.phantoms)
    for field, channels in (("A", config.channels_a), ("B", config.channels_b)):
        parts.require_image(pairs, channels=channels, size=config.size, field=field)
    train = Stream(pairs.train, config.batch_size, enlarged_crop(config.size, config.enlarge))
    return Data(train, pairs.validation, pairs.test, fields=("A", "B"))


def experiment(config):
    cases = data(config)
    ranges = {field: parts.symmetric_range(cases.train.source, field) for field in ("A", "B")}
    rate = constant_then_linear(config.learning_rate, config.steps, config.decay_from)
    turn_d = Phase("D", ("D",), discriminator_loss, optax.adam(rate, b1=config.beta1))
    turn_g = Phase("G", ("G",), generator_loss(config), optax.adam(rate, b1=config.beta1))
    turns = (turn_d, turn_g) if config.adversarial else (turn_g,)
    game = Stage("game", models(config), turns, cases, config.steps,
                 prepare=lambda batch, key: {field: ranges[field].forward(batch[field]) for field in ranges})
    return Experiment(
        id="pix2pix", config=config, stages=(game,), infer=translate,
        baseline=identity("translation", source="A", target="B"),
        metrics=image_fidelity("translation", "B", low=-1, high=1), select="psnr",
        images=("A", "translation", "B"), image_ranges={"error": (0, 1)}, compare=("translation", "B"),
        prediction=Prediction("A", "translation", lambda image: ranges["A"], output_intensity=ranges["B"]),
        terms={"l1": f"lambda = {config.l1:g}", "adversarial": f"weight {config.adversarial:g}"},
        unknowns=("dropout in the three innermost stages, as in the Torch code; the port skips the first",),
        learning=(Bound("psnr", ">=", "baseline", plus=3.0), Bound("psnr", ">=", "twin", plus=-1.0)))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
