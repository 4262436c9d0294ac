"""cGAN: conditional generative adversarial nets [16], section 3.3 of the review.

Mirza, Osindero. arXiv 1411.1784, 2014.

The game of GAN in which both players are told a condition c, here the class as a one-hot vector:

    min_G max_D V(D, G) = E log D(x|c) + E log(1 - D(G(z|c)|c))   review, eq. 2, with its misprints mended
    L_D = -E log D(x|c) - E log(1 - D(G(z|c)|c))
    L_G = -E log D(G(z|c)|c)

G and D take z or x and c through a layer each, and join them in another; D's layers are maxout layers. Fakes
are made for the classes of the batch, so that D never sees a real image beside a wrong class.

Data: MNIST, 28 x 28, ten classes; here phantom liver lesions of three classes, a folder with labels, or with
`form` "ring" points of eight Gaussians on a circle, whose number is the condition.
Deviations: the state with the best sliced Wasserstein distance on validation samples is kept, not the last.
Published: Parzen-window log-likelihood on MNIST 132 +- 1.8, which this project does not measure.
`small`: the ring, by Adam, in about a minute on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.cgan --config.form image --data.source FOLDER --config.classes 2
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import optax

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.distributions import DEVIATION, ring_centres
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.inference.latents import Prior, draw_latents
from medgan_jax.losses import adversarial
from medgan_jax.measures import ring_coverage, sample_distance
from medgan_jax.models.mlp import ConditionalMLP
from medgan_jax.schedules import sgd_of_2014

NEEDS = Needs(fields=("image", "label"), channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 28
    classes: int = 3  # the paper's data have 10
    latent: int = 100
    prior: Prior = "uniform"  # of z
    generator: tuple[int, int, int] = (200, 1000, 1200)  # widths of the layers of z, of c and of both
    units: tuple[int, int, int] = (240, 50, 240)  # maxout units of D for x, for c and for both
    pieces: tuple[int, int, int] = (5, 5, 4)  # of these
    dropout: float = 0.5  # of what the layers are given that follow the first, in G and D
    batch_size: int = 100
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    decay: float = 1.00004  # by which the rate of sgd is divided after every update
    momentum: tuple[float, float] = (0.5, 0.7)  # of sgd; the paper does not say how fast it rises
    beta1: float = 0.5  # of adam
    steps: int = 125000  # not the paper's: 250 epochs of 50000 images, as the GAN's
    evaluate_every: int = 12500
    evaluation_cases: int = 1000
    phantoms: tuple[int, int, int] = (4000, 1000, 1000)

    @classmethod
    def tiny(cls):
        return cls(size=16, latent=8, generator=(8, 8, 16), units=(8, 4, 8), pieces=(2, 2, 2), batch_size=8,
                   steps=4, evaluate_every=2, evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", classes=8, latent=8, generator=(64, 64, 128), units=(64, 16, 64), dropout=0.0,
                   batch_size=128, optimizer="adam", learning_rate=1e-3, steps=2000, evaluate_every=250,
                   phantoms=(10000, 1000, 2000))


def models(config):
    ring, (z, c, both), (x_units, c_units, units) = config.form == "ring", config.generator, config.units
    shape, squashed = ((2,), None) if ring else ((config.size, config.size, 1), nn.sigmoid)
    return {"G": ConditionalMLP(shape, z, c, (both,), output_activation=squashed, dropout=config.dropout),
            "D": ConditionalMLP(1, x_units, c_units, (units,), pieces=config.pieces, dropout=config.dropout)}


def discriminator_loss(nets, batch, context):
    """L_D of data x, (B, ...), their conditions c, (B, classes), and latent vectors z, (B, Z)."""
    c = batch["c"]
    real, fake = nets.D(batch["x"], c), nets.D(nets.G(batch["z"], c), c)
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(nets, batch, context):
    """L_G, in the form that does not saturate."""
    c = batch["c"]
    loss = adversarial.generator_non_saturating(nets.D(nets.G(batch["z"], c), c))
    return loss, Terms(nets, adversarial=loss)


def data(config):
    if config.form == "ring":
        fields, together = ("point", "label"), 500
        samples = parts.open_ring(config.data.source, counts=config.phantoms, classes=config.classes)
    else:
        fields, together = ("image", "label"), 64
        samples = parts.open_lesions(config.data.source, size=config.size, classes=config.classes,
                                     counts=config.phantoms)
    return Data(Stream(samples.train, config.batch_size), samples.validation, samples.test, together, fields)


def experiment(config):
    cases, ring = data(config), config.form == "ring"
    intensity = None if ring else parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = batch["point"] if ring else (1 + intensity.forward(batch["image"])) / 2
        return {"x": x, "c": jax.nn.one_hot(batch["label"], config.classes), "label": batch["label"],
                "z": draw_latents(config.prior, key, (len(x), config.latent))}

    def optimizer():
        if config.optimizer == "adam":
            return optax.adam(config.learning_rate, b1=config.beta1)
        return sgd_of_2014(config.learning_rate, config.decay, 1e-6, config.momentum, rising=125000)

    turns = (Phase("D", ("D",), discriminator_loss, optimizer()),
             Phase("G", ("G",), generator_loss, optimizer()))
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION, label="label")
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("obeyed", ">=", 0.5)
    game = Stage("game", models(config), turns, cases, config.steps, prepare)
    return Experiment(
        id="cgan", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"], batch["c"])},
        baseline=pca_gaussian("sample", "x"), select="swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"),
        value_range=(-1, 1) if ring else (0, 1), terms={"adversarial": "1"},
        learning=bounds if ring else (),
        unknowns=("initial values", "where dropout stands", "how fast momentum rises", "range of z", "steps",
                  "on the ring: networks and Adam's values"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
