"""WGAN-VGG: low-dose CT denoising with Wasserstein distance and perceptual loss [106], Table 16.

Yang, Yan, Zhang, Yu, Shi, Mou, Kalra, Zhang, Sun, Wang. IEEE TMI 37(6):1348-1357, 2018. Layers are those of
the public code (yyqqss09/ldct_denoising), weights those of the paper. G maps patches z of low dose to routine
dose x; not pixels but features phi, of VGG19 after conv5_4 and its ReLU, are asked to agree:

    L_D = E D(G(z)) - E D(x) + lambda E(||grad D(x^)||_2 - 1)^2        x^ between x and G(z), lambda = 10
    L_G = -E D(G(z)) + lambda_1 1/(whd) ||phi(G(z)) - phi(x)||^2       lambda_1 = 0.1

D moves four times, each on fresh patches, for one move of G. The paper's five networks: `fidelity` vgg or mse
with `adversarial` 0 or 1, none with 1. Data: AAPM-Mayo challenge, quarter dose beside full; here phantom
abdomens, scanned twice. A folder has `image` and `target` in HU, or slices to which noise is added.
Deviations: without VGG weights (`config.features.weights`) phi learns a proxy task, and lambda_1 makes the
term cost a share of ||z - x||_2, by which D can at most tell z from x; the last kernel begins positive.
Published: readers' scores of 1 to 5, noise 3.20 +- 0.25, artefacts 3.45 +- 0.25, quality 3.70 +- 0.15.
`small`: four minutes, 31.3 dB from 29.4 in -160 to 240 HU, the twin 32.7. `paper`: not run.

    python -m experiments.denoising.wgan_vgg_ldct --data.source FOLDER
"""

import dataclasses
from typing import Literal

import optax

from medgan_jax import cli
from medgan_jax.classical import denoisers
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.dose_pairs import open_abdomens, tissue_patches
from medgan_jax.data.intensity import MinMax, Window
from medgan_jax.data.needs import Needs
from medgan_jax.forward_models import in_unit_range
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.inference.sliding_window import whole_image
from medgan_jax.losses import adversarial, perceptual, pixel
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.models.wgan_vgg import PlainCritic, PlainDenoiser
from medgan_jax.nn.resample import centre_crop
from medgan_jax.perceptual import FeatureOptions, perceptual_features
from medgan_jax.schedules import constant_then_linear
from medgan_jax.texture_measures import ct_quality

NEEDS = Needs(channels=1)
SOFT_TISSUE = (-160.0, 240.0)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 512
    patch: int = 64
    depth: int = 8
    width: int = 32
    base: int = 64  # width of D's first layer; its dense one has 16 times as many
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
    flat: float = 1.0  # share of the steps before the rate falls to 0
    betas: tuple[float, float] = (0.5, 0.9)
    steps: int = 78200  # 100 epochs of 100096 patches
    evaluate_every: int = 7820
    phantoms: tuple[int, int, int] = (4000, 100, 200)

    @classmethod
    def tiny(cls):
        return cls(size=32, patch=16, depth=3, width=4, base=2, window=SOFT_TISSUE,
                   pixel_mm=360 / 32, critic_steps=2, features=FeatureOptions(steps=1, side=16),
                   batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=128, patch=32, width=16, base=8, window=SOFT_TISSUE, pixel_mm=360 / 128,
                   features=FeatureOptions(steps=150, side=32), batch_size=8, learning_rate=2e-3,
                   flat=0.3, steps=900, evaluate_every=300, evaluation_cases=16, phantoms=(128, 16, 32))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0, fidelity="mse")


def models(config):
    denoiser = PlainDenoiser(config.depth, config.width)
    critic = PlainCritic(config.patch, tuple(config.base * 2**level for level in range(3)), 16 * config.base)
    return {"G": denoiser, "D": critic} if config.adversarial else {"G": denoiser}


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D of z, whose border G takes off, and x, (B, H, W, 1) in [0, 1]."""
        fake = nets.G(batch["low"])
        x = centre_crop(batch["target"], fake.shape[1:-1])
        distance = adversarial.discriminator_wasserstein(nets.D(x), nets.D(fake))
        penalty = config.penalty * gradient_penalty(nets.D.float32, x, fake, context.key)
        return distance + penalty, Terms(nets, wasserstein=-distance, penalty=penalty)

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, or what `fidelity` and `adversarial` leave of it."""
        fake, terms = nets.G(batch["low"]), {}
        x = centre_crop(batch["target"], fake.shape[1:-1])
        if config.fidelity == "vgg":
            maps = (nets.features.eval(2 * image - 1) for image in (fake, x))
            terms["perceptual"] = context.memory["perceptual_weight"] * perceptual.feature_l2(*maps)
        if config.fidelity == "mse":
            terms["pixel"] = pixel.l2(fake, x)
        if config.adversarial:
            terms["adversarial"] = config.adversarial * adversarial.generator_wasserstein(nets.D(fake))
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def experiment(config):
    slices = open_abdomens(config.data.source, config.size, config.phantoms, config.photons, config.pixel_mm)
    cases = tissue_patches(slices, config.batch_size, config.patch + 2 * config.depth, least=-615.0)
    to_unit = Window(*config.window, "HU", (0, 1))
    prepare = in_unit_range(to_unit.forward, low="image", target="target")
    features = perceptual_features(config.features, architecture="vgg19", tap="relu5_4", proxy_tap="relu2_2",
        data=cases, prepare=prepare, image="signed_target", used=config.fidelity == "vgg")
    signed = {"before": "signed_low", "target": "signed_target"}
    memory = features.memory(config.lambda_1, **signed, pixel_term=pixel.norm)
    adam = optax.adam(constant_then_linear(config.learning_rate, config.steps, config.flat), *config.betas)
    turns = (Phase("D", ("D",), discriminator_loss(config), adam, repeats=config.critic_steps),
             Phase("G", ("G",), generator_loss(config), adam))
    game = Stage("game", {**models(config), **features.networks}, turns if config.adversarial else turns[1:],
                 cases, config.steps, prepare, features.frozen, memory=memory)
    return Experiment(
        id="wgan_vgg_ldct", config=config, stages=(*features.stages, game),
        infer=lambda nets, batch, _: {"denoised": whole_image(nets.G.eval, batch["low"], config.depth)},
        **denoisers("denoised", source="low", target="target", scale=0.1, untouched="low dose"),
        metrics=ct_quality("denoised", "target", SOFT_TISSUE, to_unit.inverse, pixel_mm=config.pixel_mm),
        value_range=(0, 1), image_ranges={"error": (0, 0.3)}, notes={"features": features.name},
        prediction=Prediction("low", "denoised", lambda image: MinMax(*config.window, "HU", (0, 1))),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty:g}", "pixel": "1",
               "perceptual": f"lambda_1 = {config.lambda_1:g}", "adversarial": f"{config.adversarial:g}"},
        unknowns=("range of HU: the port's", "cost of a proxy's term", "photons: of the phantoms"),
        learning=(Bound("nps_distance", "<=", "twin"), Bound("psnr", ">=", "baseline")))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
