"""DCGAN: unsupervised representation learning with deep convolutional GANs [15], section 3.2 of the review.

Radford, Metz, Chintala. ICLR 2016, arXiv 1511.06434; numbers of the Torch code (soumith/dcgan.torch).

Five rules made convolutional GANs train: strided convolutions in the place of pooling; batch normalisation in
both networks, but not in G's output nor D's input; no hidden dense layer; ReLU in G, tanh at its end;
LeakyReLU in D. The game is that of the first GAN:

    L_D = -E log D(x) - E log(1 - D(G(z)))               z in 100 dimensions
    L_G = -E log D(G(z))

Real and generated images go through D apart, so that each has batch statistics of its own.

Data: any images of one size (LSUN bedrooms in the paper); here cells under four kinds of microscope, whose
kinds are counted among the samples (`modes`) where records have a label.
Deviations: 4x4 kernels as in the code (5x5 in the paper's figure); layers without a norm have a bias.
Expected: no value in the review for this base model.
`small`: all four kinds, and a sliced Wasserstein distance of 87 where a Gaussian in PCA space has 159, in
three minutes on two CPU cores. The distance chooses no state: it is best while a kind is still missing.
`paper`: not run by this project.

    python -m experiments.base.dcgan --data.source FOLDER
"""

import dataclasses

import optax

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.microscopy import KINDS, cell_data
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.inference.latents import Prior, draw_latents
from medgan_jax.losses import adversarial
from medgan_jax.measures import mode_coverage, sample_distance
from medgan_jax.models.dcgan import dcgan_discriminator, dcgan_generator

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64
    base: int = 64
    channels: int = 1  # 3 in the paper
    kernel: int = 4  # of the code; 5 in the paper's figure
    latent: int = 100
    prior: Prior = "normal"  # the code's choice; uniform in the paper
    batch_size: int = 64
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 1184782  # 25 epochs, the code's number, of LSUN's 3033042 bedrooms
    evaluate_every: int = 47391  # an epoch
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=16,
                   phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(size=32, base=24, batch_size=32, learning_rate=4e-4, steps=2000, evaluate_every=500,
                   phantoms=(1000, 256, 256))


def models(config):
    settings = dict(base=config.base, kernel=config.kernel)
    return {"G": dcgan_generator(config.size, channels=config.channels, **settings),
            "D": dcgan_discriminator(config.size, **settings)}


def discriminator_loss(nets, batch, context):
    """L_D of x, (B, H, W, C) in [-1, 1], and z, (B, Z)."""
    real, nets = nets.D.update(batch["x"])
    fake, nets = nets.D.update(nets.G.peek(batch["z"]))
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(nets, batch, context):
    """L_G of latent vectors z, (B, Z)."""
    fake, nets = nets.G.update(batch["z"])
    loss = adversarial.generator_non_saturating(nets.D.peek(fake))
    return loss, Terms(nets, adversarial=loss)


def data(config):
    return cell_data(config.data.source, size=config.size, channels=config.channels, counts=config.phantoms,
                     batch_size=config.batch_size)


def experiment(config):
    cases = data(config)
    intensity = parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        return {**batch, "x": x, "z": draw_latents(config.prior, key, (len(x), config.latent))}

    adam = optax.adam(config.learning_rate, b1=config.beta1)
    turns = (Phase("D", ("D",), discriminator_loss, adam), Phase("G", ("G",), generator_loss, adam))
    labelled = "label" in cases.fields
    game = Stage("game", models(config), turns, cases, config.steps, prepare)
    return Experiment(
        id="dcgan", config=config, stages=(game,), baseline=pca_gaussian("sample", "x"),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        metrics=sample_distance("sample", "x") + (mode_coverage("sample", "x", "label") if labelled else ()),
        learning=(Bound("modes", ">=", len(KINDS)), Bound("swd", "<=", "baseline")) if labelled else (),
        images=("sample", "x"), terms={"adversarial": "1"},
        unknowns=("samples that are measured: with stored batch statistics",))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
