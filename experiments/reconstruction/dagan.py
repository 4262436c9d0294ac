"""DAGAN: Deep De-Aliasing Generative Adversarial Networks for fast compressed sensing MRI [83], Table 12.

Yang, Yu, Dong, Slabaugh, Dragotti, Ye, Liu, Arridge, Keegan, Guo, Firmin. IEEE TMI 37(6):1310-1321, 2018.
Layers, weights and schedule follow the authors' public code (tensorlayer/DAGAN).

A U-Net removes the aliasing of a zero-filled magnitude image; its output is a correction to the input (refinement):

    x_hat = clip(x_zf + G(x_zf), -1, 1)                                             x_zf = |F^-1 M F x|
    L_G   = alpha ||x_hat - x|| / ||x|| + beta E(|F x_hat| - |F x|)^2 + gamma E(f(x_hat) - f(x))^2 + L_adv
    L_D   = BCE(D(x), 1) + BCE(D(x_hat), 0)                                         L_adv = BCE(D(x_hat), 1)

D sees the image alone; all images are real magnitudes; no data-consistency layer. The state with the best validation
NMSE is kept. f is VGG16 after pool4 if `vgg_weights` names a file; else a proxy network, and the results say so.

Data: MICCAI 2013 grand challenge, T1 brain, 21128 training and 9854 test slices; here head phantoms or a folder.
Published: NMSE 0.08 +- 0.02, PSNR 40.20 +- 4.07 dB at 30 % of k-space. Other data give other values.
`small`: about eight minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.reconstruction.dagan --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import transforms
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import open_parts, require_image
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, EarlyStopping, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, consistency, perceptual, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.dagan import dagan_discriminator
from medgan_jax.models.unet import dagan_unet
from medgan_jax.perceptual import perceptual_features
from medgan_jax.phantoms.head import head_slice
from medgan_jax.physics import fourier, masks


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    base: int = 64
    mask: masks.MaskKind = "gaussian1d"
    rate: float = 0.3
    noise: float = 0.0
    alpha: float = 15.0
    beta: float = 0.1
    gamma: float = 0.0025
    adversarial: float = 1.0
    refine: bool = True
    elastic: bool = True
    batch_size: int = 25
    learning_rate: float = 1e-4
    beta1: float = 0.5
    halve_every: int = 4225  # five epochs
    steps: int = 84500  # 100 epochs; the paper allows 9999 and stops early
    evaluate_every: int = 845  # an epoch
    patience: int = 10
    vgg_weights: str = ""
    perceptual_ratio: float = 0.5  # not the paper's: share of the perceptual term when f is a proxy network
    proxy_steps: int = 500  # not the paper's
    proxy_side: int = 64  # not the paper's
    phantoms: tuple[int, int, int] = (1000, 100, 100)

    @classmethod
    def tiny(cls):
        return cls(size=32, base=4, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, proxy_steps=2,
                   proxy_side=16, phantoms=(16, 8, 8))

    @classmethod
    def small(cls):
        return cls(base=16, elastic=False, batch_size=4, learning_rate=1e-3, halve_every=250, steps=700, evaluate_every=100,
                   evaluation_cases=24, proxy_steps=60, phantoms=(200, 24, 40))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0, gamma=0.0)


def models(config):
    generator = dagan_unet(config.size, base=config.base, refine=config.refine)
    discriminator = dagan_discriminator(config.size, base=config.base)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


def discriminator_loss(nets, batch, context):
    x_hat = nets.G.peek(batch["zero_filled"])
    real, nets = nets.D.update(batch["target"])
    fake, nets = nets.D.update(x_hat)
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        x, unit = batch["target"], lambda image: (image + 1) / 2
        x_hat, nets = nets.G.update(batch["zero_filled"])
        terms = {"image": config.alpha * pixel.relative_l2(x_hat, x)}
        if config.beta:
            terms["frequency"] = config.beta * consistency.kspace_magnitude(unit(x_hat), unit(x))
        if config.gamma:
            distance = perceptual.feature_l2(nets.features.eval(x_hat), nets.features.eval(x))
            terms["perceptual"] = context.memory["gamma"] * distance
        if config.adversarial:
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(nets.D.peek(x_hat))
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def first_memory(config, features):
    """The weight of the perceptual term, which is gamma for the paper's features."""

    def memory(nets, batch, key):
        x, x_zf = batch["target"], batch["zero_filled"]
        share = config.perceptual_ratio * config.alpha * pixel.relative_l2(x_zf, x)
        return {"gamma": features.weight(nets, x_zf, x, published=config.gamma, share=share)}

    return memory


def undersample(config, mask):
    def prepare(batch, key):
        x = batch["image"] / jnp.maximum(batch["image"].max((1, 2, 3), keepdims=True), 1e-6)
        noise = {"noise": config.noise, "key": key} if config.noise else {}
        x_zf = jnp.abs(fourier.zero_filled(x[..., 0], mask, **noise))[..., None]
        return {"target": 2 * x - 1, "zero_filled": jnp.clip(2 * x_zf - 1, -1, 1)}

    return prepare


def augment(config):
    """The paper's augmentation of the clean image, before undersampling."""

    def change(record, random):
        record = transforms.flip(record, random)
        if config.elastic:
            record = transforms.elastic(record, random, alpha=3 * config.size, sigma=config.size / 10)
        record = transforms.affine(record, random, rotation=10, shift=0.1, zoom=(0.9, 1.1))
        return transforms.gamma(record, random, 0.05, span=(0, record["image"].max()))

    return change


def data(config):
    parts = open_parts(config.data.source, lambda key: {"image": head_slice(key, config.size)["image"]},
                       name=f"head_t1_{config.size}", counts=config.phantoms)
    require_image(parts, channels=1)
    train = Stream(parts.train, config.batch_size, augment(config))
    return Data(train, parts.validation, parts.test, fields=("image",))


def experiment(config):
    mask = masks.make_mask(config.mask, (config.size, config.size), config.rate)
    prepare, cases = undersample(config, mask), data(config)
    features = perceptual_features(config.vgg_weights, architecture="vgg16", tap="pool4", resize=(244, 244),
                                   data=cases, prepare=prepare, image="target", steps=config.proxy_steps,
                                   proxy_resize=(config.proxy_side,) * 2, used=config.gamma > 0)
    rate = optax.exponential_decay(config.learning_rate, config.halve_every, 0.5, staircase=True)
    turn_d = Phase("D", ("D",), discriminator_loss, optax.adam(rate, b1=config.beta1))
    turn_g = Phase("G", ("G",), generator_loss(config), optax.adam(rate, b1=config.beta1))
    game = Stage("game", {**models(config), **features.networks}, (turn_d, turn_g) if config.adversarial else (turn_g,),
                 cases, config.steps, prepare, features.frozen, memory=first_memory(config, features))
    return Experiment(
        id="dagan", config=config, stages=(*features.stages, game),
        infer=lambda nets, batch, key: {"reconstruction": nets.G.eval(batch["zero_filled"])},
        baseline=Baseline("zero filling", lambda fitted, batch, key: {"reconstruction": batch["zero_filled"]}),
        metrics=image_fidelity("reconstruction", "target", low=-1, high=1), select="nmse_dagan",
        early_stopping=EarlyStopping("nmse_dagan", config.patience), compare=("reconstruction", "target"),
        images=("zero_filled", "reconstruction", "target"), image_ranges={"error": (0, 0.4)},
        prediction=Prediction("zero_filled", "reconstruction", intensity=lambda image: MinMax(0.0, float(image.max()), "input", (-1, 1))),
        terms={"image": f"alpha = {config.alpha}", "frequency": f"beta = {config.beta}",
               "perceptual": f"gamma = {config.gamma}", "adversarial": f"weight {config.adversarial}"},
        notes={"features": features.name, "mask": masks.describe_mask(config.mask, config.rate, mask)},
        unknowns=("share of the perceptual term for features other than VGG16: a choice of this project",
                  "images are divided by their own maximum, where the paper divides by the volume's"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
