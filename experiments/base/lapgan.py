"""LAPGAN: deep generative image models using a Laplacian pyramid of adversarial networks, section 4.1.1.

Denton, Chintala, Szlam, Fergus. NIPS 2015, arXiv 1506.05751; layers of the Torch code (facebook/eyescream).

An image is a coarse image I_K and details h_k, k < K. Each level has its own game, trained by itself:

    I_(k+1) = d(I_k)        l_k = u(I_(k+1))        h_k = I_k - l_k
    L_Dk = -E log D_k(l_k + h_k) - E log(1 - D_k(l_k + G_k(z_k, l_k)))         L_DK as in a GAN, of I_K
    L_Gk = -E log D_k(l_k + G_k(z_k, l_k))

in which l_k is that of a real image. A sample starts from G_K(z_K), and level by level I~_k = u(I~_(k+1)) +
G_k(z_k, u(I~_(k+1))). Levels are called by the sides of their images, here 8 (dense networks), 16 and 32.

Data: any images of one size (CIFAR-10 in the paper); here cells under four kinds of microscope, whose kinds
are counted among the samples (`modes`) where records have a label.
Deviations: D_k sees real and generated images in every step, not either by the toss of a coin; d takes means
of 2x2 pixels, u is linear; rate and momentum move in every step, not every epoch; `small` takes Adam.
Expected: no value in the review for this base model.
`small`, 16 x 16: all kinds, not the distance, choose the state and bound it. States with less, 96 (a Gaussian
in PCA space has 75), or 119 by averages and slower G, lack a kind. `paper`: not run by this project.

    python -m experiments.base.lapgan --data.source FOLDER
"""

import dataclasses
from typing import Literal

import optax

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.microscopy import KINDS, cell_data
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.measures import mode_coverage, sample_distance
from medgan_jax.models.lapgan import from_coarse_to_fine, lapgan_networks, pyramid_and_noise
from medgan_jax.models.progressive import sides_up_to
from medgan_jax.schedules import sgd_of_2014

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 32
    coarsest: int = 8
    channels: int = 1  # 3 in the paper
    width: int = 64  # of the convolutions
    dense: tuple[int, int] = (1200, 600)  # widths of G_K and D_K; recalled, not certain
    latent: int = 100  # of G_K; the others take a map of one channel
    dropout: float = 0.5
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.02
    decay: float = 1.00004  # divides the rate each epoch
    momentum: tuple[float, float] = (0.0008, 0.7)  # growth each epoch, and its end; 0.8 in the paper
    epoch: int = 390  # steps: 50000 images
    steps: int = 390 * 1000  # not certain
    evaluate_every: int = 3900
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=16, width=4, dense=(16, 8), latent=8, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(size=16, width=8, dense=(400, 400), dropout=0.2, batch_size=48, optimizer="adam",
                   learning_rate=1e-3, steps=2400, evaluate_every=600, phantoms=(2000, 256, 256))


def sides(config):
    return sides_up_to(config.size, config.coarsest)


def models(config):
    return lapgan_networks(sides(config), channels=config.channels, width=config.width, dense=config.dense,
                           dropout=config.dropout)


def generated(nets, batch, side):
    """l_k + G_k(z_k, l_k) of the real l_k, or G_K(z_K)."""
    z, l = batch["z"][side], batch["l"].get(side)
    return nets[f"G_{side}"](z) if l is None else l + nets[f"G_{side}"](z, l)


def discriminator_loss(side):
    def loss(nets, batch, context):
        """L_Dk of I_k = l_k + h_k, (B, side, side, C) in [-1, 1]."""
        d = nets[f"D_{side}"]
        real, fake = d(batch["I"][side]), d(generated(nets, batch, side))
        value = adversarial.discriminator_cross_entropy(real, fake)
        return value, Terms(nets, real=real.mean(), fake=fake.mean())

    return loss


def generator_loss(side):
    def loss(nets, batch, context):
        """L_Gk of z_k and the real l_k."""
        value = adversarial.generator_non_saturating(nets[f"D_{side}"](generated(nets, batch, side)))
        return value, Terms(nets, adversarial=value)

    return loss


def sample(nets, batch, key):
    """I~_0, from the coarsest level to the finest."""
    z = batch["z"]
    coarsest, *finer = sorted(z)
    details = lambda side, l: nets[f"G_{side}"].eval(z[side], l)  # noqa: E731
    return {"sample": from_coarse_to_fine(nets[f"G_{coarsest}"].eval(z[coarsest]), finer, details)}


def data(config):
    return cell_data(config.data.source, size=config.size, channels=config.channels, counts=config.phantoms,
                     batch_size=config.batch_size)


def experiment(config):
    cases = data(config)
    prepare = pyramid_and_noise(parts.symmetric_range(cases.train.source), sides(config), config.latent)

    def optimizer():
        if config.optimizer == "adam":
            return optax.adam(config.learning_rate, b1=0.5)
        growth, end = config.momentum
        return sgd_of_2014(config.learning_rate, config.decay ** (1 / config.epoch), 1e-6, (0.0, end),
                           round(end / growth) * config.epoch)

    turns = tuple(Phase(f"{player}_{side}", (f"{player}_{side}",), loss(side), optimizer())
                  for side in sides(config)
                  for player, loss in (("D", discriminator_loss), ("G", generator_loss)))
    labelled = "label" in cases.fields
    game = Stage("game", models(config), turns, cases, config.steps, prepare)
    return Experiment(
        id="lapgan", config=config, stages=(game,), infer=sample, baseline=pca_gaussian("sample", "x"),
        metrics=sample_distance("sample", "x") + (mode_coverage("sample", "x", "label") if labelled else ()),
        learning=(Bound("modes", ">=", len(KINDS)),) if labelled else (),
        select="modes" if labelled else "swd", images=("sample", "x"), terms={"adversarial": "1"},
        unknowns=("widths of the dense networks", "d and u", "number of epochs", "padding in D: none"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
