"""Name of the method in words [reference number in the review], Table number. Here: a toy that removes noise.

Authors. Journal volume(issue):pages, year. Say what is taken from public code rather than from the paper.

Then the method in two sentences and its equations, with the paper's symbols, indented. The functions below
use the same symbols, so that file and paper can be read side by side:

    x_hat = clip(y + G(y), -1, 1)                    y = x + sigma n,  n standard normal
    L_D   = BCE(D(x, y), 1) + BCE(D(x_hat, y), 0)
    L_G   = BCE(D(x_hat, y), 1) + lambda_1 E|x_hat - x|

Deviations: what differs from the paper, and why. What the paper does not say goes into `Experiment.unknowns`.

Data: the paper's data set and split; what stands in for it here (head phantoms, or a folder of images).
Published: the value to expect, with its data and condition; here none, because this is a template.
`small`: 27 dB from 20 dB in about a minute on two CPU cores. `paper`: hardware and hours, or "not run".

    python -m experiments._template --data.source FOLDER

To write an experiment, copy this file to experiments/<application>/<catalogue id>.py, whose ids are in
`python -m medgan_jax list`, and work from the top down. `python -m medgan_jax describe ID` tells what the
game has become.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import UNet

# What records have to hold, in plain values: `data list` reads this line.
NEEDS = Needs(channels=1)


# Every number that the paper has a value for. The defaults are the paper's; a value that the paper does not
# give says so in its comment. A comment is also the option's help.
@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 128  # side of the phantoms in pixels
    base: int = 32  # width of the first layer of both networks
    sigma: float = 0.2  # standard deviation of the noise; images are in [-1, 1]
    lambda_1: float = 100.0  # weight of the L1 term
    adversarial: float = 1.0  # weight of the adversarial term; 0 is the twin
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 2000
    phantoms: tuple[int, int, int] = (200, 20, 20)  # subjects for training, validation and test

    # For tests: seconds, nothing is learned.
    @classmethod
    def tiny(cls):
        return cls(
            size=32, base=4, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8)
        )

    # For two CPU cores: minutes, and the result must show that the method works.
    @classmethod
    def small(cls):
        return cls(
            size=64,
            base=16,
            batch_size=8,
            learning_rate=2e-3,
            steps=200,
            evaluate_every=100,
            phantoms=(64, 16, 16),
        )

    # The same networks without their adversarial part, or None where that makes no sense.
    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


# The networks by the paper's names. A network that no phase calls is an error, so the twin has no D.
def models(config):
    widths = {"down": (config.base, 2 * config.base), "up": (config.base,)}
    generator = UNet(1, **widths, dropout=0.0, residual_clip=True)
    discriminator = PatchGAN(layers=1, base=config.base)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


# One function for each objective. It gets the networks, the prepared batch and the context (step, key,
# memory), and returns the value with `Terms`: the networks to carry on and the parts to log.
#   x, nets = nets.G.update(...)  training mode; batch statistics and the like go on with `nets`
#   nets.G.peek(...)              training mode, state dropped: a network that this phase does not train
#   nets.G.eval(...)              stored statistics: inference and frozen networks
def discriminator_loss(nets, batch, context):
    """BCE(D(x, y), 1) + BCE(D(x_hat, y), 0)."""
    y = batch["noisy"]
    x_hat = nets.G.peek(y)
    real, nets = nets.D.update(beside(batch["clean"], y))
    fake, nets = nets.D.update(beside(x_hat, y))
    return adversarial.discriminator_cross_entropy(real, fake), Terms(
        nets, real=real.mean(), fake=fake.mean()
    )


# An objective with weights is made by a function of the configuration.
def generator_loss(config):
    def loss(nets, batch, context):
        """BCE(D(x_hat, y), 1) + lambda_1 E|x_hat - x|."""
        x, y = batch["clean"], batch["noisy"]
        x_hat, nets = nets.G.update(y)
        terms = {"l1": config.lambda_1 * pixel.l1(x_hat, x)}
        if config.adversarial:
            score = nets.D.peek(beside(x_hat, y))
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(score)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def beside(image, condition):
    """What a conditional discriminator sees: both along channels."""
    return jnp.concatenate([image, condition], axis=-1)


# The forward model runs on the device, in every step anew: its noise follows from (seed, step).
def add_noise(config):
    """Images (B, H, W, 1) of any positive range -> clean and noisy images, the clean ones in [-1, 1]."""

    def prepare(batch, key):
        image = batch["image"]
        x = 2 * image / jnp.maximum(image.max((1, 2, 3), keepdims=True), 1e-6) - 1
        return {"clean": x, "noisy": x + config.sigma * jax.random.normal(key, x.shape)}

    return prepare


# Where images come from. A record's fields become `batch[field]`; no subject is in two parts.
def data(config):
    heads = parts.open_heads(config.data.source, size=config.size, counts=config.phantoms, magnitude=True)
    return Data(Stream(heads.train, config.batch_size), heads.validation, heads.test, fields=("image",))


# The game: who moves in which order, what inference is, how it is measured.
def experiment(config):
    def adam():
        return optax.adam(config.learning_rate, b1=config.beta1)

    turn_d = Phase("D", ("D",), discriminator_loss, adam())
    turn_g = Phase("G", ("G",), generator_loss(config), adam())
    game = Stage(
        "game",
        networks=models(config),
        phases=(turn_d, turn_g) if config.adversarial else (turn_g,),
        data=data(config),
        steps=config.steps,
        prepare=add_noise(config),
    )
    return Experiment(
        id="_template",  # the catalogue id, which is also the name of the file
        config=config,
        stages=(game,),
        infer=lambda nets, batch, key: {"denoised": nets.G.eval(batch["noisy"])},
        baseline=Baseline("noisy input", lambda fitted, batch, key: {"denoised": batch["noisy"]}),
        metrics=image_fidelity("denoised", "clean", low=-1, high=1),
        select="psnr",  # on validation cases, chooses the state that is kept
        images=("noisy", "denoised", "clean", "error"),
        image_ranges={"error": (0, 1)},  # what is black and what is white, where it is not (-1, 1)
        compare=("denoised", "clean"),  # what "error" is the difference of
        prediction=Prediction("noisy", "denoised", intensity=parts.magnitude_range),
        terms={"l1": f"lambda_1 = {config.lambda_1:g}", "adversarial": f"weight {config.adversarial:g}"},
        unknowns=("all values: this is a template",),
    )


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
