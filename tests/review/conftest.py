"""A site of all rows: the game of a toy, one of a real experiment, hostile texts, records made here."""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from medgan_jax.review import catalogue, describe, records, result_rows
from medgan_jax.review.benchmark import results as benchmark_results
from medgan_jax.review.benchmark import schedule
from medgan_jax.review.benchmark.track import Entrant, Track
from medgan_jax.review.site import build, dataflow, measurements, studies, subjects

TESTS = pathlib.Path(__file__).parents[1]
HOSTILE = "<script>alert('x')</script> & \"quoted\" <b>"
TOY, HOSTILE_ROW, REAL = "dagan", "pix2pix", "wgan_gp"


@pytest.fixture(scope="session")
def toy():
    """The toy experiment's module."""
    sys.path.insert(0, str(TESTS))
    try:
        return importlib.import_module("toy_experiments.denoiser")
    finally:
        sys.path.remove(str(TESTS))


@pytest.fixture(scope="session")
def toy_stage(toy):
    """Its only stage."""
    return toy.experiment(toy.Config.tiny()).stages[0]


@pytest.fixture(scope="session")
def toy_game(toy, toy_stage):
    """Its game, as the site draws it."""
    experiment = toy.experiment(toy.Config.tiny())
    facts = describe.facts(experiment, toy, catalogue.find(TOY), preset="tiny")
    return subjects.Game(facts, toy.__doc__, {0: dataflow.turns(toy_stage)})


def result(seed, metrics):
    """What a run says of itself, as `runs.play` stores it."""
    rows = {
        name: {"unit": "dB", "higher_is_better": True, "mean": mean, "sd": 0.5, "n": 7}
        for name, mean in metrics.items()
    }
    lower = {name: {**row, "mean": row["mean"] / 3} for name, row in rows.items()}
    return {
        "metrics": rows,
        "baseline": lower,
        "baseline_name": HOSTILE,
        "others": {"wavelets": lower},
        "twin": {"metrics": lower},
        "data": {"source": HOSTILE, "fingerprint": "f" * 64, "n": 7},
        "preset": "tiny",
        "seed": seed,
        "step": 1234,
        "train_seconds": 5.25,
        "hardware": {"platform": "cpu", "kind": "cpu", "count": 1},
        "health": {"diversity": 0.125, "least_gradient": None, "non_finite": 0},
        "command": "python -m x",
        "code": "0123456789ab",
    }


def trained(entrant, level, seconds, seeds=(0, 1)):
    """An entrant of a benchmark whose cases have values about `level`."""

    def values(seed):
        cases = (level + np.random.default_rng(seed).normal(size=12)).tolist()
        psnr = {"mean": float(np.mean(cases)), "sd": 1.0, "n": 12, "unit": "dB", "higher_is_better": True}
        test = {"metrics": {"psnr": psnr}, "cases": {"value": cases}, "patients": [str(n // 2) for n in range(12)],
                "data": {"source": HOSTILE, "fingerprint": "f" * 64, "n": 12}}  # fmt: skip
        return {"test": test, "steps": [100], "stop": None, "updates": 100, "wall_seconds": 1.5,
                "parameters": {"generator": 12345, "all": 23456}, "seconds_of_steps": [seconds / 100],
                "device": {"platform": "cpu", "kind": "cpu", "count": 1},
                "identity": {"cases": {"a": "0"}, "largest_difference": 1e-6, "tolerance": 1e-4}}  # fmt: skip

    runs = {seed: values(seed) for seed in seeds}
    health = {seed: {"diversity": 0.25, "least_gradient": 0.5, "non_finite": 0} for seed in seeds}
    return schedule.Trained(entrant, {1.0: 30.5, 0.3: None}, 1.0, runs, runs, {}, {}, health)


def benchmark():
    """Results of a benchmark with a trained method, a plain network that failed once, and classical methods."""
    method, plain = Entrant("toy method", "method", TOY), Entrant(HOSTILE, "plain", build=lambda *of: None)
    track = Track(__name__, "toys", "reconstruction", HOSTILE, "From a toy, a toy.", (method, plain), tuple,
                  note=HOSTILE)  # fmt: skip
    first, second = trained(method, 30.0, 2.0), trained(plain, 25.0, 1.0, seeds=(0,))
    second = dataclasses.replace(second, failures={1: HOSTILE})
    untrained = {"low dose": trained(plain, 20.0, 1.0).updates[0]["test"], "demons": {"reason": HOSTILE}}
    played = schedule.Played(track, (first, second), untrained, None, first.updates[0]["identity"], 1.0)
    request = schedule.Request("tiny", (0, 1), pathlib.Path(), trials=2)
    return benchmark_results.content("reconstruction", [played], request, 100)


def audit():
    """What an audit says, with values and with reasons."""
    answers = {name: {"undefined": HOSTILE} for name in ("intensity", "consistency", "lesions", "attribution")}
    answers["uncertainty"] = {"over": "seeds", "samples": 3, "correlation": 0.123456}
    return {"experiment": TOY, "data": HOSTILE, "cases": 8, "twin": True, "ensemble": 3, "answers": answers}


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A work directory of `reproduce` with a table, a benchmark, an audit, and a picture of one run."""
    folder = tmp_path_factory.mktemp("results")
    one = {seed: result(seed, {"psnr": 30.123456 + seed, "ssim": 0.87654321}) for seed in (0, 1)}
    rows = [
        result_rows.row(catalogue.find(TOY), one, {}),
        result_rows.row(catalogue.find("refinegan"), {0: None}, {0: HOSTILE}),
        result_rows.row(catalogue.find("deep_dealiasing"), {}, {}),
    ]
    (folder / "tables").mkdir()
    (folder / "tables" / "table12.json").write_text(
        json.dumps(result_rows.plain(rows, "Table 12", name="table12"))
    )
    run = folder / "tiny" / TOY / "0123456789ab" / "seed_1"
    run.mkdir(parents=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(run / "comparison.png")
    (run / "audit.json").write_text(json.dumps(audit()))
    (folder / "tables" / "benchmark_reconstruction.json").write_text(json.dumps(benchmark()))
    return folder


@pytest.fixture(scope="session")
def all_subjects(results, toy_game):
    """Every row; all but three games are left out, one of them with a hostile reason."""
    entries = [
        dataclasses.replace(each, review_name=HOSTILE, inconsistencies=(HOSTILE,))
        if each.id == "refinegan"
        else each
        for each in catalogue.entries()
    ]

    def play(entry, preset):
        if entry.id == TOY:
            return toy_game
        if entry.id == REAL:
            return subjects.game(entry, preset)
        raise RuntimeError(HOSTILE if entry.id == HOSTILE_ROW else "left out of this test")

    measured = measurements.by_experiment(measurements.all_measurements([results], records.RECORDS))
    return subjects.gather(entries, measured, preset="tiny", play=play, say=lambda line: None)


@pytest.fixture(scope="session")
def site(all_subjects, results, tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site") / "review"
    build.write(folder, all_subjects, studies.benchmarks([results]), studies.audits([results]))
    return folder
