"""pix2pix: image-to-image translation with conditional adversarial networks [3], section 3.3 of the review.

Isola, Zhu, Zhou, Efros. CVPR 2017; details from the authors' Torch code and its PyTorch port.

G translates an image A to B; D sees A beside B or beside G(A) and scores 70x70 patches:

    L_D = 1/2 [BCE(D(A, B), 1) + BCE(D(A, G(A)), 0)]
    L_G = BCE(D(A, G(A)), 1) + lambda E|B - G(A)|                                     lambda = 100

The only noise is dropout in three inner decoder stages, in training and at test time alike, and batch normalisation
takes its statistics from the test batch; at batch 1 it acts as instance normalisation.

Data: paired images A, B: folders `A/ B/`, or a T1- and a T2-weighted slice of the same phantom head.
Expected: no value in the review for this base model. `small`: minutes on two CPU cores. `paper`: not run here.

    python -m experiments.base.pix2pix --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import transforms
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import open_parts, require_image, value_range
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.phantoms.head import head_slice


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
    decay_from: float = 0.5  # share of the steps at constant rate before it falls to 0 linearly
    evaluate_every: int = 4000
    phantoms: tuple[int, int, int] = (400, 50, 100)

    @classmethod
    def tiny(cls):
        return cls(size=32, base=4, patch_layers=2, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8,
                   phantoms=(16, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=24, patch_layers=2, batch_size=4, steps=1500, evaluate_every=250,
                   evaluation_cases=32, phantoms=(300, 32, 64))

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
    a, b = batch["A"], batch["B"]
    fake_b = nets.G.peek(a)
    real, nets = nets.D.update(beside(a, b))
    fake, nets = nets.D.update(beside(a, fake_b))
    return 0.5 * adversarial.discriminator_cross_entropy(real, fake), Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        a, b = batch["A"], batch["B"]
        fake_b, nets = nets.G.update(a)
        terms = {"l1": config.l1 * pixel.l1(fake_b, b)}
        if config.adversarial:
            scores = nets.D.peek(beside(a, fake_b))
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(scores)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def augment(config):
    """Enlarge, crop at random, mirror."""

    def change(record, random):
        side = round(config.size * config.enlarge)
        record = transforms.resize(record, (side, side))
        return transforms.flip(transforms.random_crop(record, random, (config.size, config.size)), random)

    return change


def data(config):
    def pair(key):
        return {"A": head_slice(key, config.size, contrast="t1")["image"],
                "B": head_slice(key, config.size, contrast="t2")["image"]}

    parts = open_parts(config.data.source, pair, name=f"head_t1_t2_{config.size}", counts=config.phantoms)
    require_image(parts, channels=config.channels_a, field="A")
    require_image(parts, channels=config.channels_b, field="B")
    return Data(Stream(parts.train, config.batch_size, augment(config)), parts.validation, parts.test, fields=("A", "B"))


def experiment(config):
    cases = data(config)
    ranges = {field: MinMax(*value_range(cases.train.source, field), "input", (-1, 1)) for field in ("A", "B")}
    rate = optax.linear_schedule(config.learning_rate, 0, int(config.steps * (1 - config.decay_from)),
                                 int(config.steps * config.decay_from))
    turn_d = Phase("D", ("D",), discriminator_loss, optax.adam(rate, b1=config.beta1))
    turn_g = Phase("G", ("G",), generator_loss(config), optax.adam(rate, b1=config.beta1))
    game = Stage("game", models(config), (turn_d, turn_g) if config.adversarial else (turn_g,), cases, config.steps,
                 prepare=lambda batch, key: {field: ranges[field].forward(batch[field]) for field in ("A", "B")})
    return Experiment(
        id="pix2pix", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"translation": nets.G.peek(batch["A"])},
        baseline=Baseline("identity", lambda fitted, batch, key: {"translation": batch["A"][..., :config.channels_b]}),
        metrics=image_fidelity("translation", "B", low=-1, high=1), select="psnr", compare=("translation", "B"),
        images=("A", "translation", "B"), image_ranges={"error": (0, 1)},
        prediction=Prediction("A", "translation", intensity=lambda image: ranges["A"], output_intensity=ranges["B"]),
        terms={"l1": f"lambda = {config.l1}", "adversarial": f"weight {config.adversarial}"},
        unknowns=("dropout in the three innermost decoder stages, as in the Torch code; the port skips the first",))


if __name__ == "__main__":
    cli.main_experiment(__spec__.name)
