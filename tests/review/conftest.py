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
from medgan_jax.review.site import build, dataflow, measurements, subjects

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


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A work directory of `reproduce` with a table, and a picture of one run."""
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
def site(all_subjects, tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site") / "review"
    build.write(folder, all_subjects)
    return folder
