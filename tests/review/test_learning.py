"""Bounds say what they mean; a record is fresh, stale or failing; the command measures what it declares."""

import dataclasses
import importlib
import json
import pathlib
import types

import pytest

from medgan_jax import cli
from medgan_jax.errors import UserError
from medgan_jax.game import Bound, Experiment, Metric
from medgan_jax.review import learning
from medgan_jax.review.records import require_finished

TOY = "toy_experiments.denoiser"
RECORD = {
    "metrics": {"psnr": {"mean": 30.0}, "psnr_first": {"mean": 29.0}, "dice": {"mean": None}},
    "baseline": {"psnr": {"mean": 26.0}},
    "twin": {"metrics": {"psnr": {"mean": 30.5}}},
    "others": {"total variation": {"psnr": {"mean": 31.0}}},
}


@pytest.mark.parametrize(
    ("bound", "words", "limit", "holds"),
    [
        (Bound("psnr", ">=", "baseline", plus=3.0), "psnr >= baseline + 3", 29.0, True),
        (Bound("psnr", ">=", "twin", plus=-0.1), "psnr >= twin - 0.1", 30.4, False),
        (Bound("psnr", ">=", "total variation"), "psnr >= total variation", 31.0, False),
        (Bound("psnr", "<=", "baseline", times=2.0), "psnr <= 2 x baseline", 52.0, True),
        (Bound("psnr", ">=", "method", of="psnr_first"), "psnr >= method psnr_first", 29.0, True),
        (Bound("psnr", "<=", 30), "psnr <= 30", 30.0, True),
        (Bound("dice", ">=", 0.0), "dice >= 0", 0.0, False),
        (Bound("psnr_first", ">=", "baseline"), "psnr_first >= baseline", None, False),
    ],
)
def test_bounds(bound, words, limit, holds):
    assert bound.in_words() == words
    assert bound.limit(RECORD) == (None if limit is None else pytest.approx(limit))
    assert bound.holds(RECORD) is holds


def test_a_bound_on_a_twin_that_is_not_there_fails():
    experiment = types.SimpleNamespace(learning=(Bound("psnr", ">=", "twin"),))
    alone = RECORD | {"twin": None}
    assert [each["holds"] for each in learning.bounds(experiment, alone)] == [False]
    assert learning.bounds(experiment, alone, with_twin=False) == []


@pytest.mark.parametrize("bound", [Bound("ssim", ">=", 0.5), Bound("psnr", ">=", "zero filling")])
def test_a_bound_on_something_unknown_is_a_mistake(bound):
    psnr = Metric("psnr", lambda outputs, batch: 0.0, "dB", True)
    with pytest.raises(ValueError, match="bound"):
        Experiment("toy", None, (), lambda *_: {}, metrics=(psnr,), learning=(bound,))


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The toy denoiser with bounds, as the only implemented experiment; records in a folder of their own."""

    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).resolve().parents[1]))
    denoiser = importlib.import_module(TOY)

    def experiment(config):
        return dataclasses.replace(denoiser.experiment(config), learning=bounds)

    bounds = [Bound("MSE", "<=", 1000.0), Bound("MSE", "<=", "twin", plus=100.0)]
    module = types.SimpleNamespace(Config=denoiser.Config, experiment=experiment, __doc__=denoiser.__doc__)
    method = cli.Method("denoiser", module, None)
    monkeypatch.setattr(denoiser.Config, "small", denoiser.Config.tiny)
    monkeypatch.setattr(cli, "load", lambda name: method)
    monkeypatch.setattr(learning, "implemented", lambda: {"denoiser": TOY})
    monkeypatch.setattr(learning, "RECORDS", tmp_path / "records")
    return bounds, tmp_path / "records" / "denoiser.json"


def test_command_records_values_bounds_and_fingerprint(toy, capsys, tmp_path):
    bounds, path = toy
    assert learning.main(["denoiser", "--workdir", str(tmp_path / "runs")]) == 0
    known = json.loads(path.read_text())
    assert known["holds"] and [each["holds"] for each in known["bounds"]] == [True, True]
    assert known["bounds"][0]["value"] == known["metrics"]["MSE"]["mean"]
    assert known["bounds"][1]["limit"] == pytest.approx(known["twin"]["metrics"]["MSE"]["mean"] + 100)
    assert known["hardware"]["platform"] == "cpu" and known["seconds"] > 0
    assert "MSE <= twin + 100" in capsys.readouterr().out
    assert learning.state_of("denoiser", TOY, path.parent) == "holds"
    # Another configuration is another experiment.
    path.write_text(json.dumps({**known, "code": "0"}))
    assert learning.state_of("denoiser", TOY, path.parent) == "stale"
    path.write_text(json.dumps({**known, "holds": False}))
    assert learning.state_of("denoiser", TOY, path.parent) == "fails"
    assert learning.main(["--check"]) == 1
    path.unlink()
    assert learning.main(["--list"]) == 0
    assert "missing" in capsys.readouterr().out
    # The runs are there: they are taken up, nothing is trained again, and a bound that fails is said.
    bounds.append(Bound("MSE", ">=", 1000.0))
    assert learning.main(["--workdir", str(tmp_path / "runs")]) == 1
    assert "NOT MSE >= 1000" in capsys.readouterr().out


def test_an_ablation_is_recorded_beside_with_what_it_changes(toy, tmp_path, monkeypatch):
    _, path = toy
    assert learning.main(["denoiser", "--config.weight", "2", "--workdir", str(tmp_path / "runs")]) == 0
    beside = path.parent / "ablations" / "denoiser-weight_2.json"
    known = json.loads(beside.read_text())
    assert known["changes"] == {"weight": 2.0} and known["configuration"]["config"]["weight"] == 2.0
    assert known["command"].endswith("denoiser --config.weight 2")
    # The bound on the twin is no bound of an ablation, which has none.
    assert known["twin"] is None and [each["bound"] for each in known["bounds"]] == ["MSE <= 1000"]
    assert not path.exists() and learning.state_of(beside.stem, TOY, beside.parent) == "holds"
    monkeypatch.setattr(learning, "small", lambda module: known["configuration"]["config"] | {"steps": 3})
    assert learning.state_of(beside.stem, TOY, beside.parent) == "stale"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["denoiser", "--weight", "2"], "--weight is unknown"),
        (["denoiser", "--config.weight", "heavy"], "status 2"),
        (["denoiser", "other", "--config.weight", "2"], "needs one experiment"),
    ],
)
def test_an_ablation_of_something_unknown_is_one_line(toy, monkeypatch, arguments, words, capsys):
    monkeypatch.setattr(learning, "implemented", lambda: {"denoiser": TOY, "other": TOY})
    assert learning.main(arguments) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_run_that_was_stopped_is_no_record(toy, tmp_path):
    part = ["train", TOY, "--preset", "tiny", "--workdir", str(tmp_path / "run"), "--no-progress"]
    assert cli.main([*part, "--steps", "1"]) == 0
    with pytest.raises(UserError, match="was stopped before its end"):
        require_finished(tmp_path / "run")
    assert cli.main(part) == 0
    require_finished(tmp_path / "run")


def test_mistakes_are_one_line(toy, capsys):
    bounds, _ = toy
    assert learning.main(["unknown"]) == 2
    assert "'unknown' is no implemented experiment" in capsys.readouterr().err
    bounds.clear()
    assert learning.main([]) == 2
    assert "declares no bounds" in capsys.readouterr().err


def test_the_fingerprint_knows_the_configuration():
    first, second = (learning.fingerprint("experiments._template", {"steps": steps}) for steps in (1, 2))
    assert first != second
    assert first == learning.fingerprint("experiments._template", {"steps": 1})
    with pytest.raises(UserError):
        learning.learn("_template", "experiments._template", learning.ROOT)
