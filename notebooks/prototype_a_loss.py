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
# # Prototype a loss
#
# Losses, layers, physics, phantoms and metrics are functions on arrays: they need no configuration, no
# trainer and no data set. This notebook (1) calls some of them alone, (2) plays a critic with a gradient
# penalty on a ring of eight Gaussians, and (3) exchanges the critic's loss while everything else stays.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from medgan_jax.game import Phase, Stage, Terms, inference_networks
from medgan_jax.losses import adversarial, consistency, penalties, pixel
from medgan_jax.metrics import image
from medgan_jax.phantoms.head import head_slice
from medgan_jax.physics import fourier, masks
from medgan_jax.training.step import make_initialise, make_step

# %% [markdown]
# ## 1. Losses alone
#
# A phantom of a head, undersampled in k-space: what do two losses and a metric make of the zero-filled
# image, and what is their gradient with respect to it? Images are `(B, H, W, C)`.

# %%
keys = jax.random.split(jax.random.key(0), 2)
x = jax.jit(jax.vmap(lambda key: head_slice(key, 64)["image"]))(keys)
x = x / x.max((1, 2, 3), keepdims=True)
mask = masks.make_mask("gaussian1d", (64, 64), 0.3)
x_zf = jnp.abs(fourier.zero_filled(x[..., 0], mask))[..., None]

print("PSNR of each case [dB]:  ", image.psnr(x_zf, x, data_range=1.0))
print("||x_zf - x|| / ||x||:    ", pixel.relative_l2(x_zf, x))
print("E(|F x_zf| - |F x|)^2:   ", consistency.kspace_magnitude(x_zf, x))
print("gradient, largest value: ", jnp.abs(jax.grad(pixel.relative_l2)(x_zf, x)).max())

# %% [markdown]
# ## 2. A game: critic with gradient penalty
#
# The data are eight Gaussians on a circle, the classical test for a generator that drops modes. A game is
# networks and phases; `make_step` compiles it. The losses read like the equations:
#
#     L_f = E f(G(z)) - E f(x) + lambda E(||grad f(x^)|| - 1)^2,  lambda = 0.3
#     L_G = -E f(G(z))

# %%
BATCH, CRITIC_STEPS, STEPS, SPREAD = 128, 3, 400, 0.08


class Perceptron(nn.Module):
    """Vectors `(B, n)` to vectors `(B, outputs)`."""

    outputs: int

    @nn.compact
    def __call__(self, x, *, train):
        for width in (64, 64):
            x = nn.leaky_relu(nn.Dense(width)(x), 0.2)
        return nn.Dense(self.outputs)(x)


def critic_with_penalty(nets, batch, context):
    x, fake = batch["x"], nets.G.peek(batch["z"])
    distance = adversarial.discriminator_wasserstein(nets.f(x), nets.f(fake))
    slope = penalties.gradient_penalty(nets.f, x, fake, context.key)
    return distance + 0.3 * slope, Terms(nets, wasserstein=-distance, penalty=slope)


def generator(nets, batch, context):
    fake, nets = nets.G.update(batch["z"])
    return adversarial.generator_wasserstein(nets.f(fake)), Terms(nets)


def game(critic_loss, generator_loss):
    """Three turns of the critic, each on fresh data, for one of the generator."""
    adam = optax.adam(5e-3, b1=0.5, b2=0.9)
    turns = (
        Phase("f", ("f",), critic_loss, adam, repeats=CRITIC_STEPS),
        Phase("G", ("G",), generator_loss, adam),
    )
    networks = {"G": Perceptron(2), "f": Perceptron(1)}
    return Stage("game", networks, turns, data=None, steps=STEPS, ema={"G": 0.99})


# %%
def batches(seed):
    """Leaves `(CRITIC_STEPS, BATCH, n)`: one batch for each turn of the critic."""
    random = np.random.default_rng(seed)
    while True:
        angle = 2 * np.pi * random.integers(8, size=(CRITIC_STEPS, BATCH)) / 8
        centre = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        x = centre + SPREAD * random.normal(size=centre.shape)
        z = random.normal(size=(CRITIC_STEPS, BATCH, 2))
        yield {"x": x.astype(np.float32), "z": z.astype(np.float32)}


def train(stage, seed=0):
    """Plays the stage; returns generated points `(2000, 2)` and the terms of every step."""
    stream = batches(seed)
    state = jax.jit(make_initialise(stage))(next(stream), {}, seed)
    step = jax.jit(make_step(stage), donate_argnums=0)
    history = []
    for _ in range(stage.steps):
        state, terms = step(state, next(stream), {}, seed)
        history.append(terms)
    nets = inference_networks(stage, state, {}, jax.random.key(seed))
    z = jax.random.normal(jax.random.key(1), (2000, 2))
    history = jax.device_get(history)
    curves = {name: np.array([terms[name] for terms in history]) for name in history[0]}
    return np.asarray(nets.G.eval(z)), curves


def modes(points):
    """How many Gaussians get 2 % of the points or more, and the share of points within 4 SD of one."""
    angle = 2 * np.pi * np.arange(8) / 8
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    distance = np.linalg.norm(points[:, None] - centres, axis=-1)
    near = distance.min(1) < 4 * SPREAD
    share = np.bincount(distance.argmin(1)[near], minlength=8) / len(points)
    return int((share >= 0.02).sum()), float(near.mean())


# %%
results = {"gradient penalty": train(game(critic_with_penalty, generator))}
covered, near = modes(results["gradient penalty"][0])
print(f"gradient penalty: {covered} of 8 modes, {near:.0%} of the points near one")

# %% [markdown]
# ## 3. Another loss
#
# Only the critic's loss changes: to the hinge of Lim and Ye, once as it is and once held smooth by R1 on
# real data. A loss of your own is a function of the same form, `(nets, batch, context) -> (scalar, Terms)`.


# %%
def hinge_critic(nets, batch, context):
    real, fake = nets.f(batch["x"]), nets.f(nets.G.peek(batch["z"]))
    return adversarial.discriminator_hinge(real, fake), Terms(nets, real=real.mean(), fake=fake.mean())


def smooth_hinge_critic(nets, batch, context):
    loss, terms = hinge_critic(nets, batch, context)
    slope = penalties.r1(nets.f, batch["x"])
    return loss + 0.1 * slope, Terms(terms.nets, **terms.values, r1=slope)


for name, loss in {"hinge": hinge_critic, "hinge with R1": smooth_hinge_critic}.items():
    results[name] = train(game(loss, generator))
    covered, near = modes(results[name][0])
    print(f"{name}: {covered} of 8 modes, {near:.0%} of the points near one")

# %%
figure, axes = plt.subplots(2, len(results), figsize=(9, 5.4), height_ratios=(2, 1), layout="constrained")
for (above, below), (name, (points, history)) in zip(axes.T, results.items(), strict=True):
    above.scatter(*next(batches(0))["x"].reshape(-1, 2).T, s=3, color="0.7")
    above.scatter(*points[:500].T, s=3, color="tab:red")
    above.set(title=name, aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    below.plot(history["f/gradient_norm"], label="f", linewidth=0.7)
    below.plot(history["G/gradient_norm"], label="G", linewidth=0.7)
    below.set(yscale="log", xlabel="step", ylabel="gradient norm")
below.legend()
plt.show()

# %% [markdown]
# ## What next
#
# A loss that works here goes into an experiment file as it stands: `experiments/_template.py` shows the rest.
