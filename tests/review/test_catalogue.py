"""The catalogue holds every row of the review, and says which are implemented without importing them."""

import subprocess
import sys

import pytest

from medgan_jax.errors import UserError
from medgan_jax.review import catalogue


def test_has_every_row_of_the_review():
    assert len(catalogue.methods()) == 82
    assert len(catalogue.base_models()) == 15
    assert len({entry.id for entry in catalogue.entries()}) == 97
    assert len({method.ref for method in catalogue.methods()}) == 82
    assert len(catalogue.metrics()) == 43
    assert sum(len(method.reported) for method in catalogue.methods()) == 179


def test_tables_and_rows_agree():
    tables = catalogue.tables()
    assert [table.table for table in tables] == list(range(2, 19))
    by_ref = {method.ref: method for method in catalogue.methods()}
    for table in tables:
        for ref in table.refs:
            assert by_ref[ref].table == table.table
            assert by_ref[ref].application == table.application
    in_text_alone = {method.ref for method in catalogue.methods() if method.table is None}
    assert in_text_alone == {40, 57, 100, 101}


def test_reported_values_name_known_metrics():
    known = {metric.id for metric in catalogue.metrics()}
    used = {value.metric for method in catalogue.methods() for value in method.reported}
    assert used - known <= {"unspecified"}


def test_base_models_of_methods_exist():
    known = {model.id for model in catalogue.base_models()}
    assert {name for method in catalogue.methods() for name in method.base_models} <= known


def test_dagan_is_as_the_review_prints_it():
    dagan = catalogue.find("dagan")
    assert (dagan.ref, dagan.table, dagan.application) == (83, 12, "reconstruction")
    assert dagan.module == "experiments.reconstruction.dagan"
    assert dagan.place == "[83], reconstruction, table 12"
    assert [str(value) for value in dagan.reported[:2]] == [
        "nmse 0.08 ± 0.02 (mask 30%; MICCAI Grand Challenge 2013)",
        "psnr 40.2 ± 4.07 dB (mask 30%; MICCAI Grand Challenge 2013)",
    ]
    assert str(dagan.datasets[0]) == "MICCAI Grand Challenge 2013 (train 21128, test 9854)"
    assert dagan.citation.year == 2017


def test_base_model_has_no_table():
    model = catalogue.find("wgan_gp")
    assert (model.ref, model.table, model.application) == (None, None, "base")
    assert model.module == "experiments.base.wgan_gp"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("dagn", "dagan"),
        ("DAGAN", "dagan"),
        ("cycle-gan", "cyclegan"),
        ("anogan2", "anogan"),
        ("wgan-gp", "wgan_gp"),
    ],
)
def test_unknown_id_names_the_nearest(asked, expected):
    with pytest.raises(UserError) as error:
        catalogue.find(asked)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_id_like_nothing_still_says_where_to_look():
    with pytest.raises(UserError, match="medgan_jax list"):
        catalogue.find("qqqq")


def test_implemented_follows_the_files(tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "reconstruction"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "dagan.py").write_text("raise AssertionError('imported')\n")
    code = (
        "from medgan_jax.review import catalogue\n"
        "print([entry.id for entry in catalogue.entries() if entry.implemented])\n"
        "import sys; print('jax' in sys.modules)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(path for path in sys.path if path)}")
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert printed[:2] == ["['dagan']", "False"]


def test_the_reviews_own_slips_are_told():
    assert "ambiguous" in catalogue.find("dagan").inconsistencies[0]
    assert catalogue.find("gan").inconsistencies and not catalogue.find("aae").inconsistencies
    assert sum(len(method.inconsistencies) for method in catalogue.methods()) == 114
    assert len(catalogue.inconsistencies()) == 14
    assert "79 papers" in next(each.issue for each in catalogue.inconsistencies() if each.where == "Section 1")
    assert catalogue.review().doi in "https://doi.org/10.1016/j.artmed.2020.101938"
