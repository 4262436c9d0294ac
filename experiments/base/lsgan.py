"""LSGAN: least squares generative adversarial networks [21], section 3.7 of the review.

Mao, Li, Xie, Lau, Wang, Smolley. ICCV 2017, arXiv 1611.04076; networks of the authors' code (xudonmao/LSGAN).

D's raw score, without a sigmoid, is drawn to b for data and to a for samples, and G draws it to c:

    L_D = 1/2 E(D(x) - b)^2 + 1/2 E(D(G(z)) - a)^2               review, eq. 5, with its misprint mended
    L_G = 1/2 E(D(G(z)) - c)^2

where (a, b, c) is (0, 1, 1), or (-1, 1, 0), with which G lowers the Pearson chi^2 divergence. Samples that D
takes for real but that lie far from its boundary are drawn in as well.

Data: LSUN, 112 x 112; here slices of phantom heads, a folder of images, or with `form` "ring" points of eight
Gaussians on a circle, for which the same game is played by small dense networks.
Deviations: the losses are means over the batch (sums in the code); the state with the best sliced Wasserstein
distance on validation samples is kept, not the last.
Expected: no value in the review for this base model.
`small`: seven modes of the ring in a minute on two CPU cores, by batches of 256 and two normal numbers. With
64 and four it stays at six: D is then the best there is (0.43 on their modes, 1 on the others), but its score
is level around them, and so nothing moves G on. `paper`: not run by this project.

    python -m experiments.base.lsgan --config.form image --data.source FOLDER
"""

import dataclasses
from typing import Literal

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
from medgan_jax.models.dcgan import dcgan_discriminator
from medgan_jax.models.lsgan import LSGANGenerator
from medgan_jax.models.mlp import MLP

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 112
    base: int = 64
    latent: int = 1024
    prior: Prior = "uniform"  # of z
    widths: tuple[int, ...] = (128, 128)  # of both networks on the ring
    a: float = 0.0  # the score that D aims at for samples
    b: float = 1.0  # that for data
    c: float = 1.0  # that which G aims at
    batch_size: int = 64
    learning_rate: float = 1e-3
    beta1: float = 0.5
    average: float = 0.0  # decay of a moving average of G that is evaluated; not the paper's, 0 for none
    steps: int = 1000000
    evaluate_every: int = 50000
    evaluation_cases: int = 1000
    phantoms: tuple[int, int, int] = (4000, 1000, 1000)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=16,
                   phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", size=32, base=16, latent=2, prior="normal", widths=(128, 128, 128),
                   average=0.99, batch_size=256, steps=3000, evaluate_every=500, phantoms=(4000, 1000, 2000))


def models(config):
    if config.form == "ring":
        return {"G": MLP(2, config.widths), "D": MLP(1, config.widths)}
    return {"G": LSGANGenerator(config.size, channels=1, base=config.base),
            "D": dcgan_discriminator(config.size, base=config.base, kernel=5)}


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D of data x, (B, ...), and latent vectors z, (B, Z)."""
        real, nets = nets.D.update(batch["x"])
        fake, nets = nets.D.update(nets.G.peek(batch["z"]))
        loss = 0.5 * adversarial.discriminator_least_squares(real, fake, a=config.a, b=config.b)
        return loss, Terms(nets, real=real.mean(), fake=fake.mean())

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G of the z that D was shown samples of."""
        fake, nets = nets.G.update(batch["z"])
        loss = 0.5 * adversarial.generator_least_squares(nets.D.peek(fake), c=config.c)
        return loss, Terms(nets, adversarial=loss)

    return loss


def data(config):
    if config.form == "ring":
        fields, together = ("point",), 500
        samples = parts.open_ring(config.data.source, counts=config.phantoms)
    else:
        fields, together = ("image",), 64
        samples = parts.open_heads(config.data.source, size=config.size, counts=config.phantoms)
    return Data(Stream(samples.train, config.batch_size), samples.validation, samples.test, together, fields)


def experiment(config):
    cases, ring = data(config), config.form == "ring"
    intensity = None if ring else parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = batch["point"] if ring else intensity.forward(batch["image"])
        return {"x": x, "z": draw_latents(config.prior, key, (len(x), config.latent))}

    adam = optax.adam(config.learning_rate, b1=config.beta1)
    turns = (Phase("D", ("D",), discriminator_loss(config), adam),
             Phase("G", ("G",), generator_loss(config), adam))
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION)
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("on_a_mode", ">=", 0.5)
    game = Stage("game", models(config), turns, cases, config.steps, prepare,
                 ema={"G": config.average} if config.average else {})
    return Experiment(
        id="lsgan", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"), select=None if ring else "swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"), learning=bounds if ring else (),
        terms={"adversarial": "1/2", "real": f"to b = {config.b:g}", "fake": f"to a = {config.a:g}"},
        unknowns=("on the ring: networks",))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
