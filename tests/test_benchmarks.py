"""The benchmark of training steps: equal games on both sides, honest statistics, a command that runs."""

import argparse
import functools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.benchmarks import data_speed, published
from tests.benchmarks.training_steps import games, jax_side, ours, table

ROOT = pathlib.Path(__file__).resolve().parents[1]
KINDS = {game.kind: game for game in reversed(games.GAMES) if not game.inference}


@pytest.mark.parametrize("game", KINDS.values(), ids=list(KINDS))
def test_equal_weights_give_equal_outputs(game, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is the other side")
    from tests.benchmarks.training_steps import torch_side

    options = argparse.Namespace(game=game.name, tiny=True, threads=1, precision="float32",
                                 layout="channels_last")
    theirs = torch_side.TorchSide(options)
    theirs.make()
    networks, probes = ours.STAGES[game.kind](theirs.sizes).networks, games.probes(game.kind, theirs.batch)

    # Weights without a compiler, and biases that are not zero.
    generator = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: generator.normal(0.2, 0.2, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(lambda: {name: network.init(jax.random.key(0), probes[name], train=False)
                                for name, network in networks.items()}))
    forward = jax.jit(functools.partial(jax_side.outputs, networks),
                      compiler_options={"xla_backend_optimization_level": 0})
    path = str(tmp_path / "check.npz")
    jax_side.store(path, variables, forward(variables, probes))
    differences = theirs.check(path)["differences"]
    assert differences.keys() == networks.keys()
    assert max(differences.values()) < 1e-5


def test_a_ratio_stands_in_its_interval_and_pairs_remove_what_both_suffer():
    burden = np.linspace(1, 3, 9)
    together = table.ratio(burden, 2 * burden)
    assert together["low"] == pytest.approx(2) and together["high"] == pytest.approx(2)
    noisy = table.ratio([1, 2, 3, 4], [4, 3, 2, 1])
    assert noisy["low"] < noisy["value"] == 1 < noisy["high"]
    assert table.geometric_mean([0.5, 2.0]) == pytest.approx(1)


def test_the_table_keeps_its_place_in_a_document():
    begin, end = "<!-- steps: begin -->", "<!-- steps: end -->"
    assert table.with_table(f"a\n{begin}\nold\n{end}\nb", "new") == f"a\n{begin}\nnew\n{end}\nb"
    with pytest.raises(SystemExit, match="lacks the marks"):
        table.with_table("a", "new")


def test_the_command_measures_both_sides(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is the other side")
    command = [sys.executable, "-m", "tests.benchmarks.training_steps", "--tiny"]
    command += ["--games", "unet_inference", "--layouts", "contiguous", "--repeats", "2", "--seconds", "0"]
    command += ["--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    stored = json.loads((tmp_path / "steps.json").read_text())
    row, = stored["rows"]
    assert len(row["ours"]["seconds"]) == len(row["theirs"]["seconds"]) == 2
    assert row["ours"]["parameters"]["G"] == row["theirs"]["parameters"]["G"]
    assert row["gflop"] > 0 < min(found["gflops"] for found in row["matrix"].values())
    assert len(row["direct"]["seconds"]) == 2 and row["plain"]["compile"] > 0 < row["direct"]["mebibytes"]
    assert row["theirs"]["medians"].keys() == {"contiguous"}
    assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
    last = (tmp_path / "steps.md").read_text().splitlines()[-1]
    assert "geometric mean" in last and last in done.stdout
    # The same table again, from what was stored.
    stored = [*command[:3], "--stored", "--output", str(tmp_path)]
    again = subprocess.run(stored, cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert last in again.stdout and "jax" in again.stdout.splitlines()[-1], again.stderr[-2000:]


def test_prepared_images_were_read_fast_and_training_did_not_wait_for_them():
    record = json.loads((published.RECORDS / f"{data_speed.NAME}.json").read_text())
    rates = record["slices_per_second_per_core"]
    assert rates.keys() == data_speed.READ.keys() and all(rate["repeats"] >= 3 for rate in rates.values())
    assert min(rates[what]["median"] for what in (data_speed.ALONE, data_speed.IMAGES)) >= 2000
    assert record["training"]["waiting_for_data"] < 0.02
    assert record["rows"] == data_speed.table_rows(record)
    assert published.table(record) in (ROOT / "README.md").read_text()
