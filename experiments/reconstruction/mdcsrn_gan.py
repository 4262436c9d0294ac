"""mDCSRN-GAN: MRI super-resolution with a multi-level densely connected network in 3D [90], Table 13.

Chen, Shi, Christodoulou, Xie, Zhou, Li. MICCAI 2018:91-99; no code, turns from a replication that quotes it
(quas1009/mDCSRN-WGAN). Of y's k-space x keeps the centre along two axes. G first learns alone, then with D:

    first:  L_G = E|y - G(x)|
    then:   L_G = E|y - G(x)| - lambda E D(G(x))                                             lambda = 0.001
            L_D = E D(G(x)) - E D(y) + 10 E(||grad D(y^)||_2 - 1)^2,    y^ between y and G(x)

A step is one batch, of D or G: 10,000 for D; then seven for D to one for G, with 200 for D after each 500.
Data: HCP, 1113 volumes, phantom heads, or a folder. Published, of L1 alone: PSNR 35.88, SSIM 0.94, NRMSE
0.0852. `small`: lambda 0.01, for in patches of 16 the L1's gradient has 8 times its norm in 64 (0.001, in
fewer steps, did not sharpen); a test asks the twin for zero filling + 0.5 dB. `paper`: not run.

    python -m experiments.reconstruction.mdcsrn_gan --data.source FOLDER
"""

import dataclasses
from typing import Literal

import optax

from medgan_jax import cli
from medgan_jax.classical import cubic_interpolation
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import MaxScale
from medgan_jax.data.needs import Needs
from medgan_jax.data.volumes import coarse_heads
from medgan_jax.game import Baseline, Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.inference.sliding_window import windows_without_rim
from medgan_jax.losses import adversarial, pixel
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.measures import image_fidelity
from medgan_jax.models.dense import MultiLevelDenseNet
from medgan_jax.models.srgan import srgan_discriminator
from medgan_jax.schedules import constant_then_linear
from medgan_jax.texture_measures import gradient_statistics
from medgan_jax.turns import in_cycles

NEEDS = Needs(rank=3, channels=1)
IN_PLANE = (-3, -2)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: tuple[int, int, int] = (64, 64, 64)  # that volumes are cut to; HCP's have 256 x 320 x 320
    patch: int = 64
    window: int = 64  # of inference, in voxels
    rim: int = 3  # voxels of it that are thrown away on each side
    factor: int = 2  # along each of two axes: "4x"
    blocks: int = 4
    units: int = 4
    growth: int = 16
    base: int = 64  # width of the critic's first layer; its dense one has 16 times as many
    pixel: Literal["l1", "l2"] = "l1"  # beside the critic; the review says MSE
    adversarial: float = 0.001
    penalty: float = 10.0
    batch_size: int = 2
    learning_rate: float = 1e-4
    flat: float = 1.0  # share of the first stage before its rate falls to 0
    game_rate: float = 5e-6
    pretraining: int = 500000
    steps: int = 550000
    critic_first: int = 10000  # steps of the game that are D's, before G moves
    critic_turns: int = 7  # of D for one of G
    together: int = 500  # steps in such turns before a pause
    pause: int = 200  # steps of D alone
    evaluate_every: int = 10000
    phantoms: tuple[int, int, int] = (780, 111, 111)

    @classmethod
    def tiny(cls):
        return cls(size=(16, 16, 16), patch=8, window=18, rim=1, blocks=2, units=1, growth=2, base=2,
                   batch_size=8, pretraining=2, steps=4, critic_first=1, critic_turns=1, together=2,
                   pause=1, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=(32, 32, 32), patch=16, window=38, blocks=3, units=2, growth=8, base=8, batch_size=2,
                   learning_rate=2e-3, flat=0.3, pretraining=2200, adversarial=0.01, game_rate=3e-4,
                   steps=560, critic_first=60, evaluate_every=1000, evaluation_cases=8, phantoms=(64, 8, 16))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    generator = MultiLevelDenseNet(1, config.blocks, config.units, config.growth)
    critic = srgan_discriminator((config.patch,) * 3, base=config.base, hidden=16 * config.base, norm="layer")
    return {"G": generator, "D": critic}


def pretraining_loss(nets, batch, context):
    """E|y - G(x)| of patches (B, D, H, W, 1)."""
    fake, nets = nets.G.update(batch["low"])
    loss = pixel.l1(fake, batch["image"])
    return loss, Terms(nets, l1=loss)


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D, whose first two terms are the negative of `wasserstein`."""
        y, fake = batch["image"], nets.G.peek(batch["low"])
        distance = adversarial.discriminator_wasserstein(nets.D(y), nets.D(fake))
        penalty = config.penalty * gradient_penalty(nets.D.float32, y, fake, context.key)
        return distance + penalty, Terms(nets, wasserstein=-distance, penalty=penalty)

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G of the game."""
        fake, nets = nets.G.update(batch["low"])
        terms = {"pixel": getattr(pixel, config.pixel)(fake, batch["image"]),
                 "adversarial": config.adversarial * adversarial.generator_wasserstein(nets.D(fake))}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def experiment(config):
    cases = coarse_heads(config.data.source, size=config.size, patch=config.patch, factor=config.factor,
                         axes=IN_PLANE, counts=config.phantoms, batch_size=config.batch_size)
    networks, adam = models(config), optax.adam(config.game_rate)
    rate = constant_then_linear(config.learning_rate, config.pretraining, config.flat)
    alone = Phase("G", ("G",), pretraining_loss, optax.adam(rate))
    first = Stage("pretraining", {"G": networks["G"]}, (alone,), cases, config.pretraining)
    for_d, for_g = in_cycles(config.critic_turns, alone=config.critic_first, together=config.together,
                             pause=config.pause)
    turns = (Phase("D", ("D",), discriminator_loss(config), adam, when=for_d),
             Phase("G", ("G",), generator_loss(config), adam, when=for_g))
    game = Stage("game", networks, turns, cases, config.steps)
    return Experiment(
        id="mdcsrn_gan", config=config, stages=(first, game) if config.adversarial else (first,),
        infer=lambda nets, batch, key: {"fine": windows_without_rim(
            nets.G.eval, batch["low"], window=config.window, rim=config.rim)}, value_range=(0, 1),
        baseline=Baseline("zero filling", lambda fitted, batch, key: {"fine": batch["low"]}),
        others=(cubic_interpolation("fine", source="low", factor=(config.factor,) * 2, axes=IN_PLANE),),
        metrics=(*image_fidelity("fine", "image", low=0, high=1), *gradient_statistics("fine", "image")),
        images=("low", "fine", "image"), compare=("fine", "image"), image_ranges={"error": (0, 0.2)},
        prediction=Prediction("low", "fine", lambda image: MaxScale.fit(image, "input"), rank=3),
        terms={"l1": "1, before the game", "pixel": "1", "adversarial": f"lambda = {config.adversarial:g}",
               "wasserstein": "1", "penalty": f"{config.penalty:g}"},
        unknowns=("L1 or MSE beside the critic", "whether the 550,000 steps are batches"),
        learning=(Bound("psnr", ">=", "twin", plus=-1.0), Bound("gradient_distance", "<=", "twin")))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
