"""What a run prints before it compiles: devices, parameters of each network, estimated memory."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import rich.console

from medgan_jax.configuration import RunOptions
from medgan_jax.game import Experiment, Stage
from medgan_jax.training.parallel import Layout
from medgan_jax.training.step import make_initialise


def batch_shapes(stage: Stage):
    """Shapes and types of a training batch of the stage, read from the first records; phantoms are not drawn."""
    from medgan_jax.data.pipeline import train_batches

    is_stream = lambda node: hasattr(node, "source")  # noqa: E731
    undrawn = lambda stream: dataclasses.replace(stream, source=stream.source.blank())  # noqa: E731
    data = dataclasses.replace(stage.data, train=jax.tree.map(undrawn, stage.data.train, is_leaf=is_stream))
    batch = next(train_batches(data, seed=0, repeats=stage.repeats, threads=0))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)


def state_shapes(stage: Stage):
    """Shapes of the stage's first state, without computing it."""
    return jax.eval_shape(make_initialise(stage), batch_shapes(stage), stage.frozen_variables, jnp.int32(0))


def count(tree) -> int:
    """Number of values in a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def size(tree) -> int:
    """Bytes of a tree."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def parameter_counts(stage: Stage) -> dict[str, int]:
    """Number of parameters of each network of the stage."""
    return {name: count(params) for name, params in state_shapes(stage).params.items()}


def print_summary(experiment: Experiment, layout: Layout, options: RunOptions) -> None:
    """A few lines on stderr: what will run, where, and how much memory its state needs."""
    console = rich.console.Console(stderr=True)
    devices = layout.mesh.devices.size
    platform = layout.mesh.devices.flat[0].platform
    place = f"{devices} {platform} device{'s' * (devices > 1)}"
    plain = {"highlight": False, "markup": False, "soft_wrap": True}
    console.print(f"{experiment.id}: {place}, {options.precision}", **plain)
    for stage in experiment.stages:
        state = state_shapes(stage)
        networks = ", ".join(f"{name} {count(params):,}" for name, params in state.params.items())
        trained = {name for phase in stage.phases for name in phase.trains}
        gradients = size({name: state.params[name] for name in trained})
        total = size(state) + gradients + size(batch_shapes(stage)) // devices
        console.print(
            f"  stage {stage.name}: {stage.steps} steps; parameters: {networks}; "
            f"about {total / 2**20:.0f} MiB a device for state, gradients and batch, without activations",
            highlight=False, markup=False, soft_wrap=True,
        )
        for name, frozen in stage.frozen.items():
            console.print(f"  frozen {name}: {frozen.description}", highlight=False, markup=False, soft_wrap=True)
    for name, note in experiment.notes.items():
        console.print(f"  {name}: {note}", highlight=False, markup=False, soft_wrap=True)
