"""AAE: adversarial autoencoders, section 4.1.2.3 of the review.

Makhzani, Shlens, Jaitly, Goodfellow, Frey. arXiv 1511.05644, 2015 (ICLR 2016 workshop). An autoencoder
learns to reconstruct; a game in the space of its codes, not of images, holds their distribution q(z) to a
prior p(z), so that the decoder makes an image of any z ~ p(z):

    L_rec = E (x - p(q(x)))^2                                                       q encoder, p decoder
    L_D   = BCE(D(z), 1) + BCE(D(q(x)), 0)                                          z ~ N(0, s^2 I)
    L_q   = BCE(D(q(x)), 1)

The encoder is deterministic. Data: digits and codes of 8 numbers in the paper; here grey slices of phantom
heads. Layers and optimiser are recalled. Published: Parzen log-likelihood 340 +- 2 on MNIST. `paper`: not run.

    python -m experiments.base.aae --data.source FOLDER
"""

import dataclasses
from typing import Literal

import jax
import optax

from medgan_jax import cli
from medgan_jax.baselines import principal_components
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.heads import head_data
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import code_distance, image_fidelity, sample_distance
from medgan_jax.models.mlp import MLP
from medgan_jax.models.sizes import Sizes

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 28
    hidden: int = 1000
    code: int = 8  # for the likelihood; 2 for pictures of the code
    spread: float = 1.0  # s of the prior; 5 in some of the paper's experiments
    adversarial: float = 1.0  # weight of L_q; 0 is the twin, a plain autoencoder
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01  # of the reconstruction; this and the next three: recalled, not certain
    adversarial_rate: float = 0.1  # of D, and of the encoder against it
    momentum: float = 0.9
    lower_at: tuple[int, ...] = (30000, 600000)  # epochs 50 and 1000, where all rates fall to a tenth
    batch_size: int = 100
    steps: int = 750000
    evaluate_every: int = 15000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=16, hidden=8, code=4, batch_size=8, steps=4, lower_at=(2,), evaluate_every=2,
                   evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(size=32, hidden=400, optimizer="adam", learning_rate=1e-3, adversarial_rate=3e-4,
                   lower_at=(1500,), batch_size=64, steps=2000, evaluate_every=1000,
                   phantoms=(1200, 128, 256))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    widths = (config.hidden, config.hidden)
    autoencoder = {"q": MLP(config.code, widths),
                   "p": MLP((config.size, config.size, 1), widths, output_activation=jax.nn.sigmoid)}
    return autoencoder | ({"D": MLP(1, widths)} if config.adversarial else {})


def reconstruction_loss(nets, batch, context):
    """L_rec of x, (B, H, W, 1) in [0, 1]."""
    x = batch["x"]
    loss = pixel.l2(nets.p(nets.q(x)), x)
    return loss, Terms(nets, reconstruction=loss)


def discriminator_loss(nets, batch, context):
    """L_D of codes q(x) and draws z from the prior, (B, Z)."""
    prior, code = nets.D(batch["z"]), nets.D(nets.q(batch["x"]))
    loss = adversarial.discriminator_cross_entropy(prior, code)
    return loss, Terms(nets, prior=prior.mean(), code=code.mean())


def encoder_loss(config):
    def loss(nets, batch, context):
        """L_q: codes that D takes for draws from the prior."""
        value = config.adversarial * adversarial.generator_non_saturating(nets.D(nets.q(batch["x"])))
        return value, Terms(nets, adversarial=value)

    return loss


def data(config):
    return head_data(config.data.source, size=config.size, counts=config.phantoms,
                     batch_size=config.batch_size)


def experiment(config):
    cases = data(config)
    intensity = parts.unit_range(cases.train.source)

    def prior(key, count):
        return config.spread * jax.random.normal(key, (count, config.code))

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        return {"x": x, "z": prior(key, len(x))}

    def infer(nets, batch, key):
        """x -> its code and reconstruction; draws from the prior, and the images that p makes of them."""
        x, z = batch["x"], prior(key, len(batch["x"]))
        Sizes(exact=(config.size,) * 2).check("this autoencoder", x)
        code = nets.q.eval(x)
        return {"code": code, "prior": z, "reconstruction": nets.p.eval(code), "sample": nets.p.eval(z)}

    def optimizer(rate):
        rates = optax.piecewise_constant_schedule(rate, dict.fromkeys(config.lower_at, 0.1))
        return optax.adam(rates) if config.optimizer == "adam" else optax.sgd(rates, config.momentum)

    turns = (Phase("reconstruction", ("q", "p"), reconstruction_loss, optimizer(config.learning_rate)),)
    if config.adversarial:
        descent = optimizer(config.adversarial_rate)
        turns += (Phase("D", ("D",), discriminator_loss, descent),
                  Phase("q", ("q",), encoder_loss(config), descent))
    distance = code_distance("code", "prior", scale=config.spread)
    fidelity = image_fidelity("reconstruction", "x", low=0, high=1)[:2]
    return Experiment(
        id="aae", config=config, infer=infer,
        baseline=principal_components("x", config.code, code="code", reconstruction="reconstruction",
                                      sample="sample", more=lambda *draws: {"prior": prior(*draws)}),
        stages=(Stage("game", models(config), turns, cases, config.steps, prepare),),
        metrics=(distance, *fidelity, *sample_distance("sample", "x")),
        images=("x", "reconstruction", "sample"), value_range=(0, 1),
        prediction=Prediction("x", "reconstruction", lambda image: intensity),
        learning=(Bound("mmd", "<=", "twin", times=0.1), Bound("mmd", "<=", 0.01),
                  Bound("psnr", ">=", "twin", plus=-2.0), Bound("swd", "<=", "twin", times=0.8)),
        terms={"reconstruction": "1", "adversarial": f"weight {config.adversarial:g}"},
        unknowns=("learning rates, momentum, their lowering, batch size", "encoder: deterministic, of three"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
