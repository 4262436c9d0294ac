"""AnoGAN: unsupervised anomaly detection with generative adversarial networks to guide marker discovery [25], Table 15.

Schlegl, Seeboeck, Waldstein, Schmidt-Erfurth, Langs. IPMI 2017, arXiv 1703.05921.

A DCGAN learns healthy patches. For a query x a latent vector is sought, with G and D frozen, by descent on

    L(z) = (1 - lambda) L_R(z) + lambda L_D(z),   L_R = sum |x - G(z)|,   L_D = sum |f(x) - f(G(z))|,   lambda = 0.1

where f is an intermediate layer of D (feature matching). L at the last of 500 steps is the anomaly score A(x), and
|x - G(z)| shows where the anomaly is.

Data: spectral-domain OCT, patches of 64 x 64 from 270 healthy volumes; here phantom OCT patches, with fluid in half
of the test patches. Published: precision 0.88, recall 0.73, specificity 0.89, AUC 0.89. Other data give other values.
Threshold of the printed precision, recall and specificity: Youden's, chosen on the validation patches.
`small`: minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.detection.anogan
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import open_detection_parts, require_image, value_range
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.inference.latent_search import search_latent
from medgan_jax.losses import adversarial
from medgan_jax.measures import detection
from medgan_jax.models.dcgan import anogan_discriminator, anogan_generator
from medgan_jax.phantoms.oct import oct_patch


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64
    base: int = 64
    latent: int = 100
    lam: float = 0.1
    search_steps: int = 500
    search_rate: float = 1e-2  # not the paper's
    restarts: int = 1
    batch_size: int = 64
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 312500  # 20 epochs of a million patches
    evaluate_every: int = 15625  # an epoch
    phantoms: tuple[int, int, int] = (20000, 512, 2048)

    @classmethod
    def tiny(cls):
        return cls(size=32, base=4, latent=8, search_steps=3, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=8, phantoms=(16, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, base=24, search_steps=150, search_rate=5e-2, batch_size=32, steps=2500,
                   evaluate_every=1250, phantoms=(4000, 96, 256))


def models(config):
    return {"G": anogan_generator(config.size, base=config.base), "D": anogan_discriminator(config.size, base=config.base)}


def discriminator_loss(nets, batch, context):
    fake = nets.G.peek(batch["z"])
    real_score, nets = nets.D.update(batch["x"])
    fake_score, nets = nets.D.update(fake)
    loss = adversarial.discriminator_cross_entropy(real_score, fake_score)
    return loss, Terms(nets, real=real_score.mean(), fake=fake_score.mean())


def generator_loss(nets, batch, context):
    fake, nets = nets.G.update(batch["z"])
    loss = adversarial.generator_non_saturating(nets.D.peek(fake))
    return loss, Terms(nets, adversarial=loss)


def search(config):
    """x -> nearest healthy image G(z), residual |x - G(z)| and anomaly score A(x)."""

    def infer(nets, batch, key):
        x = batch["x"]
        f = lambda image: nets.D.eval(image, features=True)[1][-1]
        f_x, total = f(x), lambda difference: jnp.abs(difference).reshape(len(x), -1).sum(-1)

        def loss(z):
            g_z = nets.G.eval(z)
            return (1 - config.lam) * total(x - g_z) + config.lam * total(f_x - f(g_z))

        starts = jax.random.normal(key, (config.restarts, len(x), config.latent))
        z, score = search_latent(loss, starts, steps=config.search_steps, learning_rate=config.search_rate)
        nearest = nets.G.eval(z)
        return {"nearest": nearest, "residual": jnp.abs(x - nearest), "score": score}

    return infer


def mean_image(batches):
    """Mean training image, for the baseline."""
    images = [batch["x"] for batch in batches]
    return sum(image.sum(0) for image in images) / sum(len(image) for image in images)


def mean_residual(fitted, batch, key):
    residual = jnp.abs(batch["x"] - fitted)
    return {"nearest": jnp.broadcast_to(fitted, batch["x"].shape), "residual": residual,
            "score": residual.reshape(len(residual), -1).sum(-1)}


def data(config):
    def draw(key, anomalous):
        record = oct_patch(key, config.size, fluid=anomalous)
        return {"image": record["image"], "mask": record["fluid_mask"]}

    parts = open_detection_parts(config.data.source, draw, name=f"oct_{config.size}", counts=config.phantoms)
    require_image(parts, channels=1)
    return Data(Stream(parts.train, config.batch_size, fields=("image",)), parts.validation, parts.test,
                evaluation_batch_size=64, fields=("image", "mask"))


def experiment(config):
    cases = data(config)
    intensity = MinMax(*value_range(cases.train.source), "input", (-1, 1))

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        anomalous = {"label": batch["mask"].any((1, 2, 3)), "mask": batch["mask"]} if "mask" in batch else {}
        return {"x": x, "z": jax.random.normal(key, (len(x), config.latent)), **anomalous}

    adam = lambda: optax.adam(config.learning_rate, b1=config.beta1)
    turns = (Phase("D", ("D",), discriminator_loss, adam()), Phase("G", ("G",), generator_loss, adam()))
    return Experiment(
        id="anogan", config=config, stages=(Stage("game", models(config), turns, cases, config.steps, prepare),),
        infer=search(config), baseline=Baseline("mean-image residual", mean_residual, mean_image),
        metrics=detection("score", "label"), select="auc",
        images=("x", "nearest", "residual", "mask"), image_ranges={"residual": (0, 1), "mask": (0, 1)},
        prediction=Prediction("x", "residual", intensity=lambda image: intensity, restore_units=False),
        terms={"adversarial": "weight 1 in training", "L_R": f"{1 - config.lam:g} in search", "L_D": f"{config.lam:g} in search"},
        unknowns=("prior of z: normal; optimiser of the search: Adam, 1e-2 with cosine decay", "layer f: the last convolution"))


if __name__ == "__main__":
    cli.main_experiment(__spec__.name)
