"""The README's measured values are those of the records, and records say what a run wrote."""

import json

import pytest

from medgan_jax.errors import UserError
from medgan_jax.review import records

ROW = {"mean": 30.125, "sd": 1.5, "n": 8, "unit": "dB", "higher_is_better": True}


def write_run(folder):
    evaluation = {
        "experiment": "dagan", "step": 700, "seed": 0, "train_seconds": 61.5, "twin": None, "baseline": {"psnr": ROW},
        "data": {"source": "phantom:head", "n": 8}, "metrics": {"psnr": {**ROW, "mean": 33.5}},
    }
    manifest = {
        "configuration": {"config": {"steps": 700}}, "git": None,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1, "host": "private"},
    }
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_record_becomes_a_line_of_the_table(tmp_path):
    path = records.save(write_run(tmp_path / "run"), tmp_path / "records")
    assert path.name == "dagan-phantom_head-seed0.json"
    assert "private" not in path.read_text()
    last = records.table(tmp_path / "records").splitlines()[-1]
    assert last == "| `dagan` | phantom:head | psnr (dB) | 33.5 ± 1.5 | 30.12 ± 1.5 | - | 8 | 700 / 62 s |"


def test_a_run_without_evaluation_is_one_line(tmp_path):
    with pytest.raises(UserError, match="evaluate the run first"):
        records.record(tmp_path)


def test_the_readme_holds_the_records_table():
    text = (records.ROOT / "README.md").read_text()
    assert records.with_table(text, records.table()) == text
