"""MGAN: Markovian GAN, textures in one pass, with MDAN for its targets [17], section 3.3 of the review.

Li, Wand. ECCV 2016 (arXiv 1604.04382); layers, weights and schedule of the authors' code (chuanli11/MGANs).

Both games look at maps of a frozen VGG19, f3 = relu3_1, f4 = relu4_1, f5 = relu5_1, and judge each patch of
them by itself, with the hinge h(s, t) = E max(0, 1 - t s). First (MDAN) pixels are optimised, an image y for
each photograph x, against the patches of one style image; then (MGAN) G learns to make y of x at once:

    L_D1 = h(D1(f3(style)), 1) + h(D1(f3(y)), -1)
    L_y  = h(D1(f3(y)), 1) + E (f5(y) - f5(x))^2 + 10^-4 TV(y)
    L_D  = h(D(f3(y)), 1) + h(D(f3(G(f4(x)))), -1)
    L_G  = w E (G(f4(x)) - y)^2 + 10^-2 w h(D(f3(G(f4(x)))), 1)                                 w = 1 / 1.01

In the second game the outermost scores do not count (margin 1); x and y are cut alike.

Data: 100 photographs in crops of 128; here slices of phantom heads in a texture of fibres and nuclei.
Deviations: without VGG weights (`config.weights`) kernels are random, and the results say so; one D1 serves
all y, which move together; no rotation and zoom of crops; no biases before batch normalisation.
Expected: no value in the review. Measured: distance of Gram matrices to the style, in other random features.
`small`: three minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.mgan --data.source FOLDER --config.style FILE
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import identity
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.records import numbered
from medgan_jax.data.style import open_style
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import perceptual, pixel
from medgan_jax.losses.adversarial import hinge as h
from medgan_jax.measures import correlation, map_distance
from medgan_jax.models import markovian
from medgan_jax.models.features import random_features, small_vgg
from medgan_jax.models.sizes import Sizes
from medgan_jax.nn.crops import cut, random_places
from medgan_jax.perceptual import feature_maps, fixed_features
from medgan_jax.phantoms.head import head_slice

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
        return cls(size=64, crop=64, features_base=8, base=16, patch=4, patch_step=2, batch_size=8,
                   targets_steps=120, steps=300, evaluate_every=150, phantoms=(24, 8, 24))


def models(config, count):
    return {"y": markovian.Canvas(count),
            "D1": markovian.NeuralPatchDiscriminator(config.patch, config.patch_step),
            "G": markovian.MarkovianGenerator(config.channels, config.base),
            "D": markovian.MarkovianDiscriminator(config.base)}


def patches_loss(nets, batch, context):
    """L_D1 of crops of the style and of images y, (B, H, W, C) in [-1, 1]."""
    real, nets = nets.D1.update(nets.features.eval(batch["style"])[PATCHES])
    fake, nets = nets.D1.update(nets.features.eval(nets.y(batch["x"], batch["number"]))[PATCHES])
    return h(real, 1) + h(fake, -1), Terms(nets, style=real.mean(), y=fake.mean())


def targets_loss(config):
    def loss(nets, batch, context):
        """L_y: the pixels themselves move."""
        y = nets.y(batch["x"], batch["number"])
        maps, contents = nets.features.eval(y), nets.features.eval(batch["x"])[CONTENTS]
        terms = {"style": h(nets.D1.peek(maps[PATCHES]), 1), "content": pixel.l2(maps[CONTENTS], contents),
                 "smooth": config.smooth * pixel.total_variation(y)}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def pair(config, nets, batch):
    """Crops of x and of the y that was made of it."""
    y = jnp.clip(nets.y(batch["x"], batch["number"]), -1, 1)
    return cut(batch["x"], batch["places"], config.crop), cut(y, batch["places"], config.crop)


def inner(scores):
    """Scores (B, h, w, 1) without the outermost, where there are others."""
    return scores[:, 1:-1, 1:-1] if min(scores.shape[1:3]) > 2 else scores


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D: patches of y against patches of what G makes."""
        x, y = pair(config, nets, batch)
        image = nets.G.peek(nets.features.eval(x)[CODE])
        real, nets = nets.D.update(nets.features.eval(y)[PATCHES])
        fake, nets = nets.D.update(nets.features.eval(image)[PATCHES])
        return h(inner(real), 1) + h(inner(fake), -1), Terms(nets, real=real.mean(), fake=fake.mean())

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G: the y of each x, and patches that D takes for those of y."""
        x, y = pair(config, nets, batch)
        image, nets = nets.G.update(nets.features.eval(x)[CODE])
        maps, w = nets.features.eval(image), 1 / (1 + config.adversarial)
        near = (image, y) if config.content == "pixel" else (maps[CONTENTS], nets.features.eval(y)[CONTENTS])
        score = h(inner(nets.D.peek(maps[PATCHES])), 1)
        terms = {"content": w * pixel.l2(*near), "adversarial": w * config.adversarial * score}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def styled(nets, batch, key):
    """G(f4(x))."""
    Sizes(multiple=8).check("this generator", batch["x"])
    return {"styled": nets.G.eval(nets.features.eval(batch["x"])[CODE])}


def phantom(key, *, size, channels):
    image = head_slice(key, size)["image"]
    return {"image": jnp.broadcast_to(image, (size, size, channels))}


def data(config):
    heads = parts.open_parts(config.data.source, counts=config.phantoms, name=f"head_t1_{config.size}",
                             phantom=functools.partial(phantom, size=config.size, channels=config.channels))
    parts.require_image(heads, channels=config.channels, size=config.size)
    train, intensity = numbered(heads.train), parts.symmetric_range(heads.train)
    every, some = (Data(Stream(train, batch, fields=("image", "number")), heads.validation, heads.test,
                        fields=("image",)) for batch in (len(train), config.batch_size))
    return every, some, intensity


def experiment(config):
    every, cases, intensity = data(config)
    style = open_style(config.style, 2 * config.size, config.channels, smallest=config.crop)

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        if "number" not in batch:
            return {"x": x}
        of_pairs, of_style = (random_places(k, len(x), sides, config.crop) for k, sides in zip(
            jax.random.split(key), (x.shape[1:3], style.shape[:2]), strict=True))
        return {"x": x, "number": batch["number"], "places": of_pairs,
                "style": cut(style[None], of_style, config.crop)}

    networks = models(config, len(cases.train.source))
    adam = optax.adam(config.learning_rate, b1=config.beta1)
    features = fixed_features(config.weights, "vgg19", (PATCHES, CODE, CONTENTS), channels=config.channels,
                              base=config.features_base)
    frozen, taps = {"features": features}, ("relu1_2", "relu2_2", "relu3_2")
    judge = random_features(small_vgg(taps), channels=config.channels, seed=1)
    targets = (Phase("D1", ("D1",), patches_loss, adam), Phase("y", ("y",), targets_loss(config), adam))
    turns = (Phase("D", ("D",), discriminator_loss(config), adam),
             Phase("G", ("G",), generator_loss(config), adam))
    return Experiment(
        id="mgan", config=config, infer=styled,
        stages=(Stage("MDAN", {n: networks[n] for n in ("y", "D1")}, targets, every, config.targets_steps,
                      prepare, frozen),
                Stage("MGAN", {n: networks[n] for n in ("y", "G", "D")}, turns, cases, config.steps,
                      prepare, frozen)),
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
