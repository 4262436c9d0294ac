"""Toy games for the tests of the engine: small networks that together use every feature of the contracts."""

import contextlib
import dataclasses
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.records import ArraySource
from medgan_jax.errors import UserError
from medgan_jax.game import Baseline, EarlyStopping, Experiment, Frozen, Metric, Phase, Stage, Terms
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.norm import BatchNorm
from medgan_jax.training import pool
from medgan_jax.training.checkpoints import Checkpoints
from medgan_jax.training.loop import SCHEMA


class Generator(nn.Module):
    """Convolution, batch norm and dropout; `grown` adds a second convolution with batch norm."""

    width: int = 4
    grown: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        if x.shape[1] % 4:
            raise UserError(f"the image has {x.shape[1]} rows; this network takes multiples of 4")
        x = Conv(self.width, 3, use_bias=False, name="first")(x)
        x = nn.tanh(BatchNorm(name="norm")(x, train=train))
        if self.grown:
            x = Conv(self.width, 3, use_bias=False, name="second")(x)
            x = nn.tanh(BatchNorm(name="second_norm")(x, train=train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(1, 3, name="head")(x)


class Critic(nn.Module):
    """One strided convolution and a linear score `(B,)`; `normalised` gives it batch statistics."""

    width: int = 4
    normalised: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        x = Conv(self.width, 3, strides=2, use_bias=not self.normalised, name="first")(x)
        if self.normalised:
            x = BatchNorm(name="norm")(x, train=train)
        x = nn.leaky_relu(x, 0.2)
        return nn.Dense(1, name="score")(x.reshape(x.shape[0], -1))[:, 0]


class Layers(nn.Module):
    """Dense layers with tanh between them and no state."""

    widths: tuple[int, ...] = (8, 1)

    @nn.compact
    def __call__(self, x, *, train):
        for number, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layer_{number}")(x)
            x = nn.tanh(x) if number + 1 < len(self.widths) else x
        return x


class Features(nn.Module):
    """A fixed linear map, in the place of a network with weights from a file."""

    @nn.compact
    def __call__(self, x, *, train):
        return x.reshape(x.shape[0], -1) @ self.param("matrix", nn.initializers.normal(), (64, 3))


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Which toy, and its few settings; `steps` is divided over the stages."""

    game: str = "everything"
    steps: int = 12
    batch_size: int = 8
    evaluate_every: int = 4
    evaluation_cases: int = 8
    size: int = 8
    cases: int = 24
    rate: float = 1e-2
    patience: int = 0
    measured: bool = True
    fails_at: int = -1

    @classmethod
    def tiny(cls):
        return cls()

    @classmethod
    def small(cls):
        return cls()


def images(name, count, size, seed):
    """A source of `count` smooth random images `(size, size, 1)`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    phase, amount = rng.uniform(0, 6, (2, count, 1, 1))
    values = np.sin(6 * rows + phase) * np.cos(4 * columns + amount) + 0.1 * rng.standard_normal(
        (count, size, size)
    )
    return ArraySource({"image": values[..., None].astype(np.float32)}, name=name)


def data(config):
    """Training, validation and test images of a toy."""
    sizes = {"train": config.cases, "validation": 8, "test": 10}
    parts = {name: images(name, count, config.size, seed) for seed, (name, count) in enumerate(sizes.items())}
    return Data(Stream(parts["train"], config.batch_size), parts["validation"], parts["test"])


def noisy(batch, key):
    """The forward model: images and images with noise."""
    clean = batch["image"]
    return {"clean": clean, "noisy": clean + 0.3 * jax.random.normal(key, clean.shape)}


def shifted(batch, key):
    """A forward model without randomness."""
    return {"clean": batch["image"], "noisy": jnp.roll(batch["image"], 1, axis=2) * 0.7}


def squared_error(outputs, batch):
    """Mean squared error per case."""
    return ((outputs["output"] - batch["clean"]) ** 2).mean((1, 2, 3))


def with_pool(nets, batch, key):
    """Memory: a pool of images and a running scale."""
    return {"pool": pool.empty_pool(6, batch["clean"].shape[1:]), "scale": jnp.asarray(1.0)}


def critic_loss(nets, batch, context):
    """Wasserstein critic on pooled images, with a gradient penalty."""
    fake = nets.G.peek(batch["noisy"])
    kept, shown = pool.query(context.memory["pool"], fake, context.key)
    score = nets.D.float32

    def total(x):
        return score(x).sum()

    slope = jax.grad(total)(batch["clean"])
    penalty = jnp.mean((jnp.sqrt((slope**2).sum((1, 2, 3)) + 1e-12) - 1) ** 2)
    difference = nets.D(shown).mean() - nets.D(batch["clean"]).mean()
    scale = 0.9 * context.memory["scale"] + 0.1 * jnp.abs(fake).mean()
    return difference + penalty, Terms(
        nets, {"pool": kept, "scale": scale}, difference=difference, penalty=penalty
    )


def generator_loss(nets, batch, context):
    """Adversarial, pixel and feature terms."""
    output, nets = nets.G.update(batch["noisy"])
    pixel = jnp.mean((output - batch["clean"]) ** 2)
    feature = jnp.mean((nets.F(output) - nets.F(batch["clean"])) ** 2)
    adversarial = -nets.D(output).mean() / context.memory["scale"]
    return 10 * pixel + feature + adversarial, Terms(nets, pixel=pixel, feature=feature)


def every_second(context):
    """The generator plays in every second step."""
    return context.step % 2 == 1


def clip(params):
    """Weight clipping, far out."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -2, 2), params)


def matrix():
    """Variables of `Features`."""
    return {"params": {"matrix": jnp.asarray(np.random.default_rng(5).standard_normal((64, 3)), jnp.float32)}}


def everything(config, name="game", steps=None, grown=False):
    """A stage with repeats, a projection, `when`, a pool, noise, dropout, a frozen network and an average."""
    return Stage(
        name,
        {"G": Generator(grown=grown, dropout=0.2), "D": Critic()},
        (
            Phase("critic", ("D",), critic_loss, optax.adam(config.rate), repeats=2, project=clip),
            Phase("generator", ("G",), generator_loss, optax.adam(config.rate), when=every_second),
        ),
        data(config),
        steps or config.steps,
        noisy,
        frozen={"F": Frozen(Features(), matrix(), "random features")},
        ema={"G": 0.9},
        memory=with_pool,
    )


def plain_critic_loss(nets, batch, context):
    """Least-squares critic with batch statistics."""
    fake = nets.G.peek(batch["noisy"])
    real_score, nets = nets.D.update(batch["clean"])
    fake_score, nets = nets.D.update(fake)
    return jnp.mean((real_score - 1) ** 2) + jnp.mean(fake_score**2), Terms(nets)


def plain_generator_loss(config):
    """Least-squares generator with a pixel term, which is NaN in the step after `config.fails_at`."""

    def loss(nets, batch, context):
        output, nets = nets.G.update(batch["noisy"])
        pixel = jnp.mean((output - batch["clean"]) ** 2)
        if config.fails_at >= 0:
            pixel = jnp.where(context.global_step == config.fails_at, jnp.nan, pixel)
        return pixel + jnp.mean((nets.D.peek(output) - 1) ** 2), Terms(nets, pixel=pixel)

    return loss


def plain(config):
    """A stage without randomness, with SGD and batch norm in both networks: equal on all devices."""
    return Stage(
        "plain",
        {"G": Generator(), "D": Critic(normalised=True)},
        (
            Phase("critic", ("D",), plain_critic_loss, optax.sgd(config.rate)),
            Phase("generator", ("G",), plain_generator_loss(config), optax.sgd(config.rate)),
        ),
        data(config),
        config.steps,
        shifted,
        ema={"G": 0.5},
    )


def stages(config):
    """The stages of the toy that `config.game` names."""
    half = config.steps // 2
    growing = lambda: (  # noqa: E731
        everything(config, "small", half),
        everything(config, "grown", config.steps - half, grown=True),
    )
    return {
        "everything": lambda: (everything(config),),
        "growing": growing,
        "plain": lambda: (plain(config),),
    }[config.game]()


def experiment(config):
    """The toy experiment of a configuration."""
    return Experiment(
        id=config.game,
        config=config,
        stages=stages(config),
        infer=lambda nets, batch, key: {"output": nets.G.eval(batch["noisy"])},
        metrics=(Metric("MSE", squared_error, "", False),) if config.measured else (),
        select="MSE" if config.measured else None,
        baseline=Baseline("noisy input", lambda fitted, batch, key: {"output": batch["noisy"]}),
        images=("noisy", "output", "clean"),
        compare=("output", "clean"),
        early_stopping=EarlyStopping("MSE", config.patience) if config.patience else None,
    )


def metadata(folder, kind="last"):
    """Metadata of the newest checkpoint of a run."""
    with contextlib.closing(_checkpoints(folder)) as found:
        return found.metadata(kind)


def saved(folder, kind="last"):
    """All arrays of the newest checkpoint of a run, by path such as 'params/G/first/kernel'."""
    with contextlib.closing(_checkpoints(folder)) as found:
        return found.arrays(kind=kind)


def _checkpoints(folder):
    return Checkpoints(pathlib.Path(folder) / "checkpoints", schema=SCHEMA, warn=lambda line: None)


def lines(folder):
    """The lines of a run's `metrics.jsonl`."""
    return [json.loads(line) for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()]
