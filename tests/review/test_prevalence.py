"""The study of prevalence: the sets, the detector, rates with intervals, and what is written."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from medgan_jax import cli
from medgan_jax.data.sources import open_domains, open_folder
from medgan_jax.evaluation import lesion_search
from medgan_jax.review.prevalence import heads, page, study


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def spots(count=24, size=32, height=1.0, seed=0):
    """Images with and without a bright disc, its place, and the region that it lies in."""
    generator = np.random.default_rng(seed)
    absent = generator.normal(0, 0.1, (count, size, size))
    y, x = np.mgrid[:size, :size]
    lesions = np.stack([np.hypot(y - cy, x - cx) < 3.5 for cy, cx in generator.uniform(11, 21, (count, 2))])
    regions = np.broadcast_to(np.hypot(y - 16, x - 16) < 14, lesions.shape)
    return absent + height * lesions, absent, lesions, regions


def test_a_detector_that_was_fixed_on_some_holds_for_others():
    detector = lesion_search.fit_detector(*spots(seed=0), false_share=0.05)
    present, absent, lesions, regions = spots(seed=1)
    known = [lesion_search.at_places(each, lesions, regions) > detector.known for each in (present, absent)]
    assert known[0].mean() == 1 and known[1].mean() == 0
    search = [lesion_search.largest(each, regions, detector.radius) > detector.anywhere for each in (present, absent)]
    assert search[0].mean() > 0.95 and search[1].mean() < 0.25


def test_responses_are_heights_and_ignore_constants():
    present, absent, lesions, regions = spots(height=2.0)
    heights = lesion_search.at_places(present, lesions, regions) - lesion_search.at_places(absent, lesions, regions)
    assert np.allclose(heights, 2.0)
    shifted = lesion_search.largest(absent + 7, regions, 2.0) - lesion_search.largest(absent, regions, 2.0)
    assert np.allclose(shifted, 0, atol=1e-9)
    assert np.isnan(lesion_search.at_places(present[:1], np.zeros_like(lesions[:1]), regions[:1]))[0]


def test_the_threshold_makes_the_fewest_errors():
    assert 2 < lesion_search.least_errors(np.array([3.0, 4, 5]), np.array([0.0, 1, 2])) < 3
    assert 2 < lesion_search.least_errors(np.array([1.5, 3, 4, 5]), np.array([0.0, 1, 2])) < 3


def test_rates_have_wilson_intervals():
    found = lesion_search.rate([True] * 3 + [False] * 7)
    assert (found.value, found.n) == (0.3, 10)
    assert (found.lower, found.upper) == pytest.approx((0.108, 0.603), abs=2e-3)


# --- sets ---


def test_sets_have_the_prevalence_and_are_of_the_same_people(tmp_path):
    counts = (8, 8, 8)
    quarter, half = (heads.paired_set(tmp_path, 16, counts, share) for share in (0.25, 0.5))
    people = heads.cohort(16, 8, "train")
    ill = {}
    for share, folder in ((0.25, quarter), (0.5, half)):
        part = open_folder(folder, split="train")
        b = np.stack([part[index]["B"][..., 0] for index in range(8)])
        changed = [not np.array_equal(image, healthy) for image, healthy in zip(b, people.absent["flair"], strict=True)]
        ill[share] = set(np.flatnonzero(changed))
        assert len(ill[share]) == round(8 * share)
    assert ill[0.25] < ill[0.5]
    unpaired = heads.unpaired_set(tmp_path, 16, counts, 0.0)
    domains = open_domains(unpaired, split="train")
    assert not set(domains["A"].subjects) & set(domains["B"].subjects)
    assert heads.unpaired_set(tmp_path, 16, counts, 0.0) == unpaired


def test_a_person_with_a_lesion_is_the_same_person_without_it():
    people = heads.cohort(32, 4, "test")
    for name in heads.MODALITIES:
        far = np.abs(people.present[name].astype(float) - people.absent[name]) / heads.SCALE
        inside = far[people.lesions].mean()
        assert inside > 0.05 and inside > 5 * far[~people.lesions & people.brains].mean()
    others = heads.cohort(32, 4, "test", first=4)
    assert not np.array_equal(people.absent["t1"], others.absent["t1"])


# --- rates ---


def model(present, absent, level=0.0, seed=0, name="X"):
    return study.Model(name, level, seed, present, absent)


def test_what_is_invented_and_lost_is_counted_person_by_person():
    present, absent, lesions, regions = spots(seed=0)
    people = heads.Cohort({"flair": present, "t1": present}, {"flair": absent, "t1": absent}, lesions, regions)
    detector = lesion_search.fit_detector(present, absent, lesions, regions, false_share=0.02)
    facts = study.detector_facts(detector, people)
    assert facts["believed"] and facts["known place"]["sensitivity"]["value"] == 1
    faithful, inventing, losing = model(present, absent), model(present, present, 1.0), model(absent, absent, 0.5)
    rows = study.rows([faithful, inventing, losing], detector, people)
    assert [row["loss"]["value"] for row in rows] == [0, 0, 1]
    invented = [row["hallucination"]["value"] for row in rows]
    assert invented[0] < 0.1 and invented[1] > 0.9 and invented[2] < 0.1
    prevalence = [row["prevalence"]["value"] for row in rows]
    assert prevalence[0] == pytest.approx(0.5, abs=0.06) and prevalence[1] > 0.9 and prevalence[2] < 0.1
    for row in rows:
        for measure in page.MEASURES:
            assert 0 <= row[measure]["lower"] <= row[measure]["value"] <= row[measure]["upper"] <= 1
    # Where all agree the interval still has a width.
    assert rows[0]["loss"]["interval"] == "Wilson" and rows[0]["loss"]["upper"] > 0.05


def test_seeds_are_averaged_and_shown():
    values = np.stack([np.ones((1, 10)), np.zeros((1, 10))])
    found = study.with_interval(values)
    assert found["value"] == 0.5 and found["by seed"] == [1.0, 0.0]


def test_slopes_tell_drift_from_faith():
    rows = [
        {"translator": name, "prevalence of the target set": level, "prevalence": {"value": value}}
        for name, values in (("drifts", (0, 0.5, 1)), ("keeps", (0.5, 0.5, 0.5)))
        for level, value in zip((0, 0.5, 1), values, strict=True)
    ]
    found = study.slopes(rows)
    assert found["drifts"] == pytest.approx(1) and found["keeps"] == pytest.approx(0, abs=1e-9)
    assert study.slopes(rows[:1])["drifts"] is None


# --- the command ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The command with translators that were not trained: one keeps lesions, one invents them, one loses them."""
    root = tmp_path_factory.mktemp("prevalence")
    hardware = {"platform": "cpu", "kind": "cpu", "count": 1}

    def translators(played, people):
        kept, none = (images["flair"].astype(float) for images in (people.present, people.absent))
        outputs = {study.UNPAIRED: (kept, kept), study.PAIRED: (kept, none), study.L1: (none, none)}
        levels = {(run.seed, level) for run, (_, level) in played.items()}
        return [
            study.Model(name, level, seed, *pair)
            for seed, level in sorted(levels)
            for name, pair in outputs.items()
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "play_all", lambda planned, jobs: {
            run: {"seconds": 1.0, "hardware": hardware} for run in planned})  # fmt: skip
        patch.setattr(study, "models", translators)
        options = ["--preset", "tiny", "--levels", "0", "50", "--seeds", "2", "--workdir", str(root), "--json"]
        assert cli.main(["reproduce", "prevalence", *options]) == 0
    return root / "prevalence"


@pytest.mark.slow
def test_translators_are_trained_and_measured(tmp_path):
    options = ["--preset", "tiny", "--levels", "0", "100", "--seeds", "1", "--workdir", str(tmp_path)]
    assert cli.main(["reproduce", "prevalence", *options]) == 0
    found = json.loads((tmp_path / "prevalence" / "prevalence.json").read_text())
    assert not found["failures"] and len(found["rows"]) == 6 and len(found["runs"]) == 4


def test_json_markdown_and_plot_are_of_one_study(written):
    found = json.loads((written / "prevalence.json").read_text())
    assert found["source"] == "phantom" and "phantom heads, t1 to flair" in found["data"] and not found["failures"]
    names = (study.UNPAIRED, study.PAIRED, study.L1)
    assert {(row["translator"], row["prevalence of the target set"]) for row in found["rows"]} == {
        (name, level) for name in names for level in (0.0, 0.5)
    }
    text = (written / "prevalence.md").read_text()
    assert all(page.percent(row[measure]) in text for row in found["rows"] for measure in page.MEASURES)
    assert page.detector_words(found["detector"]) in text
    with Image.open(written / "prevalence.png") as picture:
        assert picture.width > 800 and len(set(picture.convert("RGB").getdata())) > 50


def test_a_weak_detector_is_called_weak():
    rate = {"value": 0.5, "lower": 0.4, "upper": 0.6, "n": 20}
    facts = {"known place": {"sensitivity": rate, "false calls": rate}, "believed": False, "people": 20}
    assert "too weak here to be believed" in page.detector_words(facts)
    assert "too weak" not in page.detector_words({**facts, "believed": True})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seeds", "0"], "--seeds is 0"),
        (["--levels", "120"], "must lie between 0 and 100"),
        (["--levels", "0", "0"], "names a level twice"),
        (["--preset", "paper"], "paper"),
    ],
)
def test_mistakes_are_one_line(options, words, capsys):
    assert cli.main(["reproduce", "prevalence", *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
