"""What every experiment's configuration has in common, and the options of a run that are not part of it.

A configuration decides what is computed; it is written into checkpoints, and a work directory takes only one.
`RunOptions` decides where and how: devices, precision, directories. A run of one configuration may be continued
under other options.
"""

import dataclasses
import math
from typing import Any, Literal

from medgan_jax.errors import UserError

PRESETS = ("tiny", "small", "paper")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where images come from.

    source: `phantom` (embedded, no download), `tfds:NAME` (a prepared TFDS set) or a folder.
    """

    source: str = "phantom"


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Fields that every experiment has; an experiment adds its own and gives all of them the paper's values.

    steps: steps of the whole training, which schedules read. batch_size: cases per step over all devices.
    evaluate_every: steps between evaluations on the validation cases. evaluation_cases: at most this many
    validation cases are used during training (the final evaluation uses all test cases).
    """

    steps: int = 1000
    batch_size: int = 16
    evaluate_every: int = 500
    evaluation_cases: int = 64
    data: DataOptions = DataOptions()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"config.{field.name} is {value}; it must be a finite number")
        for name in ("steps", "batch_size", "evaluate_every", "evaluation_cases"):
            if getattr(self, name) < 1:
                raise UserError(f"config.{name} is {getattr(self, name)}; it must be at least 1")

    @classmethod
    def tiny(cls):
        """For tests: seconds."""
        raise NotImplementedError

    @classmethod
    def small(cls):
        """For a two-core CPU: minutes."""
        raise NotImplementedError

    @classmethod
    def paper(cls):
        """The paper's full-size values: the defaults."""
        return cls()

    def twin(self):
        """The configuration of the non-adversarial twin, or None where the method has none."""
        return None


@dataclasses.dataclass(frozen=True)
class MeshOptions:
    """Devices along each axis of the mesh: `data` splits the batch (0: all that remain), `space` rows or depth."""

    data: int = 0
    space: int = 1


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run that are not part of its configuration.

    workdir: directory of the run. seed: of initial values, data order and noise. seeds: number of seeds to train
    (seed, seed + 1, ...), each in its own `seed_N` directory. steps: stop after this many steps (None: all).
    parallel: `jit` over a mesh, or `pmap`. precision: compute type inside the networks; parameters, statistics,
    losses and penalties are float32 in either case. multihost: join the other processes of a cluster.
    coordinator, processes, process: name them where the cluster does not say. checkpoint_every: steps between
    checkpoints. log_every: steps between lines of the log, at which SIGTERM is noticed. init_from: work directory
    of another run, or a file of exported weights, that networks of the same names and shapes start from. export:
    file to write the weights to. profile: number of steps to trace with the profiler. progress: show a progress bar.
    """

    workdir: str = ""
    seed: int = 0
    seeds: int = 1
    steps: int | None = None
    parallel: Literal["jit", "pmap"] = "jit"
    mesh: MeshOptions = MeshOptions()
    precision: Literal["float32", "bfloat16"] = "float32"
    multihost: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    checkpoint_every: int = 500
    log_every: int = 20
    init_from: str | None = None
    export: str | None = None
    profile: int = 0
    progress: bool = True

    def __post_init__(self):
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")
        if self.seeds < 1:
            raise UserError(f"--seeds is {self.seeds}; it must be at least 1")
        for name in ("steps", "checkpoint_every", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}; it must be at least 1")
        if self.mesh.data < 0 or self.mesh.space < 1:
            raise UserError("--mesh.data is 0 (all devices) or more, and --mesh.space at least 1")


def as_dict(config: Any) -> dict:
    """A configuration as nested plain values, for JSON and for comparison."""
    return dataclasses.asdict(config)
