"""Ratings and Turing tests against scikit-learn and published examples, and the offline form read back."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image
from scipy import stats

from medgan_jax.errors import UserError
from medgan_jax.evaluation import reader_study as study
from medgan_jax.evaluation import reading_form as form


def test_opinion_scores_have_an_interval_over_readers_and_cases():
    generator = np.random.default_rng(0)
    ratings = np.clip(
        np.round(3 + generator.normal(size=(1, 30)) + 0.5 * generator.normal(size=(4, 1))), 1, 5
    )
    ratings[0, 0] = np.nan
    options = {"scale": (1, 5), "resamples": 500, "confidence": 0.95, "seed": 0}
    score = study.mean_opinion_score(ratings, **options)
    assert score.mean == pytest.approx(np.nanmean(ratings)) and score.median == np.nanmedian(ratings)
    assert score.lower < score.mean < score.upper and (score.n_readers, score.n_missing) == (4, 1)
    one_reader = study.mean_opinion_score(ratings[1:2].repeat(4, 0), **options)
    assert one_reader.upper - one_reader.lower < score.upper - score.lower
    with pytest.raises(UserError, match="whole numbers"):
        study.mean_opinion_score([[6.0]], **options)
    with pytest.raises(UserError, match="no rating"):
        study.mean_opinion_score([[np.nan]], **options)


def test_methods_are_compared_by_ordinal_tests():
    generator = np.random.default_rng(1)
    base = generator.integers(1, 4, 25).astype(float)
    ratings = {"a": base, "b": base + generator.integers(0, 2, 25), "c": base + 1}
    result = study.compare_ratings(ratings)
    assert result.p_value == pytest.approx(stats.friedmanchisquare(*ratings.values()).pvalue)
    single = [stats.wilcoxon(ratings[x], ratings[y]).pvalue for x, y in result.pairs]
    assert result.pairs == (("a", "b"), ("a", "c"), ("b", "c"))
    np.testing.assert_allclose(sorted(result.pair_p_values)[0], 3 * min(single))
    two = study.compare_ratings({"a": base, "c": base + 1})
    assert two.p_value == pytest.approx(stats.wilcoxon(base, base + 1).pvalue)
    assert study.compare_ratings({"a": base, "same": base}).p_value == 1.0


def test_fleiss_kappa_of_the_worked_example():
    # Fleiss 1971's widely reprinted table: 10 cases, 14 readers, 5 categories, kappa 0.210.
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    ratings = np.array([np.repeat(np.arange(1, 6), row) for row in table]).T
    assert study.fleiss_kappa(ratings, categories=range(1, 6)) == pytest.approx(0.210, abs=5e-4)
    assert study.fleiss_kappa([[1, 2], [1, 2]], categories=(1, 2)) == 1.0
    assert np.isnan(study.fleiss_kappa([[1, 1], [1, 1]], categories=(1, 2)))
    with pytest.raises(UserError, match="none of the categories"):
        study.fleiss_kappa([[1, 9], [1, 2]], categories=(1, 2))


def test_krippendorff_alpha_of_the_worked_example():
    # Krippendorff 2011's data with gaps: nominal 0.743, ordinal 0.815, interval 0.849.
    n = np.nan
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
        [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n],
    ]
    for level, expected in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert study.krippendorff_alpha(ratings, level=level) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="level"):
        study.krippendorff_alpha(ratings, level="ratio")


def test_quadratic_kappa_agrees_with_scikit_learn():
    generator = np.random.default_rng(2)
    first = generator.integers(1, 6, 50)
    second = np.clip(first + generator.integers(-1, 2, 50), 1, 5)
    expected = sklearn.metrics.cohen_kappa_score(first, second, labels=range(1, 6), weights="quadratic")
    assert study.quadratic_kappa(first, second, categories=range(1, 6)) == pytest.approx(expected)
    assert np.isnan(study.quadratic_kappa([3, 3], [3, 3], categories=range(1, 6)))


def turing(answers, truth):
    return study.visual_turing(answers, truth, margin=0.1, confidence=0.95)


def test_turing_test_of_fifty_in_a_hundred_shows_neither_difference_nor_equality():
    truth = np.tile([1, 0], 50)
    answers = np.where(np.arange(100) % 4 < 2, truth, 1 - truth)[None]
    result = turing(answers, truth)
    assert result.accuracy == 0.5 and result.p_different_from_chance == 1.0
    np.testing.assert_allclose((result.accuracy_lower, result.accuracy_upper), (0.404, 0.596), atol=5e-4)
    assert result.p_equivalent_to_chance > 0.01
    assert result.d_prime == pytest.approx(0, abs=1e-9)
    many = turing(np.tile(answers, (4, 1)), truth)
    assert many.p_equivalent_to_chance < 0.05 and many.n == 400


def test_turing_test_of_a_sharp_and_of_a_suspicious_reader():
    truth = np.repeat([1, 0], 20)
    sharp = turing(truth[None], truth)
    assert (sharp.sensitivity, sharp.specificity, sharp.accuracy) == (1, 1, 1)
    assert sharp.p_different_from_chance == pytest.approx(2 * 0.5**40) and np.isfinite(sharp.d_prime)
    suspicious = turing(np.zeros((1, 40)), truth)
    assert suspicious.criterion > 1 and suspicious.d_prime == pytest.approx(0, abs=1e-9)
    swapped = turing(1 - truth[None], truth)
    assert swapped.d_prime == pytest.approx(-sharp.d_prime)
    np.testing.assert_allclose(study.reader_accuracies(np.stack([truth, 1 - truth]), truth), [1, 0])
    assert study.correct_detection([[1, 1, 0, 0]], [1, 0, 0, 0])[0] == 0.75
    with pytest.raises(UserError, match="real and generated"):
        turing(np.ones((1, 3)), np.ones(3))
    with pytest.raises(UserError, match="every reader"):
        turing(np.where(truth, 1, np.nan)[None], truth)


def written(tmp_path, **changes):
    readings = [
        form.Reading(np.full((6, 8), value), f"case{i}", method)
        for i, (value, method) in enumerate(
            [(-160.0, "real"), (240.0, "dagan"), (40.0, "real"), (100.0, "</script>")]
        )
    ]
    options = {"title": "A <reading>", "display_range": (-160.0, 240.0), "seconds": 5, "seed": 3}
    questions = (form.REAL_OR_GENERATED, form.OVERALL_QUALITY)
    return form.write_form(tmp_path, changes.pop("readings", readings), questions, **{**options, **changes})


def content_of(page):
    return json.loads(re.search(r"const content = (.*);\n", page.read_text(encoding="utf-8")).group(1))


def test_form_is_one_blinded_offline_page(tmp_path):
    page, key = written(tmp_path)
    text = page.read_text(encoding="utf-8")
    for secret in ("dagan", "case1", "</script></b", 'src="http', 'href="http'):
        assert secret not in text.replace("</script></body>", "")
    assert "A &lt;reading&gt;" in text
    content = content_of(page)
    pictures = [
        np.array(Image.open(io.BytesIO(base64.b64decode(p.split(",")[1])))) for p in content["pictures"]
    ]
    with key.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = {row["case"]: int(picture[0, 0]) for row, picture in zip(rows, pictures, strict=True)}
    # One display window for all: no image is stretched to its own range.
    assert shown == {"case0": 0, "case1": 255, "case2": 128, "case3": 166}
    assert [row["case"] for row in rows] != ["case0", "case1", "case2", "case3"]
    assert page.read_text() == written(tmp_path / "again")[0].read_text()
    assert page.read_text() != written(tmp_path / "other", seed=4)[0].read_text()


def answers_file(folder, page, reader, rule):
    content = content_of(page)
    answers = [
        {"number": n, "question": q["name"], "value": rule(n, q["name"]), "seconds": 1.5}
        for n in range(1, len(content["pictures"]) + 1)
        for q in content["questions"]
    ]
    path = folder / f"{reader}.json"
    path.write_text(json.dumps({"schema": 1, "form": content["form"], "reader": reader, "answers": answers}))
    return path


def test_answers_are_joined_with_the_key_and_scored(tmp_path):
    page, key = written(tmp_path)
    with key.open(newline="") as file:
        method = {int(row["number"]): row["method"] for row in csv.DictReader(file)}
    rule = lambda n, question: int(method[n] == "real") if question == "called_real" else 4  # noqa: E731
    answers = [
        a for name in ("ann", "ben") for a in form.read_answers(answers_file(tmp_path, page, name, rule), key)
    ]
    table, readers, images = form.ratings_table(answers, question="called_real")
    assert readers == ["ann", "ben"] and table.shape == (2, 4)
    result = turing(table, np.array([m == "real" for _, m in images], int))
    assert result.accuracy == 1.0 and result.fleiss_kappa == 1.0
    quality, _, _ = form.ratings_table(answers, question="overall_quality", method="dagan")
    assert quality.shape == (2, 1) and (quality == 4).all()
    with pytest.raises(UserError, match="no answer"):
        form.ratings_table(answers, question="sharpness")


def test_damaged_and_foreign_answers_are_refused(tmp_path):
    page, key = written(tmp_path)
    path = answers_file(tmp_path, page, "ann", lambda n, q: 1)
    with pytest.raises(UserError, match="another form"):
        form.read_answers(path, written(tmp_path / "other", seed=9)[1])
    content = json.loads(path.read_text())
    content["answers"].append(content["answers"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="twice"):
        form.read_answers(path, key)
    path.write_text("{")
    with pytest.raises(UserError, match="not a file of answers"):
        form.read_answers(path, key)
    with pytest.raises(UserError, match="not the key"):
        form.read_answers(path, tmp_path / "none.csv")
    different = [form.Reading(np.zeros((4, 4)), "a", "x"), form.Reading(np.zeros((5, 4)), "b", "y")]
    with pytest.raises(UserError, match="differ in size"):
        written(tmp_path, readings=different)
    with pytest.raises(UserError, match="finite"):
        written(tmp_path, readings=[form.Reading(np.full((4, 4), np.nan), "a", "x")])


BROWSER = """
const elements = {};
let saved = null;
const element = () => ({style: {}, children: [], given: {}, textContent: "", value: "",
  append(...parts) { this.children.push(...parts); }, reset() { this.given = {}; }, focus() {},
  click() { saved = this; }});
const document = {getElementById: id => elements[id] ??= element(), createElement: element};
class FormData { constructor(form) { this.form = form; }
  has(name) { return name in this.form.given; } get(name) { return this.form.given[name]; } }
class Blob { constructor(parts) { this.text = parts.join(""); } }
const URL = {createObjectURL: blob => blob.text};
"""
READER = """
find("begin").onclick();
if (find("start").hidden) throw new Error("began without a name");
find("reader").value = "Dr. Ann";
find("begin").onclick();
find("next").onclick();
if (!find("hint").textContent) throw new Error("went on without answers");
while (find("end").hidden !== false) {
  find("questions").given = {called_real: "1", overall_quality: "4"};
  find("next").onclick();
}
find("save").onclick();
console.log(saved.href);
process.exit(0);
"""


def test_the_page_itself_asks_and_saves(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("the page's script is run by Node.js, which is not installed")
    page, key = written(tmp_path)
    script = re.search(r'<script>\n"use strict";(.*)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    result = subprocess.run([node], input=BROWSER + script.group(1) + READER, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    path = tmp_path / "answers.json"
    path.write_text(result.stdout)
    answers = form.read_answers(path, key)
    assert len(answers) == 8 and {a.reader for a in answers} == {"Dr. Ann"}
    assert {a.value for a in answers if a.question == "overall_quality"} == {4}
