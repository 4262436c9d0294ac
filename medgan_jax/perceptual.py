"""Feature networks for perceptual losses, as parts of a game: frozen from a file, or trained beforehand.

Published methods compare VGG features. Where the user names a file with VGG's weights, the network is frozen
and published weights of the loss hold. Without a file a small network of the same shape first learns a proxy
task on the experiment's own images, as an ordinary stage, and the loss has a weight that is fitted to it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from medgan_jax.errors import UserError
from medgan_jax.game import Frozen, Networks, Phase, Stage, Terms
from medgan_jax.losses import pixel
from medgan_jax.losses.adversarial import hinge
from medgan_jax.losses.perceptual import feature_l2, matched_weight
from medgan_jax.models.features import (
    ARCHITECTURES,
    ROTATION,
    VGG,
    FeatureNetwork,
    proxy_name,
    random_features,
    small_vgg,
)
from medgan_jax.models.markovian import Canvas, NeuralPatchDiscriminator
from medgan_jax.models.pretrained import load_vgg


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """Where perceptual features come from, as part of an experiment's configuration.

    weights: file with VGG's weights (safetensors or npz); without one a proxy network is trained, and the
    other fields, no paper's, are for it. steps: of its training. side: what it resizes images to. share: cost
    of its perceptual term at the start, as a share of the pixel term's.
    """

    weights: str = ""
    steps: int = 500
    side: int = 64
    share: float = 0.5

    def __post_init__(self):
        if self.steps < 1 or self.side < 16 or self.share < 0:
            raise UserError("config.features takes steps from 1, a side from 16 and a share from 0 up")


@dataclasses.dataclass(frozen=True)
class PerceptualFeatures:
    """What a game needs to call `nets.features.eval(images)`.

    stages: to be played before the game. networks, frozen: to be added to the game's stage. name: which
    weights these are. published_scale: whether published weights of the loss hold for them. share: see
    `FeatureOptions`.
    """

    name: str
    published_scale: bool
    stages: tuple[Stage, ...] = ()
    networks: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)
    frozen: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    share: float = 0.0

    def memory(
        self, published: float, *, before: str, target: str, pixel_term: Callable
    ) -> Callable[[Networks, Any, jax.Array], dict[str, jax.Array]]:
        """The stage's memory that holds the weight of the squared feature distance as `perceptual_weight`.

        It is the `published` one where that holds. Otherwise it makes the feature distance between the
        batch's images `before`, what the generator starts from, and `target` cost `share` of their
        `pixel_term`, a function of both.
        """

        def weight(nets, batch, key):
            if self.published_scale or not published:
                return {"perceptual_weight": jnp.float32(published)}
            pair = batch[before], batch[target]
            distance = feature_l2(*map(nets.features.eval, pair))
            return {"perceptual_weight": matched_weight(distance, pixel_term(*pair), self.share)}

        return weight


def perceptual_features(
    options: FeatureOptions,
    *,
    architecture: str,
    tap: str,
    data: Any,
    prepare: Callable,
    image: str,
    resize: tuple[int, ...] | None = None,
    proxy_tap: str = "",
    used: bool = True,
) -> PerceptualFeatures:
    """Features of `architecture` at layer `tap` with the user's weights, or else of a proxy network.

    Nothing at all if they are not `used`, such as when the weight of the loss is 0.

    data, prepare: of the game, whose batch field `image` the proxy learns from. resize: what the published
    method resizes images to before VGG. proxy_tap: of the proxy, which has four blocks of two convolutions,
    where it has no layer called `tap`.
    """
    if not used:
        return PerceptualFeatures("none", published_scale=True)
    if options.weights:
        network = load_vgg(options.weights, architecture, taps=(tap,), resize=resize)
        frozen = Frozen(network.module, network.variables, network.name)
        known = network.published_scale
        return PerceptualFeatures(network.name, known, frozen={"features": frozen}, share=options.share)
    module = dataclasses.replace(small_vgg((proxy_tap or tap,), outputs=ROTATION.outputs), resize=(options.side,) * 2)
    stage = proxy_stage(module, data, prepare, image, options.steps)
    return PerceptualFeatures(
        proxy_name(module), False, stages=(stage,), networks={"features": module}, share=options.share
    )


def proxy_stage(module: VGG, data: Any, prepare: Callable, image: str, steps: int) -> Stage:
    """A stage in which the network `features` learns by how many quarter turns images were rotated."""

    def rotation_loss(nets, batch, context):
        images, turns = ROTATION.make(batch[image], context.key)
        scores = nets.features(images, proxy=True)
        loss = ROTATION.loss(scores, turns)
        accuracy = (scores.argmax(-1) == turns).mean()
        return loss, Terms(nets, accuracy=jax.lax.stop_gradient(accuracy))

    phase = Phase("features", ("features",), rotation_loss, optax.adam(1e-3))
    return Stage("features", {"features": module}, (phase,), data, steps, prepare=prepare)


def fixed_features(
    weights: str, architecture: str, taps: tuple[str, ...], *, channels: int, base: int = 64, seed: int = 0
) -> Frozen:
    """Features of `architecture` at layers `taps` with the user's weights, or else with random kernels.

    Without a file the network has the same layers, `base` / 64 as wide, and kernels that depend on `seed`
    alone, which its description says; it takes images of `channels`. Enough for statistics of texture
    (Ustyuzhaninov et al. 2017, "What does it take to generate natural textures?"), no stand-in for contents.
    """
    if weights:
        network = load_vgg(weights, architecture, taps=taps)
    else:
        blocks = tuple(
            tuple(max(1, width * base // 64) for width in block) for block in ARCHITECTURES[architecture]
        )
        module = VGG(taps, blocks, preprocessing="none")
        network = random_features(module, channels=channels, seed=seed)
    return Frozen(network.module, network.variables, network.name)


def judging_features(*taps: str, channels: int) -> FeatureNetwork:
    """Random features at layers `taps` for measures, which no stage of a game sees."""
    return random_features(small_vgg(taps), channels=channels, seed=1)


def feature_maps(network: FeatureNetwork) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Images (B, *S, C) -> {tap: maps} of a fixed network, for measures; its weights become constants."""
    params = {"features": network.variables["params"]}
    nets = Networks({"features": network.module}, params, {}, jax.random.key(0), frozenset({"features"}))
    return lambda images: nets.features.eval(images)


def neural_patch_targets(
    features: Frozen,
    data: Any,
    prepare: Callable,
    *,
    patches: str,
    contents: str,
    patch: int,
    patch_step: int,
    smooth: float,
    optimizer: optax.GradientTransformation,
    steps: int,
) -> Stage:
    """The stage MDAN (Li and Wand 2016): pixels are optimised, an image y for each x, towards one style.

    D1 judges patches of f3, the `features` at the layer `patches`, one of `patch` x `patch` at every
    `patch_step`; the layer `contents` is f5; tau is `smooth`; h(s, t) = E max(0, 1 - t s):

        L_D1 = h(D1(f3(style)), 1) + h(D1(f3(y)), -1)
        L_y  = h(D1(f3(y)), 1) + E (f5(y) - f5(x))^2 + tau TV(y)

    data, prepare: of batches of all images `x` (B, H, W, C) in [-1, 1] with their `number` and crops of the
    `style`. A later stage with the network `y` goes on from these images: `nets.y(x, number)`.
    """

    def patches_loss(nets, batch, context):
        """L_D1 of crops of the style and of images y, (B, H, W, C) in [-1, 1]."""
        real, nets = nets.D1.update(nets.features.eval(batch["style"])[patches])
        fake, nets = nets.D1.update(nets.features.eval(nets.y(batch["x"], batch["number"]))[patches])
        return hinge(real, 1) + hinge(fake, -1), Terms(nets, style=real.mean(), y=fake.mean())

    def targets_loss(nets, batch, context):
        """L_y: the pixels themselves move."""
        y = nets.y(batch["x"], batch["number"])
        maps, wanted = nets.features.eval(y), nets.features.eval(batch["x"])[contents]
        terms = {
            "style": hinge(nets.D1.peek(maps[patches]), 1),
            "content": pixel.l2(maps[contents], wanted),
            "smooth": smooth * pixel.total_variation(y),
        }
        return sum(terms.values()), Terms(nets, **terms)

    networks = {"y": Canvas(len(data.train.source)), "D1": NeuralPatchDiscriminator(patch, patch_step)}
    turns = Phase("D1", ("D1",), patches_loss, optimizer), Phase("y", ("y",), targets_loss, optimizer)
    return Stage("MDAN", networks, turns, data, steps, prepare, {"features": features})
