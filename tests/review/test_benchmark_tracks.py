"""The built-in tracks: every application has one, its entrants exist, and one task is one task."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.configuration import PRESETS
from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import area_under_curve
from medgan_jax.physics.deformation import warp
from medgan_jax.review import catalogue, learning
from medgan_jax.review.benchmark import classical, identity, parts, shape_tracks, shared, track
from medgan_jax.review.benchmark.tracks import TRACKS
from medgan_jax.training.workdir import write_json


def test_every_application_with_an_implemented_method_has_a_track():
    implemented = {entry for entry in catalogue.methods() if entry.implemented}
    assert {each.application for each in TRACKS} == {entry.application for entry in implemented}
    entered = {entrant.id for each in TRACKS for entrant in each.entrants}
    assert {entry.id for entry in implemented} <= entered
    assert len({each.name for each in TRACKS}) == len(TRACKS)


@pytest.mark.parametrize("each", TRACKS, ids=lambda each: each.name)
def test_entrants_are_known_and_can_be_configured(each):
    assert track.find(each.module, each.name) is each
    names = [entrant.name for entrant in each.entrants]
    assert len(set(names)) == len(names) >= 2
    kinds = {entrant.kind for entrant in each.entrants}
    assert (
        each.host.kind == "method"
        and each.host.build is None
        and kinds & {"plain", "twin"} | (kinds & {"reference"})
    )
    for entrant in each.entrants:
        assert (entrant.id in learning.implemented()) != (entrant.build is not None)
        for preset in PRESETS:
            one = track.configuration(each, entrant, preset, "phantom")
            tuned = track.configuration(each, entrant, preset, "phantom", 0.3)
            changed = {field.name for field in dataclasses.fields(one) if getattr(one, field.name) !=
                       getattr(tuned, field.name)}  # fmt: skip
            assert changed and all(name.endswith("rate") for name in changed)


@pytest.mark.parametrize("name", ["head_undersampled", "abdomen_low_dose"])
def test_methods_that_share_a_track_have_the_same_cases(name, tmp_path):
    each = next(each for each in TRACKS if each.name == name)
    folder = tmp_path / "data"
    shared.write(each, "tiny", folder)
    methods = [entrant for entrant in each.entrants if entrant.kind == "method"]
    proofs = [identity.prove(each, entrant, "tiny", str(folder)) for entrant in methods]
    assert len(methods) == 2 and proofs[0]["cases"] == proofs[1]["cases"]
    assert 0 <= proofs[1]["largest_difference"] < 1e-5
    configurations = [track.configuration(each, entrant, "tiny", "x") for entrant in methods]
    assert len({config.steps for config in configurations}) == 1
    if name == "head_undersampled":
        own = methods[1].changes
        more = dataclasses.replace(methods[1], changes=lambda *of: {**own(*of), "rate": 0.5})
        with pytest.raises(UserError, match=r"DAGAN is refused .* input of test case"):
            identity.prove(each, more, "tiny", str(folder))


def test_shared_files_are_called_after_the_phantoms_that_they_hold(tmp_path):
    each = next(each for each in TRACKS if each.name == "head_undersampled")
    data = {"source": "fa4b804fd3b9", "n": 8}
    for entrant, values in ((None, {"methods": {"a": {"data": dict(data)}, "b": {"reason": "no"}}}),
                            (each.host, {"test": {"data": dict(data)}})):  # fmt: skip
        for source, called in (("phantom", "phantoms of dagan, the same files for all"), ("x", "fa4b804fd3b9")):
            part = parts.Part(each, "tiny", tmp_path, source, entrant)
            part.place.mkdir(parents=True)
            write_json(part.place / "values.json", values)
            read = part.read()
            assert (read["test"] if entrant else read["methods"]["a"])["data"] == {"source": called, "n": 8}


def test_area_under_curve_of_the_pixels_of_a_case():
    random = np.random.default_rng(0)
    score = random.integers(0, 9, (3, 8, 8, 1)).astype(np.float32)
    mask, inside = (random.random((3, 8, 8, 1)) < share for share in (0.3, 0.8))
    metric = shape_tracks.area_under_curve("output", "target", "inside")
    found = jax.jit(metric.per_case)({"output": score}, {"target": mask * 1.0, "inside": inside * 1.0})
    wanted = [area_under_curve(score[n][inside[n]], mask[n][inside[n]] * 1) for n in range(3)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec(classical.REGISTRATION) is None, reason="it is not installed")
@pytest.mark.parametrize("name", ["affine", "demons"])
def test_classical_registration_finds_a_shift(name):
    grid = np.stack(np.meshgrid(*(np.arange(48.0),) * 2, indexing="ij"), -1)
    far = (np.square((grid - centre) / [5, 9]).sum(-1) for centre in ((24, 22), (27, 24)))
    fixed, moving = (np.exp(-each / 2)[None, ..., None].astype(np.float32) for each in far)
    method = classical.registration(name, getattr(classical, name))
    case = {"moving": jnp.asarray(moving), "fixed": jnp.asarray(fixed)}
    phi = jax.jit(lambda case: method.apply((), case, None))(case)["displacement"]
    warped = np.asarray(warp(case["moving"], phi))
    assert np.square(warped - fixed).mean() < 0.1 * np.square(moving - fixed).mean()
    np.testing.assert_allclose(phi[0, 24, 22], [3, 2], atol=0.7)


def test_a_library_that_is_absent_is_named(monkeypatch):
    monkeypatch.setattr(classical.importlib.util, "find_spec", lambda name: None)
    method = classical.registration("affine", classical.affine)
    with pytest.raises(
        UserError, match="affine needs SimpleITK, which is not installed: pip install SimpleITK"
    ):
        method.apply((), {"moving": jnp.zeros((1, 8, 8, 1)), "fixed": jnp.zeros((1, 8, 8, 1))}, None)


def test_principal_components_leave_what_healthy_images_never_have():
    random = np.random.default_rng(1)
    basis = random.normal(size=(3, 8, 8, 1))

    def images(count):
        return np.tensordot(random.normal(size=(count, 3)), basis, 1).astype(np.float32)

    method = classical.principal_residual(4)
    fitted = method.fit([{"input": images(40)}])
    healthy, ill = images(5), images(5)
    ill[:, 2:4, 2:4] += 3
    scores = [method.apply(fitted, {"input": jnp.asarray(x)}, None)["score"] for x in (healthy, ill)]
    assert scores[0].max() < 0.1 * scores[1].min()
