"""WGAN-VGG: low-dose CT denoising with Wasserstein distance and perceptual loss [106], Table 16.

Yang, Yan, Zhang, Yu, Shi, Mou, Kalra, Zhang, Sun, Wang. IEEE TMI 37(6):1348-1357, 2018. Layers are those of
the public code (yyqqss09/ldct_denoising), weights those of the paper. G maps patches z of low dose to routine
dose x; not pixels but features phi, of VGG19 after conv5_4 and its ReLU, are asked to agree:

    L_D = E D(G(z)) - E D(x) + lambda E(||grad D(x^)||_2 - 1)^2        x^ between x and G(z), lambda = 10
    L_G = -E D(G(z)) + lambda_1 1/(whd) ||phi(G(z)) - phi(x)||^2       lambda_1 = 0.1

Four updates of D, each on fresh patches, for one of G. The paper's five networks: `fidelity` vgg or mse with
`adversarial` 0 or 1, and none with 1. Data: AAPM-Mayo challenge, quarter dose beside full, patches of 64 that
are not air; here phantom abdomens, scanned twice. A folder has `image` and `target` in HU, or slices to which
noise is added. Deviations: without VGG weights (`config.features.weights`) phi learns a proxy task, and
lambda_1 is such that the term costs a share of ||z - x||_2, by which D can at most tell z from x. The code
sums slopes along one axis and L_VGG over a case, the paper does not. The last kernel begins positive (see
`models`). Published: readers' scores of 1 to 5, noise 3.20 +- 0.25, artefacts 3.45 +- 0.25, quality 3.70 +-
0.15; PSNR and SSIM are of -160 to 240 HU and the last state. `small`: no run recorded yet, trained
in that window. `paper`: not run.

    python -m experiments.denoising.wgan_vgg_ldct --data.source FOLDER
"""

import dataclasses
import functools
from typing import Literal

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.classical import denoisers
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.augmentations import tissue_crop
from medgan_jax.data.dose_pairs import open_dose_pairs
from medgan_jax.data.intensity import MinMax, Window
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, perceptual, pixel
from medgan_jax.losses.arrays import case_norm
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.models.wgan_vgg import PlainCritic, PlainDenoiser
from medgan_jax.perceptual import FeatureOptions, perceptual_features
from medgan_jax.phantoms.abdomen import abdomen_slice
from medgan_jax.texture_measures import noise_texture, windowed_fidelity

NEEDS = Needs(channels=1)
SOFT_TISSUE = (-160.0, 240.0)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 512
    patch: int = 64
    depth: int = 8
    width: int = 32
    base: int = 64  # width of D's first layer
    hidden: int = 1024
    window: tuple[float, float] = (-1024.0, 3072.0)  # HU that become 0 and 1; the port's
    photons: tuple[float, float] = (1e6, 2.5e5)  # incident on a ray, at routine and at low dose
    pixel_mm: float = 360 / 512  # side of a pixel
    fidelity: Literal["vgg", "mse", "none"] = "vgg"
    lambda_1: float = 0.1
    adversarial: float = 1.0
    penalty: float = 10.0
    critic_steps: int = 4
    features: FeatureOptions = dataclasses.field(default_factory=FeatureOptions)
    batch_size: int = 128
    learning_rate: float = 1e-5
    beta1: float = 0.5
    beta2: float = 0.9
    steps: int = 78200  # 100 epochs of 100096 patches
    evaluate_every: int = 7820
    phantoms: tuple[int, int, int] = (4000, 100, 200)
    @classmethod
    def tiny(cls):
        return cls(size=32, patch=16, depth=3, width=4, base=2, hidden=8, window=SOFT_TISSUE,
                   pixel_mm=360 / 32, critic_steps=2, features=FeatureOptions(steps=1, side=16),
                   batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))
    @classmethod
    def small(cls):
        return cls(size=128, patch=32, width=16, base=16, hidden=64, window=SOFT_TISSUE, pixel_mm=360 / 128,
                   features=FeatureOptions(steps=150, side=32, share=1.0), batch_size=16, learning_rate=5e-4,
                   steps=500, evaluate_every=250, evaluation_cases=16, phantoms=(128, 16, 32))
    def twin(self):
        return dataclasses.replace(self, adversarial=0.0, fidelity="mse")

def models(config):
    networks = {"G": PlainDenoiser(config.depth, config.width)}
    critic = PlainCritic(config.patch, tuple(config.base * 2**level for level in range(3)), config.hidden)
    return {**networks, "D": critic} if config.adversarial else networks

def inner(images, border):
    """What G's output shows of its input: all but the border."""
    return images[:, border:-border, border:-border]

def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D of z, whose border G takes off, and x, (B, H, W, 1) in [0, 1]."""
        x, fake = inner(batch["target"], config.depth), nets.G(batch["low"])
        distance = adversarial.discriminator_wasserstein(nets.D(x), nets.D(fake))
        penalty = config.penalty * gradient_penalty(nets.D.float32, x, fake, context.key)
        return distance + penalty, Terms(nets, wasserstein=-distance, penalty=penalty)
    return loss

def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, or what `fidelity` and `adversarial` leave of it."""
        x, fake = inner(batch["target"], config.depth), nets.G(batch["low"])
        terms = {}
        if config.fidelity == "vgg":
            maps = (nets.features.eval(2 * image - 1) for image in (fake, x))
            terms["perceptual"] = context.memory["perceptual_weight"] * perceptual.feature_l2(*maps)
        if config.fidelity == "mse":
            terms["pixel"] = pixel.l2(fake, x)
        if config.adversarial:
            terms["adversarial"] = config.adversarial * adversarial.generator_wasserstein(nets.D(fake))
        return sum(terms.values()), Terms(nets, **terms)
    return loss

def denoise(config):
    def infer(nets, batch, key):
        """G of a slice that is mirrored outside, so that it keeps its size."""
        border = ((0, 0), (config.depth,) * 2, (config.depth,) * 2, (0, 0))
        return {"denoised": nets.G.eval(jnp.pad(batch["low"], border, mode="reflect"))}
    return infer

def data(config):
    abdomen = functools.partial(abdomen_slice, size=config.size, noise=0.0)
    slices = open_dose_pairs(
        config.data.source, abdomen, name="abdomen_dose", counts=config.phantoms, size=config.size,
        routine=config.photons[0], photons=config.photons[1:], pixel_mm=config.pixel_mm)
    crop = tissue_crop(config.patch + 2 * config.depth, least=-615.0)
    train = Stream(slices.train, config.batch_size, crop)
    return Data(train, slices.validation, slices.test, fields=("image", "target"))

def experiment(config):
    cases, to_unit = data(config), Window(*config.window, "HU", (0, 1))

    def prepare(batch, key):
        low, target = (to_unit.forward(batch[name]) for name in ("image", "target"))
        return {"low": low, "target": target, "signed_low": 2 * low - 1, "signed_target": 2 * target - 1}

    features = perceptual_features(config.features, architecture="vgg19", tap="relu5_4", proxy_tap="relu2_2",
        data=cases, prepare=prepare, image="signed_target", used=config.fidelity == "vgg")
    memory = features.memory(config.lambda_1, before="signed_low", target="signed_target",
                             pixel_term=lambda z, x: case_norm(z - x).mean() / 2)
    adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
    turns = (Phase("G", ("G",), generator_loss(config), adam),)
    if config.adversarial:
        turns = (Phase("D", ("D",), discriminator_loss(config), adam, repeats=config.critic_steps), *turns)
    game = Stage("game", {**models(config), **features.networks}, turns, cases, config.steps, prepare,
                 features.frozen, memory=memory)
    return Experiment(
        id="wgan_vgg_ldct", config=config, stages=(*features.stages, game), infer=denoise(config),
        **denoisers("denoised", source="low", target="target", scale=0.1, untouched="low dose"),
        metrics=(*windowed_fidelity("denoised", "target", to_hu=to_unit.inverse, window=SOFT_TISSUE),
                 *noise_texture("denoised", "target", to_hu=to_unit.inverse, pixel_mm=config.pixel_mm)),
        images=("low", "denoised", "target"), compare=("denoised", "target"), value_range=(0, 1),
        image_ranges={"error": (0, 0.3)},
        prediction=Prediction("low", "denoised", lambda image: MinMax(*config.window, "HU", (0, 1))),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty:g}", "pixel": "1",
               "perceptual": f"lambda_1 = {config.lambda_1:g}", "adversarial": f"{config.adversarial:g}"},
        notes={"features": features.name}, unknowns=("range of HU that becomes [0, 1]: the port's",
            "cost of a proxy's perceptual term", "photons: of the phantoms"),
        learning=(Bound("nps_distance", "<=", "twin"), Bound("psnr", ">=", "baseline")))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
