"""A toy for tests [0], no table: one small convolution removes noise, a smaller one judges.

    x_hat = G(y),  y = x + n
    L_G   = -E D(x_hat) + weight E(x_hat - x)^2

In the text x = y is no equation, because it is not indented.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.records import ArraySource
from medgan_jax.game import Baseline, Experiment, Frozen, Metric, Phase, Prediction, Stage, Terms


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Settings of the toy.

    weight: of the squared error.
    """

    size: int = 16
    weight: float = 10.0
    # Not given by the paper.
    widths: tuple[int, ...] = (8, 4)
    kind: Literal["plain", "fancy"] = "plain"  # which of two
    window: tuple[float, float] = (-1.0, 1.0)
    weights_file: str | None = None
    skip: bool = True
    has_twin: bool = True

    @classmethod
    def tiny(cls):
        return cls(size=8, batch_size=8, steps=2, evaluate_every=2, evaluation_cases=8, widths=(2, 2))

    @classmethod
    def small(cls):
        return cls(batch_size=8, steps=4, widths=(4, 2))

    def twin(self):
        return dataclasses.replace(self, kind="fancy") if self.has_twin else None


class Convolution(nn.Module):
    width: int
    normalise: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(self.width, (3, 3), name="inner")(x)
        if self.normalise:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Conv(1, (1, 1), name="outer")(x)


class Zeros(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return 0 * x


def critic_loss(nets, batch, context):
    """E D(x_hat) - E D(x). Second sentence."""
    fake = nets.G.peek(batch["noisy"])
    return nets.D(fake).mean() - nets.D(batch["clean"]).mean(), Terms(nets)


def generator_loss(config):
    def loss(nets, batch, context):
        x_hat, nets = nets.G.update(batch["noisy"])
        error = config.weight * jnp.mean((x_hat - batch["clean"]) ** 2)
        return error - nets.D(x_hat).mean() + 0 * nets.F.eval(x_hat).mean(), Terms(nets, error=error)

    return loss


def clip(params):
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -0.1, 0.1), params)


def every_second(context):
    return context.step % 2 == 0


def add_noise(batch, key):
    clean = batch["image"]
    return {"clean": clean, "noisy": clean + 0.3 * jax.random.normal(key, clean.shape)}


def part(config, name, seed, count):
    images = np.random.default_rng(seed).uniform(-1, 1, (count, config.size, config.size, 1))
    return ArraySource({"image": images.astype(np.float32)}, name=name)


def squared_error(outputs, batch):
    return ((outputs["denoised"] - batch["clean"]) ** 2).mean((1, 2, 3))


def experiment(config):
    fixed = Frozen(Zeros(), {"params": {"unused": jnp.zeros(5)}}, "zeros for a test")
    adam = optax.adam(optax.exponential_decay(1e-3, 10, 0.5), b1=0.5)
    game = Stage(
        "game",
        {"G": Convolution(config.widths[0], normalise=True), "D": Convolution(config.widths[1])},
        (
            Phase("critic", ("D",), critic_loss, optax.rmsprop(1e-3), repeats=3, project=clip),
            Phase("generator", ("G",), generator_loss(config), adam, when=every_second, reads="start"),
        ),
        Data(
            Stream(part(config, "train", 0, 16), config.batch_size),
            part(config, "validation", 1, 8),
            part(config, "test", 2, 10),
        ),
        config.steps,
        add_noise,
        frozen={"F": fixed},
        ema={"G": 0.9},
    )
    return Experiment(
        id="denoiser",
        config=config,
        stages=(game,),
        infer=lambda nets, batch, key: {"denoised": nets.G.eval(batch["noisy"])},
        metrics=(Metric("MSE", squared_error, "", False),),
        select="MSE",
        baseline=Baseline("noisy input", lambda fitted, batch, key: {"denoised": batch["noisy"]}),
        images=("denoised",),
        prediction=Prediction("noisy", "denoised", lambda image: MinMax(0.0, 255.0, "input", (-1, 1))),
        terms={"error": f"weight = {config.weight}"},
        unknowns=("everything",),
        notes={"features": "none"},
    )
