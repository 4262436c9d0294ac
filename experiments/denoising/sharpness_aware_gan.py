"""SAGAN: sharpness-aware low-dose CT denoising with a conditional GAN [107], Table 16.

Yi, Babyn. Journal of Digital Imaging 31(5):655-669, 2018. The public code (xinario/SAGAN) does not train; the
sharpness metric is that of xinario/defocus_segmentation. D judges patches of pairs (x, y) against (x, G(x));
S, trained beforehand, says how sharp each pixel is:

    L_D = E(D(x, y) - 1)^2 + E D(x, G(x))^2
    L_G = E(D(x, G(x)) - 1)^2 + lambda_1 E|G(x) - y| + lambda_2 E||S(G(x)) - S(y)||_2
    L_S = E|S(b) - LBP(b)|        of partly blurred images b         lambda_1 = 100, lambda_2 = 0.001

LBP is the share of local binary patterns 6 to 9 in a window of 21 pixels: it has no gradient, S has one.
Data: Catphan 600 and a piglet, simulated noise of 1e4 and 1e5 photons a ray; here Catphan phantoms at both. A
folder has `image` and `target` in HU, or slices to which noise is added. Deviations: instance norm for batch
norm in training mode at one image; S learns from partly blurred targets, not photographs; the state with the
best PSNR, of -1024 to 1955 HU, is kept. Published: 1e4 photons PSNR 26.77 dB, SSIM 0.8454; 1e5 photons 28.25
dB, 0.87; others on other data. `small`: no run recorded yet; its twin has no sharpness term.
`paper`: not run.

    python -m experiments.denoising.sharpness_aware_gan --data.source FOLDER
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.classical import denoisers
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.augmentations import tissue_crop
from medgan_jax.data.dose_pairs import open_catphans
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.forward_models import in_range, partly_defocused
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.losses.sharpness import lbp_sharpness, sharpness_distance
from medgan_jax.measures import image_fidelity
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.phantoms.catphan import FIELD_OF_VIEW_MM
from medgan_jax.texture_measures import edge_sharpness, only

NEEDS = Needs(channels=1)
RANGE = MinMax(-1024.0, 65535 / 22 - 1024, "HU", (-1, 1))  # 16 bits hold (HU + 1024) * 22 in the code
GAMES = {"lsgan": (adversarial.discriminator_least_squares, adversarial.generator_least_squares),
         "bce": (adversarial.discriminator_cross_entropy, adversarial.generator_non_saturating)}

@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 512
    patch: int = 256
    base: int = 64
    levels: int = 8
    residual_blocks: bool = True  # in G, which is said to have residual components; so is the next
    refine: bool = True  # G's output is added to its input
    patch_layers: int = 3
    sharp_base: int = 64  # of S, a U-Net too
    sharp_levels: int = 8
    gan_loss: Literal["lsgan", "bce"] = "lsgan"  # not known, nor are the two weights
    lambda_1: float = 100.0
    lambda_2: float = 0.001
    adversarial: float = 1.0
    window: int = 21  # of the sharpness metric, in pixels
    threshold: float = 0.016
    blurs: tuple[float, ...] = (1.0, 2.0, 4.0)  # pixels; not the paper's
    photons: tuple[float, float] = (1e4, 1e5)
    pixel_mm: float = 0.625
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    sharp_rate: float = 1e-3
    sharp_steps: int = 20000
    steps: int = 85000  # 30 epochs of 4 x 708 slices; not known
    evaluate_every: int = 2832
    phantoms: tuple[int, int, int] = (708, 50, 142)
    @classmethod
    def tiny(cls):
        return cls(size=32, patch=16, base=2, levels=2, patch_layers=1, sharp_base=2, sharp_levels=2,
                   window=5, pixel_mm=FIELD_OF_VIEW_MM / 32, batch_size=8, sharp_steps=2, steps=4,
                   evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))
    @classmethod
    def small(cls):
        return cls(size=128, patch=64, base=16, levels=5, patch_layers=2, sharp_base=16, sharp_levels=3,
                   window=11, pixel_mm=FIELD_OF_VIEW_MM / 128, batch_size=4, learning_rate=5e-4,
                   sharp_steps=150, steps=500, evaluate_every=250, evaluation_cases=16, phantoms=(96, 16, 32))
    def twin(self):
        return dataclasses.replace(self, lambda_2=0.0)

def models(config):
    unet = functools.partial(pix2pix_unet, config.patch, norm="instance", dropout=0.0)
    networks = {"G": unet(base=config.base, levels=config.levels,
                          residual_blocks=config.residual_blocks, residual_clip=config.refine),
                "D": PatchGAN(config.patch_layers, config.base, norm="instance")}
    sharpness = unet(base=config.sharp_base, levels=config.sharp_levels, activation=jax.nn.sigmoid)
    return {**networks, "S": sharpness} if config.lambda_2 else networks

def sharpness_loss(config):
    def loss(nets, batch, context):
        """L_S on partly blurred targets (B, H, W, 1)."""
        images = partly_defocused(batch["target"], context.key, deviations=config.blurs)
        truth = lbp_sharpness(images, window=config.window, threshold=config.threshold)
        value = pixel.l1(nets.S(images), truth)
        return value, Terms(nets, sharpness=value)
    return loss

def beside(x, y):
    return jnp.concatenate([x, y], axis=-1)

def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D of the noisy x and its target y, (B, H, W, 1) in [-1, 1]."""
        x, y = batch["low"], batch["target"]
        real, fake = nets.D(beside(x, y)), nets.D(beside(x, nets.G(x)))
        return GAMES[config.gan_loss][0](real, fake), Terms(nets, real=real.mean(), fake=fake.mean())
    return loss

def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, the sum of three weighted terms."""
        x, y, fake = batch["low"], batch["target"], nets.G(batch["low"])
        terms = {"adversarial": config.adversarial * GAMES[config.gan_loss][1](nets.D(beside(x, fake))),
                 "l1": config.lambda_1 * pixel.l1(fake, y)}
        if config.lambda_2:
            terms["sharpness"] = config.lambda_2 * sharpness_distance(nets.S.eval(fake), nets.S.eval(y))
        return sum(terms.values()), Terms(nets, **terms)
    return loss

def data(config):
    slices = open_catphans(config.data.source, size=config.size, counts=config.phantoms,
                           photons=config.photons, pixel_mm=config.pixel_mm)
    known = ("edge", "photons") if config.data.source == "phantom" else ()
    crop = tissue_crop(config.patch, least=-1000.0)
    train = Stream(slices.train, config.batch_size, crop, ("image", "target"))
    return Data(train, slices.validation, slices.test, fields=("image", "target", *known))

def experiment(config):
    cases, networks = data(config), models(config)
    prepare = in_range(RANGE.forward, low="image", target="target")
    adam = optax.adam(config.learning_rate, b1=config.beta1)
    turns = (Phase("D", ("D",), discriminator_loss(config), adam),
             Phase("G", ("G",), generator_loss(config), adam))
    stages = (Stage("game", networks, turns, cases, config.steps, prepare),)
    if config.lambda_2:
        alone = Phase("S", ("S",), sharpness_loss(config), optax.adam(config.sharp_rate))
        first = Stage("sharpness", {"S": networks["S"]}, (alone,), cases, config.sharp_steps, prepare)
        stages = (first, *stages)
    metrics, sharp = image_fidelity("denoised", "target", low=-1, high=1), ()
    if config.data.source == "phantom":
        sharp = (Bound("mtf50", ">=", "twin", times=0.98),)
        metrics += tuple(only(metrics[0], "photons", dose, f"psnr_{dose:.0e}") for dose in config.photons)
        metrics += edge_sharpness("denoised", "edge", pixel_mm=config.pixel_mm, reach_mm=12, along_mm=20)
    return Experiment(
        id="sharpness_aware_gan", config=config, stages=stages, metrics=metrics,
        infer=lambda nets, batch, key: {"denoised": nets.G.eval(batch["low"])}, select="psnr",
        **denoisers("denoised", source="low", target="target", scale=0.05, untouched="low dose"),
        images=("low", "denoised", "target"), compare=("denoised", "target"), value_range=(-0.5, 0.1),
        image_ranges={"error": (0, 0.1)}, prediction=Prediction("low", "denoised", lambda image: RANGE),
        terms={"adversarial": f"weight {config.adversarial:g}, {config.gan_loss}",
               "l1": f"lambda_1 = {config.lambda_1:g}", "sharpness": f"lambda_2 = {config.lambda_2:g}"},
        unknowns=("lambda_1 and lambda_2", "least squares or cross-entropy", "layers of S and its training",
                  "which residual components G has", "number of steps"),
        learning=(Bound("psnr", ">=", "baseline", plus=2.0), *sharp))

if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
