"""WGAN: Wasserstein GAN, its critic held by weight clipping [20], section 3.6 of the review.

Arjovsky, Chintala, Bottou. ICML 2017, arXiv 1701.07875; schedule of the authors' code
(martinarjovsky/WassersteinGAN).

The critic f estimates the Wasserstein distance between data x and samples G(z), up to a factor; clipping
its weights after each update bounds its slope, and it has no sigmoid:

    L_f = E f(G(z)) - E f(x),     w <- clip(w, -c, c),  c = 0.01
    L_G = -E f(G(z))

The critic is trained ahead of G: 5 updates for one of G, but 100 for each of the first 25 updates of G and
for every 500th. A step here is a block of 5 critic updates, and G moves only in steps whose block completes
the updates that are due. RMSProp has no momentum, which the authors found unstable with clipping. The
negative of L_f is logged as `wasserstein`.

Data: LSUN bedrooms, 64 x 64; here slices of phantom heads, a folder of images, or with `form` "ring" points
of eight Gaussians on a circle, for which the same game is played by small dense networks.
Deviations: clipping comes after each update, as in the paper, not before the next, as in the code; the state
with the best sliced Wasserstein distance on validation samples is kept, not the last.
Expected: no value in the review for this base model.
`small`: the ring, about a minute on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.wgan --config.form image --data.source FOLDER
"""

import dataclasses
import functools
from typing import Literal

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
from medgan_jax.losses import adversarial
from medgan_jax.losses.penalties import clip_parameters
from medgan_jax.measures import ring_coverage, sample_distance
from medgan_jax.models.dcgan import dcgan_discriminator, dcgan_generator
from medgan_jax.models.mlp import MLP
from medgan_jax.turns import after_tuning

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 64
    base: int = 64
    latent: int = 100
    widths: tuple[int, ...] = (128, 128, 128)  # of both networks on the ring
    clip: float = 0.01
    critic_steps: int = 5
    warm: int = 25  # updates of G, the first ones, that wait for a hundred of the critic
    every: int = 500  # and so does each update of G whose number is a multiple of this
    blocks: int = 20  # of critic_steps updates, for which G then waits
    batch_size: int = 64
    learning_rate: float = 5e-5
    average: float = 0.0  # decay of a moving average of G that is evaluated; not the paper's, 0 for none
    steps: int = 1000000  # the code counts epochs, 25 of LSUN
    evaluate_every: int = 50000
    evaluation_cases: int = 1000
    phantoms: tuple[int, int, int] = (4000, 1000, 1000)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, critic_steps=2, warm=1, blocks=2, batch_size=8, steps=4,
                   evaluate_every=2, evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", size=32, base=16, latent=4, clip=0.1, learning_rate=5e-4, average=0.99,
                   steps=3000, evaluate_every=250, phantoms=(10000, 1000, 2000))


def models(config):
    if config.form == "ring":
        return {"G": MLP(2, config.widths), "f": MLP(1, config.widths)}
    return {"G": dcgan_generator(config.size, channels=1, base=config.base),
            "f": dcgan_discriminator(config.size, base=config.base)}


def critic_loss(nets, batch, context):
    """L_f of data x, (B, ...), and latent vectors z, (B, Z)."""
    real, nets = nets.f.update(batch["x"])
    fake, nets = nets.f.update(nets.G.peek(batch["z"]))
    loss = adversarial.discriminator_wasserstein(real, fake)
    return loss, Terms(nets, wasserstein=-loss)


def generator_loss(nets, batch, context):
    """L_G of latent vectors z, (B, Z)."""
    fake, nets = nets.G.update(batch["z_G"])
    loss = adversarial.generator_wasserstein(nets.f.peek(fake))
    return loss, Terms(nets, adversarial=loss)


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
        z, z_g = jax.random.normal(key, (2, len(x), config.latent))
        return {"x": x, "z": z, "z_G": z_g}

    rmsprop = optax.rmsprop(config.learning_rate, decay=0.99, eps=1e-8)
    turns = (Phase("f", ("f",), critic_loss, rmsprop, repeats=config.critic_steps,
                   project=functools.partial(clip_parameters, limit=config.clip)),
             Phase("G", ("G",), generator_loss, rmsprop,
                   when=after_tuning(warm=config.warm, every=config.every, long=config.blocks)))
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION)
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("on_a_mode", ">=", 0.3)
    game = Stage("game", models(config), turns, cases, config.steps, prepare,
                 ema={"G": config.average} if config.average else {})
    return Experiment(
        id="wgan", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"), select="swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"), learning=bounds if ring else (),
        terms={"wasserstein": "1", "adversarial": "1"},
        unknowns=("steps", "on the ring: networks, clip and learning rate"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
