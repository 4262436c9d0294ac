"""DAGAN on real brain slices: who trains, who is tested, and in which values the images come."""

import csv
import os
import pathlib

import jax
import numpy as np
import pytest

from medgan_jax import cli

SLICES = pathlib.Path(os.environ["MEDGAN_JAX_TEST_DATA"]) / "brain_mr_ixi"


@pytest.fixture(autouse=True)
def compile_fast():
    """Without optimisation: two steps are played."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.skipif(not SLICES.is_dir(), reason=f"there are no real brain slices in {SLICES}")
def test_subjects_of_the_test_split_are_only_tested(tmp_path, capsys):
    with (SLICES / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    of_part = {part: {row["subject"] for row in rows if row["split"] == part} for part in ("train", "test")}
    assert not of_part["train"] & of_part["test"]

    workdir = tmp_path / "run"
    options = ["--preset", "tiny", "--config.size", "256", "--config.base", "1", "--config.batch_size", "2"]
    options += ["--config.evaluate_every", "1", "--config.evaluation_cases", "4", "--config.gamma", "0"]
    options += ["--config.steps", "2", "--mesh.data", "1", "--no_progress"]
    assert (
        cli.main(["train", "dagan", "--workdir", str(workdir), *options, "--data.source", str(SLICES)]) == 0
    )
    assert cli.main(["evaluate", "dagan", "--workdir", str(workdir), "--mesh.data", "1"]) == 0
    assert "zero filling" in capsys.readouterr().out

    method = cli.load("dagan")
    config, _ = cli._stored_run(method, cli.RunOptions(workdir=str(workdir)))
    data = method.factory(config).stages[-1].data
    train, validation, test = (set(s.subjects) for s in (data.train.source, data.validation, data.test))
    assert train | validation == of_part["train"]
    assert not train & validation
    assert test == of_part["test"]
    with (workdir / "cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    assert [case["id"] for case in cases] == list(data.test.ids)
    assert {case["subject"] for case in cases} == of_part["test"]
    # A real zero-filled image at 30 % of k-space.
    zero_filled = np.mean([float(case["baseline/psnr"]) for case in cases])
    assert 18 < zero_filled < 35
