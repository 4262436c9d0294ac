"""What an experiment costs: networks that inference calls, their updates and parameters, seconds of a step.
"""

import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.pipeline import evaluation_batches
from medgan_jax.game import Context, Experiment, Phase, Stage, view
from medgan_jax.training.summary import count, state_shapes


class _Terms(dict):
    """Terms of earlier phases, where none was played: zero."""

    def __missing__(self, name):
        return jnp.zeros(())


def called(experiment: Experiment) -> frozenset[str]:
    """Names of the trained networks that inference calls, found by tracing it on a test case's shapes."""
    stage, found = experiment.stages[-1], set()
    state = state_shapes(stage)

    def trace(params, variables, frozen, batch):
        nets = view(stage, params, variables, frozen, jax.random.key(0))
        experiment.infer(nets, stage.prepare(batch, jax.random.key(0)), jax.random.key(0))
        found.update(nets.ledger.calls)

    jax.eval_shape(trace, state.params, state.variables, stage.frozen_variables, case_shapes(stage))
    return frozenset(found & set(stage.networks))


def case_shapes(stage: Stage):
    """Shapes of a batch of one test case; phantoms are not drawn."""
    batch, _ = next(iter(evaluation_batches(stage.data.test.blank(), 1, fields=stage.data.fields, threads=0)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)


def updates(experiment: Experiment, stop: int | None = None) -> int:
    """Updates of the networks that inference calls, over all stages and in the steps in which they are due.

    stop: count to this step, where it is not the last one.
    """
    names, total, done = called(experiment), 0, 0
    for stage in experiment.stages:
        steps = stage.steps if stop is None else min(stage.steps, max(0, stop - done))
        turns = [phase for phase in stage.phases if set(phase.trains) & names]
        total += max((phase.repeats * played(phase, steps, done) for phase in turns), default=0)
        done += stage.steps
    return total


def played(phase: Phase, steps: int, done: int) -> int:
    """In how many of a stage's steps a phase is played; `done`: steps of the stages before."""
    if phase.when is None or steps == 0:
        return steps

    def due(step):
        return phase.when(Context(step, step + done, jax.random.key(0), (), _Terms()))

    return int(np.sum(jax.device_get(jax.vmap(due)(jnp.arange(steps)))))


def parameters(experiment: Experiment) -> dict[str, int]:
    """Parameters: `generator`, of all that inference calls, and `all`, of all that is trained in any stage.
    """
    names, sizes = called(experiment), {}
    for stage in experiment.stages:
        trained = {name for phase in stage.phases for name in phase.trains}
        sizes |= {name: count(tree) for name, tree in state_shapes(stage).params.items() if name in trained}
    return {"generator": sum(sizes.get(name, 0) for name in names), "all": sum(sizes.values())}


# --- time ---


def seconds_of_steps(log: pathlib.Path, stage_steps: Sequence[int], batch_size: int) -> list[float | None]:
    """Seconds of a training step in each stage, from the speeds that a run has logged.

    The clock of the log leaves out the first step, which compiles, evaluations and saves. None for a stage
    without a speed, which has one step or none that was timed.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    speeds = [
        (line["step"], line["speed/images_per_second"])
        for line in lines
        if line.get("speed/images_per_second")
    ]
    found, done = [], 0
    for steps in stage_steps:
        within = [speed for step, speed in speeds if done < step <= done + steps]
        found.append(batch_size / within[-1] if within else None)
        done += steps
    return found


def training_seconds(stage_steps: Sequence[int], seconds: Sequence[float | None]) -> float:
    """Seconds of all training steps; stages that have no speed count for nothing."""
    return sum(steps * (each or 0.0) for steps, each in zip(stage_steps, seconds, strict=True))


def steps_within(limit: float, stage_steps: Sequence[int], seconds: Sequence[float | None]) -> int:
    """How many steps, over the stages in their order, fit into `limit` seconds of training; at least 1."""
    done = 0
    for steps, each in zip(stage_steps, seconds, strict=True):
        cost = each or 0.0
        if steps * cost > limit * (1 + 1e-9):
            return max(1, done + int(limit / cost))
        limit -= steps * cost
        done += steps
    return max(1, done)
