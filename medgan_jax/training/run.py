"""Train, evaluate and predict: what the command line and notebooks call."""

import contextlib
import csv
import dataclasses
import functools
import json
import operator
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from medgan_jax.configuration import RunOptions, as_dict
from medgan_jax.data.formats import check_image, read_image, write_image
from medgan_jax.errors import DamagedCheckpointError, UserError
from medgan_jax.game import Experiment, TrainState, inference_networks
from medgan_jax.review import catalogue
from medgan_jax.training import evaluation, writers
from medgan_jax.training.checkpoints import Checkpoints, export_weights
from medgan_jax.training.loop import SCHEMA, Executors, TrainingRun, data_seed
from medgan_jax.training.parallel import Layout, lanes_for, make_layout, start_processes
from medgan_jax.training.step import INFER, last_batch, run_key
from medgan_jax.training.summary import print_summary
from medgan_jax.training.workdir import open_workdir, read_manifest, write_json

Factory = Callable[[Any], Experiment]


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in the user's cache folder unless JAX was told of another."""
    if jax.config.jax_compilation_cache_dir is None:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        with contextlib.suppress(OSError):
            folder = home / "medgan_jax" / "compiled"
            folder.mkdir(parents=True, exist_ok=True)
            jax.config.update("jax_compilation_cache_dir", str(folder))


def lane_directories(options: RunOptions) -> dict[int, pathlib.Path]:
    """Directory of each seed: the work directory itself for one seed, `seed_N` inside it for several."""
    root = pathlib.Path(options.workdir)
    seeds = range(options.seed, options.seed + options.seeds)
    return {seed: root if options.seeds == 1 else root / f"seed_{seed}" for seed in seeds}


def identity(config: Any, seed: int, options: RunOptions) -> dict:
    """What makes a run this run and no other."""
    return {"config": as_dict(config), "seed": seed, "precision": options.precision}


def data_fingerprint(experiment: Experiment) -> str:
    """Fingerprints of all sources of all stages, joined."""
    parts = []
    for stage in experiment.stages:
        parts += [f"{name}={source.fingerprint[:16]}" for name, source in sources(stage.data).items()]
    return ",".join(dict.fromkeys(parts))


def sources(data) -> dict[str, Any]:
    """The sources of a stage's data by name."""
    streams = data.train if isinstance(data.train, dict) else {"train": data.train}
    found = {name: stream.source for name, stream in streams.items()}
    return found | {
        name: source for name in ("validation", "test") if (source := getattr(data, name)) is not None
    }


def train(factory: Factory, config: Any, options: RunOptions) -> None:
    """Trains the experiment of `config`, from its newest checkpoint if the work directory holds one.

    Raises UserError for anything that a user can mend; see the command line's documentation.
    """
    start_processes(options)
    use_compilation_cache()
    experiment = factory(config)
    layout = make_layout(options)
    # A seed that stops early must not go on because others do.
    lanes = 1 if experiment.early_stopping else lanes_for(options, layout)
    directories = lane_directories(options)
    groups = [list(directories)] if lanes > 1 else [[seed] for seed in directories]
    executors = Executors(experiment, layout, options, lanes)
    if options.progress and jax.process_index() == 0:
        print_summary(experiment, layout, options)
    fingerprint = data_fingerprint(experiment)
    for group in groups:
        with contextlib.ExitStack() as stack:
            for seed in group:
                workdir = open_workdir(
                    directories[seed],
                    experiment=experiment.id,
                    configuration=identity(config, seed, options),
                    fingerprint=fingerprint,
                )
                stack.enter_context(workdir)
            run = TrainingRun(executors, options, group, [directories[seed] for seed in group])
            run.run()
            if options.export and jax.process_index() == 0:
                export(run, options, directories)


def export(run: TrainingRun, options: RunOptions, directories: dict[int, pathlib.Path]) -> None:
    """Writes the weights of each lane; with several seeds the seed is part of the file's name."""
    for lane, state in zip(run.lanes, run.canonical(), strict=True):
        path = pathlib.Path(options.export)
        if len(directories) > 1:
            path = path.with_name(f"{path.stem}_seed_{lane.seed}{path.suffix}")
        checksum = export_weights(path, {"params": state.params, "variables": state.variables})
        run.say(f"wrote weights to {path} (sha256 {checksum[:16]})")


def trained_state(
    experiment: Experiment, executors: Executors, directory: pathlib.Path, seed: int
) -> tuple[TrainState, dict]:
    """The best state of a run, or its last where none was chosen, and the metadata of its checkpoint."""
    last = len(experiment.stages) - 1
    checkpoints = Checkpoints(directory / "checkpoints", schema=SCHEMA, warn=writers.say)
    with contextlib.closing(checkpoints):
        for kind in ("best", "last"):
            try:
                metadata = checkpoints.metadata(kind)
                if metadata is not None and metadata["stage"] == last:
                    template = executors.stage(last).template(first_batch(experiment.stages[last], seed))
                    return checkpoints.restore(template, kind=kind)
            except DamagedCheckpointError as error:
                # The checkpoints of the other kind may be whole.
                if kind == "last":
                    raise
                writers.say(f"{error}; the last state is taken")
    raise UserError(
        f"{directory} holds no state of the last stage yet; train it first: "
        f"python -m medgan_jax train {experiment.id} --workdir {directory}"
    )


def first_batch(stage, seed: int):
    """The first training batch of a stage."""
    from medgan_jax.data.pipeline import train_batches

    return next(train_batches(stage.data, seed=data_seed(seed, stage.name), repeats=stage.repeats, threads=0))


def evaluate(factory: Factory, config: Any, options: RunOptions, *, alone: bool = False) -> dict:
    """Measures a trained run on the test cases, writes `evaluation.json`, `cases.csv` and `comparison.png`.

    The trivial baseline and the classical methods are measured beside the method, unless it is `alone`, and the
    twin's values are added if it was trained in `workdir/twin`. With several seeds each is measured, and the work
    directory gets mean and SD over seeds.
    """
    start_processes(options)
    use_compilation_cache()
    experiment = factory(config)
    if alone:
        experiment = dataclasses.replace(experiment, baseline=None, others=())
    single = dataclasses.replace(options, seeds=1, parallel="jit")
    executors = Executors(experiment, make_layout(single), single, 1)
    fitted = None
    records = []
    for seed, directory in lane_directories(options).items():
        with open_workdir(
            directory, experiment=experiment.id, configuration=identity(config, seed, options), create=False
        ):
            if fitted is None:
                evaluator = executors.evaluator
                fitted = {method.name: evaluator.fit(method) for method in evaluator.compared}
            records.append(evaluate_seed(experiment, executors, directory, seed, fitted))
    if len(records) == 1:
        return records[0]
    record = over_seeds(records)
    if jax.process_index() == 0:
        write_json(pathlib.Path(options.workdir) / "evaluation.json", record)
    return record


def evaluate_seed(experiment: Experiment, executors: Executors, directory: pathlib.Path, seed: int, fitted) -> dict:
    """`evaluation.json` of one seed, as a dict; the files are written by process 0."""
    data = experiment.stages[-1].data
    source = data.test
    if source is None or not experiment.metrics:
        raise UserError(f"{experiment.id} has no test cases or no metrics to evaluate")
    state, metadata = trained_state(experiment, executors, directory, seed)
    evaluator = executors.evaluator
    measured = evaluator.method(state, source)
    calibrates = data.validation is not None and any(metric.calibrate for metric in experiment.metrics)
    calibration = evaluator.method(state, data.validation) if calibrates else None
    compared, tables = {}, {}
    for method in evaluator.compared:
        measure = functools.partial(evaluator.other, method, fitted=fitted[method.name], state=state)
        other = compared[method.name] = measure(source)
        on_validation = measure(data.validation) if calibrates else None
        tables[method.name] = evaluation.summarise(experiment, other, on_validation)
    baseline_name = None if experiment.baseline is None else experiment.baseline.name
    record = {
        "experiment": experiment.id,
        "step": metadata["step"],
        "seed": seed,
        "train_seconds": metadata["seconds"],
        "data": {"source": source.name, "fingerprint": source.fingerprint, "n": measured.cases},
        "metrics": evaluation.summarise(experiment, measured, calibration),
        "baseline": tables.get(baseline_name),
        "baseline_name": baseline_name,
        "others": {name: table for name, table in tables.items() if name != baseline_name},
        "twin": twin_values(directory),
        "paper": paper_values(experiment.id),
        "notes": dict(experiment.notes),
        "versions": read_manifest(directory).get("versions", {}),
    }
    if jax.process_index() == 0:
        write_json(directory / "evaluation.json", record)
        headings = {"baseline" if name == baseline_name else name: other for name, other in compared.items()}
        evaluation.write_cases(directory / "cases.csv", source, measured, headings)
        if measured.images:
            writers.write_grid(
                directory / "comparison.png",
                measured.images,
                value_range=experiment.value_range,
                ranges=experiment.image_ranges,
            )
    return record


def twin_values(directory: pathlib.Path) -> dict | None:
    """Metrics of the non-adversarial twin, if it was trained and evaluated in the folder `twin`."""
    path = directory / "twin" / "evaluation.json"
    if not path.is_file():
        return None
    twin = json.loads(path.read_text())
    return {"metrics": twin["metrics"], "step": twin["step"]}


def paper_values(identifier: str) -> dict:
    """What the review reports for this method, by metric; its data differ from those measured here."""
    try:
        entry = catalogue.find(identifier)
    except UserError:
        return {}
    values: dict[str, list] = {}
    for value in getattr(entry, "reported", ()):
        values.setdefault(value.metric, []).append(dataclasses.asdict(value))
    return values


def over_seeds(records: Sequence[dict]) -> dict:
    """Mean and SD over seeds of each metric's mean."""
    first = records[0]

    def summary(read: Callable[[dict], dict | None]):
        if read(first) is None:
            return None
        table = {}
        for name, row in read(first).items():
            means = np.array([read(record)[name]["mean"] for record in records], np.float64)
            table[name] = {
                **row,
                "mean": writers.to_json_number(np.nanmean(means)),
                "sd": writers.to_json_number(np.nanstd(means, ddof=1)),
                "n": int(np.isfinite(means).sum()),
                "over": "seeds",
            }
        return table

    seeds = [record["seed"] for record in records]
    others = {name: summary(lambda record, name=name: record["others"][name]) for name in first["others"]}
    own = {part: summary(operator.itemgetter(part)) for part in ("metrics", "baseline")}
    return {**first, "seed": seeds, **own, "others": others}


def predict(factory: Factory, config: Any, options: RunOptions, input: Any, output: Any) -> list[pathlib.Path]:
    """Applies a trained run to a user's images and writes the results in the same format, geometry and units.

    input: a file, a folder of images, or a DICOM series. output: a folder, which is made. Returns what was written.
    """
    start_processes(options)
    use_compilation_cache()
    experiment = factory(config)
    if experiment.prediction is None:
        raise UserError(f"{experiment.id} generates images from noise: it has no input image to predict from")
    output = pathlib.Path(output)
    files = input_files(pathlib.Path(input))
    single = dataclasses.replace(options, seeds=1, parallel="jit")
    directory = lane_directories(single)[options.seed]
    executors = Executors(experiment, make_layout(single), single, 1)
    with open_workdir(
        directory, experiment=experiment.id, configuration=identity(config, options.seed, options), create=False
    ):
        state, _ = trained_state(experiment, executors, directory, options.seed)
    predictor = Predictor(experiment, executors.layout, state)
    images = [(path, read_image(path)) for path in files]
    channels = input_channels(experiment, options.seed)
    for path, image in images:
        if image.array.shape[-1] != channels:
            raise UserError(
                f"{path} has {image.array.shape[-1]} channels, and the run was trained on images of {channels}; "
                "convert it"
            )
        predictor.check(path, image.array)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made: {error.strerror}") from error
    written = []
    for path, image in images:
        result = predictor(image.array)
        target = output / path.name
        if target.resolve() == path.resolve():
            raise UserError(f"--output {output} would overwrite the input {path}; name another folder")
        write_image(target, image, result)
        written.append(target)
    if predictor.scores:
        write_scores(output / "scores.csv", files, predictor.scores)
        written.append(output / "scores.csv")
    return written


def input_channels(experiment: Experiment, seed: int) -> int:
    """Channels of the images that the networks were trained on."""
    stage = experiment.stages[-1]
    batch = last_batch(stage, first_batch(stage, seed))
    prepared = jax.eval_shape(stage.prepare, batch, jax.random.key(0))
    return prepared[experiment.prediction.input].shape[-1]


def input_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The images that `path` means, checked: itself, a DICOM series, or the files of a folder."""
    if not path.exists():
        raise UserError(f"--input {path} does not exist")
    is_series = path.is_dir() and any(path.glob("*.dcm"))
    files = [path] if path.is_file() or is_series else sorted(p for p in path.iterdir() if not p.name.startswith("."))
    if not files:
        raise UserError(f"--input {path} is empty")
    for file in files:
        check_image(file)
    return files


class Predictor:
    """Trained networks as a function from an image array in the file's units to one in the same units."""

    def __init__(self, experiment: Experiment, layout: Layout, state: TrainState):
        self.experiment, self.layout = experiment, layout
        self.stage = experiment.stages[-1]
        self.state = state.replace(optimizers={}, memory=())
        self.frozen = layout.replicate(self.stage.frozen_variables)
        self._infer = jax.jit(self._outputs)
        self.scores: list[dict[str, float]] = []

    def _outputs(self, state, frozen, image, key):
        nets = inference_networks(self.stage, state, frozen, key)
        return self.experiment.infer(nets, {self.experiment.prediction.input: image}, key)

    def _by_slices(self, array: np.ndarray) -> bool:
        return array.ndim == 4 and self.experiment.prediction.rank == 2

    def check(self, path: pathlib.Path, array: np.ndarray) -> None:
        """UserError, with the file's name, if the networks cannot take an array of this shape."""
        shape = (min(len(array), 8), *array.shape[1:]) if self._by_slices(array) else (1, *array.shape)
        image = jax.ShapeDtypeStruct(shape, np.float32)
        try:
            self._infer.eval_shape(self.state, self.frozen, image, run_key(0, INFER))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def __call__(self, array: np.ndarray) -> np.ndarray:
        prediction = self.experiment.prediction
        intensity = prediction.intensity(array)
        image = np.asarray(intensity.forward(np.asarray(array, np.float32)), np.float32)
        volume_by_slices = self._by_slices(image)
        batch = image if volume_by_slices else image[None]
        outputs = []
        for start in range(0, len(batch), 8):
            part = batch[start : start + 8]
            outputs.append(jax.device_get(self._infer(self.state, self.frozen, part, run_key(0, INFER))))
        joined = {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
        scores = {name: float(value.mean()) for name, value in joined.items() if value.ndim == 1}
        if scores:
            self.scores.append(scores)
        result = joined[prediction.output]
        result = result if volume_by_slices else result[0]
        back = prediction.output_intensity or intensity
        return np.asarray(back.inverse(result) if prediction.restore_units else result)


def write_scores(path: pathlib.Path, files: Sequence[pathlib.Path], scores: Sequence[dict]) -> None:
    """A CSV of the numbers that inference gives for each image, such as an anomaly score."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *scores[0]])
        writer.writerows([name.name, *values.values()] for name, values in zip(files, scores, strict=True))
