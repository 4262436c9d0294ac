"""Devices: the mesh, where arrays lie on it, and the three ways to compile one pure step for it.

`jit` over a mesh (`data` splits the batch, `space` splits rows or depth) is the default; `pmap` compiles the same
step per device; `seeds` trains several seeds side by side, manual over a `seed` axis and automatic over the rest.
All three take and give the same canonical state, replicated over the mesh, so that a checkpoint fits every one.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from medgan_jax import axes
from medgan_jax.configuration import RunOptions
from medgan_jax.errors import UserError
from medgan_jax.game import Stage, TrainState, Tree
from medgan_jax.training.step import make_carry_over, make_initialise, make_step

# Initial values are used once: compiling them without optimisation saves most of the time to the first step, and
# doing so everywhere keeps their bits the same on every layout.
FAST_COMPILATION = {"xla_backend_optimization_level": 0}


def start_processes(options: RunOptions) -> None:
    """Join the other processes of a cluster, if asked to; SLURM, TPU pods and others are found by themselves."""
    if not options.multihost or jax.distributed.is_initialized():
        return
    named = (options.coordinator, options.processes, options.process)
    if any(value is not None for value in named) and any(value is None for value in named):
        raise UserError("--coordinator, --processes and --process belong together; give all three or none")
    try:
        jax.distributed.initialize(
            coordinator_address=options.coordinator, num_processes=options.processes, process_id=options.process
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--multihost: cannot join the other processes: {reason}") from error


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh with axes `data` and `space`, and the shardings on it."""

    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        """Every device holds the whole array."""
        return NamedSharding(self.mesh, P())

    @property
    def hosts(self) -> tuple[int, int]:
        """(index, count) of the slice of each batch that this process reads.

        Where `space` runs across processes, each of them reads whole batches.
        """
        processes = jax.process_count()
        splits = self.mesh.shape["data"] % processes == 0
        return (jax.process_index(), processes) if splits else (0, 1)

    def batch_sharding(self, shape: tuple[int, ...], *, stacked: bool) -> NamedSharding:
        """Sharding of a batch leaf `(B, ...)`, or `(repeats, B, ...)` if stacked.

        Rows (or depth) of images and volumes are split over `space`, if there is more than one device along it.
        """
        leading = (None,) if stacked else ()
        sizes = shape[len(leading) :]
        data, space = self.mesh.shape["data"], self.mesh.shape["space"]
        if not sizes:
            return self.replicated
        if sizes[0] % data:
            raise UserError(f"{data} devices do not divide a batch of {sizes[0]}: change the batch size or --mesh.data")
        is_image = len(sizes) >= 4 and sizes[1] >= space
        if is_image and sizes[1] % space:
            raise UserError(f"--mesh.space {space} does not divide images of {sizes[1]} rows")
        return NamedSharding(self.mesh, P(*leading, "data", *(("space",) if is_image and space > 1 else ())))

    def put(self, batch: Tree, *, stacked: bool = False) -> Tree:
        """This process's rows of a batch as arrays over the whole mesh."""
        index, count = self.hosts
        axis = 1 if stacked else 0

        def put_leaf(leaf):
            leaf = np.asarray(leaf)
            rows = leaf.shape[axis]
            shape = (*leaf.shape[:axis], rows * count, *leaf.shape[axis + 1 :])

            def part(where):
                own = list(where)
                start, stop, _ = own[axis].indices(rows * count)
                own[axis] = slice(start - index * rows, stop - index * rows)
                return leaf[tuple(own)]

            return jax.make_array_from_callback(shape, self.batch_sharding(shape, stacked=stacked), part)

        return jax.tree.map(put_leaf, batch)

    def replicate(self, tree: Tree) -> Tree:
        """Host arrays on every device."""

        def put_leaf(leaf):
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, self.replicated, lambda where: leaf[where])

        return jax.tree.map(put_leaf, tree)


def make_layout(options: RunOptions, *, devices: Sequence[Any] | None = None) -> Layout:
    """The mesh that the options ask for, over all devices of all processes."""
    # Each process reads contiguous rows of a batch, so its devices stand side by side on the mesh.
    by_process = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    devices = list(by_process if devices is None else devices)
    space = options.mesh.space
    data = options.mesh.data or max(len(devices) // space, 1)
    if data * space > len(devices):
        raise UserError(
            f"--mesh.data {data} --mesh.space {space} needs {data * space} devices; there are {len(devices)}"
        )
    if jax.process_count() > 1 and data * space < len(devices):
        raise UserError(
            f"--mesh.data {data} --mesh.space {space} takes {data * space} of {len(devices)} devices; with several "
            "processes the mesh takes all of them"
        )
    if options.parallel == "pmap" and space > 1:
        raise UserError("--parallel pmap splits batches only; use --parallel jit with --mesh.space")
    return Layout(_mesh(devices[: data * space], ("data", "space"), (data, space)))


def _mesh(devices, names: tuple[str, ...], sizes: tuple[int, ...]) -> Mesh:
    return Mesh(np.array(devices).reshape(sizes), names, axis_types=(AxisType.Auto,) * len(names))


class JitExecutor:
    """A stage compiled once by `jit` over the mesh; serves one seed after another without compiling again."""

    lanes = 1

    def __init__(self, stage: Stage, layout: Layout, compute_dtype=jnp.float32):
        self.stage, self.layout = stage, layout
        self.frozen = layout.replicate(stage.frozen_variables)
        everywhere = layout.replicated
        self._initialise = jax.jit(
            make_initialise(stage), out_shardings=everywhere, compiler_options=FAST_COMPILATION
        )
        self._carry_over = jax.jit(
            make_carry_over(stage), out_shardings=everywhere, compiler_options=FAST_COMPILATION
        )
        self._step = self.compile_step(make_step(stage, compute_dtype=compute_dtype))

    def compile_step(self, step):
        """The jitted, donated step; called once."""
        return jax.jit(step, donate_argnums=0, out_shardings=self.layout.replicated)

    @contextlib.contextmanager
    def explaining_errors(self):
        """XLA's refusals that a user can mend, as one line."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            # XLA's CPU back-end asks of a transform that follows another one a layout that its partitioner breaks.
            if "fft_thunk" not in str(error) or self.layout.mesh.shape["space"] == 1:
                raise
            raise UserError(
                "XLA cannot split this experiment's Fourier transforms over --mesh.space on a CPU; "
                "use --mesh.space 1 there"
            ) from error

    @property
    def stacked(self) -> bool:
        """Whether batches have a leading axis of repeats."""
        return self.stage.repeats > 1

    def initialise(self, batch: Tree, seed: int) -> TrainState:
        """Canonical first state of the stage for one seed."""
        with self.explaining_errors():
            return self._initialise(self.layout.put(batch, stacked=self.stacked), self.frozen, np.int32(seed))

    def template(self, batch: Tree) -> TrainState:
        """Shapes, types and shardings of a canonical state, for restoring; nothing is computed."""
        batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), batch)
        shapes = jax.eval_shape(make_initialise(self.stage), batch, self.stage.frozen_variables, np.int32(0))
        canonical = self.layout.replicated
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=canonical), shapes)

    def carry_over(self, previous: TrainState, fresh: TrainState, batch: Tree, seed: int) -> TrainState:
        """Canonical first state that goes on from the last state of the stage before."""
        batch = self.layout.put(batch, stacked=self.stacked)
        return self._carry_over(previous, fresh, batch, self.frozen, np.int32(seed))

    def put(self, batches: Sequence[Tree]) -> Tree:
        """Host batches, one for each lane, as the argument of `step`."""
        return self.layout.put(batches[0], stacked=self.stacked)

    def step(self, state: TrainState, batch: Tree, seeds: Sequence[int]) -> tuple[TrainState, dict]:
        """Plays one step; the state is donated. Terms are scalars, or `(lanes,)`."""
        with self.explaining_errors():
            return self._step(state, batch, self.frozen, np.int32(seeds[0]))

    def lower(self, state: TrainState, batch: Tree, seeds: Sequence[int]):
        """The lowered step, to look at its program or its memory."""
        return self._step.lower(state, batch, self.frozen, np.int32(seeds[0]))

    def enter(self, states: Sequence[TrainState]) -> TrainState:
        """Canonical states, one for each lane, in the form that `step` takes."""
        return states[0]

    def leave(self, state: TrainState) -> list[TrainState]:
        """The canonical state of each lane."""
        return [state]


class PmapExecutor(JitExecutor):
    """The same pure step compiled per device by `pmap`, with gradients and statistics averaged over devices."""

    def compile_step(self, step):
        devices = list(self.layout.mesh.devices.flat)
        # How `pmap` lays out its results: arguments laid out alike are taken as they are, without compiling again.
        self._rows = NamedSharding(_mesh(devices, (axes.DEVICES,), (len(devices),)), P(axes.DEVICES))
        self._frozen_copies = self._copies(self.frozen)
        return jax.pmap(step, axis_name=axes.DEVICES, donate_argnums=0, in_axes=(0, 0, 0, None), devices=devices)

    def put(self, batches):
        index, count = self.layout.hosts
        devices, axis = self._rows.mesh.size // count, 1 if self.stacked else 0

        def split(leaf):
            leaf = np.asarray(leaf)
            rows = leaf.shape[axis]
            if rows % devices:
                raise UserError(
                    f"{devices * count} devices do not divide a batch of {rows * count}: "
                    "change the batch size or --mesh.data"
                )
            parts = leaf.reshape(*leaf.shape[:axis], devices, rows // devices, *leaf.shape[axis + 1 :])
            parts = np.moveaxis(parts, axis, 0)

            def part(where):
                return parts[where[0].start - index * devices][None]

            return jax.make_array_from_callback((devices * count, *parts.shape[1:]), self._rows, part)

        return jax.tree.map(split, batches[0])

    def step(self, state, batch, seeds):
        state, terms = self._step(state, batch, self._frozen_copies, np.int32(seeds[0]))
        return state, {name: value.addressable_data(0).reshape(()) for name, value in terms.items()}

    def lower(self, state, batch, seeds):
        return self._step.lower(state, batch, self._frozen_copies, np.int32(seeds[0]))

    def enter(self, states):
        return self._copies(states[0])

    def leave(self, state):
        return [self.layout.replicate(jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0))[0], state))]

    def _copies(self, tree):
        count = self._rows.mesh.size

        def copies(leaf):
            leaf = np.asarray(leaf.addressable_data(0))
            return jax.make_array_from_callback((count, *leaf.shape), self._rows, lambda where: leaf[None])

        return jax.tree.map(copies, tree)


class SeedsExecutor(JitExecutor):
    """Several seeds side by side: the step is manual over a `seed` axis, so no collective crosses seeds."""

    def __init__(self, stage: Stage, layout: Layout, compute_dtype=jnp.float32, *, lanes: int):
        self.lanes = lanes
        devices = list(layout.mesh.devices.flat)
        data, space = layout.mesh.shape["data"], layout.mesh.shape["space"]
        self.seed_mesh = _mesh(devices, ("seed", "data", "space"), (lanes, data // lanes, space))
        super().__init__(stage, layout, compute_dtype)
        # Initial values and canonical states are made on one lane's share of the devices, as a single run would.
        self.lane_layout = Layout(Mesh(self.seed_mesh.devices[0], ("data", "space"), axis_types=(AxisType.Auto,) * 2))
        self.single = JitExecutor(stage, self.lane_layout, compute_dtype)
        self._frozen_lanes = jax.tree.map(lambda leaf: self._stack([leaf] * lanes), self.frozen)

    def compile_step(self, step):
        def one_lane(state, batch, frozen, seed):
            state, batch, frozen, seed = jax.tree.map(lambda leaf: leaf[0], (state, batch, frozen, seed))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], step(state, batch, frozen, seed))

        # No lane ever talks to another, so there is no variance over `seed` for the checker to track.
        lanes = jax.shard_map(
            one_lane,
            mesh=self.seed_mesh,
            in_specs=P("seed"),
            out_specs=P("seed"),
            axis_names={"seed"},
            check_vma=False,
        )
        return jax.jit(lanes, donate_argnums=0, out_shardings=NamedSharding(self.seed_mesh, P("seed")))

    def initialise(self, batch, seed):
        return self.single.initialise(batch, seed)

    def template(self, batch):
        return self.single.template(batch)

    def carry_over(self, previous, fresh, batch, seed):
        return self.single.carry_over(previous, fresh, batch, seed)

    def put(self, batches):
        def stack(*leaves):
            joined = np.stack([np.asarray(leaf) for leaf in leaves])
            inner = self.lane_layout.batch_sharding(joined.shape[1:], stacked=self.stacked)
            sharding = NamedSharding(self.seed_mesh, P("seed", *inner.spec))
            return jax.make_array_from_callback(joined.shape, sharding, lambda where: joined[where])

        return jax.tree.map(stack, *batches)

    def _stack(self, leaves):
        joined = np.stack([np.asarray(leaf) for leaf in leaves])
        sharding = NamedSharding(self.seed_mesh, P("seed"))
        return jax.make_array_from_callback(joined.shape, sharding, lambda where: joined[where])

    def _seeds(self, seeds):
        return self._stack([np.int32(seed) for seed in seeds])

    def step(self, state, batch, seeds):
        return self._step(state, batch, self._frozen_lanes, self._seeds(seeds))

    def lower(self, state, batch, seeds):
        return self._step.lower(state, batch, self._frozen_lanes, self._seeds(seeds))

    def enter(self, states):
        return jax.tree.map(lambda *leaves: self._stack(leaves), *states)

    def leave(self, state):
        host = jax.tree.map(np.asarray, state)
        return [self.lane_layout.replicate(jax.tree.map(lambda leaf: leaf[i], host)) for i in range(self.lanes)]


def lanes_for(options: RunOptions, layout: Layout) -> int:
    """How many seeds are trained side by side: all of them if the devices divide, else one after another."""
    devices = layout.mesh.shape["data"]
    fits = options.seeds > 1 and devices % options.seeds == 0 and jax.process_count() == 1
    if fits and options.parallel == "pmap":
        raise UserError("--parallel pmap trains one seed at a time; use --parallel jit with --seeds")
    return options.seeds if fits else 1


def make_executor(stage: Stage, layout: Layout, options: RunOptions, *, lanes: int = 1):
    """The executor that the options ask for."""
    compute_dtype = jnp.dtype(options.precision)
    if lanes > 1:
        return SeedsExecutor(stage, layout, compute_dtype, lanes=lanes)
    kind = PmapExecutor if options.parallel == "pmap" else JitExecutor
    return kind(stage, layout, compute_dtype)
