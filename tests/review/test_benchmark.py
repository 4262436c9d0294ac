"""Entrants of a track have one task, which is proved; values are kept, gone on with, ranked, and written
alike.
"""

import contextlib
import csv
import dataclasses
import importlib
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from medgan_jax import cli
from medgan_jax.configuration import RunOptions
from medgan_jax.errors import UserError
from medgan_jax.review import benchmark, processes
from medgan_jax.review.benchmark import (
    cost,
    forms,
    identity,
    parts,
    process,
    results,
    schedule,
    track,
)
from medgan_jax.training.run import train

TESTS = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def toys():
    """This process and its children find the toys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
        yield


@pytest.fixture(scope="module")
def contest():
    return importlib.import_module("toy_experiments.contest").CONTEST


@contextlib.contextmanager
def processes_here(started):
    """Parts are run in this process, and noted: starting Python takes longer than a toy."""

    real = subprocess.run

    def run(command, **options):
        if process.__name__ not in command:
            return real(command, **options)
        started.append(command)
        with contextlib.redirect_stdout(options["stdout"]):
            return subprocess.CompletedProcess(command, process.main(command[3:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes.subprocess, "run", run)
        patch.setattr(processes, "gpus", list)
        yield


def request(root, **changes):
    return schedule.Request(**({"preset": "tiny", "seeds": (0,), "root": root, "trials": 2} | changes))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def played(contest, root):
    with processes_here([]):
        return schedule.play(contest, request(root), say=lambda line: None)


@pytest.fixture(scope="module")
def content(played, root):
    return json.loads(json.dumps(results.content("denoising", [played], request(root), 200)))


def row(content, name):
    return next(row for row in content["tracks"][0]["rows"] if row["name"] == name)


def test_every_kind_of_entrant_is_measured_and_ranked(content):
    (found,) = content["tracks"]
    states = {each["name"]: each["state"] for each in found["rows"]}
    assert states == {
        "convolution": "measured",
        "plain U-Net": "measured",
        "noisy input": "measured",
        "wavelets": "measured",
        "larger toys": "failed",
        "no toys": "failed",
    }
    ranked = [each["updates"]["rank"] for each in found["rows"][:4]]
    assert [each["rank"] for each in ranked] == [1, 2, 3, 4]
    assert sum(each["probability_best"] for each in ranked) == pytest.approx(1)
    assert all(each["lower"] <= each["rank"] <= each["upper"] for each in ranked)
    assert found["headline"]["metric"] == "psnr" and content["preliminary"]
    values = [each["updates"]["metrics"]["psnr"]["mean"] for each in found["rows"][:4]]
    assert values == sorted(values, reverse=True)
    assert ranked[0]["value"] == pytest.approx(values[0])


def test_an_entrant_with_another_task_is_refused_with_its_reason(content):
    refused = row(content, "larger toys")
    (reason,) = refused["failures"].values()
    assert reason == (
        "larger toys is refused in the track contest: input of test case 0 is (16, 16, 1), not (8, 8, 1)"
    )
    assert "refused" in forms.markdown(content) and refused["updates"]["rank"] is None


def test_an_entrant_that_cannot_be_loaded_loses_no_other(content):
    (reason,) = row(content, "no toys")["failures"].values()
    assert reason.startswith("there is no experiment module 'toy_experiments.nothing'")


def test_the_proof_compares_every_case_and_every_value(contest):
    proof = identity.prove(contest, contest.entrants[0], "tiny", "phantom")
    assert len(proof["cases"]) == len(set(proof["cases"].values())) == 10
    assert proof["largest_difference"] == 0
    other = dataclasses.replace(
        contest.entrants[0],
        name="brighter",
        view=track.named(input="noisy", target="noisy", answer={"output": "denoised"}),
    )
    with pytest.raises(UserError, match=r"brighter is refused .* target of test case 0 differs by"):
        identity.prove(contest, other, "tiny", "phantom")


def test_trained_entrants_have_equal_updates_and_their_costs(content, contest):
    ours, plain = row(content, "convolution"), row(content, "plain U-Net")
    # The generator of the toy moves in every second of its 2 steps.
    assert ours["updates"]["updates"] == plain["updates"]["updates"] == 1
    assert (ours["updates"]["steps"], plain["updates"]["steps"]) == (2, 1)
    config = track.configuration(contest, contest.host, "tiny", "phantom")
    experiment = track.factory(contest, contest.host, "tiny", "phantom")(config)
    assert cost.called(experiment) == {"G"}
    # 3x3 kernels 1 -> 2 with bias, a batch norm's scale and bias, 1x1 2 -> 1; D has no norm.
    assert ours["parameters"] == {"generator": 20 + 4 + 3, "all": 27 + 20 + 3}
    assert cost.updates(experiment, stop=1) == 1


def test_tuning_gives_every_trained_entrant_the_same_trials_and_looks_at_no_test_case(played, root, contest):
    for each in played.trained[:2]:
        assert list(each.trials) == [1.0, 0.3]
        assert each.factor == max(each.trials, key=each.trials.get)
        assert len(set(each.trials.values())) == 2
    for each in played.trained[:2]:
        other = next(factor for factor in each.trials if factor != each.factor)
        trial = parts.Part(contest, "tiny", root, entrant=each.entrant, factor=other, tested=False)
        assert "test" not in json.loads((trial.place / process.VALUES).read_text())
        assert trial.read() is not None and dataclasses.replace(trial, tested=True).read() is None


def test_rates_alone_are_scaled(contest):
    plain = contest.entrants[1]
    one, other = (track.configuration(contest, plain, "tiny", "phantom", factor) for factor in (1.0, 0.3))
    assert other.learning_rate == pytest.approx(0.3 * one.learning_rate)
    assert dataclasses.replace(other, learning_rate=one.learning_rate) == one


def test_what_is_done_is_read(played, root, contest, content):
    started = []
    with processes_here(started):
        again = schedule.play(contest, request(root), say=lambda line: None)
    # Only what was refused is asked again, in both trials and for its run.
    assert {command[command.index("--entrant") + 1] for command in started} == {"larger toys"}
    assert json.loads(json.dumps(results.content("denoising", [again], request(root), 200))) == content


def test_a_killed_training_goes_on(played, contest, root, tmp_path):
    plain = contest.host
    part = parts.Part(contest, "tiny", tmp_path, entrant=plain)
    config = track.configuration(contest, plain, "tiny", "phantom")
    make = track.factory(contest, plain, "tiny", "phantom")
    train(make, config, RunOptions(workdir=str(part.place), steps=1, progress=False))
    assert part.read() is None
    with processes_here([]):
        values = parts.play(part)
        whole = parts.play(dataclasses.replace(part, root=root))
    assert values["test"]["metrics"]["psnr"]["mean"] == pytest.approx(
        whole["test"]["metrics"]["psnr"]["mean"], abs=1e-4
    )


def test_a_part_is_a_command_that_works(contest, tmp_path):
    part = parts.Part(contest, "tiny", tmp_path, entrant=contest.entrants[2])
    assert parts.play(part) is None
    assert part.failure().startswith("larger toys is refused in the track contest")
    assert part.command[:3] == [sys.executable, "-m", "medgan_jax.review.benchmark.process"]


def test_another_code_configuration_or_source_is_another_part(contest, tmp_path, monkeypatch):
    part = parts.Part(contest, "tiny", tmp_path, entrant=contest.host)
    keys = {part.key, dataclasses.replace(part, factor=0.3).key, dataclasses.replace(part, source="x").key}
    places = {part.place, dataclasses.replace(part, stop=1).place, dataclasses.replace(part, seed=1).place}
    assert len(keys) == 3 and len(places) == 3
    monkeypatch.setattr(parts.code, "code", lambda module: "changed")
    assert dataclasses.replace(part, seed=2).key not in keys


def test_equal_time_stops_the_slower_one_at_the_step_that_it_had_reached():
    assert cost.steps_within(10.0, [4, 100], [1.0, 0.5]) == 4 + 12
    assert cost.steps_within(3.0, [4, 100], [1.0, 0.5]) == 3
    assert cost.steps_within(1e9, [4, 100], [None, 0.5]) == 104
    assert cost.steps_within(0.1, [4], [1.0]) == 1
    assert cost.training_seconds([4, 100], [None, 0.5]) == 50


def test_seconds_of_steps_are_those_of_the_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    speeds = {2: 4.0, 4: 8.0, 6: 80.0}
    lines = [{"step": step, "speed/images_per_second": speed} for step, speed in speeds.items()]
    log.write_text("".join(json.dumps(line) + "\n" for line in [{"step": 1}, *lines]))
    assert cost.seconds_of_steps(log, [4, 2], 8) == [1.0, 0.1]
    assert cost.seconds_of_steps(tmp_path / "none", [4, 2], 8) == [None, None]


def test_an_entrant_is_stopped_in_time_and_ranked_by_what_it_is_then(played, root, contest):
    """The toy's steps take too little to be timed for certain: its log is made to say that they are slow."""
    each = dataclasses.replace(played.trained[0], updates={
        0: {**played.trained[0].updates[0], "seconds_of_steps": [2.0]}})  # fmt: skip
    asked = []

    def run(wanted):
        asked.extend(wanted)
        return {part: {"stop": part.stop} for part in wanted}

    whole = {("convolution", 0): parts.Part(contest, "tiny", root, entrant=contest.host)}
    found = schedule._in_time(each, 2.5, whole, run)
    assert [part.stop for part in asked] == [1] and found.time == {0: {"stop": 1}}
    fastest = schedule._in_time(each, 4.0, whole, run)
    assert fastest.time == each.updates and len(asked) == 1
    # What would be stopped before its last stage begins is not run at all.
    two = {0: {**each.updates[0], "steps": [3, 2], "seconds_of_steps": [2.0, 2.0]}}
    early = schedule._in_time(dataclasses.replace(each, updates=two), 2.5, whole, run)
    assert early.time == {} and len(asked) == 1
    assert early.time_failures == {0: "its last stage begins after step 3, and time was up at step 1"}


def test_forms_agree(content):
    text, lines = forms.markdown(content), list(csv.DictReader(io.StringIO(forms.comma_separated(content))))
    body = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(body) == 2 + 6 and len({line.replace("\\|", "").count("|") for line in body}) == 1
    for each in content["tracks"][0]["rows"]:
        for column in ("updates", "time"):
            for name, values in each[column]["metrics"].items():
                (line,) = [
                    line
                    for line in lines
                    if (line["entrant"], line["column"], line["metric"])
                    == (each["name"], f"equal {column}", name)
                ]
                assert float(line["value"]) == values["mean"] and line["data"]
                assert forms.value(values) in text
    assert "Preliminary: fewer than 5 seeds." in text and "10 test cases" in text
    assert "input and target of the 10 test cases agree in all entrants" in text


def test_seeds_that_saw_other_cases_are_refused(played, root):
    first = played.trained[0]
    changed = {**first.updates[0], "identity": {**first.updates[0]["identity"], "cases": {"0": "other"}}}
    forged = dataclasses.replace(played, trained=(dataclasses.replace(first, updates={0: changed}),))
    (found,) = results.content("x", [forged], request(root), 50)["tracks"]
    refused = next(each for each in found["rows"] if each["name"] == "convolution")
    assert refused["state"] == "failed" and "refused" in refused["failures"]["0"]


def test_a_set_measure_is_ranked_over_patients_or_over_seeds_alone():
    random = np.random.default_rng(0)
    label = np.arange(40) % 2

    def runs(gap):
        return [{"cases": {"score": (random.normal(size=40) + gap * label).tolist(), "label": label.tolist()},
                 "patients": [str(n // 2) for n in range(40)], "metrics": {"auc": {"mean": 0.5 + gap / 10}}}
                for _ in range(3)]  # fmt: skip

    rows = {"good": runs(3), "poor": runs(0)}
    auc = {"metric": "auc", "higher_is_better": True}
    ranking = results._ranking(rows, auc, 100)
    assert ranking.over == "seeds and patients" and ranking.n_patients == 20 and list(ranking.ranks) == [1, 2]
    blind = {name: [{**run, "cases": None} for run in each] for name, each in rows.items()}
    assert results._ranking(blind, auc, 100).over == "seeds"


# --- the command ---


def test_the_command_writes_three_files_and_says_what_is_in_them(root, played, tmp_path, capsys, contest):
    arguments = benchmark.Arguments(track="contest", preset="tiny", seeds=1, trials=2, workdir=str(root),
                                    output=str(tmp_path / "tables"), resamples=100)  # fmt: skip
    with processes_here([]):
        benchmark.run(arguments, (contest,))
    printed = capsys.readouterr().out
    assert "1 tracks, 6 entrants: 4 measured, 2 failed; written to" in printed
    names = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert names == [f"benchmark_contest.{ending}" for ending in ("csv", "json", "md")]
    found = forms.read(tmp_path / "tables" / "benchmark_contest.json")
    assert forms.markdown(found) == (tmp_path / "tables" / "benchmark_contest.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs --application: reconstruction"),
        (["--application", "denosing"], "no benchmark for 'denosing'; the nearest is denoising"),
        (["--track", "nothing"], "there is no track 'nothing'"),
        (["--application", "denoising", "--track", "chests"], "there is no track 'chests'"),
        (["--application", "denoising", "--seeds", "0"], "--seeds is 0"),
        (["--application", "denoising", "--trials", "6"], "--trials is 6; there are 5 learning rates"),
        (["--application", "denoising", "--jobs", "-1"], "must be at least 0"),
        (["--application", "denoising", "--source", "x"], "not of the form TRACK=FOLDER"),
        (["--application", "denoising", "--source", "x=y"], "there is no track 'x'"),
        (["--application", "denoising", "--output", "/dev/null/x"], "cannot be made"),
        (["--aplication", "denoising"], "--aplication"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert cli.main(["reproduce", "benchmark", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no results"),
        ('{"benchmark": "x", "tracks": []}', "has schema None"),
    ],
)
def test_broken_and_older_results_are_one_line(tmp_path, text, words):
    path = tmp_path / "benchmark_x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        forms.read(path)


def test_broken_values_are_one_line(contest, tmp_path):
    part = parts.Part(contest, "tiny", tmp_path, entrant=contest.host)
    part.place.mkdir(parents=True)
    (part.place / process.VALUES).write_text("{")
    with pytest.raises(UserError, match="is broken"):
        part.read()
