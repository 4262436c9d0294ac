"""The process of one part of a benchmark: an entrant's training with one seed, or all that is not trained.

    python -m medgan_jax.review.benchmark.process classical COMMON
    python -m medgan_jax.review.benchmark.process train COMMON --entrant NAME --seed N [--stop STEP] [--test]

with `--tracks MODULE --track NAME --preset PRESET --source SOURCE --place FOLDER` for COMMON.
Each writes `values.json` in its folder. The test cases are looked at only with `--test`, which tuning
trials lack.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan_jax.configuration import RunOptions
from medgan_jax.errors import UserError
from medgan_jax.game import Experiment
from medgan_jax.review.benchmark import cost, identity, shared
from medgan_jax.review.benchmark.track import (
    Entrant,
    Track,
    classical,
    configuration,
    factory,
    find,
    settled,
)
from medgan_jax.training import evaluation
from medgan_jax.training.checkpoints import Checkpoints
from medgan_jax.training.loop import SCHEMA, Executors
from medgan_jax.training.parallel import make_layout
from medgan_jax.training.run import identity as run_identity
from medgan_jax.training.run import train, trained_state, use_compilation_cache
from medgan_jax.training.workdir import open_workdir, read_manifest, write_json

VALUES = "values.json"
LOG_LINES = 20  # of a stage, at most


def tested(experiment: Experiment, measured: evaluation.Measured, calibration: Any, source) -> dict:
    """Metrics over the test cases, and what the headline is made of case by case, where that is numbers."""
    headline = measured.values[experiment.select]
    flat = headline if isinstance(headline, Mapping) else {"value": headline}
    by_case = all(np.ndim(values) == 1 for values in flat.values())
    kept = (
        {name: np.asarray(values, np.float64).tolist() for name, values in flat.items()} if by_case else None
    )
    return {
        "metrics": evaluation.summarise(experiment, measured, calibration),
        "cases": kept,
        "ids": list(source.ids[: measured.cases]),
        "patients": list(source.subjects[: measured.cases]),
        "data": {"source": source.name, "fingerprint": source.fingerprint, "n": measured.cases},
    }


def calibrates(experiment: Experiment) -> bool:
    """Whether a metric takes a threshold from validation cases."""
    return experiment.stages[-1].data.validation is not None and any(
        each.calibrate for each in experiment.metrics
    )


def without_training(track: Track, preset: str, source: str, seed: int) -> dict:
    """Values of every classical method on the host's test cases; the reason for one that cannot be had."""
    use_compilation_cache()
    experiment = classical(track, preset, source)
    data, methods = experiment.stages[-1].data, {}
    options = RunOptions(seed=seed)
    evaluator = evaluation.Evaluator(experiment, make_layout(options))
    for method in experiment.others:
        try:
            fitted = evaluator.fit(method)
            measured = evaluator.other(method, data.test, fitted)
            calibration = evaluator.other(method, data.validation, fitted) if calibrates(experiment) else None
            methods[method.name] = tested(experiment, measured, calibration, data.test)
        except Exception as error:
            if not isinstance(error, UserError) and "UserError" not in str(error):
                raise
            methods[method.name] = {"reason": str(error).strip().splitlines()[-1]}
    return {"methods": methods, "identity": identity.prove(track, track.host, preset, source)}


def too_early(steps: Sequence[int], stop: int) -> str | None:
    """Why a training whose stages have so many `steps` is worth nothing at step `stop`; None if it is."""
    before = sum(steps[:-1])
    return None if stop > before else f"its last stage begins after step {before}, and time was up at step {stop}"


def training(track: Track, entrant: Entrant, options: argparse.Namespace) -> dict:
    """Trains an entrant after the proof that its task is the track's; its validation value, and its test
    values.
    """
    preset, source, place = options.preset, options.source, pathlib.Path(options.place)
    proof = identity.prove(track, entrant, preset, source)
    config = configuration(track, entrant, preset, source, options.factor)
    config = settled(track, entrant, preset, source, config)
    make = factory(track, entrant, preset, source)
    experiment = make(config)
    steps = [stage.steps for stage in experiment.stages]
    if options.stop is not None and (why := too_early(steps, options.stop)):
        raise UserError(why)
    run = RunOptions(
        workdir=str(place),
        seed=options.seed,
        steps=options.stop,
        log_every=max(1, min(20, min(steps) // LOG_LINES)),
        progress=False,
    )
    train(make, config, run)
    end = sum(steps) if options.stop is None else min(options.stop, sum(steps))
    last = _checkpoint(place)
    if last["step"] < end:
        raise UserError(f"the training in {place} was stopped at step {last['step']} of {end}")
    log = place / "metrics.jsonl"
    values = {
        "seed": options.seed,
        "factor": options.factor,
        "steps": steps,
        "stop": options.stop,
        "updates": cost.updates(experiment, options.stop),
        "parameters": cost.parameters(experiment),
        "seconds_of_steps": cost.seconds_of_steps(log, steps, config.batch_size),
        "wall_seconds": last["seconds"],
        "validation": {
            "metric": experiment.select,
            "higher_is_better": experiment.metric(experiment.select).higher_is_better,
            "value": last["best"]["value"],
            "step": last["best"]["step"],
        },
        "identity": proof,
        "device": read_manifest(place)["device"],
    }
    return values | {"test": _test(experiment, config, run)} if options.test else values


def _checkpoint(place: pathlib.Path) -> Mapping[str, Any]:
    checkpoints = Checkpoints(place / "checkpoints", schema=SCHEMA, warn=lambda line: None)
    try:
        return checkpoints.metadata("last")
    finally:
        checkpoints.close()


def _test(experiment: Experiment, config: Any, run: RunOptions) -> dict:
    place, data = pathlib.Path(run.workdir), experiment.stages[-1].data
    executors = Executors(experiment, make_layout(run), run, 1)
    known = {
        "experiment": experiment.id,
        "configuration": run_identity(config, run.seed, run),
        "create": False,
    }
    with open_workdir(place, **known):
        state, metadata = trained_state(experiment, executors, place, run.seed)
        measured = executors.evaluator.method(state, data.test)
        calibration = executors.evaluator.method(state, data.validation) if calibrates(experiment) else None
    return tested(experiment, measured, calibration, data.test) | {"step": metadata["step"]}


def main(arguments: list[str] | None = None) -> int:
    """Runs one part and writes its values; 0 if it worked, 2 after a mistake, which is one line."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("part", choices=("classical", "train"))
    for option in ("--tracks", "--track", "--preset", "--source", "--place"):
        parser.add_argument(option, required=True)
    parser.add_argument(
        "--share", action="store_true", help="write the track's common data to the source first"
    )
    parser.add_argument("--entrant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--stop", type=int)
    parser.add_argument("--test", action="store_true")
    options = parser.parse_args(arguments)
    try:
        track = find(options.tracks, options.track)
        if options.share:
            shared.write(track, options.preset, pathlib.Path(options.source))
        if options.part == "classical":
            values = without_training(track, options.preset, options.source, options.seed)
        else:
            values = training(track, track.entrant(options.entrant), options)
    except UserError as error:
        print(" ".join(str(error).splitlines()))
        return 2
    write_json(pathlib.Path(options.place) / VALUES, values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
