"""What the compiled step of a whole game does, counted: no slow convolution, and no work done twice."""

import math
import re

import jax
import numpy as np
import optax
import pytest

from medgan_jax.configuration import RunOptions
from medgan_jax.game import Phase, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.models.dcgan import dcgan_discriminator, dcgan_generator
from medgan_jax.training.parallel import JitExecutor, make_layout
from tests.benchmarks.training_steps import games, ours

ADAM = optax.adam(2e-4, b1=0.5)


def make_executor(stage):
    return JitExecutor(stage, make_layout(RunOptions(), devices=jax.devices()[:1]))


def compiled(executor, batch):
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), executor.template(batch))
    return executor.lower(executor.enter([state]), executor.put([batch]), [0]).compile()


@pytest.mark.parametrize("kind", ["wgan_gp", "pix2pix", "srgan3d"])
def test_no_convolution_of_a_game_takes_a_slow_loop(kind):
    """Strided and transposed layers, gradients of gradients within a loop, and volumes."""
    game = next(game for game in games.GAMES if game.kind == kind and not game.inference)
    # Images as large as in earnest: where a kernel is larger than its image, XLA exchanges them.
    sizes = game.sizes | {"base": 8, "batch": 1} if kind == "wgan_gp" else game.sizes_of(tiny=True)
    text = compiled(make_executor(ours.STAGES[kind](sizes)), games.batch(kind, sizes)).as_text()
    calls = [line for line in text.splitlines() if re.search(r" convolution\(", line)]
    slow = [line for line in calls if "dim_labels=b01f_01io->b01f" not in line or "rhs_reversal" in line]
    assert slow == []


def test_the_work_of_a_step_is_that_of_its_equations():
    """DCGAN 64²: both phases read the same fake, and D's first layer needs no gradient of a real image."""

    def discriminator_loss(nets, batch, context):
        real, nets = nets.D.update(batch["x"])
        fake, nets = nets.D.update(nets.G.peek(batch["z"]))
        return adversarial.discriminator_cross_entropy(real, fake), Terms(nets)

    def generator_loss(nets, batch, context):
        fake, nets = nets.G.update(batch["z"])
        return adversarial.generator_non_saturating(nets.D.peek(fake)), Terms(nets)

    networks = {"G": dcgan_generator(64), "D": dcgan_discriminator(64)}
    phases = Phase("D", ("D",), discriminator_loss, ADAM), Phase("G", ("G",), generator_loss, ADAM)
    batch = {"x": np.zeros((1, 64, 64, 3), np.float32), "z": np.zeros((1, 100), np.float32)}
    executor = make_executor(Stage("game", networks, phases, None, 1))
    program = compiled(executor, batch)

    # (pixels of the smaller side, channels, features) of the layers of D; those of G are the same, with z.
    inner = [(32, 3, 64), (16, 64, 128), (8, 128, 256), (4, 256, 512)]
    layers = [2 * 16 * side**2 * inputs * outputs for side, inputs, outputs in inner]
    discriminator = sum(layers) + 2 * 16 * 512
    generator = sum(layers) + 2 * 100 * 16 * 512
    turn_d = generator + 2 * (3 * discriminator - layers[0])
    turn_g = 2 * discriminator + 2 * generator
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(executor.template(batch).params))
    # Adam's moments, root, quotient and step, and the norms for the health signals: about 20 a parameter.
    expected = turn_d + turn_g + 20 * parameters
    assert program.cost_analysis()["flops"] == pytest.approx(expected, rel=0.05)
