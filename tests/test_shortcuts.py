"""Predictors without structure find what is given away and nothing else; a network finds the structure."""

import dataclasses
import functools
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import shortcuts
from medgan_jax.errors import UserError
from medgan_jax.evaluation import structure_free
from medgan_jax.phantoms.tasks import Task
from medgan_jax.review import code
from medgan_jax.shortcuts import Bounds, find_tasks, fingerprint, measure

MODULE = "medgan_jax.phantoms.tasks"
BLANK = shortcuts._Cases(None, None, {}, {}, 0.0, 1.0)


def disc(key, size=32):
    """A round mask somewhere in the image."""
    place = (jnp.arange(size) + 0.5) / size
    row, column = jax.random.uniform(key, (2,), minval=0.25, maxval=0.75)
    return ((place[:, None] - row) ** 2 + (place - column) ** 2 < 0.04)[..., None]


def stripes(key, size=32):
    """Across inside of a disc and along outside of it, in random phase: both sides have one histogram."""
    mask_key, phase_key = jax.random.split(key)
    mask = disc(mask_key, size)
    place, phases = jnp.arange(size), jax.random.uniform(phase_key, (2,)) * 2 * jnp.pi
    waves = [0.5 + 0.5 * jnp.sin(place * 1.6 + phase) for phase in phases]
    image = jnp.where(mask[..., 0], waves[0][:, None], waves[1][None, :])
    return image[..., None], mask


def segmentation(key, trivial):
    image, mask = stripes(key)
    image = 0.3 * image + 0.7 * mask if trivial else image
    return {"input": image, "target": mask.astype(jnp.float32)}


def classification(key, trivial):
    label_key, key = jax.random.split(key)
    label = jax.random.bernoulli(label_key)
    image, _ = stripes(key)
    turned = jnp.where(label, image, jnp.swapaxes(image, 0, 1))
    brighter = 0.2 * label if trivial else 0.0
    return {"input": turned + brighter, "target": label.astype(jnp.float32)}


def translation(key, trivial):
    image, mask = stripes(key)
    return {"input": image, "target": image**2 if trivial else mask.astype(jnp.float32), "weight": mask + 1.0}


def task(draw, *, trivial):
    return Task(draw.__name__, draw.__name__, functools.partial(draw, trivial=trivial))


@functools.cache
def predictors(draw, trivial):
    keys = jax.random.split(jax.random.key(3), 256)
    cases = jax.device_get(jax.vmap(functools.partial(draw, trivial=trivial))(keys))
    train, test = (
        {name: value[part] for name, value in cases.items()} for part in (slice(160), slice(160, None))
    )
    return getattr(structure_free, f"{draw.__name__}_scores")(train, test)


def test_an_easy_segmentation_is_found_out_by_threshold_and_table():
    scores = predictors(segmentation, True)
    assert scores["threshold"][0] > 0.95 and scores["look-up table"][0] > 0.95
    assert scores["mean shape"][0] < 0.7


def test_a_segmentation_by_texture_is_not():
    assert max(score for (score,) in predictors(segmentation, False).values()) < 0.65


def test_a_threshold_may_have_the_structure_on_either_side():
    images = np.linspace(0, 1, 64).reshape(1, 8, 8, 1).repeat(2, 0)
    cases = {"input": images, "target": (images < 0.3).astype(np.float32)}
    assert structure_free.segmentation_scores(cases, cases)["threshold"][0] > 0.95


def test_dice_at_cuts_is_the_dice_of_the_masks():
    generator = np.random.default_rng(0)
    level, truth = generator.integers(0, 5, (3, 80)), generator.random((3, 80)) < 0.4
    curves = structure_free._dice_at_cuts(level, truth, cuts=5)
    # A sliver counts for nothing.
    sliver = np.arange(80) < structure_free.SMALLEST - 1
    more = [np.concatenate([each, other[None]]) for each, other in ((level, level[0]), (truth, sliver))]
    np.testing.assert_array_equal(structure_free._dice_at_cuts(*more, cuts=5), curves)
    for cut in range(5):
        for side, mask in enumerate((level >= cut, level < cut)):
            expected = [2 * (m & t).sum() / (m.sum() + t.sum()) for m, t in zip(mask, truth, strict=True)]
            assert curves[side, cut] == pytest.approx(np.mean(expected))


def test_a_translation_that_is_a_table_is_found_out():
    easy, hard = predictors(translation, True), predictors(translation, False)
    assert easy["look-up table"] < 0.02 < 0.1 < min(easy["constant"], easy["mean image"], easy["input"])
    assert min(hard.values()) > 0.2


def test_a_class_of_another_brightness_is_found_out():
    easy, hard = predictors(classification, True), predictors(classification, False)
    assert easy["mean"] > 0.95 and easy["logistic regression"] > 0.95
    assert max(hard.values()) < 0.75


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(1)
    score, label = generator.integers(0, 9, 50), generator.random(50) < 0.5
    assert structure_free.roc_auc(score, label) == pytest.approx(metrics.roc_auc_score(label, score))


def small(monkeypatch, steps):
    config = shortcuts.Config(batch_size=8, steps=steps, base=8, levels=2)
    monkeypatch.setattr(shortcuts, "plan", lambda *_: ((64, 16), config))


def test_a_task_that_takes_structure_holds(monkeypatch):
    small(monkeypatch, 100)
    record = measure(task(segmentation, trivial=False), MODULE, steps=100)
    assert record["network"]["score"] > 0.85 and record["holds"]
    assert record["data"]["input"] == [32, 32, 1] and record["data"]["training cases"] == 64
    assert json.loads(json.dumps(record)) == record
    assert record["fingerprint"] == fingerprint(MODULE, "segmentation")


def test_bounds():
    assert Bounds().hold("segmentation", 0.65, 0.8) and not Bounds().hold("segmentation", 0.66, 0.9)
    assert Bounds().hold("classification", 0.75, 0.8) and not Bounds().hold("classification", 0.5, 0.79)
    assert Bounds().given_away("segmentation", 0.66) and not Bounds().given_away("translation", 9.0)
    assert Bounds().hold("translation", 0.4, 0.2) and not Bounds().hold("translation", 0.39, 0.2)


def test_dice_of_masks_moved_by_one_pixel():
    masks = np.zeros((2, 20, 20, 2))
    masks[0, 5:9, 5:15, 0] = 1  # 40 pixels; 30 remain one row below, 36 one column beside
    masks[1, 3:4, 3:13, 1] = 1  # 10 pixels, too few
    masks[0, 3:4, 0:12, 1] = 1  # a line of 12: none remain below, 11 beside
    assert structure_free.moved_dice(masks) == pytest.approx(np.mean([(30 + 36) / 80, 11 / 24]))


def test_less_is_asked_of_a_network_for_thin_structures_alone():
    thin, thick = (dataclasses.replace(BLANK, moved=moved) for moved in (0.6, 0.9))
    assert Bounds().for_cases(thin) == Bounds(network=0.6) and Bounds().for_cases(thick) == Bounds()


def test_what_is_not_learnt_is_tried_with_more_steps_and_then_more_cases(monkeypatch):
    small(monkeypatch, 3)
    played = []

    def play(experiment, config):
        played.append((config.steps, len(experiment.stages[0].data.train.source)))
        return {"metrics": {"Dice 0": {"mean": 0.5}}, "versions": {}}

    monkeypatch.setattr(shortcuts, "_play", play)
    record = measure(task(segmentation, trivial=False), MODULE)
    assert played == [(1, 64), (3, 64), (6, 128)]
    assert not record["holds"] and record["data"]["training cases"] == 128 and record["network"]["steps"] == 6


PHANTOM = """
from medgan_jax.phantoms.shapes import grid
from medgan_jax.phantoms.tasks import Task
SIZE = 32
def first(key):
    return grid((SIZE, SIZE))  # why
def second(key, side=8):
    return side
TASKS = (Task("one", "segmentation", first), Task("two", "segmentation", second))
"""


def test_a_change_of_one_task_leaves_the_records_of_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    changes = {
        "itself": ("", ""),
        "comment": ("# why", "# because"),
        "first": ("SIZE = 32", "SIZE = 64"),
        "second": ("return side", "return 2 * side"),
        "line": ('Task("two", "segmentation"', 'Task("two", "translation"'),
    }
    found = {}
    for change, (old, new) in changes.items():
        folder = tmp_path / change
        folder.mkdir()
        (folder / "two_tasks.py").write_text(PHANTOM.replace(old, new) if old else PHANTOM)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            importlib.invalidate_caches()
            for function in (code.tree, code._scope, code.is_module):
                function.cache_clear()
            found[change] = [fingerprint("two_tasks", task) for task in ("one", "two")]
    one, two = found["itself"]
    assert len(one) == 64 and one != two
    assert found["comment"] == [one, two]
    assert found["first"][0] != one and found["first"][1] == two
    for change in ("second", "line"):
        assert found[change][0] == one and found[change][1] != two


def test_the_command_refuses_what_it_does_not_know(capsys):
    assert shortcuts.main(["nowhere"]) == 2
    assert "no task 'nowhere'" in capsys.readouterr().err
    assert shortcuts.main(["--steps", "0"]) == 2
    assert "--steps is 0" in capsys.readouterr().err


def test_the_command_fails_with_a_trivial_task_and_writes_its_record(monkeypatch, tmp_path, capsys):
    toy = task(classification, trivial=True)
    monkeypatch.setattr(shortcuts, "find_tasks", lambda: {"toy": (MODULE, toy)})
    small(monkeypatch, 2)
    assert shortcuts.main(["--output", str(tmp_path)]) == 1
    assert "FAILS" in capsys.readouterr().out
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["predictors"]["mean"] > 0.95 and not record["holds"]
    assert shortcuts.state_of("toy", MODULE, tmp_path) == "fails"
    assert shortcuts.main(["--output", str(tmp_path), "--stale"]) == 0
    assert shortcuts.state_of("toy", "medgan_jax.phantoms.shapes", tmp_path) == "stale"
    assert shortcuts.state_of("other", MODULE, tmp_path) == "missing"


def test_a_training_that_was_stopped_is_no_measurement(monkeypatch):
    small(monkeypatch, 4)
    train = shortcuts.run.train
    early = lambda make, config, options: train(make, config, dataclasses.replace(options, steps=1))  # noqa: E731
    monkeypatch.setattr(shortcuts.run, "train", early)
    with pytest.raises(UserError, match="stopped before its end"):
        measure(task(segmentation, trivial=False), MODULE)


def test_tasks_that_do_not_fit_are_refused():
    def draw(key):
        return {"input": jnp.zeros((30, 31, 1)), "target": jnp.zeros((30, 31, 1))}

    with pytest.raises(UserError, match="multiples of 4"):
        measure(Task("odd", "segmentation", draw), MODULE)


def test_names_of_tasks_are_unique():
    assert all(name == task.name for name, (_, task) in find_tasks().items())


# Measured and below the bound: 0.796 of 0.8.
NOT_YET = {"hippocampus_parts": "fails"}


def test_every_task_has_a_record_of_its_phantom_that_holds():
    states = {name: shortcuts.state_of(name, module) for name, (module, _) in find_tasks().items()}
    wrong = {name: state for name, state in states.items() if state != NOT_YET.get(name, "holds")}
    assert not wrong, f"`python -m medgan_jax.shortcuts {' '.join(wrong)}` measures what is {wrong}"
    assert {path.stem for path in shortcuts.RECORDS.glob("*.json")} == set(states)
