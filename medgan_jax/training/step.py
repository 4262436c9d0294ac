"""One compiled step of a game: every phase, its repeats, gradients, updates, averages. The only place that trains.

`make_initialise` gives the first state of a stage, `make_step` the function that plays one step. Both are pure and
know no method: what a stage does is all in its `Stage`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from medgan_jax import axes
from medgan_jax.errors import UserError
from medgan_jax.game import (
    Context,
    Initialisation,
    Phase,
    Stage,
    TrainState,
    Tree,
    name_key,
    view,
    with_types_of,
)

INITIALISE, TRAIN, INFER = 0, 1, 2


def run_key(seed, purpose: int) -> jax.Array:
    """The random key of a run for one purpose, from its seed (an int32 scalar, which may be traced)."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), purpose), seed)


def device_key(key: jax.Array) -> jax.Array:
    """A key that differs between devices where a device axis is bound, so that rows differ in their noise."""
    return jax.random.fold_in(key, jax.lax.axis_index(axes.DEVICES)) if axes.bound() else key


def copy(tree: Tree) -> Tree:
    """A tree that shares no buffer with the original, which a donated step needs."""
    return jax.tree.map(jnp.copy, tree)


def strong(tree: Tree) -> Tree:
    """The tree with leaves of definite types, so that a step's result has the types of its argument."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), tree)


def last_batch(stage: Stage, batch: Tree) -> Tree:
    """The batch that phases without repeats read."""
    return jax.tree.map(lambda leaf: leaf[-1], batch) if stage.repeats > 1 else batch


def make_initialise(stage: Stage) -> Callable[[Tree, Tree, Any], TrainState]:
    """A pure function (batch, frozen variables, seed) -> the first state of the stage.

    Networks come into being by the first calls that the phases' losses make to them.
    """

    def initialise(batch: Tree, frozen: Tree, seed) -> TrainState:
        key = run_key(seed, INITIALISE)
        batch = stage.prepare(last_batch(stage, batch), key)
        born = Initialisation()
        jax.eval_shape(lambda: _call_all(stage, batch, frozen, key, born))
        missing = sorted(set(stage.networks) - set(born.shapes))
        if missing:
            raise ValueError(f"stage {stage.name!r}: no phase calls network {', '.join(missing)}")
        variables = born.variables(key)
        params = {name: variables[name].get("params", {}) for name in stage.networks}
        states = {name: {c: v for c, v in variables[name].items() if c != "params"} for name in stage.networks}
        return first_state(stage, params, states, batch, frozen, key)

    return initialise


def _call_all(stage: Stage, batch: Tree, frozen: Tree, key: jax.Array, born: Initialisation) -> None:
    """Every loss once, for the calls that it makes to the networks."""
    zero = jnp.zeros((), jnp.int32)
    for phase in stage.phases:
        nets = view(stage, {}, {}, frozen, key, initialisation=born)
        memory = stage.memory(nets, batch, key)
        phase.loss(nets, batch, Context(zero, zero, key, memory, _Zeros()))


class _Zeros(Mapping):
    """Terms of earlier phases while networks are being initialised: every one is zero."""

    def __getitem__(self, name):
        return jnp.zeros(())

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


def first_state(stage: Stage, params, variables, batch, frozen, key) -> TrainState:
    """The state at the start of a stage whose networks have these variables."""
    nets = view(stage, params, variables, frozen, key)
    average = {name: copy({"params": params[name], "variables": variables[name]}) for name in stage.ema}
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        global_step=jnp.zeros((), jnp.int32),
        params=params,
        variables=variables,
        optimizers={
            phase.name: phase.optimizer.init({name: params[name] for name in phase.trains}) for phase in stage.phases
        },
        ema=average,
        memory=copy(stage.memory(nets, batch, key)),
    )
    return strong(state)


def make_carry_over(stage: Stage) -> Callable[[TrainState, TrainState, Tree, Tree, Any], TrainState]:
    """A pure function (state of the stage before, fresh state, batch, frozen, seed) -> first state of this stage."""

    def carry_over(previous: TrainState, fresh: TrainState, batch: Tree, frozen: Tree, seed) -> TrainState:
        key = run_key(seed, INITIALISE)
        batch = stage.prepare(last_batch(stage, batch), key)
        old = {"params": previous.params, "variables": previous.variables}
        new = stage.carry_over(old, {"params": fresh.params, "variables": fresh.variables})
        state = first_state(stage, new["params"], new["variables"], batch, frozen, key)
        return state.replace(global_step=jnp.copy(previous.global_step))

    return carry_over


def make_step(stage: Stage, *, compute_dtype=jnp.float32) -> Callable[[TrainState, Tree, Tree, Any], tuple]:
    """A pure function (state, batch, frozen variables, seed) -> (state, terms) that plays one step.

    batch: leaves `(B, ...)`, or `(repeats, B, ...)` if a phase of the stage repeats.
    terms: `{"phase/term": float32 scalar}`, the mean over a phase's repeats; `"phase/gradient_norm"`,
    `"phase/update_ratio"` (norm of the update over norm of the parameters) and, for a phase with `when`,
    `"phase/played"` are added. Floating-point parameters, statistics, losses and gradients are float32;
    `compute_dtype` applies inside the networks.
    """

    def step(state: TrainState, batch: Tree, frozen: Tree, seed) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(run_key(seed, TRAIN), state.global_step)
        start, terms = state.params, {}
        for phase in stage.phases:
            player = _Player(stage, phase, frozen, key, start, state, terms, compute_dtype)
            state, played = player.play(state, batch)
            terms = {**terms, **{f"{phase.name}/{name}": value for name, value in played.items()}}
        state = state.replace(
            step=state.step + 1, global_step=state.global_step + 1, ema=moving_averages(stage, state)
        )
        return state, terms

    return step


def moving_averages(stage: Stage, state: TrainState) -> Tree:
    """Each averaged network's parameters and statistics, moved towards the present ones by `1 - decay`."""

    def towards(decay):
        def move(average, value):
            floating = jnp.issubdtype(average.dtype, jnp.floating)
            return average + (1 - decay) * (value - average) if floating else value

        return move

    present = {name: {"params": state.params[name], "variables": state.variables[name]} for name in stage.ema}
    return {name: jax.tree.map(towards(stage.ema[name]), state.ema[name], present[name]) for name in stage.ema}


class _Player:
    """Plays one phase within a step that is being traced."""

    def __init__(self, stage: Stage, phase: Phase, frozen, key, start, state: TrainState, terms, compute_dtype):
        self.stage, self.phase, self.frozen, self.key = stage, phase, frozen, key
        self.start, self.terms, self.compute_dtype = start, terms, compute_dtype
        self.step, self.global_step = state.step, state.global_step

    def play(self, state: TrainState, batch: Tree) -> tuple[TrainState, dict]:
        """All repeats of the phase, or none if its `when` is false."""
        phase = self.phase
        carry = (state.params, state.variables, state.optimizers[phase.name], state.memory)
        if phase.when is None:
            carry, terms = self.all_repeats(carry, batch)
        else:
            context = Context(self.step, self.global_step, self.key, state.memory, self.terms)
            none = jax.tree.map(
                lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
                jax.eval_shape(lambda c, b: self.all_repeats(c, b)[1], carry, batch),
            )
            playing = jnp.asarray(phase.when(context), bool)
            carry, terms = jax.lax.cond(
                playing, lambda c: self.all_repeats(c, batch), lambda c: (c, none), carry
            )
            terms["played"] = playing.astype(jnp.float32)
        params, variables, optimizer, memory = carry
        return state.replace(
            params=params,
            variables=variables,
            optimizers={**state.optimizers, phase.name: optimizer},
            memory=memory,
        ), terms

    def all_repeats(self, carry, batch: Tree):
        repeats = self.phase.repeats
        if repeats == 1:
            return self.one_update(carry, (self.stage.repeats - 1, last_batch(self.stage, batch)))
        numbers = jnp.arange(self.stage.repeats)[-repeats:]
        own = jax.tree.map(lambda leaf: leaf[-repeats:], batch)
        carry, terms = jax.lax.scan(self.one_update, carry, (numbers, own))
        return carry, {name: jnp.mean(values) for name, values in terms.items()}

    def one_update(self, carry, numbered_batch):
        """Gradient of the loss, averaged over slices and devices, and one update of the networks that move."""
        phase = self.phase
        params, variables, optimizer, memory = carry
        number, batch = numbered_batch
        key = jax.random.fold_in(self.key, number)
        batch = self.stage.prepare(batch, device_key(key))
        mine = {name: params[name] for name in phase.trains}
        gradient, variables, memory, terms = self.gradient(mine, params, variables, memory, batch, key)
        gradient, terms, variables = axes.mean((gradient, terms, variables))
        memory = jax.tree.map(lambda leaf: leaf if jnp.ndim(leaf) else axes.mean(leaf), memory)
        # The loss is known to optimizers that ask for it, such as those that hold a phase back while it is ahead.
        optimize = optax.with_extra_args_support(phase.optimizer).update
        updates, optimizer = optimize(gradient, optimizer, mine, value=terms["loss"])
        moved = optax.apply_updates(mine, updates)
        if phase.project is not None:
            moved = phase.project(moved)
        terms["gradient_norm"] = norm(gradient)
        # The moved parameters, not those before: reading these afterwards would keep them from being overwritten.
        terms["update_ratio"] = norm(updates) / (norm(moved) + 1e-12)
        return ({**params, **moved}, variables, optimizer, memory), terms

    def gradient(self, mine, params, variables, memory, batch, key):
        """Gradient with respect to the networks that move, averaged over `accumulate` slices of the batch."""
        slices = self.phase.accumulate
        if slices == 1:
            return self.slice_gradient(mine, params, variables, memory, batch, key)

        def one_slice(carry, numbered):
            total, variables, memory = carry
            number, part = numbered
            gradient, variables, memory, terms = self.slice_gradient(
                mine, params, variables, memory, part, jax.random.fold_in(key, number)
            )
            return (jax.tree.map(jnp.add, total, gradient), variables, memory), terms

        zero = jax.tree.map(jnp.zeros_like, mine)
        parts = jax.tree.map(lambda leaf: interleaved_slices(leaf, slices, self.phase.name), batch)
        (total, variables, memory), terms = jax.lax.scan(
            one_slice, (zero, variables, memory), (jnp.arange(slices), parts)
        )
        average = jax.tree.map(lambda leaf: leaf / slices, total)
        return average, variables, memory, jax.tree.map(lambda values: jnp.mean(values, axis=0), terms)

    def slice_gradient(self, mine, params, variables, memory, batch, key):
        phase, stage = self.phase, self.stage
        others = self.start if phase.reads == "start" else params
        network_key = device_key(key)
        context = Context(self.step, self.global_step, name_key(network_key, phase.name), memory, self.terms)

        def objective(mine):
            nets = view(
                stage, {**others, **mine}, variables, self.frozen, network_key, compute_dtype=self.compute_dtype
            )
            loss, terms = phase.loss(nets, batch, context)
            terms.nets.check_carried(phase.name)
            carried = {name: terms.nets.variables[name] for name in stage.networks}
            kept = memory if terms.memory is None else self.same_memory(memory, terms.memory)
            values = {name: jnp.asarray(value, jnp.float32) for name, value in terms.values.items()}
            return loss, (carried, kept, {"loss": loss, **values})

        (_, (variables, memory, terms)), gradient = jax.value_and_grad(objective, has_aux=True)(mine)
        return gradient, variables, memory, terms

    def same_memory(self, memory: Tree, returned: Tree) -> Tree:
        """What the loss returned as memory, in the types of the memory that it was given."""
        structure = lambda tree: jax.tree.map(jnp.shape, tree)  # noqa: E731
        if structure(memory) != structure(returned):
            raise ValueError(
                f"phase {self.phase.name!r}: the memory changed its structure or shapes, from {structure(memory)} to "
                f"{structure(returned)}"
            )
        return with_types_of(memory, returned)


def norm(tree: Tree) -> jax.Array:
    """Euclidean norm of all leaves together, by products that need no array of squares."""
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf).real for leaf in jax.tree.leaves(tree)))


def interleaved_slices(leaf: jax.Array, slices: int, phase: str) -> jax.Array:
    """`(B, ...)` cut to `(slices, B / slices, ...)`; each slice takes rows from all devices."""
    rows = leaf.shape[0]
    if rows % slices:
        raise UserError(
            f"phase {phase!r}: accumulation over {slices} slices does not divide a batch of {rows} rows a device; "
            "change the batch size"
        )
    return leaf.reshape(rows // slices, slices, *leaf.shape[1:]).swapaxes(0, 1)
