"""MGAN: Markovian GAN, textures in one pass, with MDAN for its targets [17], section 3.3 of the review.

Li, Wand. ECCV 2016 (arXiv 1604.04382); layers, weights and schedule of the authors' code (chuanli11/MGANs).
Both games judge each patch of maps of a frozen VGG19, f3 = relu3_1, f4 = relu4_1, f5 = relu5_1, by the hinge
h(s, t) = E max(0, 1 - t s). First (MDAN, `medgan_jax.perceptual`) pixels are optimised, an image y for each
photograph x, against the patches of one style image; then (MGAN) G learns to make y of x at once:

    L_D1 = h(D1(f3(style)), 1) + h(D1(f3(y)), -1)
    L_y  = h(D1(f3(y)), 1) + E (f5(y) - f5(x))^2 + 10^-4 TV(y)
    L_D  = h(D(f3(y)), 1) + h(D(f3(G(f4(x)))), -1)
    L_G  = w E (G(f4(x)) - y)^2 + 10^-2 w h(D(f3(G(f4(x)))), 1)                                 w = 1 / 1.01

In the second game the outermost scores do not count (margin 1); x and y are cut alike.
Data: 100 photographs in crops of 128; here slices of phantom heads in a texture of fibres and nuclei.
Deviations: without VGG weights (`config.weights`) kernels are random, and the results say so; one D1 serves
all y, which move together; no rotation and zoom of crops; no biases before batch normalisation.
Expected: no value in the review. Measured: distance of Gram matrices to the style, in other random features.
`small`: 0.46 of the images' own distance, correlated 0.80 with them, in six minutes on two CPU cores; heads
are pink and mottled, the air around them is green. `paper`: not run by this project.

    python -m experiments.base.mgan --data.source FOLDER --config.style FILE
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import identity
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.needs import Needs
from medgan_jax.data.style import open_contents, open_style
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import perceptual, pixel
from medgan_jax.losses.adversarial import hinge as h
from medgan_jax.measures import correlation, map_distance
from medgan_jax.models import markovian, sizes
from medgan_jax.nn.crops import crops_and_style, cut
from medgan_jax.perceptual import feature_maps, fixed_features, judging_features, neural_patch_targets

NEEDS = Needs()
PATCHES, CODE, CONTENTS = "relu3_1", "relu4_1", "relu5_1"  # f3, f4, f5


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 384
    crop: int = 128
    channels: int = 3
    style: str = ""  # file of the style image; empty for fibres and nuclei
    weights: str = ""  # file of VGG19's weights; empty for random kernels
    features_base: int = 64  # width of the first block of the random network
    base: int = 64
    patch: int = 8
    patch_step: int = 4
    content: Literal["pixel", "features"] = "pixel"  # of y in L_G: as in the code; the paper has f5
    adversarial: float = 1e-2
    smooth: float = 1e-4
    targets_steps: int = 125  # 5 epochs of 25 iterations
    batch_size: int = 64
    learning_rate: float = 0.02
    beta1: float = 0.5
    steps: int = 250  # 5 epochs; the number of crops, about 32 of each photograph, is a guess
    evaluate_every: int = 50
    phantoms: tuple[int, int, int] = (100, 20, 20)

    @classmethod
    def tiny(cls):
        return cls(size=32, crop=32, channels=1, features_base=4, base=2, patch=2, patch_step=2, batch_size=8,
                   targets_steps=2, steps=2, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, crop=64, features_base=16, base=16, patch=4, patch_step=2, batch_size=8,
                   targets_steps=250, steps=400, evaluate_every=200, phantoms=(24, 8, 24))


def models(config):
    return {"G": markovian.MarkovianGenerator(config.channels, config.base),
            "D": markovian.MarkovianDiscriminator(config.base)}


def pair(nets, batch):
    """Crops of x and of the y that was made of it, of the size of the style's."""
    y, crop = jnp.clip(nets.y(batch["x"], batch["number"]), -1, 1), batch["style"].shape[1]
    return cut(batch["x"], batch["places"], crop), cut(y, batch["places"], crop)


def discriminator_loss(nets, batch, context):
    """L_D: patches of y against patches of what G makes."""
    x, y = pair(nets, batch)
    image = nets.G.peek(nets.features.eval(x)[CODE])
    real, nets = nets.D.update(nets.features.eval(y)[PATCHES])
    fake, nets = nets.D.update(nets.features.eval(image)[PATCHES])
    loss = h(markovian.inner(real), 1) + h(markovian.inner(fake), -1)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G: the y of each x, and patches that D takes for those of y."""
        x, y = pair(nets, batch)
        image, nets = nets.G.update(nets.features.eval(x)[CODE])
        maps, w = nets.features.eval(image), 1 / (1 + config.adversarial)
        near = (image, y) if config.content == "pixel" else (maps[CONTENTS], nets.features.eval(y)[CONTENTS])
        score = h(markovian.inner(nets.D.peek(maps[PATCHES])), 1)
        terms = {"content": w * pixel.l2(*near), "adversarial": w * config.adversarial * score}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def styled(nets, batch, key):
    """G(f4(x))."""
    sizes.Sizes(multiple=8).check("this generator", batch["x"])
    return {"styled": nets.G.eval(nets.features.eval(batch["x"])[CODE])}


def experiment(config):
    every, cases, intensity = open_contents(config.data.source, config.size, config.channels, config.phantoms,
                                            config.batch_size)
    style = open_style(config.style, 2 * config.size, config.channels, smallest=config.crop)
    prepare = crops_and_style(intensity, style, config.crop)
    features = fixed_features(config.weights, "vgg19", (PATCHES, CODE, CONTENTS), channels=config.channels,
                              base=config.features_base)
    judge = judging_features("relu1_2", "relu2_2", "relu3_2", channels=config.channels)
    adam = optax.adam(config.learning_rate, b1=config.beta1)
    targets = neural_patch_targets(
        features, every, prepare, patches=PATCHES, contents=CONTENTS, patch=config.patch,
        patch_step=config.patch_step, smooth=config.smooth, optimizer=adam, steps=config.targets_steps)
    networks = {"y": targets.networks["y"], **models(config)}
    turns = (Phase("D", ("D",), discriminator_loss, adam), Phase("G", ("G",), generator_loss(config), adam))
    game = Stage("MGAN", networks, turns, cases, config.steps, prepare, targets.frozen)
    return Experiment(
        id="mgan", config=config, stages=(targets, game), infer=styled,
        baseline=identity("styled", source="x", target="x"),
        metrics=(map_distance("gram", "styled", style[None], feature_maps(judge), perceptual.style_l1),
                 correlation("styled", "x")),
        images=("x", "styled"), prediction=Prediction("x", "styled", lambda image: intensity),
        learning=(Bound("gram", "<=", "baseline", times=0.5), Bound("ncc", ">=", 0.4)),
        terms={"style": "1", "content": "1; in MGAN w", "smooth": f"{config.smooth:g}",
               "adversarial": f"{config.adversarial:g} w"},
        notes={"features": features.description, "gram": judge.name},
        unknowns=("crops of each photograph, and so the steps of an epoch",))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
