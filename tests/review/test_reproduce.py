"""Tables are made from runs that are kept: read again, gone on with, run anew when something changed."""

import csv
import dataclasses
import io
import json
import pathlib
import re
import subprocess
import types

import numpy as np
import pytest

from medgan_jax import cli
from medgan_jax.errors import UserError
from medgan_jax.review import catalogue, learning, processes, reproduce, result_rows, runs
from medgan_jax.review.runs import Run

TESTS = pathlib.Path(__file__).resolve().parents[1]
TOY = "toy_experiments.denoiser"


def entry(identifier, module=TOY, implemented=True):
    """A row of the review that stands for the toy; its published values are those of `dagan`."""
    reported = catalogue.find("dagan").reported[:2]
    return types.SimpleNamespace(
        id=identifier, name=identifier, ref=0, table=12, reported=reported, module=module, implemented=implemented
    )


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    """The toy, an experiment that cannot be loaded, and one that is not there."""
    root = tmp_path_factory.mktemp("reproduce")
    entries = (entry("denoiser"), entry("broken", "toy_experiments.nothing"), entry("later", implemented=False))
    return reproduce.Request("table12", "Table 12", entries, "tiny", (0, 1), root / "runs", root / "tables")


@pytest.fixture(scope="module", autouse=True)
def toys_in_processes():
    """Processes find the toy, and compile without optimisation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
        yield


@pytest.fixture(scope="module")
def rows(request_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "key", property(lambda run: "key"))
        return reproduce.reproduce(request_)


@pytest.fixture(autouse=True)
def one_key(monkeypatch):
    """What the fingerprint is made of is tested elsewhere; an experiment that is not there has none."""
    monkeypatch.setattr(Run, "key", property(lambda run: "key"))


def run_of(request, seed=0):
    return Run("denoiser", TOY, "tiny", seed, request.workdir)


def test_states_and_reasons(rows):
    assert [row.state for row in rows] == ["measured", "failed", "not implemented"]
    assert set(rows[1].failures) == {0, 1}
    assert rows[1].failures[0].startswith("there is no experiment module 'toy_experiments.nothing'")
    assert reproduce.summary(rows) == "3 rows: 1 measured, 1 failed, 1 not implemented"


def test_values_are_mean_and_deviation_over_seeds_of_what_was_evaluated(request_, rows):
    row = rows[0]
    records = [json.loads((run_of(request_, seed).place / "evaluation.json").read_text()) for seed in (0, 1)]
    means = [record["metrics"]["MSE"]["mean"] for record in records]
    assert row.measured["MSE"]["mean"] == pytest.approx(np.mean(means))
    assert row.measured["MSE"]["sd"] == pytest.approx(np.std(means, ddof=1))
    assert row.measured["MSE"]["n"] == 2 and row.measured["MSE"]["over"] == "seeds"
    twins = [record["twin"]["metrics"]["MSE"]["mean"] for record in records]
    assert row.twin["MSE"]["mean"] == pytest.approx(np.mean(twins))
    assert row.baseline_name == "noisy input" and row.baseline["MSE"]["n"] == 2
    assert row.data == records[0]["data"]
    assert row.health["diversity"] > 0 and row.health["non_finite"] == 0
    assert re.fullmatch(r"\d+ cores? of .+", row.device)


def test_forms_agree_and_no_value_stands_without_its_data(request_, rows):
    table = json.loads((request_.output / "table12.json").read_text())
    assert table["seeds"] == [0, 1] and [row["id"] for row in table["rows"]] == ["denoiser", "broken", "later"]
    value = table["rows"][0]["measured"]["MSE"]["mean"]
    lines = list(csv.DictReader(io.StringIO((request_.output / "table12.csv").read_text())))
    measured = [line for line in lines if line["kind"] == "measured"]
    assert [float(line["value"]) for line in measured] == [value]
    assert all(line["data"] for line in lines if line["value"] and line["kind"] != "published")
    shown = result_rows.tables.number(value)
    markdown = (request_.output / "table12.md").read_text()
    latex = (request_.output / "table12.tex").read_text()
    for text in (markdown, latex):
        assert shown in text
        assert f"{rows[0].data['n']} test cases" in text
        assert "not implemented" in text
    # One line a method, each with as many cells as the heading.
    body = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(body) == 1 + 1 + 3 and len({line.replace("\\|", "").count("|") for line in body}) == 1
    assert latex.count(r"\\" + "\n") >= 3 and r"\_" in latex


def test_what_is_done_is_read_and_what_failed_is_tried_again(request_, rows, monkeypatch):
    started = []
    real = subprocess.run

    def noting(command, **options):
        if "-m" in command:
            started.append(command[3])
        return real(command, **options)

    monkeypatch.setattr(processes.subprocess, "run", noting)
    again = reproduce.reproduce(request_)
    assert started == ["toy_experiments.nothing"] * 2
    assert again[0] == rows[0]


def test_a_changed_experiment_is_another_run(request_, monkeypatch):
    place = run_of(request_).place
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(TESTS))
    keys = [dataclasses.replace(run_of(request_), source=source).key for source in ("phantom", "folder")]
    assert len({*keys, place.parent.name}) == 3
    monkeypatch.setattr(learning.code, "definitions", lambda module, enter: {(module, "x"): "changed"})
    assert run_of(request_).key not in keys


def test_a_killed_run_goes_on(request_, rows, tmp_path):
    run = dataclasses.replace(run_of(request_), root=tmp_path)
    part = ["train", TOY, "--preset", "tiny", "--workdir", str(run.place), "--steps", "1", "--no-progress"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        assert cli.main(part) == 0
    first = (run.place / "manifest.json").read_text()
    result = runs.play(run)
    # It was taken up where it was, and became the run that it would have been; on other devices sums round apart.
    assert json.loads(first)["configuration"] == json.loads((run.place / "manifest.json").read_text())["configuration"]
    whole = run_of(request_).read()["metrics"]["MSE"]["mean"]
    assert result["step"] == 2 and result["metrics"]["MSE"]["mean"] == pytest.approx(whole, rel=1e-3)


def test_a_partial_or_older_run_is_one_line(request_, rows, tmp_path):
    run = dataclasses.replace(run_of(request_), root=tmp_path)
    run.place.mkdir(parents=True)
    assert run.read() is None
    (run.place / runs.RESULT).write_text("{")
    with pytest.raises(UserError, match="is broken"):
        run.read()
    (run.place / runs.RESULT).write_text('{"schema": 0}')
    with pytest.raises(UserError, match="has schema 0 and this version writes"):
        run.read()


def test_one_seed_has_the_spread_of_its_cases():
    row = {"MSE": {"mean": 1.0, "sd": 0.5, "n": 10, "unit": "", "higher_is_better": False}}
    assert result_rows.over_seeds([row])["MSE"]["over"] == "cases"
    two = result_rows.over_seeds([row, {"MSE": {**row["MSE"], "mean": None}}])["MSE"]
    assert (two["mean"], two["sd"], two["n"]) == (1.0, None, 1)


def test_modes_that_were_counted_are_a_sign_of_health():
    def value(mean):
        return {"mean": mean, "sd": None, "n": 10, "unit": "", "higher_is_better": True}

    def result(seed, modes):
        metrics = {"swd": value(0.5), "modes": value(modes)}
        data = {"source": "phantom:ring", "fingerprint": "f", "n": 10}
        return {"metrics": metrics, "baseline": None, "others": {}, "twin": None, "data": data, "preset": "tiny",
                "seed": seed, "step": 2, "train_seconds": 1.0, "health": {"diversity": 0.25}, "command": "x",
                "hardware": {"platform": "cpu", "kind": "cpu", "count": 1}, "code": "0"}  # fmt: skip

    row = result_rows.row(catalogue.find("gan"), {0: result(0, 8.0), 1: result(1, 7.0)}, {})
    assert row.health == {"diversity": 0.25, "modes": 7.5}
    assert "modes 7.500" in result_rows.cells(row)["health"]
    assert result_rows.coverage({"swd": value(0.5)}) == {}


def test_every_row_of_the_review_is_in_one_table():
    names = [name for name in reproduce.table_names() if name != "all"]
    found = [each.id for name in names for each in reproduce.entries_of(name)]
    assert sorted(found) == sorted(each.id for each in catalogue.entries())
    assert len(reproduce.entries_of("all")) == 97


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table99"], "there is no table 'table99'"),
        ([], "reproduce needs a table first"),
        (["table12", "--seeds", "0"], "--seeds is 0"),
        (["table12", "--seed", "-1"], "must be at least 0"),
        (["table12", "--source", "dagan"], "not of the form ID=FOLDER"),
        (["table12", "--source", "dagen=x"], "no experiment is called 'dagen'"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert cli.main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_table_without_experiments_is_printed(tmp_path, capsys):
    assert cli.main(["reproduce", "table11", "--workdir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "btrfly" in printed.lower() and "1 rows: 1 not implemented" in printed


def test_signs_of_health(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [{"step": n, "D/gradient_norm": 1.0 / (1 + n), "G/gradient_norm": 2.0} for n in range(20)]
    lines += [{"step": 20, "health/diversity": 0.25, "G/loss": None}]
    log.write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = runs.health(log)
    assert found["least_gradient"] == pytest.approx((1 / 19) / 1.0, rel=0.2)
    assert (found["diversity"], found["non_finite"]) == (0.25, 1)
