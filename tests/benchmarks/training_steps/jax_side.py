"""The process that plays a game with this library, by the step and the executor that train experiments."""

import collections
import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import monitoring

from medgan_jax.configuration import RunOptions
from medgan_jax.nn import conv_cpu
from medgan_jax.training.parallel import JitExecutor, make_layout
from tests.benchmarks.training_steps import games, ours, plain
from tests.benchmarks.training_steps.serving import Side, serve

COMPILING = "/jax/core/compile/"


def flat(tree) -> dict[str, np.ndarray]:
    """Leaves by their path, `down_0/conv/kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def apart(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Repeated blocks one by one: `blocks/KEY` with a leading axis as `block_0/KEY` and so on."""
    single = {}
    for key, leaf in weights.items():
        before, found, after = key.partition("blocks/")
        leaves = {f"{before}block_{n}/{after}": one for n, one in enumerate(leaf)} if found else {key: leaf}
        single |= leaves
    return single


def without_dropout(networks: dict) -> dict:
    """The same networks without the noise that the two sides do not share."""
    return {name: module.clone(dropout=0.0) if getattr(module, "dropout", 0.0) else module
            for name, module in networks.items()}


def outputs(networks: dict, variables: dict, probes: dict) -> dict[str, jax.Array]:
    """What every network makes of its probe in training mode, without dropout."""
    return {name: module.apply(variables[name], probes[name], train=True, mutable=["batch_stats"])[0]
            for name, module in without_dropout(networks).items()}


def store(path: str, variables: dict, made: dict[str, jax.Array]) -> None:
    """Weights and outputs in a file for the other side."""
    arrays = {f"weights|{name}|{key}": leaf for name, tree in variables.items()
              for key, leaf in apart(flat(tree["params"])).items()}
    np.savez(path, **arrays, **{f"outputs|{name}": np.asarray(value) for name, value in made.items()})


class JaxSide(Side):
    def __init__(self, options):
        super().__init__(options)
        self.seconds = collections.Counter()
        monitoring.register_event_duration_secs_listener(self.note)
        if options.layers == "plain":
            plain.use_plain_layers()
        if options.layers == "direct":
            conv_cpu.WINOGRAD.clear()

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
        # Initial values are computed while Python goes on; compiling beside that would seem to take longer.
        jax.block_until_ready(self.learned if self.game.inference else self.state)
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
        params = state.params
        variables = {name: {"params": params[name], **state.variables[name]} for name in params}
        made = jax.jit(functools.partial(outputs, self.stage.networks))
        store(path, variables, made(variables, games.probes(self.game.kind, self.batch)))
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
        program = self.program()
        named = {f"{name}  {program.get(name, '')}": took for name, took in total.most_common(60)}
        return {"milliseconds": named}

    def program(self) -> dict[str, str]:
        """Of every operation of the compiled step: its result's shape, its kind, and where it comes from."""
        if self.game.inference:
            lowered = self.infer.lower(self.learned, self.on_device["A"])
        else:
            lowered = self.executor.lower(self.state, self.on_device, [0])
        line = re.compile(r"%?([\w.-]+) = (\S+ [\w-]+)\(.*?(?:op_name=\"([^\"]*)\"|$)", re.MULTILINE)
        return {name: f"{made}  {source}" for name, made, source in line.findall(lowered.compile().as_text())}


if __name__ == "__main__":
    serve(JaxSide)
