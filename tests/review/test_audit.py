"""An audit of a trained toy: answers, controls, reasons where there is none, one line for mistakes."""

import dataclasses
import importlib
import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import cli
from medgan_jax.review import audit, audit_page

TESTS = pathlib.Path(__file__).resolve().parents[1]
TOY = "toy_experiments.denoiser"


@pytest.fixture(scope="module")
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        yield importlib.import_module(TOY)


@pytest.fixture(scope="module")
def workdir(toy, tmp_path_factory):
    """Two seeds, the first with a twin."""
    root = tmp_path_factory.mktemp("audit")
    tiny = ["--preset", "tiny", "--no-progress"]
    assert cli.main(["train", TOY, *tiny, "--seeds", "2", "--workdir", str(root)]) == 0
    assert cli.main(["train", TOY, *tiny, "--twin", "--workdir", str(root / "seed_0")]) == 0
    return root


def experiment(toy, **changes):
    """The toy with what an audit asks of an experiment."""
    known = {"compare": ("denoised", "clean"), "forward": lambda image, batch: image[..., ::2, :], **changes}
    return lambda config: dataclasses.replace(toy.experiment(config), **known)


@pytest.fixture(scope="module")
def found(toy, workdir):
    config = toy.Config.tiny()
    return audit.audit_run(experiment(toy), config, config.twin(), workdir, (0, 1), 8)


def test_every_question_is_answered_beside_its_controls(found):
    answers = found["answers"]
    assert not [name for name, answer in answers.items() if "undefined" in answer]
    assert (found["cases"], found["twin"], found["ensemble"]) == (8, True, 2)
    assert set(answers["consistency"]["residual"]) == {"method", "twin"}
    assert set(answers["lesions"]["rows"]) == {"identity", "method", "twin"}
    assert [each["cnr"] for each in answers["lesions"]["rows"]["method"]] == [1, 2, 4, 8]
    assert answers["uncertainty"]["over"] == "seeds"
    assert json.loads(json.dumps(found)) == found


def test_the_identity_keeps_what_was_put_in(found):
    for each in found["answers"]["lesions"]["rows"]["identity"]:
        assert each["recovery"] == pytest.approx(1, abs=0.05)
        assert each["local"] == pytest.approx(1, abs=0.01)
    assert found["answers"]["lesions"]["controls_hold"]


def test_a_perfect_and_a_shifted_output_are_told(toy, workdir):
    config, batch = toy.Config.tiny(), None
    method = audit.load(experiment(toy), config, workdir / "seed_0", 0)
    data = method.experiment.stages[-1].data
    batch, _ = next(iter(audit.evaluation_batches(data.test, 8, fields=data.fields)))

    def answering(change):
        def run(state, batch, data_key, key):
            _, prepared = method.run(state, batch, data_key, key)
            return {"denoised": change(prepared["clean"])}, prepared

        return dataclasses.replace(method, run=run)

    perfect, shifted = answering(lambda x: x), answering(lambda x: 0.5 * x + 0.1)
    assert audit.consistency(perfect, None, batch)["residual"]["method"]["mean"] == 0
    assert audit.intensity(perfect, batch)["wasserstein"] == 0
    calibration = audit.intensity(shifted, batch)
    assert (calibration["slope"], calibration["intercept"]) == (pytest.approx(0.5), pytest.approx(0.1, abs=1e-6))
    recovery = [each["recovery"] for each in audit.lesions(shifted, None, batch)["rows"]["method"]]
    assert recovery == pytest.approx([0.5] * 4, rel=1e-3)
    drawing = dataclasses.replace(method, run=lambda state, batch, data_key, key: (
        {"denoised": method.run(state, batch, data_key, key)[1]["clean"]
         + 0.1 * audit.jax.random.normal(key, (8, 8, 8, 1))}, method.run(state, batch, data_key, key)[1]))  # fmt: skip
    assert audit.uncertainty(drawing, (), batch)["over"] == "draws"


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"compare": None}, "intensity", "no reference image"),
        ({"forward": None}, "consistency", "no model of the measurement"),
        ({"prediction": None}, "lesions", "from noise"),
        ({"prediction": None}, "attribution", "from noise"),
        ({}, "uncertainty", "one seed"),
    ],
)
def test_what_is_not_defined_says_why(toy, workdir, changes, name, reason):
    config = toy.Config.tiny()
    method = audit.load(experiment(toy, **changes), config, workdir / "seed_0", 0)
    assert reason in audit.audit(method, None, (), 8)["answers"][name]["undefined"]


def test_the_page_has_the_numbers_and_escapes_what_it_shows(found):
    shown = audit_page.page({**found, "data": "<script>"})
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    row = found["answers"]["lesions"]["rows"]["method"][0]
    assert audit_page.number(row["recovery"]) in shown
    assert shown.count("<section>") == 5 == len(found["answers"])
    nothing = {**found, "answers": {name: {"undefined": "no <b>reason</b>"} for name in found["answers"]}}
    assert "n/a: no &lt;b&gt;reason" in audit_page.page(nothing)


def test_the_command_writes_both_and_refuses_in_one_line(toy, workdir, capsys, tmp_path):
    assert cli.main(["audit", TOY, "--workdir", str(workdir), "--cases", "4", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "audit.json").read_text())
    assert "no reference image" in written["answers"]["intensity"]["undefined"]
    assert (tmp_path / "audit.html").read_text().startswith("<!doctype html>")
    capsys.readouterr()
    for arguments, words in (
        ([TOY], "needs --workdir"),
        ([TOY, "--workdir", str(tmp_path / "none")], "none"),
        ([TOY, "--workdir", str(workdir), "--cases", "1"], "needs 2 or more"),
    ):
        assert cli.main(["audit", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def test_inserted_lesions_leave_masks_alone():
    templates = np.zeros((2, 8, 8))
    templates[:, 3:5, 3:5] = 1
    batch = {"image": np.random.default_rng(0).uniform(0, 10, (2, 8, 8, 1)), "mask": np.ones((2, 8, 8, 1)),
             "label": np.arange(2), "id": jnp.zeros((2, 3))}  # fmt: skip
    changed, heights = audit._inserted(batch, templates, 0.5)
    assert np.array_equal(changed["mask"], batch["mask"]) and len(heights) == 1
    difference = (changed["image"] - batch["image"])[..., 0]
    spans = [np.ptp(image) for image in batch["image"]]
    assert difference[:, 3:5, 3:5].mean((1, 2)) == pytest.approx(0.5 * np.array(spans))
    assert not difference[:, :3].any()
