"""Networks whose features perceptual losses compare: VGG, or a small substitute that needs no file.

Published perceptual weights belong to one set of ImageNet weights, read by `models.pretrained.load_vgg`.
Without that file there are two substitutes of the same shape: `small_vgg`, trained for a few hundred steps on
a proxy task over the experiment's own images (an ordinary stage before the game, see `ProxyTask`), or
`random_features`. Which one was used is in the `name` of a `FeatureNetwork`, for logs and results; for the
weight of the perceptual term see `losses.perceptual.matched_weight`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import initializers

from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool, resize

Preprocessing = Literal["caffe", "torchvision", "none"]

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
VGG19 = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
ARCHITECTURES = {"vgg16": VGG16, "vgg19": VGG19}

# Of the ImageNet training images, red, green, blue: in grey levels of 0..255, and as parts of one.
CAFFE_MEAN = (123.68, 116.779, 103.939)
TORCHVISION_MEAN, TORCHVISION_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG(Sized, nn.Module):
    """VGG's convolutions (Simonyan and Zisserman 2015): images (B, *S, C) in [-1, 1] -> {tap: features}.

    taps: which features to return, as 'conv4_3' (before ReLU), 'relu4_3' or 'pool4'. Nothing is computed
        beyond the deepest one.
    blocks: widths of the 3x3 convolutions of each block; a 2x2 maximum pool ends a block.
    preprocessing: what the weights expect. 'caffe' (also Keras): grey levels of 0..255 less the mean,
        features on the scale that published perceptual weights mean. 'torchvision': standardised colours.
        Both repeat a grey image in three channels. 'none': the image as it is, with any number of channels.
    resize: sides to which images are first brought by linear interpolation, such as DAGAN's (244, 244).
    outputs: number of outputs of the proxy task's head; a call with `proxy=True` returns these (B, outputs),
        from the mean over space of the last block, instead of features.
    """

    taps: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...] = VGG16
    preprocessing: Preprocessing = "caffe"
    resize: tuple[int, ...] | None = None
    outputs: int = 0

    def layers(self) -> list[str]:
        """Names of all layers in order."""
        names = []
        for block, widths in enumerate(self.blocks, 1):
            names += [f"{kind}{block}_{n}" for n in range(1, len(widths) + 1) for kind in ("conv", "relu")]
            names.append(f"pool{block}")
        return names

    @property
    def deepest(self) -> str:
        """The tap that needs all layers before it; ValueError where a tap is no layer of this network."""
        names = self.layers()
        unknown = sorted(set(self.taps) - set(names))
        if unknown or not self.taps:
            raise ValueError(f"no layer {unknown} to take features from; there are {', '.join(names)}")
        return max(self.taps, key=names.index)

    @property
    def title(self) -> str:
        return f"the feature network with taps {', '.join(self.taps)}"

    @property
    def sizes(self) -> Sizes:
        return Sizes() if self.resize else Sizes(minimum=2 ** len(self.blocks))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, proxy: bool = False):
        self.check_sizes(x)
        names = self.layers()
        last = names[-1] if proxy else self.deepest
        x, taps = self.prepared(x), {}
        for name in names[: names.index(last) + 1]:
            x = self.layer(name, x)
            if name in self.taps:
                taps[name] = x
        if not proxy:
            return taps
        return nn.Dense(self.outputs, name="proxy")(x.mean(axis=tuple(range(1, x.ndim - 1))))

    def layer(self, name: str, x: jax.Array) -> jax.Array:
        """One layer by its name."""
        if name.startswith("conv"):
            block, number = (int(n) for n in name[4:].split("_"))
            width = self.blocks[block - 1][number - 1]
            return Conv(width, 3, kernel_init=initializers.he_normal(), name=name)(x)
        if name.startswith("relu"):
            return nn.relu(x)
        # An odd last row is dropped, as in all published VGGs.
        whole = tuple(slice(0, side - side % 2) for side in x.shape[1:-1])
        return max_pool(x[:, *whole, :], 2)

    def prepared(self, x: jax.Array) -> jax.Array:
        """Images in [-1, 1] as the first convolution expects them."""
        if self.resize:
            x = resize(x, self.resize, "linear")
        if self.preprocessing == "none":
            return x
        if x.shape[-1] not in (1, 3):
            raise ValueError(f"VGG takes 1 or 3 channels, not {x.shape[-1]}")
        x = jnp.broadcast_to((x + 1) / 2, (*x.shape[:-1], 3))
        if self.preprocessing == "caffe":
            return 255 * x - jnp.array(CAFFE_MEAN, x.dtype)
        return (x - jnp.array(TORCHVISION_MEAN, x.dtype)) / jnp.array(TORCHVISION_DEVIATION, x.dtype)


def small_vgg(taps: tuple[str, ...] = ("pool4",), *, base: int = 16, outputs: int = 4) -> VGG:
    """A VGG-shaped network of four blocks, `base` to `4 base` wide, to train on a proxy task."""
    widths = (base, 2 * base, 4 * base, 4 * base)
    return VGG(tuple(taps), tuple((width, width) for width in widths), preprocessing="none", outputs=outputs)


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
    """A feature network with weights: `module.apply(variables, images, train=False)` is {tap: features}.

    name: what its weights are, for logs and results: 'vgg16[pool4] sha256:...' or 'random vgg16[pool4] seed
    0' (for features trained on the spot see `proxy_name`). published_scale: whether published perceptual
    weights hold for it.
    """

    module: VGG
    variables: Mapping[str, Any]
    name: str
    published_scale: bool = False


@dataclasses.dataclass(frozen=True)
class ProxyTask:
    """What a feature network without a weights file learns: a task over images that need no labels.

    make: (images (B, *S, C), key) -> (inputs, targets); loss: (outputs (B, outputs), targets) -> scalar.
    Play it as a first stage whose only network is the `VGG`, under the name it has in the game:

        def loss(nets, batch, context):
            images, targets = task.make(batch["image"], context.key)
            value = task.loss(nets.features(images, proxy=True), targets)
            return value, Terms(nets, proxy=value)

    In the next stage no phase trains that network, so it stays as it is.
    """

    name: str
    outputs: int
    make: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    loss: Callable[[jax.Array, jax.Array], jax.Array]


def quarter_turns(images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each image turned by a random number of quarter turns, and that number (B,) (Gidaris et al. 2018).

    Images (B, *S, C) turn in their last two spatial axes, after a crop to a central square where they differ.
    """
    height, width = images.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[..., top:top + side, left:left + side, :]
    turns = jax.random.randint(key, images.shape[:1], 0, 4)
    choose = turns.reshape(-1, *(1,) * (images.ndim - 1))
    rotated = [jnp.rot90(images, k, axes=(-3, -2)) for k in range(4)]
    return jnp.select([choose == k for k in range(4)], rotated), turns


def class_cross_entropy(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Mean -log softmax(logits)[class]; logits (B, K), classes (B,) integers."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], axis=-1)
    return -jnp.mean(chosen)


ROTATION = ProxyTask("rotation by quarter turns", 4, quarter_turns, class_cross_entropy)


def kernel_shapes(module: VGG, channels: int = 3, rank: int = 2) -> dict[str, tuple[int, ...]]:
    """Shapes of the kernels of all convolutions up to the deepest tap, by name, for images of `channels`."""
    names = module.layers()
    deepest = names.index(module.deepest)
    shapes = {}
    for block, widths in enumerate(module.blocks, 1):
        for number, width in enumerate(widths, 1):
            name = f"conv{block}_{number}"
            if names.index(name) <= deepest:
                shapes[name] = (3,) * rank + (channels, width)
                channels = width
    return shapes


def random_features(module: VGG, *, channels: int = 3, rank: int = 2, seed: int = 0) -> FeatureNetwork:
    """`module` with random kernels N(0, 2 / fan in) that depend on `seed` only; usable without any file.

    `channels` of the images as the first convolution sees them: 3 after the ImageNet preprocessings.
    """
    generator, params = np.random.default_rng(seed), {}
    for name, shape in kernel_shapes(module, channels, rank).items():
        kernel = generator.standard_normal(shape, np.float32) * np.sqrt(2 / math.prod(shape[:-1]))
        params[name] = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(shape[-1])}
    return FeatureNetwork(module, {"params": params}, f"random {label(module)} seed {seed}")


def label(module: VGG) -> str:
    """The architecture and its taps: 'vgg16[pool4]'."""
    known = {blocks: name for name, blocks in ARCHITECTURES.items()}
    return f"{known.get(module.blocks, 'small vgg')}[{','.join(module.taps)}]"


def proxy_name(module: VGG, task: ProxyTask = ROTATION) -> str:
    """The name, for logs and results, of features that were trained on a proxy task."""
    return f"proxy {label(module)} trained on {task.name}"
