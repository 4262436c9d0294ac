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
# ---

# %% [markdown]
# # Reading GAN training curves
#
# The losses of a GAN are not a distance to the data: they tell how the game stands, not how good the samples
# are. This notebook plays one game, the original GAN on a ring of eight Gaussians, in three ways: well, with a
# discriminator that wins, and with a generator that collapses. Every run writes `metrics.jsonl`; all that is
# shown here is read from there.

# %%
import dataclasses
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np

from experiments.base import gan
from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.training import run

RUNS = pathlib.Path("runs")
SHORT = dict(steps=1500, evaluate_every=250, phantoms=(2000, 500, 500))
healthy = dataclasses.replace(gan.Config.small(), dropout=(0.0, 0.0), units=(128, 128), k=2, **SHORT)
games = {
    "healthy": healthy,
    # A small G, five updates of D for one of it, and the loss of eq. 1, which is flat where D is sure.
    "D wins": dataclasses.replace(healthy, saturating=True, k=5, widths=(8,), units=(256, 256), steps=400),
    # A rate at which G jumps to wherever D is fooled at the moment.
    "G collapses": dataclasses.replace(healthy, learning_rate=2e-2, average=0.0, steps=1000),
}


def play(name, config):
    """The lines of a run's log and its evaluation."""
    options = RunOptions(workdir=str(RUNS / name), mesh=MeshOptions(data=1), progress=False, log_every=25)
    run.train(gan.experiment, config, options)
    evaluation = run.evaluate(gan.experiment, config, options)
    log = [json.loads(line) for line in (RUNS / name / "metrics.jsonl").read_text().splitlines()]
    return log, evaluation


played = {name: play(name, config) for name, config in games.items()}


# %% [markdown]
# ## 1. What the scores say
#
# `D/real` and `D/fake` are the discriminator's mean scores before the sigmoid. In a balanced game they stay
# near each other, around 0: the classifier's accuracy is a little above one half. Where they part for good, D
# has won, and what G learns from it is noise or nothing.


# %%
def curve(log, name):
    """Steps and values of one scalar."""
    points = [(line["step"], line[name]) for line in log if line.get(name) is not None]
    return np.array(points).T


def plot(names, title, *, logarithmic=False):
    figure, axes = plt.subplots(1, len(played), figsize=(11, 2.6), sharey=True)
    for ax, (game, (log, _)) in zip(axes, played.items(), strict=True):
        for name in names:
            ax.plot(*curve(log, name), label=name)
        ax.set_title(game)
        ax.set_xlabel("step")
        if logarithmic:
            ax.set_yscale("log")
    axes[0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    plt.show()


plot(["D/real", "D/fake"], "scores before the sigmoid")

# %% [markdown]
# ## 2. What the gradients say
#
# Each player's `gradient_norm` and `update_ratio` (the size of a step over the size of the parameters) are logged.
# A generator's gradient that falls by orders of magnitude has met a saturated discriminator. That it does not fall
# proves nothing: here D's slope grows as fast as its certainty, and only the margin of section 1 shows that it has
# won. Against it: the non-saturating loss, a penalty, a larger G, fewer updates of D. An update ratio above some
# percent for either player means that it forgets faster than it learns; see the beginning of the collapsed game.

# %%
plot(["D/gradient_norm", "G/gradient_norm"], "gradient norms", logarithmic=True)
plot(["D/update_ratio", "G/update_ratio"], "size of a step over size of the parameters", logarithmic=True)

# %% [markdown]
# ## 3. What the losses do not say
#
# `G/loss` of the collapsed game can look like that of the healthy one. Coverage cannot: at every evaluation
# the validation samples are counted by mode, and `health/diversity`, the mean difference between samples, is
# logged for every experiment, even where modes are not known.

# %%
plot(["G/loss"], "the generator's loss")
plot(["validation/modes"], "modes covered, of 8")
plot(["health/diversity"], "mean difference between two samples")

# %% [markdown]
# ## 4. Which state is kept
#
# The best state by a validation metric is kept, not the last, since a game has no end at which everything is best.
# What `evaluate` reports is measured on test cases that no choice has seen.

# %%
for name, (log, evaluation) in played.items():
    table = evaluation["metrics"]
    last = curve(log, "validation/modes")[1][-1]
    scores = curve(log, "D/real")[1] - curve(log, "D/fake")[1]
    print(
        f"{name}: {table['modes']['mean']:.0f} of 8 modes in the state that was kept ({last:.0f} in the last), "
        f"share of samples on a mode {table['on_a_mode']['mean']:.2f}, D's last margin {scores[-1]:.2f}"
    )
