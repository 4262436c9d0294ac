"""Feature networks for perceptual losses, as parts of a game: frozen from a weights file, or trained beforehand.

Published methods compare VGG features. Where the user names a file with VGG's weights, the network is frozen and
published weights of the loss hold. Without a file a small network of the same shape first learns a proxy task on
the experiment's own images, as an ordinary stage; the loss then needs `losses.perceptual.matched_weight`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from medgan_jax.game import Frozen, Networks, Phase, Stage, Terms
from medgan_jax.losses.perceptual import feature_l2, matched_weight
from medgan_jax.models.features import ROTATION, VGG, proxy_name, small_vgg
from medgan_jax.models.pretrained import load_vgg


@dataclasses.dataclass(frozen=True)
class PerceptualFeatures:
    """What a game needs to call `nets.features.eval(images)`.

    stages: to be played before the game. networks, frozen: to be added to the game's stage. name: which weights
    these are. published_scale: whether published weights of the loss hold for them.
    """

    name: str
    published_scale: bool
    stages: tuple[Stage, ...] = ()
    networks: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)
    frozen: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)

    def weight(
        self, nets: Networks, before: jax.Array, target: jax.Array, *, published: float, share: jax.Array
    ) -> jax.Array:
        """Weight of the squared feature distance: the `published` one where it holds.

        Otherwise the weight at which the distance of `before`, what the generator starts from, to `target` costs
        as much as `share`. Both are images `(B, ...)`.
        """
        if self.published_scale or not published:
            return jnp.float32(published)
        distance = feature_l2(nets.features.eval(before), nets.features.eval(target))
        return matched_weight(distance, share, 1.0)


def perceptual_features(
    weights: str,
    *,
    architecture: str,
    tap: str,
    data: Any,
    prepare: Callable,
    image: str,
    steps: int,
    resize: tuple[int, ...] | None = None,
    proxy_resize: tuple[int, ...] | None = None,
    used: bool = True,
) -> PerceptualFeatures:
    """Features of `architecture` at layer `tap` from the file `weights`, or of a proxy network if it is ''.

    Nothing at all if they are not `used`, such as when the weight of the loss is 0.

    data, prepare: of the game, whose batch field `image` the proxy learns from in `steps` steps. resize: what
    the published method resizes images to before VGG. proxy_resize: the same for the proxy network.
    """
    if not used:
        return PerceptualFeatures("none", published_scale=True)
    if weights:
        network = load_vgg(weights, architecture, taps=(tap,), resize=resize)
        frozen = Frozen(network.module, network.variables, network.name)
        return PerceptualFeatures(network.name, network.published_scale, frozen={"features": frozen})
    module = dataclasses.replace(small_vgg((tap,), outputs=ROTATION.outputs), resize=proxy_resize)
    stage = proxy_stage(module, data, prepare, image, steps)
    return PerceptualFeatures(proxy_name(module), False, stages=(stage,), networks={"features": module})


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
