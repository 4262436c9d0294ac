"""`python -m medgan_jax.shortcuts [TASK ...]` measures that no phantom's task gives itself away.

On each task of `medgan_jax.phantoms` the predictors of `medgan_jax.evaluation.structure_free` and a small
network are fitted to the same training cases and scored on the same test cases. The predictors must fail and
the network must not, by `Bounds`. A record of each task goes to `experiments/records/shortcuts`, with a
fingerprint of the code that draws the phantom: a phantom that was changed since has a stale record.
"""

import argparse
import dataclasses
import importlib
import json
import math
import pathlib
import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from medgan_jax import phantoms
from medgan_jax.configuration import ExperimentConfig, MeshOptions, RunOptions
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import PhantomSource, Source
from medgan_jax.errors import UserError
from medgan_jax.evaluation import structure_free
from medgan_jax.game import Experiment, Metric, Phase, Stage, Terms
from medgan_jax.metrics.classification import roc_auc
from medgan_jax.metrics.overlap import dice
from medgan_jax.models.layers import Layer
from medgan_jax.models.sizes import halvings
from medgan_jax.models.unet import UNet
from medgan_jax.nn.blocks import ConvBlock
from medgan_jax.nn.conv import Conv
from medgan_jax.phantoms.tasks import Task
from medgan_jax.review import code
from medgan_jax.review.records import require_finished
from medgan_jax.training import run

RECORDS = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "records" / "shortcuts"
# The network's training: shares of the steps and of the cases of `plan`. What it has learnt with less is not
# trained on, so an easy task is a short one.
ATTEMPTS = ((1 / 3, 1), (1, 1), (2, 2))
# Part of every fingerprint: to be raised when predictors, network or bounds change what is measured.
RECIPE = 2
SEED = 0
UNITS = {"segmentation": "Dice", "translation": "MAE", "classification": "AUC"}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a task must keep.

    shortcut_dice, shortcut_auc: the best predictor without structure scores at most this. error_ratio: its
    mean absolute error is at least this times the network's. network: the network's Dice or AUC is at least
    this; of structures so thin that the truth, moved by one pixel, has a smaller Dice with itself, that Dice.
    Of several structures the mean counts: the mean shape of one large organ alone, such as the liver, may have
    a Dice of 0.7, as that of lungs has 0.8 on real radiographs.
    """

    shortcut_dice: float = 0.65
    shortcut_auc: float = 0.75
    error_ratio: float = 2.0
    network: float = 0.8

    def hold(self, kind: str, shortcut: float, network: float) -> bool:
        """Whether the best shortcut and the network are as they should for a task of this kind."""
        if kind == "translation":
            return shortcut >= self.error_ratio * network
        return not self.given_away(kind, shortcut) and network >= self.network

    def for_cases(self, cases: "_Cases") -> "Bounds":
        """The bounds with what is asked of a network for structures as thin as those of the cases."""
        return dataclasses.replace(self, network=min(self.network, cases.moved))

    def given_away(self, kind: str, shortcut: float) -> bool:
        """Whether no network can save the task; unknown of a translation."""
        most = {"segmentation": self.shortcut_dice, "classification": self.shortcut_auc}
        return shortcut > most.get(kind, math.inf)


BOUNDS = Bounds()


def find_tasks() -> dict[str, tuple[str, Task]]:
    """Every task by name, with the module of its phantom."""
    found: dict[str, tuple[str, Task]] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(phantoms.__path__)):
        if module.startswith("_"):
            continue
        name = f"{phantoms.__name__}.{module}"
        for task in getattr(importlib.import_module(name), "TASKS", ()):
            if task.name in found:
                raise ValueError(f"{name} and {found[task.name][0]} both have a task {task.name!r}")
            found[task.name] = (name, task)
    return found


# --- fingerprints ---


def fingerprint(module: str, name: str) -> str:
    """SHA-256 of what a task of a module draws: its line there, and all of the library that it uses.

    Comments, docstrings and layout are no part of it, nor are the module's other tasks, nor errors, which draw
    nothing.
    """
    line = code.named_call(module, "Task", name)
    found = code.definitions(module, lambda place: not place.endswith(".errors"), line)
    parts = (f"{place}.{each}\n{found[place, each]}" for place, each in sorted(found))
    return code.digest([str(RECIPE), "" if line is None else code.written(line), *parts])


# --- the small network ---


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    base: int = 16
    levels: int = 4
    learning_rate: float = 2e-3
    decay: float = 1e-4


class SmallNetwork(nn.Module):
    """A U-Net beside a convolution at full resolution, (B, *S, C) -> (B, *S, outputs); pooled: (B, outputs).

    Pooled, it is an encoder whose maps are averaged and maximised over the image. mean, deviation: of the
    training images' channels, by which the input is standardised.
    """

    outputs: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    base: int = 16
    levels: int = 4
    pooled: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = (x - jnp.asarray(self.mean)) / jnp.asarray(self.deviation)
        levels = min(self.levels, halvings(x.shape[1:-1]))
        widths = tuple(self.base * min(2**level, 4) for level in range(levels))
        settings = dict(kernel_init=nn.initializers.he_normal())
        fine = ConvBlock(self.base, **settings)(x, train=train)
        if self.pooled:
            for width in widths:
                fine = Layer(width, activation=nn.relu, **settings)(fine, train=train)
            places = tuple(range(1, fine.ndim - 1))
            pooled = jnp.concatenate([fine.mean(places), fine.max(places)], axis=-1)
            return nn.Dense(self.outputs, name="score")(pooled)
        coarse = UNet(self.base, widths, widths[-2::-1], without_norm=(), activation=nn.relu, **settings)
        joined = jnp.concatenate([fine, coarse(x, train=train)], axis=-1)
        return Conv(self.outputs, 1, name="head")(ConvBlock(self.base, **settings)(joined, train=train))


def _segmentation_loss(output, batch):
    """Cross-entropy and 1 - soft Dice, the latter over the whole batch for each structure.

    Where a structure is, errors weigh by one over the root of its share: without this a network may begin by
    finding that small structures are nowhere, where both terms are flat.
    """
    target = batch["target"].astype(jnp.float32)
    probability = jax.nn.sigmoid(output)
    axes = tuple(range(output.ndim - 1))
    overlap = (2 * (probability * target).sum(axes) + 1) / ((probability + target).sum(axes) + 1)
    share = jnp.clip(target.mean(axes), 1e-4, 0.5)
    weight = jnp.where(target > 0, jnp.sqrt(0.5 / share), 1.0)
    return (weight * optax.sigmoid_binary_cross_entropy(output, target)).mean() + (1 - overlap).mean()


def _translation_error(output, batch):
    """Weighted mean absolute error `(B,)`."""
    error = jnp.abs(output - batch["target"]).mean(-1, keepdims=True)
    weight = batch.get("weight", jnp.ones_like(error))
    axes = tuple(range(1, error.ndim))
    return (error * weight).sum(axes) / jnp.maximum(weight.sum(axes), 1e-6)


def _classification_loss(output, batch):
    return optax.sigmoid_binary_cross_entropy(output[..., 0], _label(batch)).mean()


def _label(batch):
    return batch["target"].reshape(batch["target"].shape[0]).astype(jnp.float32)


def _metrics(kind: str, structures: int) -> tuple[Metric, ...]:
    if kind == "translation":
        return (Metric("MAE", lambda out, batch: _translation_error(out["output"], batch), "", False),)
    if kind == "classification":

        def scores(out, batch):
            return {"score": out["output"][..., 0], "label": _label(batch)}

        def auc(values):
            return float(roc_auc(values["score"], values["label"]))

        return (Metric("AUC", scores, "", True, auc),)

    def one(structure):
        def per_case(out, batch):
            truth = batch["target"][..., structure] > 0.5
            score = dice(out["output"][..., structure] > 0, truth, empty_policy="nan")
            # A case with hardly any of the structure has no Dice, as for the predictors.
            return jnp.where(truth.sum(tuple(range(1, truth.ndim))) >= structure_free.SMALLEST, score, jnp.nan)

        return Metric(f"Dice {structure}", per_case, "", True)

    return tuple(one(structure) for structure in range(structures))


def _experiment(task: Task, train: Source, test: Source, arrays: Mapping, config: Config) -> Experiment:
    """A game of one network that learns the task."""
    segments, translates = task.kind == "segmentation", task.kind == "translation"
    centre, spread = _moments(arrays["target"], arrays.get("weight")) if translates else (0.0, 1.0)
    mean, deviation = _moments(arrays["input"])
    outputs = arrays["target"].shape[-1] if segments or translates else 1
    pooled = task.kind == "classification"
    network = SmallNetwork(outputs, mean, deviation, config.base, config.levels, pooled)
    losses = {
        "segmentation": _segmentation_loss,
        "translation": lambda output, batch: (_translation_error(output, batch) / np.mean(spread)).mean(),
        "classification": _classification_loss,
    }

    def in_units(output):
        return jnp.asarray(centre) + jnp.asarray(spread) * output

    def loss(nets, batch, context):
        output, nets = nets.network.update(batch["input"])
        value = losses[task.kind](in_units(output), batch)
        return value, Terms(nets, loss=value)

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    learn = Phase("learn", ("network",), loss, optax.adamw(rate, weight_decay=config.decay))
    data = Data(Stream(train, config.batch_size), test=test, evaluation_batch_size=config.batch_size)
    return Experiment(
        id=f"shortcuts of {task.name}",
        config=config,
        stages=(Stage("learn", {"network": network}, (learn,), data, config.steps),),
        infer=lambda nets, batch, key: {"output": in_units(nets.network.eval(batch["input"]))},
        metrics=_metrics(task.kind, outputs),
    )


def _moments(images: np.ndarray, weight: np.ndarray | None = None) -> tuple[tuple, tuple]:
    """Mean and SD of each channel, over the pixels that count."""
    rows = np.asarray(images, np.float64).reshape(-1, images.shape[-1])
    if weight is not None:
        rows = rows[np.reshape(weight, -1) > 0]
    deviation = np.maximum(rows.std(0), 1e-3)
    return tuple(map(float, rows.mean(0))), tuple(map(float, deviation))


# --- measuring ---


def plan(kind: str, shape: tuple[int, ...]) -> tuple[tuple[int, int], Config]:
    """Numbers of training and test cases, and the network's training, for inputs of `(*S, C)`."""
    pixels = math.prod(shape[:-1])
    volumes = len(shape) == 4
    counts = (512, 256) if kind == "classification" else (96, 24) if volumes else (768, 64)
    batch = max(2, min(16, 2**16 // pixels))
    steps = 600 if kind == "classification" else 300 if volumes else 700
    return counts, Config(batch_size=batch, steps=steps, base=8 if volumes else 16)


def measure(
    task: Task,
    module: str,
    *,
    steps: int | None = None,
    bounds: Bounds = BOUNDS,
) -> dict:
    """The record of a task: scores of every predictor and of the network, and whether the bounds hold.

    module: of the phantom. steps: of the network's training; by default those of `ATTEMPTS` one after the
    other, until the network has learnt the task. Predictors learn from the same cases. Raises UserError for a
    task whose arrays do not fit its kind.
    """
    # Before anything is drawn: somebody may change the phantom meanwhile.
    code = fingerprint(module, task.name)
    shapes = jax.eval_shape(task.draw, jax.random.key(0))
    _check(task, shapes)
    counts, planned = plan(task.kind, shapes["input"].shape)
    cases, seconds = None, dict.fromkeys(("drawing", "predictors", "network"), 0.0)
    for share, more in ((steps / planned.steps, 1),) if steps else ATTEMPTS:
        if cases is None or len(cases.train) != more * counts[0]:
            cases = _Cases.of(task, (more * counts[0], counts[1]), seconds)
        number = max(1, round(share * planned.steps))
        config = dataclasses.replace(planned, steps=number, evaluate_every=number)
        began = time.perf_counter()
        evaluation = _play(_experiment(task, cases.train, cases.test, cases.arrays, config), config)
        seconds["network"] += time.perf_counter() - began
        scores = [row["mean"] for row in evaluation["metrics"].values()]
        network = float(np.mean(scores))
        asked = bounds.for_cases(cases)
        learned = asked.hold(task.kind, cases.shortcut, network)
        if learned or bounds.given_away(task.kind, cases.shortcut):
            break
    return {
        "task": task.name,
        "phantom": module,
        "kind": task.kind,
        "score": UNITS[task.kind],
        "data": {
            **{name: [*value.shape] for name, value in shapes.items()},
            "training cases": len(cases.train),
            "test cases": counts[1],
            "seed": SEED,
        },
        "predictors": cases.predictors,
        "best predictor": cases.shortcut,
        "network": {
            "score": network,
            "scores": scores,
            "steps": config.steps,
            "batch size": config.batch_size,
            "base": config.base,
        },
        "bounds": dataclasses.asdict(asked),
        "holds": learned,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "versions": evaluation["versions"],
        "fingerprint": code,
    }


@dataclasses.dataclass(frozen=True)
class _Cases:
    """Training and test cases of a task and what the predictors make of them.

    arrays: of the training cases. predictors: scores by name; shortcut: the best predictor's. moved: of masks,
    the Dice of the truth with itself moved by one pixel; 1 of all else.
    """

    train: Source
    test: Source
    arrays: Mapping[str, np.ndarray]
    predictors: Mapping[str, list[float]]
    shortcut: float
    moved: float

    @classmethod
    def of(cls, task: Task, counts: tuple[int, int], seconds: dict[str, float]) -> "_Cases":
        """`counts` cases of each part; to `seconds` those of drawing and of the predictors are added."""
        sources = [
            PhantomSource(f"{task.name}-shortcuts", task.draw, count, SEED, split=split)
            for count, split in zip(counts, ("train", "test"), strict=True)
        ]
        began = time.perf_counter()
        train, test = (_arrays(source) for source in sources)
        drawn = time.perf_counter()
        predictors = getattr(structure_free, f"{task.kind}_scores")(train, test)
        seconds["drawing"] += drawn - began
        seconds["predictors"] += time.perf_counter() - drawn
        better = min if task.kind == "translation" else max
        shortcut = better(float(np.mean(value)) for value in predictors.values())
        moved = structure_free.moved_dice(test["target"]) if task.kind == "segmentation" else 1.0
        return cls(*sources, train, predictors, shortcut, moved)


def _check(task: Task, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    sides = shapes["input"].shape[:-1]
    if len(sides) not in (2, 3) or halvings(sides) < 2:
        raise UserError(f"task {task.name}: 'input' is {shapes['input'].shape}; sides are multiples of 4")
    target = shapes["target"].shape
    if task.kind == "classification" and math.prod(target) != 1:
        raise UserError(f"task {task.name}: 'target' is {target}; a class is one number")
    if task.kind != "classification" and target[:-1] != sides:
        raise UserError(f"task {task.name}: 'target' is {target} and 'input' {shapes['input'].shape}")


def _arrays(source: Source) -> dict[str, np.ndarray]:
    records = [source[index] for index in range(len(source))]
    fields = [name for name, value in records[0].items() if not isinstance(value, str)]
    return {name: np.stack([record[name] for record in records]) for name in fields}


def _play(experiment: Experiment, config: Config) -> dict:
    """Trains and evaluates in a temporary work directory; what `evaluate` gives."""
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(
            workdir=folder, mesh=MeshOptions(data=1), checkpoint_every=config.steps, progress=False
        )
        run.train(lambda _: experiment, config, options)
        require_finished(pathlib.Path(folder))
        return run.evaluate(lambda _: experiment, config, options)


# --- records and the command ---


def record_path(name: str, folder: pathlib.Path = RECORDS) -> pathlib.Path:
    """Where the record of a task is."""
    return folder / f"{name}.json"


def state_of(name: str, module: str, folder: pathlib.Path = RECORDS) -> str:
    """'holds' or 'fails' for a record of the present phantom; 'stale', or 'missing'."""
    path = record_path(name, folder)
    if not path.is_file():
        return "missing"
    record = json.loads(path.read_text())
    if record["fingerprint"] != fingerprint(module, name):
        return "stale"
    return "holds" if record["holds"] else "fails"


def table(records: Iterable[Mapping]) -> str:
    """One line a task: the mean score of every predictor, the network's, the verdict and the seconds."""
    lines = []
    for record in records:
        means = {name: np.mean(value) for name, value in record["predictors"].items()}
        scores = "  ".join(f"{name} {value:.3g}" for name, value in means.items())
        verdict = "holds" if record["holds"] else "FAILS"
        lines.append(
            f"{record['task']:<32} {verdict}  {record['score']:<4} network {record['network']['score']:.3g}"
            f"  {scores}  ({sum(record['seconds'].values()):.0f} s)"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Measures tasks and writes their records; 0 if all hold their bounds, 1 if not, 2 for a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m medgan_jax.shortcuts", description="Shortcut tests of tasks."
    )
    parser.add_argument("task", nargs="*", help="tasks to measure; all without any")
    parser.add_argument("--list", action="store_true", help="list the tasks and the state of their records")
    parser.add_argument("--stale", action="store_true", help="only those whose record is missing or stale")
    parser.add_argument("--output", type=pathlib.Path, default=RECORDS, help="folder of the records")
    parser.add_argument("--steps", type=int, help="steps of the network's training")
    options = parser.parse_args(arguments)
    try:
        return _run(options, say)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    tasks = find_tasks()
    if unknown := [name for name in options.task if name not in tasks]:
        raise UserError(f"no task '{unknown[0]}'; there are {', '.join(tasks) or 'none'}")
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps is {options.steps}; it must be at least 1")
    chosen = {name: tasks[name] for name in options.task or tasks}
    states = {name: state_of(name, module, options.output) for name, (module, _) in chosen.items()}
    if options.list:
        for name, (module, task) in chosen.items():
            say(f"{name:<32} {task.kind:<16} {module.rpartition('.')[2]:<16} {states[name]}")
        return 0
    if options.stale:
        chosen = {name: chosen[name] for name in chosen if states[name] in ("missing", "stale")}
    records = []
    for name, (module, task) in chosen.items():
        records.append(measure(task, module, steps=options.steps))
        _write(record_path(name, options.output), records[-1])
        say(table(records[-1:]))
    return 0 if all(record["holds"] for record in records) else 1


def _write(path: pathlib.Path, record: Mapping) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
