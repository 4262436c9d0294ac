"""Plain networks, trained by the usual loss of a task and no adversary, on a track's own cases.

Each function takes a track's `task` and a `PlainConfig` and gives an experiment: the same data, the same
preparation, one network, one loss.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from medgan_jax.game import Experiment, Phase, Terms
from medgan_jax.losses import pixel, segmentation
from medgan_jax.models.autoencoder import ConvDecoder, widths
from medgan_jax.models.layers import Layer
from medgan_jax.models.sizes import halvings
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.rivals import Rival
from medgan_jax.training.summary import batch_shapes

Loss = Callable[[jax.Array, Mapping[str, jax.Array]], Mapping[str, jax.Array]]


def trained_cases(task: Experiment) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch in the track's words."""
    stage = task.stages[0]
    return jax.eval_shape(stage.prepare, batch_shapes(stage), jax.random.key(0))


def experiment(
    task: Experiment,
    config: Any,
    networks: Mapping[str, nn.Module],
    phases: tuple[Phase, ...],
    infer: Callable,
) -> Experiment:
    """The task played by these networks and phases, with steps and rates of `config`."""
    stage = dataclasses.replace(
        task.stages[0], name="plain", networks=networks, phases=phases, steps=config.steps
    )
    return dataclasses.replace(task, config=config, stages=(stage,), infer=infer, others=())


def supervised(
    network: nn.Module,
    loss: Loss,
    answer: Callable[[jax.Array], Mapping[str, jax.Array]],
    task: Experiment,
    config: Any,
    *,
    asked: Callable[[Mapping], jax.Array] = lambda case: case["input"],
    shown: Callable[[Mapping], jax.Array] | None = None,
) -> Experiment:
    """`network` from the input to `answer`, trained by `loss`, of its output and the case, a dict of terms.

    asked: what it sees of a test case; shown: of a training case, where that is something else.
    """

    def turn(nets, case, context):
        made, nets = nets.G.update((shown or asked)(case))
        terms = loss(made, case)
        return sum(terms.values()), Terms(nets, **terms)

    phases = (Phase("G", ("G",), turn, optax.adam(config.learning_rate)),)
    infer = lambda nets, case, key: answer(nets.G.eval(asked(case)))  # noqa: E731
    return experiment(task, config, {"G": network}, phases, infer)


class Fitted(nn.Module):
    """`inner` for images of any sides: they are continued to the next multiple, and what is made is cut
    back.
    """

    inner: nn.Module
    multiple: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        more = [(0, 0), *((0, -side % self.multiple) for side in x.shape[1:-1]), (0, 0)]
        made = self.inner(jnp.pad(x, more, mode="edge"), train=train)
        return made[tuple(slice(side) for side in x.shape[:-1])]


def u_net(task: Experiment, config: Any, *, channels: int) -> nn.Module:
    """A U-Net whose innermost maps are of two pixels or more on training cases."""
    sides = trained_cases(task)["input"].shape[1:-1]
    levels = max(1, min(config.levels, int(math.log2(min(sides))) - 1))
    multiple = 2**levels
    inner = pix2pix_unet((multiple,) * len(sides), out_channels=channels, base=config.base, levels=levels,
                         norm="batch", dropout=0.0, upsampling="resize", activation=None)  # fmt: skip
    return Fitted(inner, multiple)


class Residual(nn.Module):
    """`inner` added to its input, to the mean channel of it where the output has another number of them."""

    inner: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        made = self.inner(x, train=train)
        return made + (x if x.shape == made.shape else x.mean(-1, keepdims=True))


def images(task: Experiment, config: Any) -> Experiment:
    """A U-Net that is added to its input, by the mean absolute error: restoration and translation of
    images.
    """
    channels = trained_cases(task)["target"].shape[-1]
    network = Residual(u_net(task, config, channels=channels))
    return supervised(network, _absolute, lambda made: {"output": made}, task, config)


def _absolute(made: jax.Array, case: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {"l1": pixel.l1(made, case["target"])}


def recoloured(task: Experiment, config: Any) -> Experiment:
    """A U-Net from grey to the colours of `other`, trained on that domain alone: stains without pairs.

    Training cases have images of both domains, not of one region, as `input` and `other`; a test case is
    asked as grey.
    """
    channels = trained_cases(task)["other"].shape[-1]
    network = u_net(task, config, channels=channels)
    grey = lambda image: image.mean(-1, keepdims=True)  # noqa: E731
    return supervised(
        network,
        lambda made, case: {"l1": pixel.l1(made, case["other"])},
        lambda made: {"output": made},
        task,
        config,
        asked=lambda case: grey(case["input"]),
        shown=lambda case: grey(case["other"]),
    )


def masks(task: Experiment, config: Any, *, threshold: float | None = 0.5) -> Experiment:
    """A U-Net for masks of structures, by cross-entropy and soft Dice; probabilities without a `threshold`.
    """
    network = u_net(task, config, channels=trained_cases(task)["target"].shape[-1])

    def loss(logits, case):
        mask = case["target"].astype(jnp.float32)
        return {
            "cross_entropy": segmentation.binary_cross_entropy(logits, mask),
            "dice": segmentation.soft_dice(jax.nn.sigmoid(logits), mask),
        }

    def answer(logits):
        probability = jax.nn.sigmoid(logits)
        return {"output": probability if threshold is None else (probability > threshold).astype(jnp.float32)}

    return supervised(network, loss, answer, task, config)


def probabilities(task: Experiment, config: Any) -> Experiment:
    """As `masks`, with probabilities for an answer."""
    return masks(task, config, threshold=None)


# --- without an input ---


class Encoder(nn.Module):
    """Images (B, *S, C) -> mean and logarithm of the variance of a code, (B, latent) each."""

    latent: int
    levels: int
    base: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        for level, width in enumerate(widths(self.levels, self.base)):
            x = Layer(width, kernel=3, strides=2, name=f"down_{level}")(x, train=train)
        x = x.reshape(len(x), -1)
        return nn.Dense(self.latent, name="mean")(x), nn.Dense(self.latent, name="log_variance")(x)


def _auto_encoder(
    task: Experiment, config: Any, weight: float
) -> tuple[dict[str, nn.Module], tuple[Phase, ...]]:
    """Networks and phase of an auto-encoder of `healthy` images, or of `input` where a case has none of them.

    weight: of the divergence of codes from N(0, 1); without it codes are not noisy.
    """
    shape = trained_cases(task)["input"].shape
    sides = shape[1:-1]
    levels = halvings(sides, smallest=4, most=config.levels)
    networks = {
        "E": Encoder(config.latent, levels, config.base),
        "G": ConvDecoder(sides, levels, shape[-1], config.base),
    }
    pixels = math.prod(shape[1:])

    def turn(nets, case, context):
        x = case.get("healthy", case["input"])
        (mean, logarithm), nets = nets.E.update(x)
        noise = jax.random.normal(context.key, mean.shape) if weight else 0.0
        made, nets = nets.G.update(mean + jnp.exp(logarithm / 2) * noise)
        terms = {"l2": pixel.l2(made, x)}
        if weight:
            divergence = 0.5 * (jnp.square(mean) + jnp.exp(logarithm) - 1 - logarithm).sum(-1).mean()
            terms["divergence"] = weight * divergence / pixels
        return sum(terms.values()), Terms(nets, **terms)

    return networks, (Phase("G", ("E", "G"), turn, optax.adam(config.learning_rate)),)


def variational(task: Experiment, config: Any) -> Experiment:
    """A variational auto-encoder (Kingma & Welling 2014) that draws images; decoder's variance 1/50 of the
    range.
    """
    networks, phases = _auto_encoder(task, config, 0.02)

    def infer(nets, case, key):
        z = jax.random.normal(key, (len(case["target"]), config.latent))
        return {"output": nets.G.eval(z)}

    return experiment(task, config, networks, phases, infer)


def anomaly(task: Experiment, config: Any) -> Experiment:
    """An auto-encoder of healthy images; its score is the absolute error of what it makes of an image."""
    networks, phases = _auto_encoder(task, config, 0.0)

    def infer(nets, case, key):
        x = case["input"]
        made = nets.G.eval(nets.E.eval(x)[0])
        return {"score": jnp.abs(x - made).sum(tuple(range(1, x.ndim)))}

    return experiment(task, config, networks, phases, infer)


def healed(task: Experiment, config: Any) -> Experiment:
    """An auto-encoder of healthy images; its map is what it makes of an image less the image."""
    networks, phases = _auto_encoder(task, config, 0.0)

    def infer(nets, case, key):
        return {"output": nets.G.eval(nets.E.eval(case["input"])[0]) - case["input"]}

    return experiment(task, config, networks, phases, infer)


def rival(make: Callable[..., Rival], task: Experiment, config: Any) -> Experiment:
    """Another generator of the library, alone on the track's images; make: (side, settings) -> `Rival`."""
    shape = trained_cases(task)["input"].shape
    own = make(
        shape[1], image="input", channels=shape[-1], base=config.base, learning_rate=config.learning_rate
    )
    infer = lambda nets, case, key: {"output": own.sample(nets, key, len(case["target"]))}  # noqa: E731
    return experiment(task, config, own.networks, own.phases, infer)
