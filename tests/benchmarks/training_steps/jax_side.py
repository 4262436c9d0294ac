"""The process that plays a game with this library, by the step and the executor that train experiments."""

import collections
import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import monitoring

from medgan_jax.configuration import RunOptions
from medgan_jax.game import Stage, TrainState
from medgan_jax.training.parallel import JitExecutor, make_layout
from tests.benchmarks.training_steps import games, ours, plain
from tests.benchmarks.training_steps.serving import Side, serve

COMPILING = "/jax/core/compile/"


def flat(tree) -> dict[str, np.ndarray]:
    """Leaves by their path, `down_0/conv/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def without_dropout(stage: Stage) -> Stage:
    """The same stage, its steps a function of weights and batch alone (but for gradient penalties)."""
    networks = {name: module.clone(dropout=0.0) if getattr(module, "dropout", 0.0) else module
                for name, module in stage.networks.items()}
    return dataclasses.replace(stage, networks=networks)


def write_check(path: str, stage: Stage, state: TrainState, probes: dict[str, np.ndarray], **options) -> None:
    """Stores all weights, and what every network makes of its probe in training mode without dropout."""
    arrays, networks = {}, without_dropout(stage).networks
    for name, params in state.params.items():
        apply = jax.jit(functools.partial(networks[name].apply, train=True, mutable=["batch_stats"]), **options)
        output, _ = apply({"params": params, **state.variables[name]}, probes[name])
        arrays |= {f"weights|{name}|{key}": leaf for key, leaf in flat(params).items()}
        arrays[f"outputs|{name}"] = np.asarray(output)
    np.savez(path, **arrays)


class JaxSide(Side):
    def __init__(self, options):
        super().__init__(options)
        self.seconds = collections.Counter()
        monitoring.register_event_duration_secs_listener(self.note)
        if options.plain:
            plain.use_plain_layers()

    def note(self, event: str, seconds: float, **_) -> None:
        if event.startswith(COMPILING):
            self.seconds[event.removeprefix(COMPILING)] += seconds

    def about(self) -> dict:
        device = jax.devices()[0]
        return {"platform": device.platform, "device": device.device_kind, "version": jax.__version__}

    def product(self, size: int):
        a = jnp.ones((size, size))
        multiply = jax.jit(jnp.matmul)
        return lambda: multiply(a, a).block_until_ready()

    def start(self) -> dict:
        self.stage = ours.STAGES[self.game.kind](self.sizes)
        layout = make_layout(RunOptions(), devices=jax.devices()[:1])
        self.executor = JitExecutor(self.stage, layout, jnp.dtype(self.options.precision))
        self.state = self.executor.initialise(self.batch, 0)
        counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree))
                  for name, tree in self.state.params.items()}
        self.on_device = self.executor.put([self.batch])
        if self.game.inference:
            self.infer = jax.jit(functools.partial(self.stage.networks["G"].apply, train=False))
            self.learned = {"params": self.state.params["G"], **self.state.variables["G"]}
            del self.state
        self.seconds.clear()
        self.play(1)
        compiling = sum(self.seconds.values())
        return {"parameters": counts, "compile": compiling, "parts": dict(self.seconds)}

    def play(self, count: int) -> None:
        for _ in range(count):
            if self.game.inference:
                last = self.infer(self.learned, self.on_device["A"])
            else:
                self.state, last = self.executor.step(self.state, self.on_device, [0])
        jax.block_until_ready((last, None if self.game.inference else self.state))

    def peak(self):
        statistics = jax.devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] / 2**20 if statistics else super().peak()

    def write_check(self, path: str) -> dict:
        """Initial weights, and what the networks make of their probes, for the other side to compare with."""
        state = self.executor.initialise(self.batch, 0)
        write_check(path, self.stage, state, games.probes(self.game.kind, self.batch))
        return {"bytes": pathlib.Path(path).stat().st_size}

    def trace(self, folder: str, count: int = 3) -> dict:
        """Milliseconds per step of every operation of the compiled step, the longest first."""
        self.play(1)
        with jax.profiler.trace(folder):
            self.play(count)
        newest = max(pathlib.Path(folder).rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        total = collections.Counter()
        for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
            for line in plane.lines:
                for event in line.events:
                    if any(name == "hlo_op" for name, _ in event.stats):
                        total[event.name] += event.duration_ns / 1e6 / count
        return {"milliseconds": dict(total.most_common(60))}


if __name__ == "__main__":
    serve(JaxSide)
