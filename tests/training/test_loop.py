"""Runs of toy games in this process: resuming, stages, seeds, stopping early, and what goes wrong."""

import dataclasses
import json
import os
import signal

import games
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.errors import UserError
from medgan_jax.game import StateError, Terms
from medgan_jax.training import checkpoints, loop, run, writers
from medgan_jax.training.workdir import open_workdir

ONE_DEVICE = MeshOptions(data=1)


def train(folder, config, factory=games.experiment, **options):
    settings = {"checkpoint_every": 3, "log_every": 2, "progress": False, "mesh": ONE_DEVICE, **options}
    run.train(factory, config, RunOptions(workdir=str(folder), **settings))
    return games.saved(folder)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


GROWING = games.Config(game="growing", steps=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of two stages: its folder and all arrays of its last state."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, GROWING)


def test_the_same_run_twice_is_the_same_to_the_bit(whole, tmp_path):
    assert_same(train(tmp_path, GROWING), whole[1])


def test_steps_stop_a_run_that_goes_on_in_either_stage(whole, tmp_path, capfd):
    for stop in (2, 4, 5):
        train(tmp_path, GROWING, steps=stop)
        assert games.metadata(tmp_path)["step"] == stop
        assert not games.metadata(tmp_path)["finished"]
    assert_same(train(tmp_path, GROWING, progress=True), whole[1])
    said = capfd.readouterr().err
    assert "resuming at step 5" in said
    assert "SIGTERM" not in said
    assert steps_logged(tmp_path) == sorted(steps_logged(tmp_path))
    finished = games.metadata(tmp_path)
    train(tmp_path, GROWING, steps=3)
    assert games.metadata(tmp_path) == finished


def steps_logged(folder):
    return [line["step"] for line in games.lines(folder) if "critic/loss" in line]


def test_what_a_run_leaves(whole):
    folder, arrays = whole
    assert {"params/G/second/kernel", "ema/G/params/second/kernel", "memory/pool/images"} <= arrays.keys()
    assert not [name for name in arrays if "/F/" in name]
    assert arrays["step"] == 4 and arrays["global_step"] == 8
    assert steps_logged(folder) == [2, 3, 4, 6, 8]
    line = next(line for line in games.lines(folder) if line["step"] == 6)
    assert {
        "critic/difference",
        "critic/gradient_norm",
        "critic/update_ratio",
        "generator/played",
    } <= line.keys()
    assert line["speed/images_per_second"] > 0
    validation = [line for line in games.lines(folder) if "validation/MSE" in line]
    assert [line["step"] for line in validation] == [8]
    assert 0 < validation[0]["health/diversity"] < 10
    assert (folder / "samples" / "step_00000008.png").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["configuration"]["config"]["game"] == "growing"
    assert manifest["versions"]["jax"] == jax.__version__
    assert "train=" in manifest["fingerprint"]


def test_evaluation_measures_the_best_state_beside_the_baseline(whole):
    folder, _ = whole
    options = RunOptions(workdir=str(folder), mesh=ONE_DEVICE, progress=False)
    record = run.evaluate(games.experiment, GROWING, options)
    assert record == json.loads((folder / "evaluation.json").read_text())
    assert record["step"] == 8 and record["data"]["n"] == 10
    clean = games.data(GROWING).test
    assert record["metrics"]["MSE"]["n"] == record["baseline"]["MSE"]["n"] == len(clean)
    assert 0.05 < record["baseline"]["MSE"]["mean"] < 0.15  # noise of 0.3
    table = (folder / "cases.csv").read_text().splitlines()
    assert table[0] == "id,subject,MSE,baseline/MSE" and len(table) == 11
    assert (folder / "comparison.png").exists()


def test_seeds_one_after_another_equal_single_runs(tmp_path):
    config = games.Config(steps=4)
    train(tmp_path / "both", config, seed=3, seeds=2)
    for seed in (3, 4):
        alone = train(tmp_path / f"{seed}", config, seed=seed)
        assert_same(games.saved(tmp_path / "both" / f"seed_{seed}"), alone)
    record = run.evaluate(
        games.experiment, config, RunOptions(workdir=str(tmp_path / "both"), seed=3, seeds=2, mesh=ONE_DEVICE)
    )
    parts = [
        json.loads((tmp_path / "both" / f"seed_{seed}" / "evaluation.json").read_text()) for seed in (3, 4)
    ]
    means = [part["metrics"]["MSE"]["mean"] for part in parts]
    assert record["metrics"]["MSE"]["mean"] == pytest.approx(np.mean(means))
    assert record["metrics"]["MSE"]["sd"] == pytest.approx(np.std(means, ddof=1))
    assert record["seed"] == [3, 4]


def test_seeds_side_by_side_resume(tmp_path):
    config = games.Config(game="plain", steps=4)
    mesh = MeshOptions(data=2)
    train(tmp_path / "whole", config, seeds=2, mesh=mesh)
    train(tmp_path / "parts", config, seeds=2, mesh=mesh, steps=3)
    # As if the process was killed between the saves of two seeds.
    newest = tmp_path / "parts" / "seed_1" / "checkpoints" / "00000003"
    newest.rename(newest.with_name("00000003.removed"))
    train(tmp_path / "parts", config, seeds=2, mesh=mesh)
    for seed in ("seed_0", "seed_1"):
        assert_same(games.saved(tmp_path / "parts" / seed), games.saved(tmp_path / "whole" / seed))


def test_a_run_moves_between_layouts(tmp_path):
    config = games.Config(game="plain", steps=6)
    expected = train(tmp_path / "one", config)
    folder = tmp_path / "moving"
    train(folder, config, steps=2, mesh=MeshOptions(data=8))
    train(folder, config, steps=4, mesh=MeshOptions(data=8), parallel="pmap")
    moved = train(folder, config)
    for name in expected:
        np.testing.assert_allclose(moved[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


# -- stopping ----------------------------------------------------------------------------------------------


def stopping_early(config):
    """A game whose validation value gets better until step 3 and worse from then on."""
    experiment = games.experiment(config)

    def measure(outputs, batch):
        return jnp.abs(outputs["count"] - 3.0)

    metric = dataclasses.replace(experiment.metrics[0], per_case=measure)

    def infer(nets, batch, key):
        count = nets.G.params["head"]["bias"].sum() * jnp.ones(len(batch["clean"]))
        return {"output": nets.G.eval(batch["noisy"]), "count": count}

    def counts(nets, batch, context):
        output, nets = nets.G.update(batch["noisy"])
        return 0 * output.mean() - nets.G.params["head"]["bias"].sum(), Terms(nets)

    import optax

    phase = dataclasses.replace(experiment.stages[0].phases[1], loss=counts, optimizer=optax.sgd(1.0))
    stage = dataclasses.replace(experiment.stages[0], phases=(experiment.stages[0].phases[0], phase), ema={})
    return dataclasses.replace(experiment, stages=(stage,), metrics=(metric,), infer=infer)


def test_stopping_early_and_the_best_state_survive_a_resume(tmp_path):
    config = games.Config(game="plain", steps=12, evaluate_every=1, patience=3)
    expected = train(tmp_path / "whole", config, stopping_early)
    metadata = games.metadata(tmp_path / "whole")
    assert (metadata["step"], metadata["finished"]) == (6, True)
    assert metadata["best"] == {"value": 0.0, "step": 3, "evaluations_since": 3}
    assert games.metadata(tmp_path / "whole", "best")["step"] == 3
    for stop in (2, 5, 12, 12):
        arrays = train(tmp_path / "parts", config, stopping_early, steps=stop)
    assert_same(arrays, expected)
    assert games.metadata(tmp_path / "parts")["best"] == metadata["best"]
    validation = [line["step"] for line in games.lines(tmp_path / "parts") if "validation/MSE" in line]
    assert validation == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def after_step(monkeypatch):
    """Has an action done after a step of the loop, counted within this process."""

    def install(step, action):
        original = loop.Profiler.after

        def after(self, reached):
            original(self, reached)
            if reached == step:
                action()

        monkeypatch.setattr(loop.Profiler, "after", after)

    return install


def test_sigterm_saves_evaluates_what_is_due_and_goes_on_exactly(
    whole, tmp_path, after_step, monkeypatch, capfd
):
    after_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    train(tmp_path, GROWING)
    assert signal.getsignal(signal.SIGTERM) is before
    assert games.metadata(tmp_path)["step"] == 6
    assert "stopped at step 6 by SIGTERM" in capfd.readouterr().err
    after_step(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert_same(train(tmp_path, GROWING), whole[1])
    assert "SIGTERM" not in capfd.readouterr().err
    assert [line["step"] for line in games.lines(tmp_path) if "validation/MSE" in line] == [8]
    assert games.metadata(tmp_path)["best"] == games.metadata(whole[0])["best"]


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_a_flipped_bit_falls_back_says_so_and_ends_the_same(whole, tmp_path, capfd):
    train(tmp_path, GROWING, steps=7)
    newest = tmp_path / "checkpoints" / "00000007"
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert_same(train(tmp_path, GROWING), whole[1])
    assert "skipped checkpoint" in capfd.readouterr().err
    for path in (tmp_path / "checkpoints").rglob("metadata.json"):
        path.write_text("{}")
    with pytest.raises(UserError, match=r"none of the checkpoints in .* verifies \(steps 6, 8\)"):
        train(tmp_path, GROWING)


def test_a_damaged_best_state_gives_way_to_the_last(tmp_path, capfd):
    config = games.Config(game="plain", steps=2)
    train(tmp_path, config)
    next((tmp_path / "checkpoints" / "best").rglob("metadata.json")).write_text("{}")
    options = RunOptions(workdir=str(tmp_path), mesh=ONE_DEVICE, progress=False)
    assert run.evaluate(games.experiment, config, options)["step"] == 2
    assert "the last state is taken" in capfd.readouterr().err


@pytest.mark.parametrize("seeds", [1, 2])
def test_nan_names_phase_term_and_step_and_keeps_the_last_good_checkpoint(tmp_path, seeds):
    config = games.Config(game="plain", steps=8, fails_at=5, measured=False)
    mesh = MeshOptions(data=seeds)
    where = "step 6" if seeds == 1 else "step 6, seed 0, 1"
    message = rf"{where}: term 'pixel' of phase 'generator' is not finite; .*\(last good checkpoint: step 3\)"
    with pytest.raises(UserError, match=message):
        train(tmp_path, config, checkpoint_every=3, seeds=seeds, mesh=mesh)
    folder = tmp_path if seeds == 1 else tmp_path / "seed_1"
    assert games.metadata(folder)["step"] == 3
    assert np.isfinite(games.saved(folder)["params/G/first/kernel"]).all()
    with pytest.raises(UserError, match="checkpoint: step 3"):
        train(tmp_path, config, checkpoint_every=3, seeds=seeds, mesh=mesh)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    def spoiled(config):
        experiment = games.experiment(config)
        spoil = lambda params: jax.tree.map(lambda leaf: leaf + jnp.inf, params)  # noqa: E731
        critic, generator = experiment.stages[0].phases
        stage = dataclasses.replace(
            experiment.stages[0], phases=(critic, dataclasses.replace(generator, project=spoil))
        )
        return dataclasses.replace(experiment, stages=(stage,))

    with pytest.raises(UserError, match=r"step 1: network 'G' holds .*\(last good checkpoint: none\)"):
        train(tmp_path, games.Config(game="plain"), spoiled, checkpoint_every=1)


def test_one_line_for_each_mistake(whole, tmp_path):
    with pytest.raises(UserError, match=r"holds another run.*steps: 8 there, 9 here"):
        train(whole[0], dataclasses.replace(GROWING, steps=9))
    with pytest.raises(UserError, match="seed: 0 there, 1 here"):
        train(whole[0], GROWING, seed=1)
    with pytest.raises(UserError, match="precision: 'float32' there, 'bfloat16' here"):
        train(whole[0], GROWING, precision="bfloat16")
    with pytest.raises(UserError, match="experiment: growing there, plain here"):
        train(whole[0], games.Config(game="plain"))
    with (
        open_workdir(tmp_path / "taken", experiment="growing", configuration={}),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
    ):
        train(tmp_path / "taken", GROWING)
    with pytest.raises(UserError, match="8 devices do not divide a batch of 6"):
        train(tmp_path / "divided", games.Config(game="plain", batch_size=6), mesh=MeshOptions())
    with pytest.raises(UserError, match="multiples of 4"):
        train(tmp_path / "size", games.Config(game="plain", size=10))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is, or lies under, a file"):
        train(tmp_path / "file" / "run", GROWING)
    with pytest.raises(UserError, match="holds no state of the last stage"):
        folder = tmp_path / "young"
        train(folder, GROWING, steps=1)
        run.evaluate(games.experiment, GROWING, RunOptions(workdir=str(folder), mesh=ONE_DEVICE))


def test_other_errors_pass_as_they_are(tmp_path):
    def forgetful(config):
        experiment = games.experiment(config)

        def loss(nets, batch, context):
            output, _ = nets.G.update(batch["noisy"])
            return output.mean(), Terms(nets)

        phase = dataclasses.replace(experiment.stages[0].phases[1], loss=loss)
        stage = dataclasses.replace(experiment.stages[0], phases=(experiment.stages[0].phases[0], phase))
        return dataclasses.replace(experiment, stages=(stage,))

    with pytest.raises(StateError, match="'G'"):
        train(tmp_path, games.Config(game="plain"), forgetful)


def test_an_error_in_the_loop_passes_and_closes_everything(tmp_path, after_step):
    class Unexpected(Exception):
        pass

    def fail():
        raise Unexpected

    config = games.Config(game="plain", steps=4)
    after_step(4, fail)
    with pytest.raises(Unexpected):
        train(tmp_path, config)
    assert games.metadata(tmp_path)["step"] == 3
    with pytest.raises(Unexpected):
        train(tmp_path, config)


def test_a_disk_that_fills_up_ends_the_run_in_one_line(small_disk, fill, after_step, tmp_path):
    config = games.Config(game="plain", steps=8)
    after_step(5, lambda: fill(small_disk))
    with pytest.raises(UserError, match="No space left on device"):
        train(small_disk, config)
    assert games.metadata(small_disk)["step"] == 3
    (small_disk / "large").unlink()
    after_step(-1, None)


def test_a_failed_save_is_one_line(tmp_path, monkeypatch):
    seal = checkpoints._seal

    def fails(folder, description):
        if description["step"] == 6:
            raise OSError(28, "No space left on device")
        seal(folder, description)

    monkeypatch.setattr(checkpoints, "_seal", fails)
    with pytest.raises(UserError, match="No space left"):
        train(tmp_path, games.Config(game="plain", steps=8))
    assert games.metadata(tmp_path)["step"] == 3


def test_a_sample_grid_that_cannot_be_written_is_one_line(tmp_path, after_step):
    after_step(1, lambda: (tmp_path / "samples").write_text(""))
    with pytest.raises(UserError, match=r"cannot write .*samples"):
        train(tmp_path, games.Config(game="plain", steps=8))


def test_the_profiler_and_warm_start_and_export(whole, tmp_path):
    config = games.Config(steps=3)
    weights = tmp_path / "weights.safetensors"
    train(tmp_path / "run", config, steps=1, init_from=str(whole[0]), export=str(weights))
    assert weights.exists()
    first = games.saved(tmp_path / "run")
    # The critic has moved by two Adam steps of 0.01; the generator has not played.
    np.testing.assert_array_equal(first["params/G/first/kernel"], whole[1]["params/G/first/kernel"])
    np.testing.assert_allclose(first["params/D/first/kernel"], whole[1]["params/D/first/kernel"], atol=0.03)
    train(tmp_path / "other", config, steps=1, init_from=str(weights))
    with pytest.raises(UserError, match="none of its weights fits"):
        from medgan_jax.training.checkpoints import export_weights

        export_weights(tmp_path / "others.safetensors", {"params": {"X": np.ones(3)}})
        train(tmp_path / "third", config, steps=1, init_from=str(tmp_path / "others.safetensors"))


def test_progress_says_sane_things(tmp_path, capfd):
    train(tmp_path, games.Config(game="plain", steps=4), progress=True, log_every=1)
    said = capfd.readouterr().err
    first = next(line for line in said.splitlines() if line.startswith("step 1/4"))
    assert "images/s" not in first and "critic/loss" in first
    last = next(line for line in said.splitlines() if line.startswith("step 4/4"))
    assert "images/s" in last and "0 s left" in last
    assert "nan" not in said and "inf" not in said
    assert writers.METRICS in {path.name for path in tmp_path.iterdir()}
