# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3

# %% [markdown]
# # From a paper to an experiment file
#
# You have a paper's method section and want to run it. Here the "paper" is a small one: a generator $G$ sharpens
# what a scanner with few k-space lines has seen, a discriminator $D$ judges pairs of input and image by least
# squares, and after every third step $D$ rests:
#
#     x_hat = y + G(y)
#     L_D   = 1/2 E (D(x, y) - 1)^2 + 1/2 E D(x_hat, y)^2
#     L_G   = 1/2 E (D(x_hat, y) - 1)^2 + lambda E |x_hat - x|,  lambda = 20
#
# The steps below are those of writing `experiments/<application>/<id>.py`; the cells, put into one file in the order
# of `experiments/_template.py`, are that file.

# %%
import dataclasses
import pathlib
import types

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from medgan_jax.configuration import ExperimentConfig, MeshOptions, RunOptions
from medgan_jax.data import parts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, Experiment, Phase, Stage, StateError, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import image_fidelity
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import UNet
from medgan_jax.physics import fourier, masks
from medgan_jax.review import describe
from medgan_jax.training import run

# %% [markdown]
# ## 1. Every number of the paper is a field
#
# The defaults are the paper's. What it does not say gets a comment here and a line in `unknowns` below. `tiny` is
# for tests, `small` for a laptop.


# %%
@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    base: int = 64
    rate: float = 0.25  # share of the lines that are measured
    lam: float = 20.0
    adversarial: float = 1.0  # 0 is the twin
    rest: int = 3  # D rests in every third step
    batch_size: int = 8
    learning_rate: float = 2e-4  # not given
    steps: int = 20000
    phantoms: tuple[int, int, int] = (2000, 100, 100)

    @classmethod
    def small(cls):
        return cls(size=32, base=12, learning_rate=1e-3, steps=120, evaluate_every=40, evaluation_cases=16,
                   phantoms=(64, 16, 16))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


# %% [markdown]
# ## 2. Networks by the paper's names


# %%
def models(config):
    widths = {"down": (config.base, 2 * config.base), "up": (config.base,)}
    generator = UNet(1, **widths, dropout=0.0)
    return {"G": generator} | ({"D": PatchGAN(layers=1, base=config.base)} if config.adversarial else {})


# %% [markdown]
# ## 3. One function for each objective, with the paper's symbols
#
# Plain arithmetic. `update` carries a network's state on, `peek` uses it and drops the state on purpose.


# %%
def beside(image, condition):
    return jnp.concatenate([image, condition], axis=-1)


def discriminator_loss(nets, batch, context):
    """1/2 E (D(x, y) - 1)^2 + 1/2 E D(x_hat, y)^2."""
    x, y = batch["x"], batch["y"]
    x_hat = y + nets.G.peek(y)
    real, nets = nets.D.update(beside(x, y))
    fake, nets = nets.D.update(beside(x_hat, y))
    loss = 0.5 * adversarial.discriminator_least_squares(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """1/2 E (D(x_hat, y) - 1)^2 + lambda E |x_hat - x|."""
        x, y = batch["x"], batch["y"]
        residual, nets = nets.G.update(y)
        terms = {"l1": config.lam * pixel.l1(y + residual, x)}
        if config.adversarial:
            score = nets.D.peek(beside(y + residual, y))
            terms["adversarial"] = 0.5 * config.adversarial * adversarial.generator_least_squares(score)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


# %% [markdown]
# Check a loss by hand before anything trains: this is what the faithfulness test of an experiment does.

# %%
scores = {"real": jnp.array([0.9, 0.2]), "fake": jnp.array([0.1, 0.6])}
by_hand = 0.5 * np.mean([(0.9 - 1) ** 2, (0.2 - 1) ** 2]) + 0.5 * np.mean([0.1**2, 0.6**2])
value = 0.5 * adversarial.discriminator_least_squares(scores["real"], scores["fake"])
print(f"library {float(value):.6f}, by hand {by_hand:.6f}")

# %% [markdown]
# ## 4. Data and forward model
#
# The forward model runs on the device in every step, so that its randomness follows from (seed, step).


# %%
def degrade(config):
    mask = masks.make_mask("gaussian1d", (config.size, config.size), config.rate)

    def prepare(batch, key):
        x = batch["image"] / jnp.maximum(batch["image"].max((1, 2, 3), keepdims=True), 1e-6)
        return {"x": x, "y": jnp.abs(fourier.zero_filled(x[..., 0], mask))[..., None]}

    return prepare


def data(config):
    heads = parts.open_heads(config.data.source, size=config.size, counts=config.phantoms, magnitude=True)
    return Data(Stream(heads.train, config.batch_size), heads.validation, heads.test, fields=("image",))


# %% [markdown]
# ## 5. The game
#
# Who moves, in which order, how often, along which gradient. "D rests in every third step" is a `when`.


# %%
def d_does_not_rest(config):
    return lambda context: context.step % config.rest != config.rest - 1


def experiment(config):
    turn_d = Phase("D", ("D",), discriminator_loss, optax.adam(config.learning_rate, b1=0.5),
                   when=d_does_not_rest(config))
    turn_g = Phase("G", ("G",), generator_loss(config), optax.adam(config.learning_rate, b1=0.5))
    turns = (turn_d, turn_g) if config.adversarial else (turn_g,)
    game = Stage("game", models(config), turns, data(config), config.steps, degrade(config))
    return Experiment(
        id="paper", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"image": batch["y"] + nets.G.eval(batch["y"])},
        baseline=Baseline("zero filling", lambda fitted, batch, key: {"image": batch["y"]}),
        metrics=image_fidelity("image", "x", low=0, high=1), select="psnr",
        images=("y", "image", "x"), value_range=(0, 1), compare=("image", "x"),
        unknowns=("learning rate",),
    )  # fmt: skip


# %% [markdown]
# ## 6. Read the game back
#
# `describe` makes no array: parameter counts at the paper's size cost nothing. Compare them with the paper's table.
# In the repository it is a command and takes the equations from the file's docstring.

# %%
paper = types.ModuleType("paper", "A paper.\n\n    x_hat = y + G(y)\n")
print(describe.sentences(describe.facts(experiment(Config()), paper, None, preset="paper")))

# %% [markdown]
# ## 7. Forgotten state is an error, not a wrong result
#
# Had the discriminator's loss dropped the networks that `update` gave back, the spectral vectors or statistics would
# silently stay behind. The engine refuses:


# %%
def forgetful(nets, batch, context):
    residual, _ = nets.G.update(batch["y"])
    return pixel.l1(batch["y"] + residual, batch["x"]), Terms(nets)


small = Config.small()
broken = dataclasses.replace(
    experiment(small),
    stages=(Stage("game", {"G": models(small)["G"]}, (Phase("G", ("G",), forgetful, optax.sgd(1e-3)),),
                  data(small), 1, degrade(small)),),
)  # fmt: skip
options = RunOptions(workdir="runs/broken", mesh=MeshOptions(data=1), progress=False)
try:
    run.train(lambda _: broken, small, options)
except StateError as error:
    print(error)

# %% [markdown]
# ## 8. Run it beside its twin

# %%
table = {}
for name, config in {"game": small, "twin": small.twin()}.items():
    options = RunOptions(workdir=f"runs/{name}", mesh=MeshOptions(data=1), progress=False)
    run.train(experiment, config, options)
    table[name] = run.evaluate(experiment, config, options)
rows = {"zero filling": table["game"]["baseline"], **{name: each["metrics"] for name, each in table.items()}}
for name, metrics in rows.items():
    psnr = metrics["psnr"]
    print(f"{name:12s}  PSNR {psnr['mean']:.2f} ± {psnr['sd']:.2f} dB over {psnr['n']} cases")

# %%
plt.imshow(plt.imread(pathlib.Path("runs/game/comparison.png"))[:200], cmap="gray")
plt.title("zero-filled, output, target, error")
plt.axis("off")
plt.show()

# %% [markdown]
# ## 9. From here to the repository
#
# Put the cells into `experiments/reconstruction/<id>.py` with the docstring of `experiments/_template.py` and the two
# last lines of it. `python -m medgan_jax describe <id>`, `train`, `evaluate`, `predict` and `audit` work at once, on
# one device or many; `learning=(Bound("psnr", ">=", "baseline", plus=2.0),)` says what the `small` run must show, and
# `python -m medgan_jax.review.learning <id>` records that it does.
