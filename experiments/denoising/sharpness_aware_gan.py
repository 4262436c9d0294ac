"""SAGAN: sharpness-aware low-dose CT denoising with a conditional GAN [107], Table 16.

Yi, Babyn. Journal of Digital Imaging 31(5):655-669, 2018. The public code (xinario/SAGAN) does not train; the
sharpness metric is xinario/defocus_segmentation's. D judges patches; S, trained first, says what is sharp:

    L_D = E(D(x, y) - 1)^2 + E D(x, G(x))^2
    L_G = E(D(x, G(x)) - 1)^2 + lambda_1 E|G(x) - y| + lambda_2 E||S(G(x)) - S(y)||_2
    L_S = E|S(b) - LBP(b)|        of partly blurred images b         lambda_1 = 100, lambda_2 = 0.001

LBP is the share of local binary patterns 6 to 9 in a window of 21 pixels: it has no gradient, S has one.
Data: Catphan 600 and a piglet, 1e4 and 1e5 photons a ray; here Catphan phantoms. A folder has `image` and
`target` in HU, or slices to which noise is added. Deviations: instance norm for batch norm at one image; S
learns from partly blurred targets, not photographs; the state with the best PSNR is kept. Published: 26.77
dB, SSIM 0.8454 at 1e4 photons; 28.25, 0.87 at 1e5. `small`: five minutes, its rate falls. `paper`: not run.

    python -m experiments.denoising.sharpness_aware_gan --data.source FOLDER
"""

import dataclasses
import functools
from typing import Literal

import optax
from jax.nn import sigmoid

from medgan_jax import cli
from medgan_jax.classical import denoisers
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.dose_pairs import open_catphans, tissue_patches
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.needs import Needs
from medgan_jax.forward_models import in_range, partly_defocused
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import games, pixel
from medgan_jax.losses.sharpness import lbp_sharpness
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.nn.blocks import beside
from medgan_jax.schedules import constant_then_linear
from medgan_jax.texture_measures import catphan_quality

NEEDS = Needs(channels=1)
RANGE = MinMax(-1024.0, 65535 / 22 - 1024, "HU", (-1, 1))  # 16 bits hold (HU + 1024) * 22 in the code


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 512
    patch: int = 256
    base: int = 64  # of G and S
    depth: tuple[int, int] = (8, 8)  # levels of G and of S
    residual: bool = True  # G, of which components are said to be so, has blocks and adds to its input
    patch_layers: int = 3
    gan_loss: Literal["lsgan", "bce"] = "lsgan"  # not known, nor are the two weights
    lambda_1: float = 100.0
    lambda_2: float = 0.001
    window: int = 21  # of the sharpness metric, in pixels
    photons: tuple[float, float] = (1e4, 1e5)
    field_mm: float = 240.0  # side of the images; the phantoms'
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    flat: float = 1.0  # share of the steps before the rate falls to 0
    blurs: tuple[float, ...] = (1.0, 2.0, 4.0)  # pixels, of S's images; not the paper's
    sharp_steps: int = 20000  # not known
    steps: int = 85000  # 30 epochs of 4 x 708 slices; not known
    evaluate_every: int = 2832
    phantoms: tuple[int, int, int] = (708, 50, 142)

    @classmethod
    def tiny(cls):
        return cls(size=32, patch=16, base=2, depth=(2, 2), patch_layers=1, window=5, batch_size=8,
                   sharp_steps=2, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=128, patch=64, base=16, depth=(5, 3), patch_layers=2, window=11, batch_size=4,
                   learning_rate=1e-3, flat=0.5, sharp_steps=150, steps=1000, evaluate_every=250,
                   evaluation_cases=16, phantoms=(96, 16, 32))

    def twin(self):
        return dataclasses.replace(self, lambda_2=0.0)


def models(config):
    unet = functools.partial(pix2pix_unet, config.patch, base=config.base, norm="instance", dropout=0.0)
    generator = unet(levels=config.depth[0], residual_blocks=config.residual, residual_clip=config.residual)
    networks = {"G": generator, "D": PatchGAN(config.patch_layers, config.base, norm="instance")}
    return networks | ({"S": unet(levels=config.depth[1], activation=sigmoid)} if config.lambda_2 else {})


def sharpness_loss(config):
    def loss(nets, batch, context):
        """L_S on partly blurred targets (B, H, W, 1)."""
        images = partly_defocused(batch["target"], context.key, deviations=config.blurs)
        value = pixel.l1(nets.S(images), lbp_sharpness(images, window=config.window))
        return value, Terms(nets, sharpness=value)

    return loss


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D of the noisy x and its target y, (B, H, W, 1) in [-1, 1]."""
        x, y = batch["low"], batch["target"]
        real, fake = nets.D(beside(x, y)), nets.D(beside(x, nets.G(x)))
        return games.GAMES[config.gan_loss][0](real, fake), Terms(nets, real=real.mean())

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, the sum of three weighted terms."""
        x, y, fake = batch["low"], batch["target"], nets.G(batch["low"])
        score, (_, deceive) = nets.D(beside(x, fake)), games.GAMES[config.gan_loss]
        terms = {"adversarial": deceive(score), "l1": config.lambda_1 * pixel.l1(fake, y)}
        if config.lambda_2:
            terms["sharpness"] = config.lambda_2 * pixel.norm(nets.S.eval(fake), nets.S.eval(y))
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def experiment(config):
    drawn, pixel_mm = config.data.source == "phantom", config.field_mm / config.size
    slices = open_catphans(config.data.source, config.size, config.phantoms, config.photons, pixel_mm)
    cases = tissue_patches(slices, config.batch_size, config.patch, least=-1000.0, known=("edge", "photons"))
    prepare, networks = in_range(RANGE.forward, low="image", target="target"), models(config)
    adam = optax.adam(constant_then_linear(config.learning_rate, config.steps, config.flat), b1=config.beta1)
    losses = {"D": discriminator_loss(config), "G": generator_loss(config)}
    turns = tuple(Phase(name, (name,), loss, adam) for name, loss in losses.items())
    stages = (Stage("game", networks, turns, cases, config.steps, prepare),)
    if config.lambda_2:
        alone = Phase("S", ("S",), sharpness_loss(config), optax.adam(config.learning_rate))
        stages = (Stage("sharp", {"S": networks["S"]}, (alone,), cases, config.sharp_steps, prepare), *stages)
    bounds = Bound("psnr", ">=", "baseline", plus=2.0), Bound("mtf50", ">=", "twin", times=0.98)
    return Experiment(
        id="sharpness_aware_gan", config=config, stages=stages, select="psnr", value_range=(-0.5, 0.1),
        infer=lambda nets, batch, key: {"denoised": nets.G.eval(batch["low"])},
        **denoisers("denoised", source="low", target="target", scale=0.05, untouched="low dose"),
        metrics=catphan_quality("denoised", "target", pixel_mm, config.photons if drawn else ()),
        image_ranges={"error": (0, 0.1)}, prediction=Prediction("low", "denoised", lambda image: RANGE),
        terms={"adversarial": "1", "l1": f"{config.lambda_1:g}", "sharpness": f"{config.lambda_2:g}"},
        unknowns=("both lambdas", "least squares or cross-entropy", "S", "residual parts of G", "steps"),
        learning=bounds if drawn else bounds[:1])


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
