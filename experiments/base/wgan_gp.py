"""WGAN-GP: improved training of Wasserstein GANs, the gradient-penalty form of WGAN [20], Table 15.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. NIPS 2017; networks of the authors' CIFAR code.

The critic f estimates the Wasserstein distance; its slope between real and generated images is held at 1:

    L_f = E f(G(z)) - E f(x) + lambda E(||grad f(x^)||_2 - 1)^2,   x^ = e x + (1 - e) G(z),  e ~ U(0, 1)
    L_G = -E f(G(z))                                                                       lambda = 10

Five critic updates, each on fresh data, for one of the generator, which draws its own z. The critic has no
batch normalisation. The negative of its first two terms is logged as `wasserstein`, the estimated distance.

Data: any images of one size (CIFAR-10 in the paper); here slices of phantom heads at 32 x 32, or with `form`
"ring" points of eight Gaussians on a circle, for which the same game is played by small dense networks.
Deviations: the state with the best sliced Wasserstein distance on validation images is kept, not the last.
Expected: no value in the review for this base model.
`small`: the ring, about a minute on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.wgan_gp --config.form image --data.source FOLDER
"""

import dataclasses
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
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.measures import ring_coverage, sample_distance
from medgan_jax.models.dcgan import wgan_gp_critic, wgan_gp_generator
from medgan_jax.models.mlp import MLP

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 32
    base: int = 128
    channels: int = 1
    latent: int = 128
    widths: tuple[int, ...] = (128, 128, 128)  # of both networks on the ring
    penalty: float = 10.0
    critic_steps: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-4
    beta1: float = 0.5  # of the code; 0 in the paper
    beta2: float = 0.9
    average: float = 0.0  # decay of a moving average of G that is evaluated; not the paper's, 0 for none
    steps: int = 200000
    evaluate_every: int = 10000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, critic_steps=2, average=0.9, batch_size=8, steps=4,
                   evaluate_every=2, evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", base=32, latent=8, penalty=0.3, learning_rate=1e-3, average=0.995,
                   steps=1500, evaluate_every=250, evaluation_cases=1000, phantoms=(10000, 1000, 2000))


def models(config):
    if config.form == "ring":
        return {"G": MLP(2, config.widths), "f": MLP(1, config.widths)}
    return {"G": wgan_gp_generator(config.size, channels=config.channels, base=config.base),
            "f": wgan_gp_critic(config.size, base=config.base)}


def critic_loss(config):
    def loss(nets, batch, context):
        """L_f of x, (B, H, W, C) in [-1, 1]."""
        x, fake = batch["x"], nets.G.peek(batch["z"])
        distance = adversarial.discriminator_wasserstein(nets.f(x), nets.f(fake))
        penalty = config.penalty * gradient_penalty(nets.f.float32, x, fake, context.key)
        return distance + penalty, Terms(nets, wasserstein=-distance, penalty=penalty)

    return loss


def generator_loss(nets, batch, context):
    """L_G of latent vectors z, (B, Z)."""
    fake, nets = nets.G.update(batch["z_G"])
    loss = adversarial.generator_wasserstein(nets.f(fake))
    return loss, Terms(nets, adversarial=loss)


def data(config):
    if config.form == "ring":
        fields, together = ("point",), 500
        samples = parts.open_ring(config.data.source, counts=config.phantoms)
    else:
        fields, together = ("image",), 64
        samples = parts.open_heads(config.data.source, size=config.size, counts=config.phantoms,
                                   channels=config.channels)
    return Data(Stream(samples.train, config.batch_size), samples.validation, samples.test, together, fields)


def experiment(config):
    cases, ring = data(config), config.form == "ring"
    intensity = None if ring else parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = batch["point"] if ring else intensity.forward(batch["image"])
        z, z_g = jax.random.normal(key, (2, len(x), config.latent))
        return {"x": x, "z": z, "z_G": z_g}

    adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
    turns = (Phase("f", ("f",), critic_loss(config), adam, repeats=config.critic_steps),
             Phase("G", ("G",), generator_loss, adam))
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION)
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("on_a_mode", ">=", 0.5)
    game = Stage("game", models(config), turns, cases, config.steps, prepare,
                 ema={"G": config.average} if config.average else {})
    return Experiment(
        id="wgan_gp", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"), select=None if ring else "swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty:g}", "adversarial": "1"},
        learning=bounds if ring else (Bound("swd", "<=", "baseline", times=0.5),),
        unknowns=("batch normalisation of the samples that are measured: stored statistics",))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
