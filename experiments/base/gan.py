"""GAN: generative adversarial nets [2], section 3.1 of the review.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. NIPS 2014; networks, optimiser
and dropout of the authors' code for MNIST (goodfeli/adversarial, mnist.yaml).

G makes samples of noise z; D tells them from data x, and nothing else tells G what to make:

    min_G max_D V(D, G) = E log D(x) + E log(1 - D(G(z)))         review, eq. 1, with its misprint mended
    L_D = -E log D(x) - E log(1 - D(G(z)))                        eq. 1 negated, one step, k = 1
    L_G = -E log D(G(z))                                          or, saturating, E log(1 - D(G(z)))

Data: MNIST, 28 x 28; here slices of phantom heads, a folder of images, or with `form` "ring" points of eight
Gaussians on a circle, for which the same game is played by smaller networks with a linear output.
Deviations: the output's biases start at 0, not at the pixels' marginals; L_D is not halved, as in the code;
the state with the best sliced Wasserstein distance on validation samples is kept, not the last.
Published: Parzen-window log-likelihood on MNIST 225 +- 2, which this project does not measure.
`small`: the ring, by Adam, in about a minute on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.gan --config.form image --data.source FOLDER
"""

import dataclasses
from typing import Literal

import flax.linen as nn
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
from medgan_jax.models.mlp import MLP, uniform_init
from medgan_jax.schedules import sgd_of_2014

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 28
    latent: int = 100
    prior: Prior = "normal"  # of z: the code's default; uniform in other accounts
    widths: tuple[int, ...] = (1200, 1200)  # of G's hidden layers
    units: tuple[int, ...] = (240, 240)  # of D's maxout layers
    pieces: int = 5
    dropout: tuple[float, float] = (0.2, 0.5)  # of D: of its input, and of what goes into the other layers
    saturating: bool = False
    k: int = 1  # updates of D for one of G
    average: float = 0.0  # decay of a moving average of G that is evaluated; not the paper's, 0 for none
    batch_size: int = 100
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1
    decay: float = 1.000004  # by which the rate of sgd is divided after every update
    momentum: tuple[float, float] = (0.5, 0.7)  # of sgd, at first and after 250 epochs of 500 updates
    beta1: float = 0.5  # of adam
    steps: int = 125000  # 250 epochs of 50000 images; where the authors stopped is not known
    evaluate_every: int = 12500
    evaluation_cases: int = 1000
    phantoms: tuple[int, int, int] = (4000, 1000, 1000)

    @classmethod
    def tiny(cls):
        return cls(size=16, latent=8, widths=(16, 16), units=(8, 8), pieces=2, batch_size=8, steps=4,
                   evaluate_every=2, evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", latent=4, widths=(128, 128, 128), units=(128, 128), dropout=(0.0, 0.0),
                   k=2, average=0.99, batch_size=64, optimizer="adam", learning_rate=1e-3, steps=2000,
                   evaluate_every=500, phantoms=(2000, 1000, 2000))


def models(config):
    ring = config.form == "ring"
    shape = (2,) if ring else (config.size, config.size, 1)
    initial = {} if ring else {"kernel_init": uniform_init(0.05)}
    generator = MLP(shape, config.widths, output_activation=None if ring else nn.sigmoid, **initial)
    initial = {} if ring else {"kernel_init": uniform_init(0.005)}
    discriminator = MLP(1, config.units, pieces=config.pieces, dropout=config.dropout, **initial)
    return {"G": generator, "D": discriminator}


def discriminator_loss(nets, batch, context):
    """L_D of data x, (B, ...), and latent vectors z, (B, Z)."""
    real, fake = nets.D(batch["x"]), nets.D(nets.G(batch["z"]))
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, in the form that does not saturate unless the configuration says so."""
        fake = nets.D(nets.G(batch["z"]))
        min_max, usual = adversarial.generator_saturating, adversarial.generator_non_saturating
        value = (min_max if config.saturating else usual)(fake)
        return value, Terms(nets, adversarial=value)

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
        x = batch["point"] if ring else (1 + intensity.forward(batch["image"])) / 2
        return {"x": x, "z": draw_latents(config.prior, key, (len(x), config.latent))}

    def optimizer():
        if config.optimizer == "adam":
            return optax.adam(config.learning_rate, b1=config.beta1)
        return sgd_of_2014(config.learning_rate, config.decay, 1e-6, config.momentum, rising=125000)

    turns = (Phase("D", ("D",), discriminator_loss, optimizer(), repeats=config.k),
             Phase("G", ("G",), generator_loss(config), optimizer()))
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION)
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("on_a_mode", ">=", 0.5)
    game = Stage("game", models(config), turns, cases, config.steps, prepare,
                 ema={"G": config.average} if config.average else {})
    return Experiment(
        id="gan", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"), select=None if ring else "swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"),
        value_range=(-1, 1) if ring else (0, 1), terms={"adversarial": "1"},
        learning=bounds if ring else (),
        unknowns=("prior of z: normal, as in the code", "steps", "on the ring: networks and Adam's values"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
