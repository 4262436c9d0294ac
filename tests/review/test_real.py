"""Runs on real images: who is in which part, what is made of a set, records, the page that is made from them."""

import csv
import dataclasses
import importlib
import json
import pathlib
import types

import jax
import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax import cli
from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.data.pipeline import evaluation_batches
from medgan_jax.data.sources import SPLITS, open_folder
from medgan_jax.errors import UserError
from medgan_jax.review import processes, runs
from medgan_jax.review.real import facts, figures, plans, program, recorded, results, sets
from medgan_jax.review.real.sets import brain, histology
from medgan_jax.training.evaluation import Evaluator
from medgan_jax.training.parallel import make_layout
from medgan_jax.training.run import first_batch
from medgan_jax.training.step import last_batch

SIDE = 32
PEOPLE = 12


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def split_of(number):
    return "test" if number % 3 == 2 else "train"


def blob(generator, shape, channels=1):
    """A bright disc with texture on a dark ground."""
    grids = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    inside = sum(grid**2 for grid in grids) < 0.8
    image = 40 + 150 * inside[..., None] * generator.uniform(0.6, 1, (*shape, channels))
    return image.astype(np.uint8)[..., 0] if channels == 1 else image.astype(np.uint8)


def nuclei(generator, shape, count=5):
    """Numbered squares."""
    label = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        y, x = (int(generator.integers(2, side - 6)) for side in shape)
        label[y : y + 4, x : x + 4] = number
    return label


def fake_sets(root):
    """Small folders in the layout of the real sets, with as many test subjects."""
    generator, plane = np.random.default_rng(0), (SIDE, SIDE)
    rows = {name: [] for name in ("brain", "retina", "chest", "hippocampus", "ct")}
    for number in range(PEOPLE):
        split, person = split_of(number), f"{number:03d}"
        for view in "ab":
            write_png(root / "brain_mr_ixi/images" / f"{person}{view}.png", blob(generator, plane))
            rows["brain"].append({"id": f"{person}{view}", "subject": person, "split": split})
        for eye in "LR":
            name = f"Image_{person}{eye}"
            write_png(root / "retina_chase/images" / f"{name}.png", blob(generator, (SIDE, SIDE + 2), 3))
            for folder in ("vessels_1st", "vessels_2nd", "fov"):
                drawn = generator.random((SIDE, SIDE + 2)) < (0.95 if folder == "fov" else 0.4)
                write_png(root / "retina_chase" / folder / f"{name}.png", (255 * drawn).astype(np.uint8))
            rows["retina"].append({"id": name, "subject": person, "eye": eye, "split": split})
        write_png(root / "cxr_lungs_nc/images" / f"cxr{person}.png", blob(generator, plane))
        lungs = np.zeros(plane, np.uint8)
        lungs[8:24, 4:14], lungs[8:24, 18:28] = 1, 2
        write_png(root / "cxr_lungs_nc/masks" / f"cxr{person}.png", lungs)
        chest = {"id": f"cxr{person}", "file": f"cxr{person}.png", "split": split, "subject": f"s{person}"}
        rows["chest"].append(chest)
        volume, label = blob(generator, (12, 14, 13)), np.zeros((12, 14, 13), np.uint8)
        label[4:7, 4:9, 4:9], label[7:9, 4:9, 4:9] = 1, 2
        for folder, array in (("images", volume.astype(np.float32)), ("labels", label)):
            path = root / "hippocampus_mr3d" / folder / f"hippocampus_{person}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)
        rows["hippocampus"].append({"id": f"hippocampus_{person}", "split": split})
        kernel = "B/40" if number % 2 else "C"
        rows["ct"].append({"id": f"ID_{person}", "split": split, "patient": f"p{person}", "kernel": kernel})
    for name, folder in (("brain", "brain_mr_ixi"), ("retina", "retina_chase"), ("hippocampus", "hippocampus_mr3d")):
        table(root / folder / "split.csv", rows[name])
    table(root / "cxr_lungs_nc/attribution.csv", rows["chest"])
    histology_set(root / "histology_stain_dsb2018", generator)
    for split in ("train", "test"):
        own = [row for row in rows["ct"] if row["split"] == split]
        count = len(own)
        (root / "ct_chest_tcga").mkdir(exist_ok=True)
        raw = np.stack([5 * blob(generator, plane).astype(np.int16) for _ in own])
        np.savez(root / "ct_chest_tcga" / f"{split}.npz", raw=raw, slope=np.ones(count),
                 intercept=np.full(count, -1024.0), pixel_spacing_mm=np.full(count, 11.0),
                 patient=np.array([row["patient"] for row in own]),
                 ids=np.array([row["id"] for row in own]))  # fmt: skip
        (root / "nuclei_fluo_dsb2018").mkdir(exist_ok=True)
        many = 5 * count
        np.savez(root / "nuclei_fluo_dsb2018" / f"{split}.npz",
                 images=np.stack([blob(generator, plane) for _ in range(many)]),
                 labels=np.stack([nuclei(generator, plane) for _ in range(many)]),
                 ids=np.array([f"{split}{n}" for n in range(many)]))  # fmt: skip
    table(root / "ct_chest_tcga/split.csv", rows["ct"])


def histology_set(root, generator):
    rows = []
    for letter, domain in (("p", "he_pink"), ("u", "purple_purple"), ("w", "purple_white")):
        for number in range(PEOPLE if domain != "he_pink" else 2):
            name = f"{letter}{number:03d}"
            write_png(root / domain / "images" / f"{name}.png", blob(generator, (32, 40), 3))
            path = root / domain / "labels" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(nuclei(generator, (32, 40))).save(path)
            split = split_of(number) if domain != "he_pink" else "extra"
            rows.append({"id": name, "domain": domain, "split": split, "mosaic_group": f"{domain}_{number}"})
    table(root / "split.csv", rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    fake_sets(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# Where the real set decides a size, the small ones have another.
SIZES = {"brain_mr_ixi": {"size": str(SIDE)}, "hippocampus_mr3d": {"size": "16 16 16", "shape": "16 16 16"}}


def small(plan):
    """The plan at the sizes of the fake sets."""
    own = {name: value for name, value in SIZES.get(plan.set, {}).items() if name in plan.values}
    return dataclasses.replace(plan, values={**plan.values, **own})


def opened(plan, folder, root):
    """Experiment and source of a plan at `tiny`."""
    source = recorded.opened(plan, folder, "tiny", root)
    run = runs.Run(plan.id, plan.module, "tiny", 0, root, str(source), plan.options("tiny"))
    return cli.load(plan.module).factory(run.configuration), source


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def who(name):
    """Who a subject or an id is: the number of a person, or the tile of a set without people."""
    digits = "".join(sign for sign in name.split("/")[0].rpartition("_")[2] if sign.isdigit())
    return f"{int(digits):03d}"


# --- nobody who is tested trains, validates or sets a threshold ---


@pytest.mark.parametrize("plan", plans.PLANS, ids=lambda plan: plan.id)
def test_no_test_subject_is_in_training_or_validation(plan, folder, root):
    plan = small(plan)
    experiment, _ = opened(plan, folder, root)
    found = recorded.subjects(experiment)
    train, validation, test = (set(found[part]) for part in SPLITS)
    # Domain adaptation chooses nothing, so its validation part is left alone.
    assert train and test and (validation or plan.experiment == "adv_da_histopathology")
    assert not train & test and not validation & test and not train & validation
    if plan.set == "nuclei_fluo_dsb2018":
        assert all(name.startswith("test") for name in test)
        assert all(name.startswith("train") for name in train | validation)
    else:
        # As the set's own table says, by whichever name the record knows a person.
        assert {split_of(int(who(name))) for name in test} == {"test"}
        assert {split_of(int(who(name))) for name in train | validation} == {"train"}
    for stage in experiment.stages:
        data = stage.data
        assert data.validation is None or data.validation.fingerprint != data.test.fingerprint


def test_who_carries_an_effect_is_someone_else_than_who_does_not(folder, root):
    for plan in (each for each in plans.PLANS if each.id in ("va_gan", "anogan")):
        source = recorded.opened(small(plan), folder, "tiny", root)
        if plan.id == "va_gan":
            with (source / "split.csv").open() as file:
                rows = list(csv.DictReader(file))
            of_domain = {name: {row["subject"] for row in rows if row["domain"] == name} for name in ("c0", "c1")}
            assert of_domain["c0"] and of_domain["c1"] and not of_domain["c0"] & of_domain["c1"]
            continue
        for split in ("validation", "test"):
            part = open_folder(source, split=split)
            ill = {part.subjects[n] for n in range(len(part)) if part[n]["mask"].any()}
            healthy = {part.subjects[n] for n in range(len(part)) if not part[n]["mask"].any()}
            assert ill and healthy and not ill & healthy
        train = open_folder(source, split="train")
        assert not any(train[n]["mask"].any() for n in range(len(train)))


# --- what is made of sets ---


def test_an_effect_is_what_was_added_and_lies_in_the_head():
    image = np.zeros((64, 64))
    image[8:56, 12:52] = 0.8
    first, second = (brain.known_effect(image, subtype, np.random.default_rng(1)) for subtype in (1, 2))
    assert (first <= 0).all() and (image + first >= 0).all() and not first[image == 0].any()
    # Both darken the middle; the first also what is above it in the picture, the second what is below.
    assert first[32, 32] < -0.1 and second[32, 32] < -0.1
    assert first[18, 32] < 2 * second[18, 32] < 0 and second[46, 32] < 2 * first[46, 32] < 0


def test_complex_slices_keep_their_magnitude(folder, root):
    plan = small(next(each for each in plans.PLANS if each.id == "refinegan_complex"))
    source = recorded.opened(plan, folder, "tiny", root)
    made, raw = open_folder(source, split="test"), open_folder(folder / "brain_mr_ixi", split="test")
    assert made.ids == raw.ids and made.subjects == raw.subjects
    image = made[0]["image"]
    magnitude, original = np.hypot(image[..., 0], image[..., 1]), raw[0]["image"][..., 0]
    assert np.allclose(magnitude, original / original.max(), atol=2e-3)
    phase = np.angle(image[..., 0] + 1j * image[..., 1])
    assert phase.std() > 0.05 and np.abs(np.diff(phase, axis=0)).mean() < 0.2


def test_low_doses_add_noise_alone(folder, root):
    plan = next(each for each in plans.PLANS if each.id == "wgan_vgg_ldct")
    source = recorded.opened(plan, folder, "tiny", root)
    part = open_folder(source, split="train")
    record, raw = part[0], open_folder(folder / "ct_chest_tcga", split="train")
    clean = next(raw[n]["image"] for n in range(len(raw)) if raw.ids[n] == record["id"])
    assert np.allclose(record["target"], np.clip(clean, -1024, 3071), atol=0.5)
    noise = record["image"] - record["target"]
    assert noise.std() > 1 and abs(noise.mean()) < noise.std()
    assert {row["kernel"] for row in part.metadata} == {"B/40", "C"}


def test_padded_volumes_are_scored_within(folder, root):
    plan = small(next(each for each in plans.PLANS if each.id == "mdcsrn_gan"))
    experiment, source = opened(plan, folder, root)
    record = experiment.stages[0].data.test[0]
    mask = record["mask"][..., 0]
    assert record["image"].shape == (16, 16, 16, 1) and mask.sum() == (12 - 8) * (14 - 8) * (13 - 8)
    assert sets.facts(source)["volumes cut"] == 0
    outside = {"fine": np.where(mask[None, ..., None], record["image"], record["image"] + 1)}
    batch = {"image": record["image"][None], "mask": record["mask"][None]}
    assert experiment.metric("psnr").per_case(outside, batch)[0] > 60


def test_nuclei_get_one_size_and_patches_a_label(folder, root):
    nuclei_set, plan = folder / "histology_stain_dsb2018", next(p for p in plans.PLANS if p.id == "staingan")
    _, source = opened(plan, folder, root)
    assert set(sets.facts(source)["scale"]) == {"purple_purple", "purple_white"}
    assert max(sets.facts(source)["scale"].values()) == 1
    label = np.zeros((40, 40), int)
    label[10:15, 10:15] = 1
    found = histology.centre_points(label, 8)
    assert found["nucleus"] == [(12, 12)]
    assert found["background"] and all(np.hypot(y - 12, x - 12) > 8 for y, x in found["background"])
    assert histology.median_area(histology.opened(nuclei_set)["train"]["purple_white"]) <= 16


def test_a_derived_set_is_made_once_and_anew_for_other_settings(folder, root):
    plan = small(next(each for each in plans.PLANS if each.id == "va_gan"))
    first = recorded.opened(plan, folder, "tiny", root)
    changed = (first / sets.FACTS).stat().st_mtime_ns
    assert recorded.opened(plan, folder, "tiny", root) == first
    assert (first / sets.FACTS).stat().st_mtime_ns == changed
    other = dataclasses.replace(plan, values={"size": "20"})
    assert recorded.opened(other, folder, "tiny", root) != first


def test_a_missing_set_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="holds no folder brain_mr_ixi, which dagan runs on"):
        recorded.opened(plans.PLANS[0], tmp_path, "tiny", tmp_path)


def test_sampling_rates_of_real_spectra(folder, root):
    magnitude, complex_ = (small(each) for each in plans.PLANS if each.id.startswith("refinegan"))
    found = [facts.of(plan, opened(plan, folder, root)[0]) for plan in (magnitude, complex_)]
    kept, determined = (each["sampling rate, determined"] for each in reversed(found))
    # A real image's spectrum is mirrored; the complex image's is not.
    assert kept == pytest.approx(found[1]["sampling rate, of samples"]) and determined > kept


@pytest.mark.parametrize("plan", [each for each in plans.PLANS if each.extended], ids=lambda plan: plan.id)
def test_extended_experiments_prepare_what_they_train_on_and_measure(plan, folder, root):
    experiment, _ = opened(small(plan), folder, root)
    stage = experiment.stages[-1]
    data = stage.data
    tested, _ = next(evaluation_batches(data.test, 2, fields=data.fields))
    for batch in (last_batch(stage, first_batch(stage, 0)), tested):
        assert jax.eval_shape(stage.prepare, batch, jax.random.key(0))
    extra = {"va_gan": "effect_map", "mdcsrn_gan": "mask", "staingan": "label", "vgan_retina": "child"}
    assert extra[plan.experiment] in jax.eval_shape(stage.prepare, tested, jax.random.key(0))
    # What is learnt from training cases has no use for what only the measured ones have.
    evaluator = Evaluator(experiment, make_layout(RunOptions(mesh=MeshOptions(data=1))))
    for method in evaluator.compared:
        evaluator.fit(method, limit=2)


# --- runs and records ---

TOY = "toy_experiments.thresholded"
NOT_CLAIMED = "Nothing about denoising: the toy shows that records are kept and read again."


def with_toy(patch):
    """The toy as the first of two plans."""
    plan = plans.Plan("toy_on_brains", "toy", "brain_mr_ixi", "MSE", NOT_CLAIMED)
    known, entry = plans.catalogue.find, types.SimpleNamespace(module=TOY, application="denoising")
    two = (plan, plans.PLANS[0])
    patch.syspath_prepend(str(pathlib.Path(__file__).parents[1]))
    patch.setattr(plans.catalogue, "find", lambda name: entry if name == "toy" else known(name))
    for module in (plans, program):
        patch.setattr(module, "PLANS", two)


@pytest.fixture(scope="module")
def run_once(folder, root):
    """Two seeds and twins of the toy on the brain slices, run in this process by the command."""
    original = processes.subprocess.run

    def in_this_process(command, stdout=None, stderr=None, env=None, **options):
        if command[1:3] != ["-m", "medgan_jax.review.runs"]:
            return original(command, stdout=stdout, stderr=stderr, env=env, **options)
        return types.SimpleNamespace(returncode=runs.main(command[3:]))

    options = ["--sets", str(folder), "--preset", "tiny", "--seeds", "2", "--workdir", str(root / "e2e")]
    options += ["--records", str(root / "records"), "--only", "toy_on_brains", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        with_toy(patch)
        patch.setattr(processes.subprocess, "run", in_this_process)
        assert cli.main(["reproduce", "real", *options]) == 0
    path = root / "records" / "toy_on_brains.json"
    return types.SimpleNamespace(root=root, folder=folder, records=path.parent, path=path, options=options)


@pytest.fixture
def measured(run_once, monkeypatch):
    with_toy(monkeypatch)
    return run_once


def test_a_record_says_what_was_run(measured):
    entry = json.loads(measured.path.read_text())
    assert entry["seeds"] == [0, 1] and entry["preset"] == "tiny" and entry["metrics"]["MSE"]["over"] == "seeds"
    command = "python -m medgan_jax reproduce real --only toy_on_brains --preset tiny --seeds 2 --sets FOLDER"
    assert entry["command"] == command
    assert len(entry["seconds"]["training"]) == 2 and entry["hardware"]["platform"] == "cpu"
    assert entry["baseline_name"] == "noisy input" and entry["twin"]["MSE"]["mean"] is not None
    values = entry["by_subject"]["method"]["MSE"]
    assert sorted(values) == entry["subjects"]["test"] and all(len(seeds) == 2 for seeds in values.values())
    assert np.mean(list(values.values())) == pytest.approx(entry["metrics"]["MSE"]["mean"], abs=1e-5)
    assert set(entry["by_subject"]) == {"method", "baseline", "twin"}
    inside = entry["intervals"]["value"]
    assert inside["lower"] <= inside["mean"] <= inside["upper"] and inside["subjects"] == len(values)
    assert {"difference to noisy input", "difference to twin"} <= set(entry["intervals"])
    # No place of this machine is in it.
    assert str(measured.root) not in json.dumps(entry) and str(measured.folder) not in json.dumps(entry)


def test_thresholds_come_from_validation_and_nobody_is_in_two_parts(measured):
    entry = json.loads(measured.path.read_text())
    assert entry["thresholds_from"] == {"above": "validation"}
    people = {part: set(entry["subjects"][part]) for part in SPLITS}
    of_table = {part: {f"{n:03d}" for n in range(PEOPLE) if split_of(n) == part} for part in ("train", "test")}
    assert people["test"] == of_table["test"] and people["train"] | people["validation"] == of_table["train"]
    assert people["validation"] and not people["train"] & people["validation"]
    # Every slice of a person is a case; the test part has more of them, and was never asked for a threshold.
    asked = set(importlib.import_module(TOY).SEEN)
    assert asked == {2 * len(people["validation"])} and 2 * len(people["test"]) not in asked


def test_what_is_done_is_read_again_and_figures_are_there(measured, monkeypatch, capsys):
    monkeypatch.setattr(processes.subprocess, "run", lambda *a, **o: pytest.fail("a run was started again"))
    before = measured.path.read_text()
    assert cli.main(["reproduce", "real", *measured.options]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == {"toy_on_brains": "fresh"}
    assert measured.path.read_text() == before
    names = {path.name for path in (measured.root / "e2e" / "figures").iterdir()}
    assert names == {"contact_sheet.png", "toy_on_brains.png", "toy_on_brains_small.png"}
    with Image.open(measured.root / "e2e" / "figures" / "toy_on_brains_small.png") as picture:
        assert picture.width <= figures.SMALL_WIDTH
    assert (measured.records / "toy_on_brains.png").is_file()
    assert "![toy_on_brains](./toy_on_brains.png)" in (measured.records / "RESULTS.md").read_text()


def test_pictures_of_sets_without_a_free_licence_are_not_published(tmp_path):
    for name in ("scan", "dagan"):
        (tmp_path / f"{name}_small.png").write_bytes(b"picture")
    records = tmp_path / "records"
    records.mkdir()
    figures.publish({"scan": "cxr_lungs_nc", "dagan": "brain_mr_ixi", "absent": "brain_mr_ixi"}, tmp_path, records)
    assert [path.name for path in records.iterdir()] == ["dagan.png"]


def test_the_page_is_made_from_the_records_and_marks_stale_ones(measured, monkeypatch, capsys):
    page = (measured.records / "RESULTS.md").read_text()
    entry = json.loads(measured.path.read_text())
    assert results.value(entry["metrics"]["MSE"]) in page and results.shows(entry) in page
    assert NOT_CLAIMED in page and "`toy_on_brains` **stale**" not in page
    assert "No record yet: `dagan`" in page
    check = ["reproduce", "real", "--check", "--records", str(measured.records), "--only", "toy_on_brains"]
    assert cli.main(check) == 0
    assert "fresh" in capsys.readouterr().out
    monkeypatch.setattr(recorded, "fingerprint", lambda plan, preset: "another code")
    assert cli.main([*check, "dagan"]) == 2
    said = capsys.readouterr()
    assert f"{'dagan':<32} missing" in said.out and f"{'toy_on_brains':<32} stale" in said.out
    wrong = "2 of 2 records are stale or missing: toy_on_brains, dagan"
    assert said.err.count("\n") == 1 and wrong in said.err
    assert "`toy_on_brains` **stale**" in (measured.records / "RESULTS.md").read_text()


def test_a_changed_configuration_or_set_is_another_record():
    plan = small(plans.PLANS[0])
    other = dataclasses.replace(plan, values={**plan.values, "rate": "0.25"})
    derived = dataclasses.replace(plan, derived="brain_complex")
    keys = [recorded.fingerprint(each, "tiny") for each in (plan, other, derived)]
    assert len({*keys, recorded.fingerprint(plan, "small")}) == 4


def entry_of(**changes):
    row = lambda mean, sd=0.1: {"mean": mean, "sd": sd, "unit": "dB", "higher_is_better": True, "over": "seeds"}  # noqa: E731
    known = {
        "headline": "psnr", "metrics": {"psnr": row(30.0), "first": row(30.05)}, "baseline_name": "zero filling",
        "baseline": {"psnr": row(25.0)},
        "others": {"total variation": {"psnr": row(31.5)}, "means": {"psnr": row(20.0)}},
        "twin": {"psnr": row(29.0)}, "twin_name": "twin", "beside": {"the first link": "first"},
    }  # fmt: skip
    return {**known, **changes}


def test_what_a_record_shows_is_derived_from_its_numbers():
    assert results.shows(entry_of()) == (
        "psnr 30.00 ± 0.1000 dB: 5.000 dB better than zero filling; 1.500 dB worse than total variation; "
        "1.000 dB better than twin; within the seeds' SD (0.0500 dB worse) of the first link."
    )
    lower = entry_of(metrics={"psnr": {**entry_of()["metrics"]["psnr"], "higher_is_better": False}}, beside={})
    shown = results.shows(lower)
    assert "5.000 dB worse than zero filling" in shown and "10.00 dB worse than means" in shown
    nothing = entry_of(metrics={"psnr": {**entry_of()["metrics"]["psnr"], "mean": None}})
    assert results.shows(nothing) == "psnr is not defined here."


def test_every_method_of_the_plan_is_there_and_says_what_it_does_not_show():
    asked = ["dagan", "refinegan", "vgan_retina", "retinal_aae_pix2pix", "scan", "dan_unannotated", "staingan",
             "adv_da_histopathology", "mdcsrn_gan", "adv_similarity_registration", "wgan_vgg_ldct",
             "sharpness_aware_gan", "va_gan", "anogan"]  # fmt: skip
    assert {plan.experiment for plan in plans.PLANS} == set(asked) == {p.id for p in plans.PLANS} & set(asked)
    for plan in plans.PLANS:
        assert len(plan.not_claimed) > 40 and "/" not in plan.set
        assert set(plan.facts) <= set(facts.FACTS) and plan.derived in {None, *sets.DERIVED}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "needs --sets FOLDER"),
        (["--sets", "x", "--only", "dagen"], "no plan 'dagen'"),
        (["--sets", "x", "--seeds", "0"], "--seeds is 0"),
        (["--sets", "x", "--seed", "-1"], "must be at least 0"),
    ],
)
def test_mistakes_are_one_line(options, words, capsys):
    assert cli.main(["reproduce", "real", *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_one_method_that_fails_does_not_lose_the_others(folder, tmp_path, capsys):
    empty = tmp_path / "sets"
    empty.mkdir()
    options = ["--sets", str(empty), "--records", str(tmp_path / "r"), "--workdir", str(tmp_path / "w")]
    options += ["--preset", "tiny"]
    assert cli.main(["reproduce", "real", *options, "--only", "dagan", "scan"]) == 2
    error = capsys.readouterr().err
    assert "2 of 2 methods have no whole record" in error and "dagan:" in error and "scan:" in error
    assert "No record yet" in (tmp_path / "r" / "RESULTS.md").read_text()
    assert program.PAGE.name == "RESULTS.md"
