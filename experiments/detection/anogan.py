"""AnoGAN: unsupervised anomaly detection with GANs to guide marker discovery [25], Table 15.

Schlegl, Seeboeck, Waldstein, Schmidt-Erfurth, Langs. IPMI 2017, arXiv 1703.05921. A DCGAN learns healthy
patches. For a query x a latent vector is sought, with G and D frozen, by descent on

    L(z) = 0.9 L_R(z) + 0.1 L_D(z),   L_R = sum |x - G(z)|,   L_D = sum |f(x) - f(G(z))|

for f an intermediate layer of D. L after 500 steps is the anomaly score A(x); |x - G(z)| shows where it is.
Data: OCT, a million patches of 64 x 64 from 270 healthy volumes, 8192 to test; here phantoms, half of the
test's with fluid; of a folder's masks those of healthy images are empty. Published: precision 0.88, recall
0.73, specificity 0.89, AUC 0.89. Labels choose Youden's threshold on validation patches, and nothing else.
`small`: AUC 0.88, mean-image residual 0.69; five minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.detection.anogan --data.source FOLDER
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import mean_image_residual
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.inference.latent_search import search_latent
from medgan_jax.inference.latents import Prior, draw_latents
from medgan_jax.losses import adversarial
from medgan_jax.measures import detection
from medgan_jax.models.dcgan import anogan_discriminator, anogan_generator
from medgan_jax.phantoms.oct import oct_patch

NEEDS = Needs(fields=("image", "mask"), channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64
    base: int = 64
    latent: int = 100
    prior: Prior = "normal"  # of z; the paper's is not known
    lam: float = 0.1
    search_steps: int = 500
    search_rate: float = 1e-2  # not the paper's, nor is its cosine decay
    restarts: int = 1
    batch_size: int = 64
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 312500  # 20 epochs of a million patches
    evaluate_every: int = 15625  # an epoch
    phantoms: tuple[int, int, int] = (20000, 512, 2048)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, search_steps=3, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, base=24, search_steps=150, search_rate=5e-2, batch_size=32, steps=2500,
                   evaluate_every=1250, phantoms=(4000, 96, 256))


def models(config):
    return {"G": anogan_generator(config.size, base=config.base),
            "D": anogan_discriminator(config.size, base=config.base)}


def discriminator_loss(nets, batch, context):
    """BCE(D(x), 1) + BCE(D(G(z)), 0) of x, (B, H, W, 1) in [-1, 1], and z, (B, Z)."""
    real, nets = nets.D.update(batch["x"])
    fake, nets = nets.D.update(nets.G.peek(batch["z"]))
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(nets, batch, context):
    """BCE(D(G(z)), 1)."""
    fake, nets = nets.G.update(batch["z"])
    loss = adversarial.generator_non_saturating(nets.D.peek(fake))
    return loss, Terms(nets, adversarial=loss)


def search(config):
    """x -> nearest healthy image G(z), residual |x - G(z)| and anomaly score A(x)."""
    def infer(nets, batch, key):
        x, absolute_sum = batch["x"], jax.vmap(lambda difference: jnp.abs(difference).sum())

        def f(image):
            return nets.D.eval(image, features=True)[1][-1]

        f_x = f(x)

        def loss(z):
            g_z = nets.G.eval(z)
            return (1 - config.lam) * absolute_sum(x - g_z) + config.lam * absolute_sum(f_x - f(g_z))

        starts = draw_latents(config.prior, key, (config.restarts, len(x), config.latent))
        z, score = search_latent(loss, starts, steps=config.search_steps, learning_rate=config.search_rate)
        nearest = nets.G.eval(z)
        return {"nearest": nearest, "residual": jnp.abs(x - nearest), "score": score}

    return infer


def phantom(key, anomalous, *, size):
    record = oct_patch(key, size, fluid=anomalous)
    return {"image": record["image"], "mask": record["fluid_mask"]}


def data(config):
    patches = parts.open_detection_parts(config.data.source, functools.partial(phantom, size=config.size),
                                         name=f"oct_{config.size}", counts=config.phantoms)
    for field in ("image", "mask"):
        parts.require_image(patches, channels=1, size=config.size, field=field)
    return Data(Stream(patches.train, config.batch_size, fields=("image",)), patches.validation, patches.test,
                evaluation_batch_size=64, fields=("image", "mask"))


def experiment(config):
    cases = data(config)
    intensity = parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        truth = {"label": batch["mask"].any((1, 2, 3)), "mask": batch["mask"]} if "mask" in batch else {}
        return {"x": x, "z": draw_latents(config.prior, key, (len(x), config.latent)), **truth}

    adam = optax.adam(config.learning_rate, b1=config.beta1)
    turns = (Phase("D", ("D",), discriminator_loss, adam), Phase("G", ("G",), generator_loss, adam))
    return Experiment(
        id="anogan", config=config, infer=search(config), metrics=detection("score", "label"),
        stages=(Stage("game", models(config), turns, cases, config.steps, prepare),),
        baseline=mean_image_residual("x", nearest="nearest", residual="residual", score="score"),
        images=("x", "nearest", "residual", "mask"), image_ranges={"residual": (0, 1), "mask": (0, 1)},
        prediction=Prediction("x", "residual", lambda image: intensity,
                              output_intensity=Affine(2 / (intensity.high - intensity.low), 0.0, "input")),
        terms={"adversarial": "1", "L_R": f"{1 - config.lam:g}, search", "L_D": f"{config.lam:g}, search"},
        unknowns=("prior of z", "optimiser of the search: Adam with cosine decay", "layer f: the last of D"),
        learning=(Bound("auc", ">=", "baseline", plus=0.05),))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
