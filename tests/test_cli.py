"""The command line through `main(argv)`: commands, help, and every mistake as one line with exit status 2."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from medgan_jax import cli
from medgan_jax.arguments import field_help, in_words
from medgan_jax.configuration import RunOptions, as_dict
from medgan_jax.configuration_reader import read_configuration
from medgan_jax.errors import UserError

TOY = "toy_experiments.denoiser"
ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent))
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def run(capsys):
    """Runs a command line in this process: (exit status, standard output, standard error)."""

    def run(*argv):
        status = cli.main([str(argument) for argument in argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def mistake(run):
    """Runs a command line that is wrong, and returns its one line."""

    def mistake(*argv):
        status, out, error = run(*argv)
        assert status == 2
        assert out == ""
        assert error.startswith("medgan_jax: error: ")
        assert error.endswith("\n")
        assert error.count("\n") == 1
        assert "Traceback" not in error
        return error

    return mistake


# --- list ---


def test_list_has_97_rows_and_says_which_are_implemented(run):
    status, out, _ = run("list")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["id", "ref", "table", "implemented", "module"]
    assert lines[-1].startswith("97 rows, ")
    assert len(lines) == 99
    dagan = next(line for line in lines if line.startswith("dagan "))
    assert dagan.split()[1:3] == ["[83]", "12"]
    assert dagan.split()[-1] == "experiments.reconstruction.dagan"


def test_list_of_one_application_as_json(run):
    status, out, _ = run("list", "--application", "denoising", "--json")
    rows = json.loads(out)
    assert status == 0
    assert [row["ref"] for row in rows] == [5, 105, 106, 107]
    assert set(rows[0]) == {"id", "name", "ref", "table", "application", "implemented", "module"}


def test_list_and_help_do_not_import_jax():
    code = (
        "import sys; from medgan_jax.cli import main\n"
        "for argv in (['list'], ['--help'], ['train', '--help'], ['data', 'list']):\n"
        "    assert main(argv) == 0 and 'jax' not in sys.modules, argv\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")


def test_list_of_unknown_application_names_the_nearest(mistake):
    assert "reconstruction" in mistake("list", "--application", "reconstructions")


def test_list_may_be_cut_short():
    command = f"{sys.executable} -m medgan_jax list | head -1"
    said = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert said.stderr == ""


# --- commands and ids ---


def test_help_names_every_command(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(f"  {command}" in out for command in cli.COMMANDS)


def test_unknown_command_lists_the_known_ones(mistake):
    error = mistake("trian", "dagan")
    assert "the nearest is train" in error
    assert all(command in error for command in cli.COMMANDS)
    assert "list, describe" in mistake("publish", "12")
    assert "no command" in mistake()


def test_unknown_experiment_names_the_nearest(mistake):
    assert "dagan" in mistake("train", "dagn", "--workdir", "x")
    assert "cyclegan" in mistake("describe", "cycle_gan")


def test_row_that_is_not_implemented_says_which_row(mistake, monkeypatch):
    monkeypatch.setattr(cli.catalogue.Method, "implemented", False)
    error = mistake("train", "va_gan", "--workdir", "x")
    assert "[9], detection, table 15" in error
    assert "not implemented yet" in error


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "describe"])
def test_command_without_an_id_says_so(mistake, command):
    assert "id first" in mistake(command)
    assert "id first" in mistake(command, "--workdir", "x")


def test_module_that_is_no_experiment(mistake):
    assert "no experiment module 'nowhere.toy'" in mistake("train", "nowhere.toy")
    assert "has no `Config`" in mistake("train", "medgan_jax.errors")


# --- options ---


def test_unknown_option_names_the_nearest(mistake):
    assert "--config.weihgt; the nearest is --config.weight" in mistake("train", TOY, "--config.weihgt", "3")
    assert "the nearest is --workdir" in mistake("train", TOY, "--workdri", "x")
    # Seen without its prefix, an option of the configuration is still recognised.
    assert "the nearest is --config.batch_size" in mistake("train", TOY, "--batch_size", "4")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--config.batch_size", "many"], "--config.batch_size takes an integer, not 'many'"),
        (["--config.batch_size=1.5"], "--config.batch_size takes an integer, not '1.5'"),
        (["--config.weight", "heavy"], "--config.weight takes a number, not 'heavy'"),
        (["--config.weight"], "--config.weight takes a number, but no value was given"),
        (["--config.kind", "odd"], "--config.kind takes one of plain, fancy, not 'odd'"),
        (["--config.widths", "1", "two"], "--config.widths takes any number of integers, not '1 two'"),
        (["--config.window", "1"], "--config.window takes 2 numbers, not '1'"),
        (["--steps", "soon"], "--steps takes an integer or None, not 'soon'"),
        (["--parallel", "vmap"], "--parallel takes one of jit, pmap, not 'vmap'"),
        (["--mesh.data", "x"], "--mesh.data takes an integer, not 'x'"),
        (["--config.skip", "False"], "--config.skip is a switch and takes no value ('False'); write"),
        (["--config.skip=False"], "--config.skip is a switch and takes no value ('False'); write"),
        (["--no_progress", "yes"], "takes no value ('yes'); write --progress or --no_progress"),
        (["stray"], "unexpected argument 'stray'"),
        (["--preset", "huge"], "--preset is 'huge'; it is one of tiny, small, paper"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--steps", "0"], "--steps is 0"),
        (["--mesh.space", "0"], "--mesh.space"),
        (["--config.weight", "nan"], "config.weight is nan"),
        (["--config.weight", "inf"], "config.weight is inf"),
        (["--config.batch_size", "0"], "config.batch_size is 0"),
    ],
)
def test_wrong_value_names_the_option_and_what_it_takes(mistake, options, said, tmp_path):
    assert said in mistake("train", TOY, "--workdir", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_train_needs_a_work_directory(mistake):
    assert "train needs --workdir DIR" in mistake("train", TOY)
    assert "evaluate needs --workdir DIR" in mistake("evaluate", TOY)


def test_help_shows_the_preset_and_what_docstrings_and_comments_say(run):
    status, out, _ = run("train", TOY, "--preset", "tiny", "--help")
    assert status == 0
    text = " ".join(out.replace("│", " ").split())
    assert "A toy for tests" in text
    assert "those of the preset tiny" in text
    assert "of the squared error (default: 10.0)" in text
    assert "Not given by the paper. (default: 2 2)" in text
    assert "which of two (default: plain)" in text
    assert "directory of the run" in text
    for field in dataclasses.fields(RunOptions):
        assert f"--{field.name}" in out, field.name


def test_help_of_a_command_without_an_id_shows_the_common_options(run):
    for command in ("train", "evaluate", "predict", "describe"):
        status, out, _ = run(command, "--help")
        assert status == 0
        assert f"usage: python -m medgan_jax {command} ID" in out
    # A finished run has decided its seed and precision.
    assert "--precision" not in run("evaluate", TOY, "--help")[1]


@pytest.fixture
def trained(monkeypatch):
    """What `train` is called with, instead of training."""
    import medgan_jax.training.run

    calls = []
    monkeypatch.setattr(medgan_jax.training.run, "train", lambda *arguments: calls.append(arguments))
    return calls


def test_train_hands_over_preset_configuration_and_options(run, trained):
    argv = ["--preset", "tiny", "--config.weight", "2", "--data.source", "folder", "--config.no_skip"]
    argv += ["--config.widths", "3", "5", "--config.weights-file", "w", "--seed", "7", "--mesh.space=2"]
    status, _, error = run("train", TOY, "--workdir", "here", *argv)
    assert (status, error) == (0, "")
    factory, config, options = trained[0]
    toy = sys.modules[TOY]
    assert factory is toy.experiment
    expected = dataclasses.replace(toy.Config.tiny(), weight=2.0, skip=False, widths=(3, 5), weights_file="w")
    assert dataclasses.replace(config, data=expected.data) == expected
    assert config.data.source == "folder"
    assert options == RunOptions(workdir="here", seed=7, mesh=dataclasses.replace(RunOptions().mesh, space=2))


def test_train_starts_from_the_small_preset(run, trained):
    run("train", TOY, "--workdir", "here")
    assert trained[0][1] == sys.modules[TOY].Config.small()


def test_twin_has_its_own_configuration_and_place(run, trained, mistake):
    run("train", TOY, "--workdir", "here", "--twin")
    _, config, options = trained[0]
    assert config.kind == "fancy"
    assert options.workdir == "here/twin"
    without = ["--config.no_has_twin", "--workdir", "here"]
    assert "no non-adversarial twin" in mistake("train", TOY, "--twin", *without)


def test_interruption_is_130(run, monkeypatch):
    import medgan_jax.training.run

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(medgan_jax.training.run, "train", interrupted)
    assert run("train", TOY, "--workdir", "here")[0] == 130


def test_bugs_are_not_swallowed(run, monkeypatch):
    import medgan_jax.training.run

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(medgan_jax.training.run, "train", broken)
    with pytest.raises(ZeroDivisionError):
        run("train", TOY, "--workdir", "here")


# --- describe ---


def test_describe_in_words_and_as_json(run):
    status, out, _ = run("describe", TOY, "--preset", "tiny")
    assert status == 0
    assert "G: Convolution, 27 parameters" in out
    facts = json.loads(run("describe", TOY, "--preset", "tiny", "--json")[1])
    assert facts["stages"][0]["networks"][0]["parameters"] == 27
    changed = json.loads(run("describe", TOY, "--preset", "tiny", "--config.widths", "4", "2", "--json")[1])
    assert changed["stages"][0]["networks"][0]["parameters"] == (9 * 4 + 4) + 8 + (4 + 1)


# --- a run, whole ---


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A work directory with a trained run of the toy and its twin."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(pathlib.Path(__file__).parent))
        options = ["--preset", "tiny", "--workdir", str(folder), "--no_progress", "--seed", "3"]
        assert cli.main(["train", TOY, *options, "--twin"]) == 0
        assert cli.main(["evaluate", TOY, "--workdir", str(folder / "twin")]) == 0
        assert cli.main(["train", TOY, *options]) == 0
    return folder


def test_evaluate_reads_the_configuration_and_prints_method_baseline_and_twin(run, workdir):
    status, out, _ = run("evaluate", TOY, "--workdir", workdir)
    assert status == 0
    header = next(line for line in out.splitlines() if line.startswith("metric"))
    assert "denoiser" in header
    assert "noisy input (baseline)" in header
    assert "non-adversarial twin" in header
    measured = json.loads((workdir / "evaluation.json").read_text())
    row = next(line for line in out.splitlines() if line.startswith("MSE ↓"))
    for metrics in (measured["metrics"], measured["baseline"], measured["twin"]["metrics"]):
        assert f"{metrics['MSE']['mean']:.4f} ± {metrics['MSE']['sd']:.4f} (n 10)" in row
    assert "10 test cases of test" in out
    assert "features: none" in out


def test_evaluate_as_json_prints_nothing_else(run, workdir):
    status, out, _ = run("evaluate", TOY, "--workdir", workdir, "--json")
    assert status == 0
    assert json.loads(out) == json.loads((workdir / "evaluation.json").read_text())


def test_evaluate_alone_measures_no_classical_method(run, workdir):
    full = json.loads(run("evaluate", TOY, "--workdir", workdir, "--json")[1])
    status, out, _ = run("evaluate", TOY, "--workdir", workdir, "--json", "--alone")
    found = json.loads(out)
    assert status == 0 and found["metrics"] == full["metrics"]
    assert found["baseline"] is None and not found["others"] and full["baseline"]


def test_predict_writes_into_the_output_folder_alone(run, workdir, tmp_path):
    from PIL import Image

    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(source / "a.png")
    places = ["--workdir", workdir, "--input", source, "--output", tmp_path / "out"]
    status, out, _ = run("predict", TOY, *places)
    assert status == 0
    assert out.splitlines() == [str(tmp_path / "out" / "a.png")]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "a.png", "in", "out"]
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert (image.size, image.mode) == ((8, 8), "L")


def test_predict_says_what_it_needs(mistake, workdir, tmp_path):
    here = ["predict", TOY, "--workdir", workdir]
    assert "needs --input PATH" in mistake(*here)
    assert "needs --output DIR" in mistake(*here, "--input", tmp_path)
    assert "does not exist" in mistake(*here, "--input", tmp_path / "none", "--output", tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in mistake(*here, "--input", tmp_path, "--output", file)


def test_no_run_in_the_work_directory(mistake, tmp_path):
    assert "holds no run" in mistake("evaluate", TOY, "--workdir", tmp_path)
    assert "holds no run" in mistake("evaluate", TOY, "--workdir", tmp_path / "none")
    there = ["--input", tmp_path, "--output", tmp_path / "out"]
    assert "holds no run" in mistake("predict", TOY, "--workdir", tmp_path, *there)
    assert list(tmp_path.iterdir()) == []


def test_run_of_another_experiment(mistake, workdir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "experiment": "anogan"}))
    assert "holds a run of anogan, not of denoiser" in mistake("evaluate", TOY, "--workdir", copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": "much"}, "config.weight of the run is 'much' where a number belongs"),
        ({"old": 1}, "config.old of the run is not a field of Config"),
        ({"weight": ...}, "config.weight is missing in the run"),
    ],
)
def test_run_of_another_version(mistake, workdir, tmp_path, change, said):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    config = manifest["configuration"]["config"] | change
    manifest["configuration"]["config"] = {name: value for name, value in config.items() if value is not ...}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert said in mistake("evaluate", TOY, "--workdir", copy)


def test_several_seeds_are_evaluated_together(run, mistake, tmp_path):
    here = ["--workdir", tmp_path / "runs"]
    status, _, _ = run("train", TOY, *here, "--preset", "tiny", "--seeds", "2", "--no_progress")
    assert status == 0
    status, out, _ = run("evaluate", TOY, *here)
    assert status == 0
    assert "mean and SD over seeds 0, 1" in out
    (tmp_path / "runs" / "seed_1").rename(tmp_path / "runs" / "seed_2")
    assert "lacks seed_1" in mistake("evaluate", TOY, *here)


# --- an experiment file by itself ---


def test_experiment_file_trains_and_evaluates(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main_experiment(TOY, ["--preset", "tiny", "--no_progress"]) == 0
    said = capsys.readouterr()
    assert "work directory runs/denoiser-tiny" in said.err
    assert "noisy input (baseline)" in said.out
    assert (tmp_path / "runs" / "denoiser-tiny" / "evaluation.json").exists()
    assert cli.main_experiment(TOY, ["--prset", "tiny"]) == 2


def test_experiment_file_starts_from_the_small_preset(trained, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_show_evaluation", lambda *_: None)
    assert cli.main_experiment(TOY, []) == 0
    assert trained[0][1] == sys.modules[TOY].Config.small()
    assert trained[0][2].workdir == "runs/denoiser-small"


def test_template_runs(capsys, tmp_path):
    images = np.random.default_rng(0).uniform(0, 1, (24, 32, 32)).astype(np.float32)
    for part, chosen in (("train", slice(8)), ("validation", slice(8, 16)), ("test", slice(16, 24))):
        np.savez(tmp_path / f"{part}.npz", images=images[chosen], ids=np.arange(24)[chosen].astype(str))
    options = ["--preset", "tiny", "--no_progress", "--workdir", str(tmp_path / "run")]
    assert cli.main_experiment("experiments._template", [*options, "--data.source", str(tmp_path)]) == 0
    assert "noisy input (baseline)" in capsys.readouterr().out
    assert (tmp_path / "run" / "comparison.png").exists()


# --- data ---


def test_data_lists_what_can_be_prepared(run):
    status, out, _ = run("data", "list")
    assert status == 0
    assert "mr_head_kspace" in out
    assert "mr_head_kspace" in [row["name"] for row in json.loads(run("data", "list", "--json")[1])]


def test_data_says_what_it_takes(mistake):
    assert "`list` or `prepare NAME`" in mistake("data")
    assert "not 'lst'" in mistake("data", "lst")
    assert "needs a name first" in mistake("data", "prepare")
    assert "unknown option --dir" in mistake("data", "prepare", "mr_head_kspace", "--dir", "x")


# --- reading configurations ---


def test_configuration_comes_back_from_json():
    from toy_experiments import denoiser

    config = dataclasses.replace(denoiser.Config.tiny(), weights_file="w", kind="fancy", window=(0.0, 2.0))
    assert read_configuration(denoiser.Config, json.loads(json.dumps(as_dict(config)))) == config


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("skip", 1, "no value"),
        ("batch_size", True, "an integer"),
        ("batch_size", 1.0, "an integer"),
        ("widths", [1, "x"], r"config.widths\[1\]"),
        ("window", [1.0], "1 values instead of 2"),
        ("kind", "odd", "one of plain, fancy"),
        ("weights_file", 3, "config.weights_file"),
        ("data", {"source": 1}, "config.data.source"),
        ("data", [], "instead of fields"),
        ("steps", 0, "at least 1"),
    ],
)
def test_configuration_of_another_kind_is_refused(field, value, said):
    from toy_experiments import denoiser

    with pytest.raises(UserError, match=said):
        read_configuration(denoiser.Config, as_dict(denoiser.Config.tiny()) | {field: value})


def test_types_in_words():
    assert in_words(int | None) == "an integer or None"
    assert in_words(tuple[float, float]) == "2 numbers"
    assert in_words(tuple[str, ...]) == "any number of texts"


def test_help_of_fields_that_share_a_sentence():
    helps = field_help(RunOptions)
    assert helps["coordinator"] == helps["process"] == "name them where the cluster does not say"
    assert helps["seeds"].endswith("each in its own `seed_N` directory")
