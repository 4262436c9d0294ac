"""DAGAN: Deep De-Aliasing Generative Adversarial Networks for fast compressed sensing MRI [83], Table 12.

Yang, Yu, Dong, Slabaugh, Dragotti, Ye, Liu, Arridge, Keegan, Guo, Firmin. IEEE TMI 37(6):1310-1321, 2018.
Details: the authors' code (tensorlayer/DAGAN). To a zero-filled magnitude image a U-Net's output is added:

    x_hat = clip(x_zf + G(x_zf), -1, 1)                                             x_zf = |F^-1 M F x|
    L_G   = alpha ||x_hat - x|| / ||x|| + beta E(|F x_hat| - |F x|)^2 + gamma E(f(x_hat) - f(x))^2 + L_adv
    L_D   = BCE(D(x), 1) + BCE(D(x_hat), 0)                                         L_adv = BCE(D(x_hat), 1)

D sees the image alone; no data consistency. F in L_G is unnormalised, of images in [0, 1]; f is VGG16 after pool4.
Data: MICCAI 2013 challenge, T1 brain, 21128 and 9854 slices; here phantoms or a folder. Published: NMSE 0.08 +- 0.02,
PSNR 40.20 +- 4.07 dB at 30 % of k-space. Deviations: without VGG weights f learns a proxy task, gamma is fitted to it;
images are divided by their maximum; the first convolution has its activation; no biases before norms. `paper`: not run.

    python -m experiments.reconstruction.dagan --data.source FOLDER
"""

import dataclasses

import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.augmentations import dagan_deformation
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.forward_models import undersampled_magnitudes
from medgan_jax.game import Baseline, Bound, EarlyStopping, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, consistency, perceptual, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.dagan import dagan_discriminator
from medgan_jax.models.unet import dagan_unet
from medgan_jax.perceptual import FeatureOptions, perceptual_features
from medgan_jax.physics import fourier, masks

NEEDS = Needs(channels=1)


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
    features: FeatureOptions = dataclasses.field(default_factory=FeatureOptions)
    batch_size: int = 25
    learning_rate: float = 1e-4
    discriminator_rate: float = 1e-4
    beta1: float = 0.5
    halve_every: int = 5 * 643  # five epochs
    steps: int = 9999 * 643
    evaluate_every: int = 643  # an epoch
    evaluation_cases: int = 5033
    patience: int = 10
    phantoms: tuple[int, int, int] = (1000, 100, 100)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=2, batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8,
                   features=FeatureOptions(steps=1, side=16), phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=128, base=16, elastic=False, batch_size=4, learning_rate=1e-3, halve_every=400,
                   steps=1100, evaluate_every=100, evaluation_cases=24, features=FeatureOptions(steps=400),
                   phantoms=(200, 24, 40))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0, gamma=0.0)


def models(config):
    generator = dagan_unet(config.size, base=config.base, refine=config.refine)
    discriminator = dagan_discriminator(config.size, base=config.base)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


def discriminator_loss(nets, batch, context):
    """L_D of x and x_hat, (B, H, W, 1) in [-1, 1]."""
    x_hat = nets.G.peek(batch["zero_filled"])
    real, nets = nets.D.update(batch["target"])
    fake, nets = nets.D.update(x_hat)
    loss = adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, the sum of four weighted terms."""
        x, unit = batch["target"], lambda image: (image + 1) / 2
        x_hat, nets = nets.G.update(batch["zero_filled"])
        terms = {"image": config.alpha * pixel.relative_l2(x_hat, x),
                 "frequency": config.beta * consistency.kspace_magnitude(unit(x_hat), unit(x))}
        if config.gamma:
            distance = perceptual.feature_l2(nets.features.eval(x_hat), nets.features.eval(x))
            terms["perceptual"] = context.memory["perceptual_weight"] * distance
        if config.adversarial:
            score = nets.D.peek(x_hat)
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(score)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def data(config):
    heads = parts.open_heads(config.data.source, size=config.size, counts=config.phantoms, magnitude=True)
    train = Stream(heads.train, config.batch_size, dagan_deformation(config.size, elastic=config.elastic))
    return Data(train, heads.validation, heads.test, fields=("image",))


def experiment(config):
    mask = masks.make_mask(config.mask, (config.size, config.size), config.rate)
    prepare, cases = undersampled_magnitudes(mask, config.noise), data(config)
    features = perceptual_features(config.features, architecture="vgg16", tap="pool4", resize=(244, 244),
                                   data=cases, prepare=prepare, image="target", used=config.gamma > 0)
    memory = features.memory(config.gamma, before="zero_filled", target="target",
                             pixel_term=lambda x_hat, x: config.alpha * pixel.relative_l2(x_hat, x))
    rates = (optax.exponential_decay(rate, config.halve_every, 0.5, staircase=True)
             for rate in (config.discriminator_rate, config.learning_rate))
    adam_d, adam_g = (optax.adam(rate, b1=config.beta1) for rate in rates)
    turn_d = Phase("D", ("D",), discriminator_loss, adam_d)
    turn_g = Phase("G", ("G",), generator_loss(config), adam_g)
    game = Stage("game", {**models(config), **features.networks}, (turn_d, turn_g) if config.adversarial else
                 (turn_g,), cases, config.steps, prepare, features.frozen, memory=memory)
    return Experiment(
        id="dagan", config=config, stages=(*features.stages, game),
        infer=lambda nets, batch, key: {"reconstruction": nets.G.eval(batch["zero_filled"])},
        baseline=Baseline("zero filling", lambda fitted, batch, _: {"reconstruction": batch["zero_filled"]}),
        metrics=image_fidelity("reconstruction", "target", low=-1, high=1), select="nmse_dagan",
        early_stopping=EarlyStopping("nmse_dagan", config.patience), compare=("reconstruction", "target"),
        images=("zero_filled", "reconstruction", "target"), image_ranges={"error": (0, 0.4)},
        prediction=Prediction("zero_filled", "reconstruction", intensity=parts.magnitude_range),
        forward=lambda image, batch: fourier.undersample((image[..., 0] + 1) / 2, mask),
        terms={"image": f"alpha = {config.alpha:g}", "frequency": f"beta = {config.beta:g}",
               "perceptual": f"gamma = {config.gamma:g}", "adversarial": f"weight {config.adversarial:g}"},
        notes={"features": features.name, "mask": masks.describe_mask(config.mask, config.rate, mask)},
        unknowns=("5033 slices for validation, so 643 steps an epoch", "share of a proxy's perceptual term"),
        learning=(Bound("nmse_dagan", "<=", "baseline", times=0.7),))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
